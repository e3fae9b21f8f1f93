"""The clients that live across the kills. Each is a thread with a librdkafka client of its own, or lives in a process of another library."""
import random
import subprocess
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from ledger import Reading, Seat, make_value, mark_of, parse_value

# A goodbye may be lost in a kill, and then its group waits for the member that is gone: no longer than most cycles last, or it would wait on and on.
SESSION_MS = 500
HEARTBEAT_MS = 100
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
FATAL = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._FATAL, KafkaError._LOG_TRUNCATION}


def common(world, name, **more):
    return {"bootstrap.servers": world.address, "client.id": name, "log_level": 2,
            "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20, "retry.backoff.max.ms": 100,
            "metadata.recovery.strategy": "none",  # or every kill costs a second of its own: all brokers are "down"
            "error_cb": lambda e: world.client_error(name, e), **more}


class Client(threading.Thread):
    def __init__(self, world, name):
        super().__init__(name=name, daemon=True)
        self.world = world
        self.stopping = threading.Event()

    def stop(self):
        self.stopping.set()

    def run(self):
        try:
            self.work()
        except Exception as e:  # a thread that dies quietly would be a test that cannot fail
            self.world.faults.add("client_died", f"{self.name}: {type(e).__name__}: {e}")


class Writer(Client):
    """An idempotent acks=all producer. It never waits for an answer before it sends the next record."""

    def __init__(self, world, name, codec, seed):
        super().__init__(world, name)
        self.rng = random.Random(seed)
        self.producer = Producer(common(world, name, **{
            "enable.idempotence": True, "acks": "all", "compression.type": codec, "linger.ms": self.rng.choice((0, 2, 10)),
            "batch.num.messages": self.rng.choice((20, 200, 1000)), "message.timeout.ms": 600000, "queue.buffering.max.messages": 20000}))
        self.left = -1

    def delivered(self, error, message):
        writer, n = parse_value(message.value())
        tp = (message.topic(), message.partition())
        if error:
            self.world.faults.add("not_delivered", f"{writer} {tp} number {n}: {error}")
        else:
            self.world.acked.sent[writer, tp][n] = message.offset() if message.offset() is not None else -1

    def work(self):
        while not self.stopping.is_set():
            for _ in range(self.rng.randint(1, 40)):
                tp = self.rng.choice(self.world.partitions)
                n = self.world.acked.begin(self.name, tp)
                value = make_value(self.name, n)
                while True:
                    try:
                        self.producer.produce(tp[0], value, key=self.name, partition=tp[1], on_delivery=self.delivered)
                        break
                    except BufferError:  # the broker is away for long: as many records wait as may
                        self.producer.poll(0.05)
            self.producer.poll(0)
            self.stopping.wait(self.rng.uniform(0.005, 0.03))
        self.left = self.producer.flush(60)
        if self.left:
            self.world.faults.add("not_delivered", f"{self.name}: {self.left} records without an answer 60 s after the last kill")


