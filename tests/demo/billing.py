"""Billing: keeps its own copy of everybody's e-mail address, in a file of its own, and stores how far it got in its group's offsets.

usage: billing.py BROKER DATABASE        runs until it is killed

The table is changed first and the offset is stored afterwards: killed in between, it gets that event once more, and applies it once more.
"""
import sqlite3
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException

broker, path = sys.argv[1:]
db = sqlite3.connect(path)
db.execute("create table if not exists addresses (user text primary key, email text)")
db.execute("create table if not exists applied (run integer, partition integer, offset integer)")
run = db.execute("select coalesce(max(run), 0) + 1 from applied").fetchone()[0]
db.commit()
consumer = Consumer({"bootstrap.servers": broker, "group.id": "billing", "client.id": "billing", "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "session.timeout.ms": 6000, "log_level": 2})
consumer.subscribe(["users"])
uncommitted = False
while True:
    messages = [m for m in consumer.consume(50, 0.2) if not m.error()]
    for m in messages:
        db.execute("insert or replace into addresses values (?, ?)", (m.key().decode(), m.value().decode()))
        db.execute("insert into applied values (?, ?, ?)", (run, m.partition(), m.offset()))
    db.commit()
    uncommitted = uncommitted or bool(messages)
    if uncommitted:
        try:
            consumer.commit(asynchronous=False)
            uncommitted = False
        except KafkaException as e:
            # The broker is away: once more, later. Nothing to commit: the partitions were given anew, and come from the stored offset.
            uncommitted = e.args[0].code() != KafkaError._NO_OFFSET
            print(f"billing: {e}", file=sys.stderr)
