"""usage: main.py BROKER CONTROL_URL rivulet|kafka [TEST]        (the runner's kit.py says what it prints)"""
import collections
import random
import sys
import threading
import time
import traceback
import urllib.request

import confluent_kafka as ck
from confluent_kafka import admin

BROKER, CONTROL, KIND = sys.argv[1:4]
ONLY = sys.argv[4] if len(sys.argv) > 4 else ""
# Times of records: of the past, which must not matter to what a broker knows of their producer. To Kafka they do: it takes
# the newest for the producer's last use, and forgets the producer when it is killed and starts again.
BASE_MS = 1767225600000 if KIND == "rivulet" else int(time.time() * 1000)
LIMIT_S = 60
checks = failed = 0

COMMON = {"bootstrap.servers": BROKER, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200,
          "topic.metadata.refresh.fast.interval.ms": 50, "error_cb": lambda error: None}


class Failed(Exception):
    pass


def that(holds, text):
    if not holds:
        raise Failed(text)


def same(want, got, what):
    that(want == got, f"{what}: want {str(want)[:300]}, got {str(got)[:300]}")


def until(what, holds):
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        that(time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}")
        time.sleep(0.01)


def check(name, body, *args):
    global checks, failed
    if ONLY not in name:
        return
    checks += 1
    began = time.monotonic()
    try:
        body(*args)
        print(f"ok {name} ({time.monotonic() - began:.1f} s)", flush=True)
    except Exception as e:
        failed += 1
        print(f"not ok {name} ({time.monotonic() - began:.1f} s) | {type(e).__name__} {str(e)!r}", flush=True)
        for line in traceback.format_exc().splitlines()[-8:]:
            print(f"# {line}", flush=True)


def restart(how):
    with urllib.request.urlopen(f"{CONTROL}/{how}", timeout=120) as answer:
        answer.read()


# ---- clients

ADMIN = admin.AdminClient(COMMON)  # one for all: a client that is collected takes its futures with it


def create(topic, partitions, **config):
    for f in ADMIN.create_topics([admin.NewTopic(topic, partitions, 1, config=config)]).values():
        f.result(LIMIT_S)

    def leads():  # in Kafka a topic is created before its partitions have a leader that answers
        asked = {ck.TopicPartition(topic, p): admin.OffsetSpec.latest() for p in range(partitions)}
        try:
            return all(f.result(LIMIT_S) for f in ADMIN.list_offsets(asked).values())
        except ck.KafkaException:
            return False
    until("the topic's partitions are led", leads)


class Producer:
    """A producer that knows what was acknowledged: [(partition, offset)] by the record's number."""

    def __init__(self, topic, **more):
        self.topic, self.offsets, self.errors = topic, {}, []
        self.p = ck.Producer({**COMMON, "linger.ms": 2, **more})

    def send(self, n, partition, **more):
        def delivered(error, message):
            if error:
                self.errors.append(str(error))
            else:
                self.offsets[n] = (message.partition(), message.offset())
        while True:
            try:
                self.p.produce(self.topic, key=f"key-{n % 17}", value=value_of(n), partition=partition, timestamp=BASE_MS + n * 1000,
                               on_delivery=delivered, **more)
                return
            except BufferError:
                self.p.poll(0.1)

    def flush(self):
        left = self.p.flush(LIMIT_S)
        same(0, left, "records that were not acknowledged")
        same([], self.errors, "delivery errors")


def value_of(n):
    # Even a batch of one must become smaller by every codec: otherwise the client sends it as it is.
    return (f"{n:07d} " + "words that come again; " * (5 + n % 9)).encode()


def number_of(message):
    return int(message.value().split(b" ")[0])


def consumer(group, **more):
    return ck.Consumer({**COMMON, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                        "fetch.wait.max.ms": 50, "heartbeat.interval.ms": 200, "session.timeout.ms": 10000, **more})


# While a broker goes away and comes back the coordinator may be unknown or loading; the client asks again by itself.
PASSING = {ck.KafkaError.NOT_COORDINATOR, ck.KafkaError.COORDINATOR_NOT_AVAILABLE, ck.KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
           ck.KafkaError._TRANSPORT, ck.KafkaError._ALL_BROKERS_DOWN, ck.KafkaError._WAIT_COORD}


