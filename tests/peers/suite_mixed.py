"""librivulet, Apache Kafka's Java client and librdkafka (confluent-kafka) in one group: joining and leaving in mixed order, each kind the leader in
turn. And keys go to the same partition, whichever of them sends.

A member is a process: librivulet/member.c, java/peers/Seat.java, confluent/member.py. All print the same lines (member.c says which), with the
time of one clock, so that what they tell can be put in order.
"""
import collections
import json
import os
import re
import time

import kit
import toolchains

NEEDS = ("java", "javac")
SETTINGS = ("group.initial.rebalance.delay.ms=0",)

KINDS = ("librivulet", "java", "librdkafka")
STRATEGIES = ("range", "roundrobin", "cooperative-sticky")
TOPICS = {"a": 7, "b": 4}  # uneven on purpose
# What the log of a member says when it leads, and deals.
LEADS = {"librivulet": r"member \S+ of generation \d+, \S+, leads", "java": r"Finished assignment for group at generation",
         "librdkafka": r"JoinGroup response: .*LeaderId \S+ \(me\)"}
GIVE_MS = 100  # nobody may have what another one is still giving up
COUNTS = (1, 2, 3, 7, 12, 64, 100, 1000)
SENT_TO = 4  # index in COUNTS: the topic that keys are sent to has so many partitions
PROGRAMS = toolchains.ROOT / "build" / "release" / "tests" / "peers" / "librivulet"


def prepare():
    toolchains.java_program()
    toolchains.python()
    toolchains.call(["make", "-s", "--no-print-directory", "-C", toolchains.ROOT, "peer-programs"], 300)


class Seat(kit.Process):
    def __init__(self, ctx, kind, group, topics, strategy):
        argv = {"librivulet": [PROGRAMS / "member"],
                "java": ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={ctx.log4j}",
                         "-cp", toolchains.java_program(), "peers.Seat"],
                "librdkafka": [toolchains.python(), "-B", toolchains.HERE / "confluent" / "member.py"]}[kind]
        more = {"librivulet": ["auto.offset.reset=earliest", "session.timeout.ms=10000", "heartbeat.interval.ms=200", "max.poll.records=10",
                               "fetch.max.wait.ms=50"]}.get(kind, [])
        self.kind = kind
        self.leaving_ns = None  # on the members' clock
        super().__init__([*argv, ctx.address, group, ",".join(topics), f"partition.assignment.strategy={strategy}", f"client.id={kind}", *more],
                         env={**os.environ, "MEMBER_GIVE_MS": str(GIVE_MS)})

    def lines(self, kind):
        return [at.split(" ", 2) for at in list(self.out) if at.startswith(kind + " ")]

    def events(self):
        return [(int(at[1]), self, at[0], at[2] if len(at) > 2 else "") for at in (line.split(" ", 2) for line in list(self.out))]

    def owned(self):
        mine = set()
        for _, _, kind, rest in self.events():
            if kind == "own":
                mine |= places(rest).keys()
            elif kind in ("give", "lost"):
                mine -= places(rest).keys()
        return mine

    def leads(self):
        return any(re.search(LEADS[self.kind], line) for line in list(self.err))

    def check(self):
        kit.that(self.p.poll() is None, f"the member on {self.kind} ended with {self.p.poll()}\n{self.errors()}")

    def leave(self):
        self.leaving_ns = time.monotonic_ns()
        self.finish(seconds=60)
        kit.same(1, len(self.lines("bye")), f"ends of the member on {self.kind}")

    def __str__(self):
        return f"{self.kind} ({self.p.pid})"


def places(text):
    return {where: int(offset) for where, offset in (at.rsplit(":", 1) for at in text.split())}


