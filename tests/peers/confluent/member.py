"""usage: member.py BROKER GROUP TOPIC[,TOPIC]... [OPTION=VALUE]...       A member as librivulet/member.c is one, with the same lines, on librdkafka."""
import os
import sys
import threading
import time

import confluent_kafka as ck

BROKER, GROUP, TOPICS = sys.argv[1:4]
REFUSALS = {ck.KafkaError.ILLEGAL_GENERATION, ck.KafkaError.REBALANCE_IN_PROGRESS, ck.KafkaError.UNKNOWN_MEMBER_ID, ck.KafkaError._NO_OFFSET,
            ck.KafkaError.NOT_COORDINATOR, ck.KafkaError.COORDINATOR_NOT_AVAILABLE, ck.KafkaError._WAIT_COORD, ck.KafkaError._TRANSPORT}
PASSING = REFUSALS | {ck.KafkaError._ALL_BROKERS_DOWN, ck.KafkaError.COORDINATOR_LOAD_IN_PROGRESS}
pending = {}  # read and not committed: the next offset, by (topic, partition)


def say(what, rest=""):
    sys.stdout.write(f"{what} {time.monotonic_ns()} {rest}\n")
    sys.stdout.flush()


def places(partitions):
    return " ".join(f"{p.topic}/{p.partition}:{p.offset}" for p in partitions)


def commit(consumer):
    if not pending:
        return
    offsets = [ck.TopicPartition(t, p, o) for (t, p), o in pending.items()]
    say("try", places(offsets))
    try:
        for p in consumer.commit(offsets=offsets, asynchronous=False):
            if p.error:
                raise ck.KafkaException(p.error)
    except ck.KafkaException as e:
        if e.args[0].code() not in REFUSALS:
            raise
        say("refused", f"{e.args[0].name()} {e.args[0].str()}")
        return
    pending.clear()
    say("done")


def forget(partitions):
    for p in partitions:
        pending.pop((p.topic, p.partition), None)


def revoked(consumer, partitions):
    commit(consumer)
    forget(partitions)
    time.sleep(int(os.environ.get("MEMBER_GIVE_MS", "0")) / 1000)
    say("give", places(partitions))


def lost(consumer, partitions):
    forget(partitions)
    say("lost", places(partitions))


def main():
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    consumer = ck.Consumer({
        "bootstrap.servers": BROKER, "group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "fetch.wait.max.ms": 50, "heartbeat.interval.ms": 200, "session.timeout.ms": 10000, "debug": "cgrp",
        "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200, "error_cb": lambda e: None,
        **dict(at.split("=", 1) for at in sys.argv[4:])})
    consumer.subscribe(TOPICS.split(","), on_assign=lambda c, p: say("own", places(p)), on_revoke=revoked, on_lost=lost)
    while not ended.is_set():
        m = consumer.poll(0.05)
        if m is None:
            commit(consumer)  # one that was refused
        elif m.error():
            if m.error().code() not in PASSING:
                raise ck.KafkaException(m.error())
        else:
            say("read", f"{m.topic()}/{m.partition()} {m.offset()} {m.value().decode()}")
            pending[m.topic(), m.partition()] = m.offset() + 1
            commit(consumer)
    consumer.close()
    say("bye", "RV_OK")


if __name__ == "__main__":
    main()
