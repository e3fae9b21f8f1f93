"""What a service on librivulet lives through: brokers that are away for long or come back without memory, and its own silence.

The services are librivulet/writer.c and librivulet/member.c; what they print is said there.
"""
import collections
import pathlib
import sys
import time

import kit
import toolchains

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "killloop"))
from ledger import Faults  # noqa: E402
from services import Member, Writer, judge_records, places, rivulet  # noqa: E402

NEEDS = ()
SETTINGS = ("group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=500", "auto.create.topics.enable=false")

PROGRAMS = toolchains.ROOT / "build" / "release" / "tests" / "peers" / "librivulet"
COMMON = ("reconnect.backoff.ms=20", "reconnect.backoff.max.ms=200", "retry.backoff.ms=20", "retry.backoff.max.ms=200")
PARTITIONS = 3
AWAY_S = 20
SESSION_MS = 3000


def prepare():
    toolchains.call(["make", "-s", "--no-print-directory", "-C", toolchains.ROOT, "peer-programs"], 300)


class Stage:
    """A topic, and the services around it."""

    def __init__(self, ctx, name):
        self.ctx, self.topic, self.everyone, self.faults = ctx, f"service-{name}", [], Faults()
        self.create()

    def create(self):
        kit.until("the topic is made", lambda: self.rivulet("topic", "create", self.topic, "-p", str(PARTITIONS)) is not None)
        kit.until("its partitions are led", lambda: self.ends() is not None)

    def rivulet(self, *argv):
        return rivulet(toolchains.ROOT, self.ctx.address, *argv)

    def writer(self, name, *options):
        w = Writer([PROGRAMS / "writer", self.ctx.address, name, self.topic, PARTITIONS, 5, *COMMON, *options], name)
        self.everyone.append(w)
        return w

    def member(self, name, *options):
        m = Member([PROGRAMS / "member", self.ctx.address, self.topic, self.topic, *COMMON, "auto.offset.reset=earliest", f"client.id={name}",
                    f"session.timeout.ms={SESSION_MS}", "heartbeat.interval.ms=200", "fetch.max.wait.ms=100", *options], name)
        self.everyone.append(m)
        return m

    def reader(self, name, *options):
        """Of assigned partitions."""
        r = Member([PROGRAMS / "member", self.ctx.address, "-", ",".join(f"{self.topic}/{p}" for p in range(PARTITIONS)), *COMMON,
                    "auto.offset.reset=earliest", "fetch.max.wait.ms=100", *options], name)
        self.everyone.append(r)
        return r

    def until(self, what, holds, seconds=60):
        def alive():
            for s in self.everyone:
                kit.that(s.killed or s.p.poll() in (None, 0), f"{s.name} ended with {s.p.poll()}\n{s.errors()}")
            return holds()
        try:
            kit.until(what, alive, seconds)
        except kit.Failed as e:
            raise kit.Failed(f"{e}\n" + "\n".join(f"{s.name}: {kit.tail(chr(10).join(s.out), 5)}\n{kit.tail(s.errors(), 8)}" for s in self.everyone)) \
                from None

    def ends(self):
        rows = self.rivulet("topic", "describe", self.topic)
        return {f"{r['topic']}/{r['partition']}": r["end_offset"] for r in rows} if rows and all(r["end_offset"] is not None for r in rows) else None

    def records(self):
        found = {p: [] for p in range(PARTITIONS)}
        for r in self.rivulet("consume", self.topic, "-o", "start", "--until", "end"):
            found[r["partition"]].append((r["offset"], r["value"]))
        return found

    def until_read(self, *members):
        """Every record to the end, by some of them: in the log that is there now, so by the values."""
        want = {p: [value.split("/")[:3] for _, value in rows] for p, rows in self.records().items()}

        def read():
            got = set()
            for m in members:
                got |= {tuple(rest.split(" ", 2)[2].split("/")[:3]) for _, _, kind, rest in m.read_lines() if kind == "read"}
            return all(tuple(v) in got for rows in want.values() for v in rows)
        self.until("every record is read", read)

    def good(self):
        kit.that(not self.faults.counts, "; ".join(self.faults.details))

    def end(self, s):
        s.finish(seconds=100, codes=(0, 1))

    def close(self):
        for s in self.everyone:
            s.__exit__()