class Table:
    """One group, its topics, and all that ever sat there."""

    def __init__(self, ctx, name, strategy):
        self.ctx, self.group, self.strategy = ctx, name, strategy
        self.topics = {f"{name}-{t}": n for t, n in TOPICS.items()}
        self.everyone, self.here, self.sent = [], [], 0
        for topic, n in self.topics.items():
            self.rivulet("topic", "create", topic, "-p", n)
        self.all = {f"{t}/{p}" for t, n in self.topics.items() for p in range(n)}
        kit.until("the topics' partitions are led", lambda: self.ends(False) is not None)

    def rivulet(self, *argv, stdin=b""):
        return self.ctx.run([toolchains.ROOT / "build" / "rivulet", *argv, "-b", self.ctx.address], stdin=stdin)

    def ask(self, *argv):
        return [json.loads(at) for at in self.rivulet(*argv, "--json").splitlines()]

    def ends(self, needed=True):
        try:
            rows = [r for t in self.topics for r in self.ask("topic", "describe", t)]
            return {f"{r['topic']}/{r['partition']}": r["end_offset"] for r in rows} if all(r["end_offset"] is not None for r in rows) else None
        except kit.Failed:
            if needed:
                raise
            return None

    def sit(self, kind, strategy=None):
        seat = Seat(self.ctx, kind, self.group, self.topics, strategy or self.strategy)
        self.everyone.append(seat)
        self.here.append(seat)
        return seat

    def leave(self, seat):
        self.here.remove(seat)
        seat.leave()

    def produce(self, count):
        """Of each topic as many; each value a number of its own."""
        for topic in self.topics:
            lines = "".join(f"key-{n}:{n}\n" for n in range(self.sent, self.sent + count))
            self.rivulet("produce", topic, "-k", ":", stdin=lines.encode())
            self.sent += count

    def numbers_read(self):
        return {int(at[2].split(" ")[2]) for s in self.everyone for at in s.lines("read")}

    def until(self, what, holds):
        def alive():
            for s in self.here:
                s.check()
            return holds()
        try:
            kit.until(what, alive)
        except kit.Failed as e:
            raise kit.Failed(f"{e}\n" + "\n".join(f"{s} has {sorted(s.owned())}: {kit.tail(chr(10).join(s.out), 6)}\n{s.errors()}"
                                                  for s in self.here)) from None

    def until_shared(self):
        """Every partition has one owner, none of the members has nothing, and the broker tells the same of them as they do."""
        def shared():
            have = [s.owned() for s in self.here]
            return all(have) and sum(map(len, have)) == len(self.all) and set().union(*have) == self.all and self.agrees(have)
        self.until(f"{', '.join(map(str, self.here))} share {len(self.all)} partitions", shared)

    def rows(self):
        return {f"{r['topic']}/{r['partition']}": r for r in self.ask("group", "describe", self.group)}

    def agrees(self, have):
        """With the deal that the leader gave the broker, whoever reads that. `have` may be of the moment before it."""
        by_member = collections.defaultdict(set)
        for where, row in self.rows().items():
            if row["member"]:
                by_member[row["member"]].add(where)
        self.deal = dict(by_member)
        return sorted(map(sorted, by_member.values())) == sorted(map(sorted, have))

    def is_dealt_as_written(self):
        """Range and roundrobin leave nothing to choose: all leaders deal the same."""
        members = sorted(self.deal)
        want = {m: set() for m in members}
        turn = 0
        for topic, count in sorted(self.topics.items()):
            at = 0
            for n, m in enumerate(members):
                if self.strategy == "range":
                    share = count // len(members) + (n < count % len(members))
                    want[m] |= {f"{topic}/{p}" for p in range(at, at + share)}
                    at += share
            for p in range(count if self.strategy == "roundrobin" else 0):
                want[members[turn % len(members)]].add(f"{topic}/{p}")
                turn += 1
        if self.strategy == "cooperative-sticky":
            sizes = sorted(map(len, self.deal.values()))
            kit.that(sizes[-1] - sizes[0] <= 1, f"the deal is not even: {sizes}")
        else:
            kit.same(want, self.deal, f"the deal of {self.strategy}")

    def until_read(self):
        """And committed, all of it."""
        self.until(f"all {self.sent} records are read", lambda: len(self.numbers_read()) == self.sent)
        ends = self.ends()
        self.until("all is committed", lambda: {w: r["committed_offset"] for w, r in self.rows().items() if ends[w]} ==
                   {w: e for w, e in ends.items() if e})

    # ---- the judgement

    def judge(self):
        events = sorted((e for s in self.everyone for e in s.events()), key=lambda e: e[0])
        owner, expected, floor, tried, trying = {}, {}, {}, collections.defaultdict(int), {}
        reads = collections.Counter()
        resumed = collections.Counter()  # a kind that goes on where another kind had committed
        committer = {}
        for at, seat, kind, rest in events:
            if kind == "own":
                for where in places(rest):
                    kit.that(where not in owner, f"{where} came to {seat} while {owner.get(where)} had it")
                    owner[where], expected[where] = seat, (floor.get(where, 0), None)
            elif kind in ("give", "lost"):
                # Java tells so when it is closed while the group rebalances.
                leaves = seat.kind == "java" and seat.leaving_ns is not None and at > seat.leaving_ns
                kit.that(kind == "give" or leaves, f"{seat} lost {rest}: nobody was away\n{seat.errors()}")
                for where in places(rest):
                    kit.that(owner.pop(where, None) is seat, f"{seat} gave {where}, which it did not have")
            elif kind == "try":
                trying[seat] = places(rest)
                for where, offset in trying[seat].items():
                    tried[where] = max(tried[where], offset)
            elif kind == "done":
                for where, offset in trying[seat].items():
                    kit.that(offset >= floor.get(where, 0), f"{seat} committed {offset} of {where}, {floor.get(where)} was before")
                    floor[where], committer[where] = offset, seat.kind
            elif kind == "read":
                where, offset, number = rest.split(" ")
                offset = int(offset)
                kit.that(owner.get(where) is seat, f"{seat} read {where} offset {offset}, which {owner.get(where)} has")
                least, exact = expected[where]
                if exact is None:
                    kit.that(least <= offset <= max(least, tried[where]), f"{seat} began {where} at {offset}; committed was {least}, "
                             f"tried at most {tried[where]}")
                    if offset and committer.get(where, seat.kind) != seat.kind:
                        resumed[committer[where], seat.kind] += 1
                else:
                    kit.same(exact, offset, f"the next offset of {where} at {seat}")
                expected[where] = (least, offset + 1)
                reads[number] += 1
        kit.same(set(map(str, range(self.sent))), set(reads), "records read")
        return resumed

    def close(self):
        for s in self.everyone:
            s.__exit__()


