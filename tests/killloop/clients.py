"""The clients that live across the kills. Each is a thread with a librdkafka client of its own, or with a program of another library."""
import random
import subprocess
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from ledger import make_value, parse_value

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
    """A writer that is a program of another client library, idempotent with acks=all as well; its lines say what it was told."""

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
                self.world.faults.add("not_delivered", f"{self.name}: {line}")
            elif words[0] == "flushed":
                self.flushed = words[1]
        code = self.process.wait()
        if code or self.flushed != "RV_OK":
            self.world.faults.add("client_died", f"{self.name}: ended with {code}, flushed: {self.flushed}")


def take(world, name, message):
    """(partition, offset) of a record that was read, or None; errors are told."""
    error = message.error()
    if error:
        world.client_error(name, error)
        if error.code() in FATAL or error.fatal():
            world.faults.add("reset", f"{name}: {error}")
        return None
    tp = (message.topic(), message.partition())
    world.seen.note(tp, message.offset(), message.value(), name)
    return tp, message.offset()


class Follower(Client):
    """Reads every partition from 0 on, without a group, and never accepts to be put anywhere else."""

    def __init__(self, world, name):
        super().__init__(world, name)
        self.position = dict.fromkeys(world.partitions, 0)
        self.consumer = Consumer(common(world, name, **{
            "group.id": name, "enable.auto.commit": False, "auto.offset.reset": "error", "fetch.wait.max.ms": 100}))
        self.consumer.assign([TopicPartition(t, p, 0) for t, p in world.partitions])

    def work(self):
        while not self.stopping.is_set():
            message = self.consumer.poll(0.1)
            read = take(self.world, self.name, message) if message else None
            if read:
                tp, offset = read
                if offset != self.position[tp]:
                    self.world.faults.add("skipped" if offset > self.position[tp] else "twice",
                                          f"{self.name} {tp}: offset {offset} came where {self.position[tp]} must")
                self.position[tp] = offset + 1
        self.consumer.close()


class Member(Client):
    """A member of a group. What it handled it commits, and waits for the answer."""

    def __init__(self, world, name, offsets, strategy, seed):
        super().__init__(world, name)
        self.rng = random.Random(seed)
        self.offsets = offsets
        self.expected = {}  # of assigned partitions: what must come; before the first record (least, most)
        self.handled = {}   # not committed yet
        self.consumer = Consumer(common(world, name, **{
            "group.id": offsets.name, "enable.auto.commit": False, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100,
            "session.timeout.ms": 6000, "heartbeat.interval.ms": 300, "partition.assignment.strategy": strategy}))
        self.consumer.subscribe(list(world.topics), on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)

    def assigned(self, consumer, partitions):
        self.world.rebalances += 1
        floor = self.offsets.floor()
        for p in partitions:
            tp = (p.topic, p.partition)
            self.expected[tp] = (floor.get(tp, 0), None)

    def revoked(self, consumer, partitions):
        self.commit()
        self.forget(partitions)

    def lost(self, consumer, partitions):
        self.forget(partitions)

    def forget(self, partitions):
        for p in partitions:
            self.expected.pop((p.topic, p.partition), None)
            self.handled.pop((p.topic, p.partition), None)

    def commit(self):
        if not self.handled:
            return
        offsets, self.handled = self.handled, {}
        self.offsets.begin(offsets)
        try:
            answer = self.consumer.commit(offsets=[TopicPartition(t, p, o) for (t, p), o in offsets.items()], asynchronous=False)
        except KafkaException as e:  # the group moved on, or nobody knows: what was tried may or may not be there
            self.world.refused_commits[e.args[0].name()] = self.world.refused_commits.get(e.args[0].name(), 0) + 1
            return
        self.offsets.end({(a.topic, a.partition): offsets[a.topic, a.partition] for a in answer if not a.error})

    def handle(self, tp, offset):
        expected = self.expected.get(tp)
        if expected is None:
            self.world.faults.add("foreign", f"{self.name} {tp}: offset {offset} came without an assignment")
        elif isinstance(expected, tuple):
            least, most = expected[0], self.offsets.tried.get(tp, 0)
            if not least <= offset <= most:
                self.world.faults.add("twice" if offset < least else "skipped",
                                      f"{self.name} {tp}: began at {offset}; committed was {least}, tried at most {most}")
        elif offset != expected:
            self.world.faults.add("skipped" if offset > expected else "twice",
                                  f"{self.name} {tp}: offset {offset} came where {expected} must")
        self.expected[tp] = self.handled[tp] = offset + 1
        self.world.delivered += 1

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