def acked(w):
    return sum(line.startswith("ack ") for line in list(w.out))


def owned(m):
    mine = set()
    for _, _, kind, rest in m.read_lines():
        if kind == "own":
            mine |= places(rest).keys()
        elif kind in ("give", "lost"):
            mine -= places(rest).keys()
    return mine


def count_of(m, *kinds):
    return sum(kind in kinds for _, _, kind, _ in m.read_lines())


def steps(events):
    """What each member read comes without a hole; where it goes back, a partition came to it anew."""
    following = {}
    for _, m, kind, rest in events:
        if kind == "own":
            for where in places(rest):
                following.pop((m, where), None)
        elif kind == "read":
            where, offset, _ = rest.split(" ", 2)
            kit.that(following.get((m, where), int(offset)) == int(offset), f"{m.name}: {where} offset {offset} came where "
                     f"{following.get((m, where))} must")
            following[m, where] = int(offset) + 1


def long_absence(ctx, name, away, back):
    s = Stage(ctx, name)
    try:
        w = s.writer("w", "compression.type=lz4")
        members = [s.member("one"), s.member("two", "delivery=at-least-once", "auto.commit.interval.ms=200")]
        alone = s.reader("alone")
        s.until("all are at work", lambda: acked(w) > 300 and all(count_of(m, "read") > 20 for m in (*members, alone)))
        away()
        until = time.monotonic() + AWAY_S
        s.until("the broker is away", lambda: time.monotonic() >= until)
        back()
        before = acked(w)
        s.until("records are acknowledged again", lambda: acked(w) > before + 500)
        s.end(w)
        w.read_lines(s.faults)
        judge_records(s.records(), [w], s.faults)
        s.good()
        s.until_read(alone)
        s.until_read(*members)
        for m in (*members, alone):
            s.end(m)
            steps(m.read_lines())
            kit.same(0, count_of(m, "jump", "error"), f"jumps and errors of {m.name}")
            kit.same(["RV_OK"], [rest.strip() for _, _, kind, rest in m.read_lines() if kind == "bye"], f"the end of {m.name}")
    finally:
        s.close()


def longer_than_the_delivery_timeout(ctx):
    """What is not delivered in time is told, and told rightly; what comes later is delivered."""
    s = Stage(ctx, "timeouts")
    try:
        w = s.writer("w", "delivery.timeout.ms=2000", "request.timeout.ms=1000", "max.block.ms=1000")
        s.until("it writes", lambda: acked(w) > 300)
        ctx.broker.stand_still()  # requests are on their way: their outcome is open
        s.until("records fail", lambda: sum(line.startswith("failed ") for line in list(w.out)) > 200)
        ctx.broker.go_on()
        before = acked(w)
        s.until("records are acknowledged again", lambda: acked(w) > before + 500)
        ctx.broker.kill()  # none is on its way for long: they never leave
        failed = sum(line.startswith("failed ") for line in list(w.out))
        s.until("records fail again", lambda: sum(line.startswith("failed ") for line in list(w.out)) > failed + 200)
        ctx.broker.start()
        before = acked(w)
        s.until("records are acknowledged again", lambda: acked(w) > before + 500)
        s.end(w)
        w.read_lines(s.faults, may_fail=True)
        judge_records(s.records(), [w], s.faults)
        s.good()
        outcomes = collections.Counter(unsure for part in w.failed.values() for unsure in part.values())
        kit.that(outcomes[True] and outcomes[False], f"failures of both kinds were wanted: {outcomes}")
    finally:
        ctx.broker.go_on()
        s.close()