def comings_and_goings(ctx, strategy, kinds):
    """The first of the kinds leads. Records come while all rests and while it does not."""
    first, second, third = kinds
    table = Table(ctx, f"mixed-{strategy}-{first}", strategy)
    try:
        leader = table.sit(first)
        table.until_shared()
        table.produce(100)
        table.until_read()
        table.sit(second)
        table.produce(100)  # while it joins
        two = table.sit(third)
        table.until_shared()
        table.is_dealt_as_written()
        kit.that(leader.leads(), f"{leader} was first and does not lead")
        kit.that(not two.leads(), f"{two} was last and leads")
        table.produce(100)
        table.until_read()
        table.sit(second)
        table.until_shared()
        table.is_dealt_as_written()
        table.leave(leader)  # another one must lead now
        table.produce(100)
        table.until_shared()
        table.is_dealt_as_written()
        table.sit(first)
        table.leave(two)
        table.until_shared()
        table.until_read()
        for s in list(table.here):
            table.leave(s)
        for kind in (third, second, first):  # one after the other goes on where the one before ended
            alone = table.sit(kind)
            table.produce(50)
            table.until_shared()
            table.until_read()
            table.leave(alone)
        resumed = table.judge()
        for pair in ((third, second), (second, first)):
            kit.that(resumed[pair], f"no partition of {pair[0]} was gone on with by {pair[1]}: {resumed}")
    finally:
        table.close()


def change_of_strategy(ctx, kinds):
    """One member after the other goes from eager to cooperative, as Kafka's manual says; librdkafka cannot."""
    table = Table(ctx, f"mixed-change-{kinds[0]}", "range,cooperative-sticky")
    try:
        for kind in kinds:
            table.sit(kind)
            table.until_shared()
        table.produce(100)
        table.until_read()
        for seat in list(table.here):
            table.leave(seat)
            table.produce(50)
            table.sit(seat.kind, "cooperative-sticky")
            table.until_shared()
            table.until_read()
        for seat in list(table.here):
            table.leave(seat)
        table.judge()
    finally:
        table.close()


def placement(ctx):
    topic, counts = "placement", ",".join(map(str, COUNTS))
    keys = ctx.run(["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", toolchains.java_program(), "peers.Placement",
                    "10000", "20260101", counts])
    path = ctx.dir / "keys.tsv"
    path.write_bytes(keys)
    kit.same(10000, keys.count(b"\n"), "keys")
    golden = (toolchains.ROOT / "tests" / "data" / "placement.tsv").read_bytes()
    kit.that(keys.startswith(golden), "tests/data/placement.tsv is not the beginning of what Java says")
    ctx.run([toolchains.ROOT / "build" / "rivulet", "topic", "create", topic, "-p", str(COUNTS[SENT_TO]), "-b", ctx.address])
    out = ctx.run([PROGRAMS / "placement", ctx.address, topic, SENT_TO, counts], stdin=keys, codes=(0, 1)).decode()
    kit.same(f"same 10000 keys, {10000 * len(COUNTS)} places, 10000 sent", out.strip(), "librivulet beside Java")
    out = ctx.run([toolchains.python(), "-B", toolchains.HERE / "confluent" / "placement.py", ctx.address, topic, path, SENT_TO]).decode()
    kit.same("same 10000 of 10000", out.strip(), "librdkafka beside Java")


def run(ctx):
    ctx.log4j = ctx.dir / "log4j2.properties"
    ctx.log4j.write_text(
        "rootLogger.level=ERROR\nrootLogger.appenderRef.c.ref=C\nappender.c.type=Console\nappender.c.name=C\nappender.c.target=SYSTEM_ERR\n"
        "appender.c.layout.type=PatternLayout\nappender.c.layout.pattern=[%d] %p %m (%c)%n\nlogger.c.level=INFO\n"
        "logger.c.name=org.apache.kafka.clients.consumer.internals.ConsumerCoordinator\n")
    ctx.test("10,000 random keys have the same partitions in librivulet, Java and librdkafka", placement, ctx)
    for strategy in STRATEGIES:
        for n, first in enumerate(KINDS):
            kinds = KINDS[n:] + KINDS[:n]
            ctx.test(f"a group of {', '.join(kinds)}: {strategy}, {first} leads", comings_and_goings, ctx, strategy, kinds)
    for kinds in (("librivulet", "java", "librivulet"), ("java", "librivulet", "java")):
        ctx.test(f"a group of {', '.join(kinds)} goes from range to cooperative-sticky", change_of_strategy, ctx, kinds)
