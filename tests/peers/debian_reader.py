"""usage: debian_reader.py BROKER TOPIC COUNT MEMBERS
Reads COUNT records of a topic as a group of MEMBERS consumers, and prints one JSON object with what suite_debian.py compares.
A record that a rebalance brings twice is counted once, and must be the same twice."""
import json
import sys
import threading
import time

import confluent_kafka as ck

from suite_debian import digest

BROKER, TOPIC, COUNT, MEMBERS = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
LIMIT_S = 120


class Member(threading.Thread):
    everyone_is_here, stop = threading.Event(), threading.Event()

    def __init__(self):
        super().__init__()
        self.owned, self.read, self.error = 0, {}, None
        self.start()

    def _assigned(self, consumer, parts):
        consumer.assign(parts)
        if not self.everyone_is_here.is_set():
            consumer.pause(parts)
        self.owned = len(parts)

    def run(self):
        try:
            c = ck.Consumer({"bootstrap.servers": BROKER, "group.id": "debian", "auto.offset.reset": "earliest",
                             "partition.assignment.strategy": "range", "heartbeat.interval.ms": 200, "session.timeout.ms": 20000})
            c.subscribe([TOPIC], on_assign=self._assigned)
            reading = False
            while not self.stop.is_set():
                if self.everyone_is_here.is_set() and not reading:
                    c.resume(c.assignment())
                    reading = True
                for m in c.consume(1000, 0.1):
                    if m.error():
                        raise ck.KafkaException(m.error())
                    record = (m.key(), m.value())
                    if self.read.setdefault((m.partition(), m.offset()), record) != record:
                        raise ValueError(f"offset {m.offset()} of partition {m.partition()} was another record before")
            c.close()
        except Exception as e:
            self.error = e


def until(members, what, holds):
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        for m in members:
            if m.error:
                sys.exit(f"a member failed: {m.error!r}")
        if time.monotonic() > deadline:
            sys.exit(f"not within {LIMIT_S} s: {what}")
        time.sleep(0.01)


def main():
    members = [Member() for _ in range(MEMBERS)]
    try:
        until(members, "all members have partitions", lambda: all(m.owned for m in members))
        Member.everyone_is_here.set()
        until(members, f"{COUNT} records", lambda: sum(len(m.read) for m in members) >= COUNT)
    finally:
        Member.stop.set()
        for m in members:
            m.join()
    records = {}
    for m in members:
        for at, record in m.read.items():
            if records.setdefault(at, record) != record:
                sys.exit(f"two members read different records at {at}")
    keys, whole = digest(records[at] for at in sorted(records))
    json.dump({"records": len(records), "partitions": len({p for p, _ in records}), "members": [len(m.read) for m in members],
               "keys": keys, "whole": whole}, sys.stdout)


main()