def without_memory(ctx):
    """The broker comes back with nothing, and the topic is made again: another log. What was acknowledged is gone with the old one; all else
    is delivered to the new one, or told; and readers are told that they are put elsewhere."""
    s = Stage(ctx, "empty")
    try:
        w = s.writer("w", "linger.ms=2")
        member, latest = s.member("member"), s.reader("latest", "auto.offset.reset=latest")
        alone = s.reader("alone")
        s.until("all are at work", lambda: acked(w) > 500 and all(count_of(m, "read") > 300 for m in (member, alone, latest)))
        ctx.broker.kill()
        ctx.broker.forget()
        ctx.broker.start()
        s.create()
        before = acked(w)
        s.until("records are acknowledged again", lambda: acked(w) > before + 1000)
        s.end(w)
        w.read_lines(s.faults)
        records = s.records()
        first = {("w", p): int(rows[0][1].split("/")[2]) for p, rows in records.items()}
        for (name, p), n in first.items():
            old = [k for k in range(n) if k not in w.acked[p]]
            kit.that(not old, f"partition {p}: {len(old)} records are in no log that is there, and were not acknowledged: {old[:5]}")
        judge_records(records, [w], s.faults, first)
        s.good()
        s.until_read(member)
        s.until_read(alone)
        for m in (member, alone, latest):
            s.end(m)
        put = {where: None for where in s.ends()}
        for at, _, kind, rest in alone.read_lines():
            if kind == "jump":
                came_from, to, where, _ = rest.split(" ", 3)
                kit.that(put[where] is None and int(came_from) > 0 and to == "0", f"a jump that should not be: {rest}")
                put[where] = at
            elif kind == "read" and int(rest.split(" ")[2].split("/")[2]) >= first["w", int(rest.split(" ")[2].split("/")[1])]:
                kit.that(put[rest.split(" ")[0]] is not None, f"read of the new log, and not told: {rest}")
        kit.that(all(put.values()), f"not told: {put}")
        kit.same(PARTITIONS, count_of(latest, "jump"), "jumps of a reader with auto.offset.reset=latest")
        # Of a group that is forgotten: lost, or (the leader sees that the topic's partitions are gone) given up, and then it begins anew; or a
        # jump before that.
        told = False
        for _, _, kind, rest in member.read_lines():
            told |= kind in ("give", "lost", "jump")
            if kind == "read" and int(rest.split(" ")[2].split("/")[2]) >= first["w", int(rest.split(" ")[2].split("/")[1])]:
                kit.that(told, f"the member read of the new log, and was not told: {rest}")
    finally:
        s.close()


# ---- silence

def silence(ctx, cooperative):
    s = Stage(ctx, f"silence-{'cooperative' if cooperative else 'eager'}")
    strategy = f"partition.assignment.strategy={'cooperative-sticky' if cooperative else 'range'}"
    try:
        one, two = s.member("one", strategy, "session.timeout.ms=1000"), s.member("two", strategy)
        s.until("they share", lambda: owned(one) and owned(two) and len(owned(one) | owned(two)) == PARTITIONS)
        mine = owned(one)
        one.write(b"silent 4000\n")
        s.until("the other has all", lambda: len(owned(two)) == PARTITIONS)
        s.until("it wakes up", lambda: count_of(one, "awake") == 1)
        s.until("it is told", lambda: count_of(one, "lost") == 1)
        lost = [places(rest).keys() for _, _, kind, rest in one.read_lines() if kind == "lost"]
        kit.same([mine], lost, "partitions that were lost")
        s.until("they share again", lambda: owned(one) and owned(two) and len(owned(one) | owned(two)) == PARTITIONS
                and not owned(one) & owned(two))
    finally:
        s.close()