def good(message):
    if message is None:
        return False
    if message.error() and message.error().code() in PASSING:
        return False
    if message.error():
        raise ck.KafkaException(message.error())
    return True


def read_all(topic, partitions, count):
    """Every record of a topic, by partition."""
    c = consumer("reader", **{"enable.partition.eof": True})
    c.assign([ck.TopicPartition(topic, p, 0) for p in range(partitions)])
    got, ended, deadline = collections.defaultdict(list), set(), time.monotonic() + LIMIT_S
    while len(ended) < partitions or sum(map(len, got.values())) < count:
        that(time.monotonic() < deadline, f"only {sum(map(len, got.values()))} of {count} records of {topic}")
        m = c.poll(0.2)
        if m is not None and m.error() and m.error().code() == ck.KafkaError._PARTITION_EOF:
            ended.add(m.partition())
        elif good(m):
            ended.discard(m.partition())
            got[m.partition()].append(m)
    c.close()
    return got


def assert_once(topic, partitions, count):
    """Records 0..count-1, each once, in its partition, in order."""
    got = read_all(topic, partitions, count)
    for p in range(partitions):
        same(list(range(p, count, partitions)), [number_of(m) for m in got[p]], f"records of {topic}-{p}")
        same(list(range(len(got[p]))), [m.offset() for m in got[p]], f"offsets of {topic}-{p}")
        for m in got[p]:
            n = number_of(m)
            same((f"key-{n % 17}".encode(), value_of(n), (ck.TIMESTAMP_CREATE_TIME, BASE_MS + n * 1000)),
                 (m.key(), m.value(), m.timestamp()), f"record {n}")
    return got


# ---- tests

