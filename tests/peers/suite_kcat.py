"""kcat (librdkafka), the Debian package: a client that is a pipe."""
import collections
import json
import signal
import time

from kit import ACKS, BASE_MS, CODECS, Process, same, that, until

NEEDS = ("kcat",)
SETTINGS = ("num.partitions=4",)
PARTITIONS = 4
FAST = ("-X", "reconnect.backoff.ms=50", "-X", "reconnect.backoff.max.ms=200", "-X", "fetch.wait.max.ms=50",
        "-X", "topic.metadata.refresh.fast.interval.ms=50")


def prepare():
    pass


def record(n):
    return f"key-{n % 37}:{n:07d} " + "the same words again and again " * 3


def lines(first, count):
    return "".join(record(n) + "\n" for n in range(first, first + count)).encode()


def kcat(ctx, *more):
    return ["kcat", "-b", ctx.address, *FAST, *more]


def produce(ctx, topic, data, *more):
    ctx.run(kcat(ctx, "-P", "-t", topic, "-K", ":", *more), data)


def read_all(ctx, topic):
    """Every record of a topic, by partition: [(offset, key, value)]."""
    out = ctx.run(kcat(ctx, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %o %k:%s\n"))
    got = collections.defaultdict(list)
    for line in out.decode().splitlines():
        partition, offset, text = line.split(" ", 2)
        got[int(partition)].append((int(offset), text))
    return got


def check_all_once(got, count, what):
    """All records of lines(0, count), each once; in a partition offsets without gaps and records as they were sent."""
    texts = [text for part in got.values() for _, text in part]
    same(count, len(texts), f"{what}: records")
    same({record(n) for n in range(count)} ^ set(texts), set(), f"{what}: records lost or foreign")
    for partition, part in got.items():
        same(list(range(len(part))), [offset for offset, _ in part], f"{what}: offsets of partition {partition}")
        order = [text.split(":")[1] for _, text in part]
        same(sorted(order), order, f"{what}: order in partition {partition}")


def codec_and_acks(ctx, codec, acks):
    topic = f"kcat-codec-{codec}-{acks}"
    count = 2000
    produce(ctx, topic, lines(0, count), "-z", codec, "-X", f"acks={acks}", "-X", "batch.num.messages=100")
    if acks != "all":  # not promised to be readable yet: with acks=1 it need not be durable, with 0 not even there
        until("all records can be read", lambda: sum(len(p) for p in read_all(ctx, topic).values()) == count)
    check_all_once(read_all(ctx, topic), count, topic)
    ctx.codec_is(topic, codec)


def idempotent(ctx):
    produce(ctx, "kcat-idempotent", lines(0, 20000), "-X", "enable.idempotence=true", "-X", "batch.num.messages=50")
    check_all_once(read_all(ctx, "kcat-idempotent"), 20000, "idempotent")


def shapes(ctx):
    data = b"a:1\n:empty key\nno value:\n"
    ctx.run(kcat(ctx, "-P", "-t", "kcat-shapes", "-p", "0", "-K", ":", "-Z", "-H", "one=1", "-H", "one=again", "-H", "none"), data)
    out = ctx.run(kcat(ctx, "-C", "-t", "kcat-shapes", "-p", "0", "-e", "-q", "-J"))
    got = [json.loads(line) for line in out.splitlines()]
    same([("a", "1"), (None, "empty key"), ("no value", None)], [(m["key"], m["payload"]) for m in got], "keys and values")
    for m in got:
        same(["one", "1", "one", "again", "none", None], m["headers"], "headers")


def times(ctx):
    first = int(time.time() * 1000)
    for n in range(3):
        produce(ctx, "kcat-times", lines(n * 10, 10), "-p", "0")
        while int(time.time() * 1000) <= first + n + 1:
            pass
    out = ctx.run(kcat(ctx, "-C", "-t", "kcat-times", "-p", "0", "-e", "-q", "-f", "%T %o\n")).decode()
    stamps = [(int(t), int(o)) for t, o in (line.split() for line in out.splitlines())]
    for want in (stamps[0][0], stamps[10][0], stamps[20][0], stamps[10][0] - 1):
        expect = next(o for t, o in stamps if t >= want)
        asked = ctx.run(kcat(ctx, "-Q", "-t", f"kcat-times:0:{want}")).decode()
        that(f"offset {expect}" in asked, f"offset of time {want}: want {expect}, got {asked!r}")
        read = ctx.run(kcat(ctx, "-C", "-t", "kcat-times", "-p", "0", "-o", f"s@{want}", "-e", "-q", "-f", "%o\n")).decode()
        same(list(range(expect, 30)), [int(o) for o in read.split()], f"offsets read from time {want}")
    read = ctx.run(kcat(ctx, "-C", "-t", "kcat-times", "-p", "0", "-o", f"s@{stamps[10][0]}", "-o", f"e@{stamps[20][0]}", "-q",
                        "-f", "%o\n")).decode()
    same([o for t, o in stamps if stamps[10][0] <= t < stamps[20][0]], [int(o) for o in read.split()], "from a time to a time")
    none = ctx.run(kcat(ctx, "-Q", "-t", f"kcat-times:0:{stamps[-1][0] + BASE_MS}")).decode()
    that("offset -1" in none, f"a time after the last record: {none!r}")


def metadata(ctx):
    said = json.loads(ctx.run(kcat(ctx, "-L", "-J")))
    same([{"id": said["originating_broker"]["id"], "name": ctx.address}], said["brokers"], "brokers")
    topic = next((t for t in said["topics"] if t["topic"] == "kcat-idempotent"), None)
    that(topic is not None, "kcat-idempotent is not in the metadata")
    same(list(range(PARTITIONS)), [p["partition"] for p in topic["partitions"]], "its partitions")


class Member:
    """kcat -G: a member of a group. What it was given is on its standard error, what it read on standard output."""

    def __init__(self, ctx, group, topic, *more):
        # -E: a moment without a broker is no reason to end.
        self.process = Process(kcat(ctx, "-E", "-G", group, topic, "-u", "-f", "%p %o %k:%s\n", "-X", "auto.offset.reset=earliest",
                                    "-X", "heartbeat.interval.ms=200", "-X", "session.timeout.ms=10000",
                                    "-X", "auto.commit.interval.ms=100", *more))

    def read(self):
        return [tuple(line.split(" ", 2)) for line in self.process.out]

    def rebalances(self):
        return [line for line in self.process.err if "rebalanced" in line]

    def leave(self):
        self.process.finish(signal.SIGTERM)

    def __enter__(self):
        self.process.__enter__()
        return self

    def __exit__(self, *exc):
        self.process.__exit__(*exc)


def group_read(members):
    return [r for m in members for r in m.read()]


def wait_count(members, count, what):
    members[-1].process.until(what, lambda: len(group_read(members)) >= count)


def wait_different(member, count, what):
    """Over a restart some may be read twice."""
    member.process.until(what, lambda: len({text for _, _, text in member.read()}) >= count)


def assert_group(members, count, what):
    """The members together read each record once, and each of them a partition's records in order."""
    got = group_read(members)
    same(count, len(got), f"{what}: records read by the group")
    same(set(), {record(n) for n in range(count)} ^ {text for _, _, text in got}, f"{what}: records lost or foreign")
    for m in members:
        last = {}
        for partition, offset, _ in m.read():
            that(int(offset) > last.get(partition, -1), f"{what}: partition {partition} goes back to {offset}")
            last[partition] = int(offset)


def group(ctx, strategy, static):
    """One member; a second joins and shares; the first leaves and the second goes on; a third continues from the commits."""
    topic = f"kcat-group-{strategy}{'-static' if static else ''}"
    more = ["-X", f"partition.assignment.strategy={strategy}"]

    def member(name):
        return Member(ctx, topic, topic, *more, *(["-X", f"group.instance.id={name}"] if static else []))

    produce(ctx, topic, lines(0, 200))
    with member("one") as one:
        wait_count([one], 200, "one member reads all")
        with member("two") as two:
            two.process.until("the second is assigned partitions", lambda: any("[" in at for at in two.rebalances()))
            one.process.until("the first has rebalanced", lambda: len(one.rebalances()) >= 2)
            produce(ctx, topic, lines(200, 800))
            wait_count([one, two], 1000, "two members read all")
            that(len(two.read()) > 0, "the second member read nothing")
            if not static:  # a static member that ends does not leave: its partitions wait for it
                one.leave()
                produce(ctx, topic, lines(1000, 200))
                wait_count([one, two], 1200, "the one who stayed reads all")
                two.leave()
                with member("three") as three:
                    produce(ctx, topic, lines(1200, 100))
                    wait_count([one, two, three], 1300, "a third goes on from what was committed")
                    three.leave()
                    assert_group([one, two, three], 1300, topic)
            else:
                mine = {p for p, _, _ in one.read()[200:]}
                one.leave()
                with member("one") as again:
                    produce(ctx, topic, lines(1000, 200))
                    wait_count([one, two, again], 1200, "the static member that came back reads on")
                    same(mine, {p for p, _, _ in again.read()}, "partitions of the static member that came back")
                    again.leave()
                    two.leave()
                    assert_group([one, two, again], 1200, topic)


def restarts(ctx, how):
    """Producer and group member are the same processes before and after; the broker is another one each time."""
    topic = f"kcat-restart-{how}"
    produce(ctx, topic, lines(0, 500))
    with Process(kcat(ctx, "-E", "-P", "-t", topic, "-K", ":", "-X", "enable.idempotence=true", "-X", "batch.num.messages=20")) as producer:
        with Member(ctx, topic, topic) as reader:
            wait_count([reader], 1, "the reader has begun")
            for turn in range(1, 4):
                producer.write(lines(turn * 500, 250))
                ctx.restart(how)
                producer.write(lines(turn * 500 + 250, 250))
                wait_different(reader, turn * 500, "the reader goes on after the restart")
            producer.finish()
            wait_different(reader, 2000, "all has been read")
            reader.leave()
            texts = [text for _, _, text in reader.read()]
            same(set(), {record(n) for n in range(2000)} ^ set(texts), "records lost or foreign")
            # What the group reads twice after a kill is at most what was not committed yet; it reads nothing in a new order.
            last = {}
            for partition, offset, text in reader.read():
                that(int(offset) <= last.get(partition, -1) + 1, f"partition {partition} jumps to {offset}")
                last[partition] = int(offset)
    check_all_once(read_all(ctx, topic), 2000, topic)
    # The last commits of the reader may have met a broker that was away: its successor may read again, but misses nothing.
    with Member(ctx, topic, topic) as after:
        produce(ctx, topic, b"last:one\n", "-p", "0")
        wait_for_last = lambda: any(text == "last:one" for _, _, text in after.read())  # noqa: E731
        after.process.until("the record after the commits", wait_for_last)
        for partition, offset, text in after.read():
            that(int(offset) <= last.get(partition, -1) + 1, f"the next member skips to {offset} in partition {partition}")
            last[partition] = max(int(offset), last.get(partition, -1))



def run(ctx):
    for codec in CODECS:
        for acks in ACKS:
            ctx.test(f"produce {codec} acks={acks}, read back", codec_and_acks, ctx, codec, acks)
    ctx.test("idempotent producer: 20,000 records in order, once", idempotent, ctx)
    ctx.test("null keys and values, headers", shapes, ctx)
    ctx.test("metadata names the broker and the partitions", metadata, ctx)
    ctx.test("offsets of times; reading from a time to a time", times, ctx)
    ctx.test("group: members join and leave, eager (range)", group, ctx, "range", False)
    ctx.test("group: members join and leave, cooperative", group, ctx, "cooperative-sticky", False)
    ctx.test("group: a static member comes back to its partitions", group, ctx, "range", True)
    ctx.test("producer and group live through SIGTERM of the broker", restarts, ctx, "term")
    ctx.test("producer and group live through kill -9 of the broker", restarts, ctx, "kill")