def heartbeats_without_polls(ctx):
    s = Stage(ctx, "driven")
    try:
        one, two = s.member("one"), s.member("two")
        s.until("they share", lambda: owned(one) and owned(two) and len(owned(one) | owned(two)) == PARTITIONS)
        mine, changes = owned(one), count_of(two, "own", "give", "lost")
        one.write(f"driven {3 * SESSION_MS}\n".encode())
        s.until("it is back", lambda: count_of(one, "awake") == 1)
        kit.same((mine, 0, changes), (owned(one), count_of(one, "lost"), count_of(two, "own", "give", "lost")),
                 "what it has, was taken, and changed for the other")
    finally:
        s.close()


def polls_that_do_not_come(ctx):
    s = Stage(ctx, "max-poll")
    try:
        one, two = s.member("one", "max.poll.interval.ms=1000", "session.timeout.ms=60000"), s.member("two")
        s.until("they share", lambda: owned(one) and owned(two) and len(owned(one) | owned(two)) == PARTITIONS)
        mine = owned(one)
        one.write(b"driven 5000\n")
        s.until("the other has all", lambda: len(owned(two)) == PARTITIONS)
        kit.same(0, count_of(one, "awake"), "it was not back yet")
        s.until("it is told", lambda: count_of(one, "lost") == 1)
        kit.same([mine], [places(rest).keys() for _, _, kind, rest in one.read_lines() if kind == "lost"], "partitions that were lost")
        s.until("they share again", lambda: owned(one) and owned(two) and len(owned(one) | owned(two)) == PARTITIONS
                and not owned(one) & owned(two))
    finally:
        s.close()


def static_member(ctx):
    """Killed and started again within its session: its partitions are still its own, and nobody else notices."""
    s = Stage(ctx, "static")
    try:
        long_session = "session.timeout.ms=30000"
        one, two = s.member("one", "group.instance.id=one", long_session), s.member("two", "group.instance.id=two", long_session)
        w = s.writer("w")
        s.until("they share and read", lambda: len(owned(one) | owned(two)) == PARTITIONS and count_of(one, "done") and count_of(two, "done"))
        for victim in ("one", "two"):  # one of them leads
            gone, stays = (one, two) if victim == "one" else (two, one)
            mine, changes = owned(gone), count_of(stays, "own", "give", "lost")
            gone.kill()
            again = s.member(victim, f"group.instance.id={victim}", long_session)
            s.until("it has its partitions again and reads on", lambda: owned(again) == mine and count_of(again, "done"))
            kit.same(changes, count_of(stays, "own", "give", "lost"), "changes for the other")
            one, two = (again, stays) if victim == "one" else (stays, again)
        s.end(w)
        w.read_lines(s.faults)
        judge_records(s.records(), [w], s.faults)
        s.good()
        s.until_read(*(m for m in s.everyone if m is not w))
        for m in (one, two):
            s.end(m)
            steps(m.read_lines())
    finally:
        s.close()


def run(ctx):
    def start_again():
        ctx.broker.start()

    ctx.test(f"a broker that was killed and is away for {AWAY_S} s is ridden out", long_absence, ctx, "killed", ctx.broker.kill, start_again)
    ctx.test(f"a broker that stands still for {AWAY_S} s is ridden out", long_absence, ctx, "stopped", ctx.broker.stand_still, ctx.broker.go_on)
    ctx.test("a broker that is away for longer than records may wait: each is told of", longer_than_the_delivery_timeout, ctx)
    ctx.test("a silent member loses its partitions and is told, eager", silence, ctx, False)
    ctx.test("a silent member loses its partitions and is told, cooperative", silence, ctx, True)
    ctx.test("heartbeats go out without rv_poll", heartbeats_without_polls, ctx)
    ctx.test("who does not poll for max.poll.interval.ms leaves", polls_that_do_not_come, ctx)
    ctx.test("a static member that is killed keeps its partitions", static_member, ctx)
    ctx.test("a broker that comes back without memory: another log, and readers are told", without_memory, ctx)