class Program(Client):
    """The writer on librivulet (tests/peers/librivulet/writer.c), idempotent with acks=all as well; its lines say what it was told."""

    def __init__(self, world, name, argv, topic, partitions, options=()):
        super().__init__(world, name)
        self.topic = topic
        self.flushed = None
        self.process = subprocess.Popen([*map(str, argv), world.address, name, topic, str(partitions), "1", *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=self.end, daemon=True).start()

    def end(self):
        self.stopping.wait()
        self.process.stdin.close()

    def work(self):
        for line in self.process.stdout:
            words = line.split(" ", 4)
            if words[0] == "ack":
                self.world.acked.told(self.name, (self.topic, int(words[1])), int(words[2]), int(words[3]))
            elif words[0] == "failed":
                self.world.faults.add("not_delivered", f"{self.name}: {line.strip()}")
            elif words[0] == "flushed":
                self.flushed = words[1]
        code = self.process.wait()
        if code or self.flushed != "RV_OK":
            self.world.faults.add("client_died", f"{self.name}: ended with {code}, flushed: {self.flushed}")


class Host(threading.Thread):
    """A process of another library in which many clients live: tests/peers/franz/clients.go, tests/peers/java/peers/Clients.java. It reads

        write NAME TOPIC PARTITIONS SEED        follow NAME TOPIC/PARTITION...
        join NAME GROUP STRATEGY SESSION_MS HEARTBEAT_MS TOPIC...
        stop NAME

    and ends with its input, when all have ended. It prints, each line before the client goes on, NS being CLOCK_MONOTONIC:

        ack NAME PARTITION N OFFSET             -1: nobody knows where
        failed NAME PARTITION N WHY
        read NAME TOPIC/PARTITION OFFSET MARK...    so many records, one behind the other; MARK: ledger.mark_of(), in hex
        own NAME NS TOPIC/PARTITION...          was assigned
        give NAME TOPIC/PARTITION...            was revoked, after a last commit, or lost
        try NAME TOPIC/PARTITION:OFFSET...      before it asks for a commit
        done NAME NS TOPIC/PARTITION:OFFSET...  it was answered, without an error
        refused NAME KIND WHY                   a commit that was not
        told NAME KIND WHY                      an error that it lives with
        reset NAME WHY                          its position is gone
        died NAME WHY       bye NAME
    """

    def __init__(self, world, kind, argv, errors):
        super().__init__(name=kind, daemon=True)
        self.world = world
        self.clients = {}
        with open(errors, "wb") as log:
            self.process = subprocess.Popen([*map(str, argv), world.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self.start()

    def tell(self, *words):
        print(*words, file=self.process.stdin, flush=True)

    def end(self):
        self.process.stdin.close()

    def run(self):
        for line in self.process.stdout:
            words = line.split()
            try:
                self.clients[words[1]].hear(words[0], words[2:])
            except Exception as e:
                self.world.faults.add("client_died", f"{self.name} said {line[:200]!r}: {type(e).__name__}: {e}")
        code = self.process.wait()
        if code:
            self.world.faults.add("client_died", f"{self.name}: ended with {code}")
        for c in self.clients.values():
            if c.is_alive():
                c.hear("died", ["its", "process", "ended"])


class Guest:
    """A client in a Host."""

    def __init__(self, world, name, host, *words):
        self.world = world
        self.name = name
        self.host = host
        self.words = words
        self.ended = threading.Event()
        host.clients[name] = self

    def start(self):
        self.host.tell(self.words[0], self.name, *self.words[1:])

    def stop(self):
        self.host.tell("stop", self.name)

    def join(self, limit_s):
        self.ended.wait(limit_s)

    def is_alive(self):
        return not self.ended.is_set()

    def hear(self, what, words):
        if what == "bye":
            self.ended.set()
        elif what == "died":
            self.world.faults.add("client_died", f"{self.name}: {' '.join(words)}")
            self.ended.set()
        elif what == "reset":
            self.world.faults.add("reset", f"{self.name}: {' '.join(words)}")
        elif what == "told":
            self.world.errors[words[0]] = self.world.errors.get(words[0], 0) + 1
        else:
            getattr(self, "hear_" + what)(*words)


class GuestWriter(Guest):
    def __init__(self, world, name, host, topic, partitions, seed):
        super().__init__(world, name, host, "write", topic, partitions, seed)
        self.topic = topic

    def hear_ack(self, partition, n, offset):
        self.world.acked.told(self.name, (self.topic, int(partition)), int(n), int(offset))

    def hear_failed(self, partition, n, *why):
        self.world.faults.add("not_delivered", f"{self.name} {self.topic}/{partition} number {n}: {' '.join(why)}")


def place(text):
    topic, partition = text.split("/")
    return topic, int(partition)


def places(words):
    """Of TOPIC/PARTITION:OFFSET."""
    return {place(where): int(offset) for where, offset in (w.split(":") for w in words)}


class GuestReader(Guest):
    def hear_read(self, where, offset, *marks):
        tp = place(where)
        for offset, mark in enumerate(marks, int(offset)):
            self.world.seen.note(tp, offset, int(mark, 16), self.name)
            self.reading.read(tp, offset)


class GuestFollower(GuestReader):
    def __init__(self, world, name, host):
        super().__init__(world, name, host, "follow", *(f"{t}/{p}" for t, p in world.partitions))
        self.reading = Reading(name, world.partitions, world.faults)


class GuestMember(GuestReader):
    def __init__(self, world, name, host, offsets, strategy):
        super().__init__(world, name, host, "join", offsets.name, strategy, SESSION_MS, HEARTBEAT_MS, *world.topics)
        self.offsets = offsets
        self.reading = Seat(name, offsets, world.faults)

    def hear_read(self, where, offset, *marks):
        super().hear_read(where, offset, *marks)
        self.world.count_deliveries(self.host.name, len(marks))

    def hear_own(self, ns, *words):
        self.world.rebalances += 1
        self.reading.own(map(place, words), int(ns))

    def hear_give(self, *words):
        self.reading.give(map(place, words))

    def hear_try(self, *words):
        self.offsets.begin(places(words))

    def hear_done(self, ns, *words):
        self.offsets.end(places(words), int(ns))
        self.world.count_commit(self.host.name)

    def hear_refused(self, kind, *why):
        self.world.refused_commits[kind] = self.world.refused_commits.get(kind, 0) + 1


def take(world, name, message):
    """(partition, offset) of a record that was read, or None; errors are told."""
    error = message.error()
    if error:
        world.client_error(name, error)
        if error.code() in FATAL or error.fatal():
            world.faults.add("reset", f"{name}: {error}")
        return None
    tp = (message.topic(), message.partition())
    world.seen.note(tp, message.offset(), mark_of(message.value()), name)
    return tp, message.offset()


class Follower(Client):
    """Reads every partition from 0 on, without a group, and never accepts to be put anywhere else."""

    def __init__(self, world, name):
        super().__init__(world, name)
        self.reading = Reading(name, world.partitions, world.faults)
        self.consumer = Consumer(common(world, name, **{
            "group.id": name, "enable.auto.commit": False, "auto.offset.reset": "error", "fetch.wait.max.ms": 100}))
        self.consumer.assign([TopicPartition(t, p, 0) for t, p in world.partitions])

    def work(self):
        while not self.stopping.is_set():
            message = self.consumer.poll(0.1)
            read = take(self.world, self.name, message) if message else None
            if read:
                self.reading.read(*read)
        self.consumer.close()


class Member(Client):
    """A member of a group. What it handled it commits, and waits for the answer."""

    def __init__(self, world, name, offsets, strategy, seed):
        super().__init__(world, name)
        self.rng = random.Random(seed)
        self.offsets = offsets
        self.reading = Seat(name, offsets, world.faults)
        self.handled = {}  # not committed yet
        self.consumer = Consumer(common(world, name, **{
            "group.id": offsets.name, "enable.auto.commit": False, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100,
            "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": HEARTBEAT_MS, "partition.assignment.strategy": strategy}))
        self.consumer.subscribe(list(world.topics), on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)

    def assigned(self, consumer, partitions):
        self.world.rebalances += 1
        self.reading.unsettle()
        self.reading.own([(p.topic, p.partition) for p in partitions], time.monotonic_ns())

    def revoked(self, consumer, partitions):
        self.commit()
        self.forget(partitions)

    def lost(self, consumer, partitions):
        self.forget(partitions)

    def forget(self, partitions):
        gone = [(p.topic, p.partition) for p in partitions]
        self.reading.unsettle()
        self.reading.give(gone)
        for tp in gone:
            self.handled.pop(tp, None)

    def commit(self):
        if not self.handled:
            return
        offsets, self.handled = self.handled, {}
        self.offsets.begin(offsets)
        try:
            answer = self.consumer.commit(offsets=[TopicPartition(t, p, o) for (t, p), o in offsets.items()], asynchronous=False)
        except KafkaException as e:  # the group moved on, or nobody knows: what was tried may or may not be there
            self.world.refused_commits[e.args[0].name()] = self.world.refused_commits.get(e.args[0].name(), 0) + 1
            self.handled = {**offsets, **self.handled}
            return
        self.offsets.end({(a.topic, a.partition): offsets[a.topic, a.partition] for a in answer if not a.error}, time.monotonic_ns())
        self.world.count_commit("librdkafka")

    def handle(self, tp, offset):
        self.reading.read(tp, offset)
        self.handled[tp] = offset + 1
        self.world.count_deliveries("librdkafka", 1)

    def work(self):
        due = 0
        while not self.stopping.is_set():
            message = self.consumer.poll(0.1)
            read = take(self.world, self.name, message) if message else None
            if read:
                self.handle(*read)
            if time.monotonic() >= due:
                self.commit()
                due = time.monotonic() + self.rng.uniform(0.02, 0.2)
        self.commit()
        self.consumer.close()