def round_trip(codec, acks):
    topic = f"python-codec-{codec}-{acks}"
    create(topic, 3)
    p = Producer(topic, acks=acks, **{"compression.type": codec, "batch.num.messages": 40})
    for n in range(1000):
        p.send(n, n % 3, headers=[("n", str(n).encode()), ("none", None), ("", b"")])
    p.flush()
    if acks != "0":
        same({n: (n % 3, n // 3) for n in range(1000)}, p.offsets, "offsets in the answers")
    for part in assert_once(topic, 3, 1000).values():
        for m in part:
            same([("n", str(number_of(m)).encode()), ("none", None), ("", b"")], m.headers(), "headers")


def idempotent():
    create("python-idempotent", 4)
    p = Producer("python-idempotent", **{"enable.idempotence": True, "batch.num.messages": 20})
    for n in range(20000):
        p.send(n, n % 4)
    p.flush()
    same({n: (n % 4, n // 4) for n in range(20000)}, p.offsets, "offsets in the answers")
    assert_once("python-idempotent", 4, 20000)


def times():
    create("python-times", 2)
    p = Producer("python-times", **{"compression.type": "lz4", "linger.ms": 20})
    for n in range(1000):
        p.send(n, 0)
    p.flush()
    c = consumer("python-times")

    def at(ms, partition=0):
        return c.offsets_for_times([ck.TopicPartition("python-times", partition, ms)], LIMIT_S)[0].offset

    rng = random.Random(5)
    for n in [0, 999] + rng.sample(range(1, 999), 20):
        same(n, at(BASE_MS + n * 1000), "offset of an exact time")
        same(n, at(BASE_MS + n * 1000 - rng.randint(1, 999)), "offset of a time between two records")
    same(ck.OFFSET_END, at(BASE_MS + 1_000_000), "a time after the last record")
    same(ck.OFFSET_END, at(0, 1), "a time in an empty partition")
    same((0, 1000), c.get_watermark_offsets(ck.TopicPartition("python-times", 0), LIMIT_S), "low and high")
    c.assign([ck.TopicPartition("python-times", 0, 0)])
    until("a first record", lambda: good(c.poll(0.2)))
    for n in (999, 0, 500):
        c.seek(ck.TopicPartition("python-times", 0, at(BASE_MS + n * 1000)))
        until("a record at the sought time", lambda: any(number_of(m) == n for m in [c.poll(0.2)] if good(m)))
    c.close()


class Member(threading.Thread):
    """A group's member on a thread of its own. Commits every record it has read, synchronously, before the next."""

    def __init__(self, group, topic, strategy, instance=None, pause=0.0):
        super().__init__(daemon=True)
        more = {"group.instance.id": instance} if instance else {}
        self.c = consumer(group, **{"partition.assignment.strategy": strategy, **more})
        self.topic, self.pause = topic, pause
        self.cooperative = "cooperative" in strategy
        self.owned, self.read, self.gained, self.lost, self.error = set(), [], 0, 0, None
        self.leaving = threading.Event()
        self.start()

    def _assigned(self, c, parts):
        new = {p.partition for p in parts}
        self.owned = self.owned | new if self.cooperative else new
        self.gained += 1

    def _revoked(self, c, parts):
        self.owned = self.owned - {p.partition for p in parts}
        self.lost += 1

    def run(self):
        try:
            self.c.subscribe([self.topic], on_assign=self._assigned, on_revoke=self._revoked)
            while not self.leaving.is_set():
                m = self.c.poll(0.1)
                if good(m):
                    self.read.append((m.partition(), m.offset(), number_of(m)))
                    self._commit(m)
            self.c.close()
        except Exception as e:
            self.error = e

    def _commit(self, message):
        until_s = time.monotonic() + LIMIT_S
        while True:
            try:
                self.c.commit(message, asynchronous=False)
                return
            except ck.KafkaException as e:
                code = e.args[0].code()
                if code in (ck.KafkaError.ILLEGAL_GENERATION, ck.KafkaError.REBALANCE_IN_PROGRESS, ck.KafkaError.UNKNOWN_MEMBER_ID):
                    return  # the group moved on: whoever owns the partition now reads it again
                if code not in PASSING or time.monotonic() > until_s:
                    raise

    def leave(self):
        self.leaving.set()
        self.join(LIMIT_S)
        that(not self.is_alive(), "a member does not leave")
        if self.error:
            raise Failed(f"a member failed: {self.error}")


def wait_read(members, count, counted=None):
    """Until the members have read so many records; of those that `counted` gives for a member, different ones."""
    def enough():
        for m in members:
            if m.error:
                raise Failed(f"a member failed: {m.error}")
        if counted:
            return len(set().union(*map(counted, members))) >= count
        return sum(len(m.read) for m in members) >= count
    until(f"{count} records read by the group", enough)


def shared(members, partitions):
    def is_shared():
        for m in members:
            if m.error:
                raise Failed(f"a member failed: {m.error}")
        owned = [p for m in members for p in m.owned]
        return sorted(owned) == list(range(partitions)) and all(m.owned for m in members)
    until(f"{len(members)} members share {partitions} partitions", is_shared)


def produce(topic, first, count, partitions, **more):
    p = Producer(topic, **more)
    for n in range(first, first + count):
        p.send(n, n % partitions)
    p.flush()


def group(strategy):
    """Members come and go; each record is read once by the group, since each is committed before the next is read."""
    topic, parts = f"python-group-{strategy}", 6
    create(topic, parts)
    produce(topic, 0, 120, parts)
    one = Member(topic, topic, strategy)
    wait_read([one], 120)
    two = Member(topic, topic, strategy)
    three = Member(topic, topic, strategy)
    shared([one, two, three], parts)
    produce(topic, 120, 300, parts)
    wait_read([one, two, three], 420)
    that(two.read and three.read, "a member that owns partitions read nothing")
    one.leave()
    shared([two, three], parts)
    produce(topic, 420, 120, parts)
    wait_read([one, two, three], 540)
    two.leave()
    three.leave()
    four = Member(topic, topic, strategy)
    produce(topic, 540, 60, parts)
    wait_read([one, two, three, four], 600)
    four.leave()
    everyone = [one, two, three, four]
    same(list(range(600)), sorted(n for m in everyone for _, _, n in m.read), "records read by the group")
    for m in everyone:
        for p in range(parts):
            offsets = [o for q, o, _ in m.read if q == p]
            same(sorted(offsets), offsets, f"order of partition {p} at one member")
    c = consumer(topic)
    same([100] * parts, [t.offset for t in c.committed([ck.TopicPartition(topic, p) for p in range(parts)], LIMIT_S)], "committed offsets")
    c.close()


def static_members():
    """A static member that ends and comes back gets its partitions without a rebalance of the others."""
    topic, parts = "python-static", 4
    create(topic, parts)
    one, two = Member(topic, topic, "range", "one"), Member(topic, topic, "range", "two")
    shared([one, two], parts)
    produce(topic, 0, 80, parts)
    wait_read([one, two], 80)
    before, gained = set(one.owned), two.gained
    one.leave()
    again = Member(topic, topic, "range", "one")
    until("the member that came back owns its partitions", lambda: again.owned == before or again.error)
    produce(topic, 80, 80, parts)
    wait_read([one, two, again], 160)
    same(gained, two.gained, "rebalances that the other member saw")
    usurper = Member(topic, topic, "range", "two")  # the same name a second time fences the first
    until("the first of two members with one name is fenced", lambda: two.error is not None)
    that("fenced" in str(two.error).lower(), f"how the member was fenced: {two.error}")
    until("the second owns the partitions", lambda: usurper.owned)
    usurper.leave()
    again.leave()
    same(list(range(160)), sorted(n for m in (one, two, again) for _, _, n in m.read), "records read by the group")


def restarts(how):
    """Producer, group and admin objects live while the broker goes away and comes back, four times."""
    topic, parts, turns, each = f"python-restart-{how}", 3, 4, 400
    create(topic, parts)
    p = Producer(topic, **{"enable.idempotence": True, "batch.num.messages": 10, "message.timeout.ms": LIMIT_S * 1000})
    members = [Member(topic, topic, "cooperative-sticky"), Member(topic, topic, "cooperative-sticky")]
    shared(members, parts)
    floor = dict.fromkeys(range(parts), 0)
    asking = consumer(topic)
    for turn in range(turns):
        first = turn * each
        for n in range(first, first + each // 2):
            p.send(n, n % parts)
        p.p.poll(0)
        restart(how)
        for n in range(first + each // 2, first + each):
            p.send(n, n % parts)
        p.flush()
        wait_read(members, first + each, lambda m: {n for _, _, n in m.read})  # some may be read twice
        for t in asking.committed([ck.TopicPartition(topic, q) for q in range(parts)], LIMIT_S):
            that(t.offset >= floor[t.partition], f"the committed offset of {t.partition} went back to {t.offset} from {floor[t.partition]}")
            floor[t.partition] = t.offset
    asking.close()
    total = turns * each
    same({n: n % parts for n in range(total)}, {n: q for n, (q, _) in p.offsets.items()}, "acknowledged records")
    for m in members:
        m.leave()
    same(set(range(total)), {n for m in members for _, _, n in m.read}, "records read by the group")
    got = assert_once(topic, parts, total)
    for q, part in got.items():
        for m in part:
            same(p.offsets[number_of(m)], (q, m.offset()), "place of an acknowledged record")


def admins():
    a = ADMIN
    topic = "python-admin"
    create(topic, 2, **{"retention.ms": "3600000"})
    with_error = a.create_topics([admin.NewTopic(topic, 2, 1)])[topic].exception(LIMIT_S)
    same(ck.KafkaError.TOPIC_ALREADY_EXISTS, with_error.args[0].code(), "creating it again")
    that(a.create_topics([admin.NewTopic("python-only-asked", 1, 1)], validate_only=True)["python-only-asked"].result(LIMIT_S) is None, "validate only")
    that("python-only-asked" not in a.list_topics(timeout=LIMIT_S).topics, "a validated topic was made")
    resource = admin.ConfigResource(admin.ResourceType.TOPIC, topic)

    def config(name):
        return a.describe_configs([resource])[resource].result(LIMIT_S)[name].value

    same("3600000", config("retention.ms"), "setting given at creation")
    wanted = admin.ConfigResource(admin.ResourceType.TOPIC, topic, incremental_configs=[
        admin.ConfigEntry("max.message.bytes", "2000", incremental_operation=admin.AlterConfigOpType.SET),
        admin.ConfigEntry("retention.ms", None, incremental_operation=admin.AlterConfigOpType.DELETE)])
    a.incremental_alter_configs([wanted])[wanted].result(LIMIT_S)
    same("2000", config("max.message.bytes"), "setting that was altered")
    that(config("retention.ms") != "3600000", "setting that was deleted")
    bad = admin.ConfigResource(admin.ResourceType.TOPIC, topic, incremental_configs=[
        admin.ConfigEntry("max.message.bytes", "many", incremental_operation=admin.AlterConfigOpType.SET)])
    same(ck.KafkaError.INVALID_CONFIG, a.incremental_alter_configs([bad])[bad].exception(LIMIT_S).args[0].code(), "a bad value")
    p = Producer(topic, **{"compression.type": "none"})
    p.p.produce(topic, value=b"x" * 5000, on_delivery=lambda e, m: p.errors.append(e.code() if e else None))
    p.p.flush(LIMIT_S)
    same([ck.KafkaError.MSG_SIZE_TOO_LARGE], p.errors, "a record over max.message.bytes")
    same(1, len(a.describe_cluster().result(LIMIT_S).nodes), "nodes")
    described = a.describe_topics(ck.TopicCollection([topic]))[topic].result(LIMIT_S)
    same([0, 1], [q.id for q in described.partitions], "partitions described")
    produce(topic, 0, 10, 2)
    m = Member(topic, topic, "range")
    wait_read([m], 10)
    same("STABLE", a.describe_consumer_groups([topic])[topic].result(LIMIT_S).state.name, "state of the group")
    same(ck.KafkaError.NON_EMPTY_GROUP, a.delete_consumer_groups([topic])[topic].exception(LIMIT_S).args[0].code(), "deleting a live group")
    m.leave()
    until("the group is empty", lambda: a.describe_consumer_groups([topic])[topic].result(LIMIT_S).state.name == "EMPTY")
    that(topic in [g.group_id for g in a.list_consumer_groups().result(LIMIT_S).valid], "the group is not listed")
    at = ck.ConsumerGroupTopicPartitions(topic, [ck.TopicPartition(topic, 0, 3)])
    a.alter_consumer_group_offsets([at])[topic].result(LIMIT_S)
    found = a.list_consumer_group_offsets([ck.ConsumerGroupTopicPartitions(topic)])[topic].result(LIMIT_S)
    same({0: 3, 1: 5}, {t.partition: t.offset for t in found.topic_partitions}, "offsets of the group")
    a.delete_consumer_groups([topic])[topic].result(LIMIT_S)
    that(topic not in [g.group_id for g in a.list_consumer_groups().result(LIMIT_S).valid], "the group is still listed")
    for spec, want in ((admin.OffsetSpec.earliest(), 0), (admin.OffsetSpec.latest(), 5), (admin.OffsetSpec.max_timestamp(), 4)):
        key = ck.TopicPartition(topic, 0)
        same(want, a.list_offsets({key: spec})[key].result(LIMIT_S).offset, f"offset by {spec}")
    a.delete_topics([topic])[topic].result(LIMIT_S)
    until("the topic is gone", lambda: topic not in a.list_topics(timeout=LIMIT_S).topics)
    same(ck.KafkaError.UNKNOWN_TOPIC_OR_PART, a.delete_topics([topic])[topic].exception(LIMIT_S).args[0].code(), "deleting it again")


def no_transactions():
    """librdkafka asks for the coordinator until its time is over, whatever the answer but a lack of rights."""
    p = ck.Producer({**COMMON, "transactional.id": "t"})
    try:
        p.init_transactions(2)
    except ck.KafkaException:
        return
    raise Failed("init_transactions succeeded")


def main():
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        for acks in ("0", "1", "all"):
            check(f"produce {codec} acks={acks}, read back", round_trip, codec, acks)
    check("idempotent producer: 20,000 records in order, once", idempotent)
    check("offsets of times, watermarks, seek", times)
    for strategy in ("range", "roundrobin", "cooperative-sticky"):
        check(f"group: members join and leave, {strategy}", group, strategy)
    check("group: static members, fencing", static_members)
    check("admin: topics, settings, groups, offsets", admins)
    if KIND == "rivulet":
        check("transactional producer does not begin", no_transactions)
    check("clients live through SIGTERM of the broker", restarts, "term")
    check("clients live through kill -9 of the broker", restarts, "kill")
    print(f"done {checks}", flush=True)
    sys.exit(1 if failed else 0)


main()
