"""kill -9 of broker and services, again and again: what librivulet promises to a service that dies and to one that lives on.

A round: 0.4 to 2.2 s of load, then some of broker, writers and members are killed at the same time, at random; a member may leave in order, or
stand still (SIGSTOP) for longer than its session. All are started again, services under new names.
Two writers (one topic, every partition), three groups of two members: commits of their own (cooperative), delivery=at-least-once (range)
and delivery=at-most-once (the default assignors). After each round the committed offsets are read back.

  lost        an acknowledged record is not there at the end; duplicated: is there twice. What a killed writer sent and was not told
              of may be there once, or not; reordered: what is there of a writer in a partition is not the beginning of what it sent
  moved       it is at another offset than its writer was told; altered: not what was sent; not_delivered: a live writer heard a failure
  missed      a record that no member of a group processed; of at-most-once: more than kills can explain
  twice       at-most-once, and processed twice
  again       within one assignment a record came again, or it began before the committed offset; skipped: likewise, left out
  commit_back a committed offset is less than it was; commit_early: records below it were not processed yet
  jumped      a member was put elsewhere; poll_error, died: it was told of an error that it should have ridden out, or ended

The schedule follows from the seed; how far the services are at a kill does not.
"""
import argparse
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "peers")]

from broker import BrokerError, Rivulet  # noqa: E402
from ledger import Faults  # noqa: E402
from services import Group, Member, Writer, judge_records, rivulet  # noqa: E402

TOPIC = "events"
PARTITIONS = 4
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SESSION_MS = 1000
SETTINGS = ("group.min.session.timeout.ms=500", "group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=4")
COMMON = ("reconnect.backoff.ms=20", "reconnect.backoff.max.ms=100", "retry.backoff.ms=20", "retry.backoff.max.ms=100")
GROUPS = (  # name, delivery, max.poll.records (few: records wait in the member for the next rv_poll), options
    ("manual", "manual", 20, ("partition.assignment.strategy=cooperative-sticky",)),
    ("least", "at-least-once", 3, ("delivery=at-least-once", "auto.commit.interval.ms=100", "partition.assignment.strategy=range")),
    ("most", "at-most-once", 5, ("delivery=at-most-once",)),
)


class World:
    def __init__(self, directory, seed, programs):
        self.rng = random.Random(seed)
        self.programs = programs
        self.broker = Rivulet(directory, SETTINGS)
        self.faults = Faults()
        self.groups = [Group(name, options, delivery, poll_records, self.faults) for name, delivery, poll_records, options in GROUPS]
        self.writers, self.all_writers = [], []
        self.stopped = []  # (member, time to go on)
        self.broker_kills = self.writer_kills = self.leaves = self.opened = 0

    def open(self):
        self.broker.start()
        made = rivulet(ROOT, self.broker.address, "topic", "create", TOPIC, "-p", str(PARTITIONS))
        if made is None:
            raise BrokerError("the topic cannot be made")
        for _ in range(2):
            self.start_writer()
        for g in self.groups:
            for _ in range(2):
                self.start_member(g)

    def start_writer(self):
        name = f"w{len(self.all_writers)}"
        options = (f"compression.type={self.rng.choice(CODECS)}", f"linger.ms={self.rng.choice((0, 2, 10))}",
                   f"batch.size={self.rng.choice((500, 4000, 16384))}", "delivery.timeout.ms=600000")
        w = Writer([self.programs / "writer", self.broker.address, name, TOPIC, PARTITIONS, self.rng.randrange(1 << 40), *COMMON, *options],
                   name)
        self.writers.append(w)
        self.all_writers.append(w)

    def start_member(self, g):
        name = f"{g.name}-{g.started}"
        g.started += 1
        m = Member([self.programs / "member", self.broker.address, g.name, TOPIC, *COMMON, *g.options, f"client.id={name}",
                    "auto.offset.reset=earliest", f"session.timeout.ms={SESSION_MS}", "heartbeat.interval.ms=200",
                    f"max.poll.records={g.poll_records}", "fetch.max.wait.ms=100"], name)
        g.members.append(m)
        g.everyone.append(m)

    def services(self):
        return self.writers + [m for g in self.groups for m in g.members]

    def check_alive(self):
        self.broker.check_alive()
        for s in self.services():
            code = s.p.poll()
            if code is not None:
                raise BrokerError(f"{s.name} ended by itself with {code}:\n{s.errors()}")

    # ---- a round

    def read_back(self):
        for g in self.groups:
            before = time.monotonic_ns()
            rows = rivulet(ROOT, self.broker.address, "group", "describe", g.name)
            after = time.monotonic_ns()
            if rows is None:
                self.faults.add("read_back", f"{g.name} cannot be described")
                continue
            g.note_committed(before, after, {f"{r['topic']}/{r['partition']}": r["committed_offset"] for r in rows if r["topic"] == TOPIC
                                             and r["committed_offset"] is not None and r["committed_offset"] >= 0})

    def victims(self):
        """Calls that end something, each with the one that starts it again."""
        some = []
        if self.rng.random() < 0.6:
            some.append((self.kill_broker, self.broker.start))
        for w in list(self.writers):
            if self.rng.random() < 0.3:
                some.append((lambda w=w: self.kill_writer(w), self.start_writer))
        for g in self.groups:
            for m in list(g.members):
                what = self.rng.random()
                if what < 0.08:
                    some.append((lambda g=g, m=m: self.kill_member(g, m), lambda g=g: self.start_member(g)))
                elif what < 0.11:
                    some.append((lambda g=g, m=m: self.let_go(g, m), lambda g=g: self.start_member(g)))
                elif what < 0.14:
                    some.append((lambda g=g, m=m: self.stand_still(g, m), lambda: None))
        self.rng.shuffle(some)
        return some or [(self.kill_broker, self.broker.start)]

    def kill_broker(self):
        self.broker.kill()
        self.broker_kills += 1

    def kill_writer(self, w):
        self.writers.remove(w)
        w.kill()
        self.writer_kills += 1

    def kill_member(self, g, m):
        self.go_on(m)
        g.members.remove(m)
        m.kill()
        g.kills += 1

    def let_go(self, g, m):
        self.go_on(m)
        g.members.remove(m)
        m.p.stdin.close()  # its end is looked at in drain()
        self.leaves += 1

    def stand_still(self, g, m):
        if all(m is not other for other, _ in self.stopped):
            m.p.send_signal(signal.SIGSTOP)
            self.stopped.append((m, time.monotonic() + 2 * SESSION_MS / 1000))
            g.stops += 1

    def go_on(self, m=None):
        """Lets a member go on; without one, all whose time has come."""
        for other, until in list(self.stopped):
            if other is m or (m is None and time.monotonic() >= until):
                other.p.send_signal(signal.SIGCONT)
                self.stopped.remove((other, until))

    def round(self):
        until = time.monotonic() + 0.4 + 1.8 * self.rng.random() ** 2
        some = self.victims()
        pauses = [self.rng.choice((0, 0, self.rng.uniform(0, 0.05))) for _ in some]
        away_s = self.rng.choice((0, 0, self.rng.uniform(0, 0.3)))
        while time.monotonic() < until:
            time.sleep(max(0, min(0.05, until - time.monotonic())))
            self.go_on()
            self.check_alive()
        for (end, _), pause in zip(some, pauses):
            end()
            time.sleep(pause)
        time.sleep(away_s)
        for _, start in some:
            start()
        self.read_back()

    # ---- the end

    def ends(self):
        rows = rivulet(ROOT, self.broker.address, "topic", "describe", TOPIC)
        return {f"{TOPIC}/{r['partition']}": r["end_offset"] for r in rows}

    def drain(self):
        for m, _ in list(self.stopped):
            self.go_on(m)
        for w in self.writers:
            w.finish(seconds=100)
        ends = self.ends()
        for g in self.groups:
            deadline = time.monotonic() + 60
            while True:
                self.check_members(g)
                self.read_back()
                if all(g.read_backs[-1][2].get(where, 0) == end for where, end in ends.items()):
                    break
                if time.monotonic() > deadline:
                    self.faults.add("late", f"{g.name} has committed {g.read_backs[-1][2]} 60 s after the last kill, the end is {ends}")
                    break
                time.sleep(0.1)
        for g in self.groups:
            for m in g.everyone:
                if not m.killed:
                    m.finish(seconds=60)
        return ends

    def check_members(self, g):
        for m in g.members:
            if m.p.poll() is not None:
                raise BrokerError(f"{m.name} ended by itself with {m.p.poll()}:\n{m.errors()}")

    def read_all(self, ends):
        found = {p: [] for p in range(PARTITIONS)}
        for r in rivulet(ROOT, self.broker.address, "consume", TOPIC, "-o", "start", "--until", "end", seconds=120) or ():
            found[r["partition"]].append((r["offset"], r["value"]))
        for p, rows in found.items():
            if len(rows) != ends[f"{TOPIC}/{p}"]:
                self.faults.add("late", f"the last reader found {len(rows)} records of partition {p}, the end is {ends[f'{TOPIC}/{p}']}")
        return found

    def judge(self, ends):
        for w in self.all_writers:
            w.read_lines(self.faults)
        records = self.read_all(ends)
        self.opened = judge_records(records, self.all_writers, self.faults)
        for g in self.groups:
            g.judge(ends)
        self.broker.stop()
        for line in re.findall(r"^.*\blevel=error\b.*$", self.broker.log_path.read_text(errors="replace"), re.M):
            self.faults.add("broker_error", line)

    def close(self):
        for m, _ in list(self.stopped):
            self.go_on(m)
        for s in self.all_writers + [m for g in self.groups for m in g.everyone]:
            s.__exit__()
        self.broker.discard()


CHECKS = (
    ("no acknowledged record is lost", ("lost",)),
    ("no record is there twice", ("duplicated",)),
    ("what is there of a writer is the beginning of what it sent, in order", ("reordered", "gap")),
    ("records are what and where their writers were told", ("moved", "altered", "not_told", "told_twice", "stored_all_the_same")),
    ("a writer that lives hears of no failure", ("not_delivered",)),
    ("every record is processed by every group, but for what at-most-once may leave out", ("missed",)),
    ("at-most-once processes nothing twice", ("twice",)),
    ("members begin where the group had committed, and go on without a hole", ("again", "skipped", "foreign")),
    ("committed offsets never go back, nor before what was processed", ("commit_back", "commit_early", "commit_invented", "read_back")),
    ("members ride it out", ("jumped", "poll_error", "close_error", "died")),
    ("groups come to the end", ("late",)),
    ("the broker never fails by itself", ("broker_error",)),
)


def report(w, rounds, seconds, whole):
    f = w.faults
    acked = sum(len(a) for x in w.all_writers for a in getattr(x, "acked", {}).values())
    kills = w.broker_kills + w.writer_kills + sum(g.kills for g in w.groups)
    print(f"{rounds} rounds in {seconds:.0f} s: kill -9 of the broker {w.broker_kills}, of writers {w.writer_kills}, "
          f"of members {sum(g.kills for g in w.groups)}; {w.leaves} members left, {sum(g.stops for g in w.groups)} stood still")
    print(f"{acked} records acknowledged, {w.opened} more stored whose writers were killed before they were told")
    for g in w.groups if whole else ():
        reads = sum(len(t) for o in g.reads.values() for t in o.values())
        print(f"group {g.name}: {reads} reads of {sum(map(len, g.reads.values()))} records; "
              + ", ".join(f"{k} {n}" for k, n in sorted(g.counts.items()) if k != "read")
              + f"; refused: {dict(g.refusals)}" + (f"; not processed: {g.unprocessed}" if g.delivery == "at-most-once" else ""))
    for detail in f.details:
        print(f"  {detail}")
    passed = 0
    for name, kinds in CHECKS:
        passed += f.count(*kinds) == 0
        if f.count(*kinds):
            print(f"FAILED: {name} ({', '.join(f'{k} {f.count(k)}' for k in kinds if f.count(k))})")
    if not (whole and w.broker_kills and w.writer_kills and acked and all(g.reads for g in w.groups)):
        print("FAILED: the run did not come to its end, or nothing was killed, written or read: it shows nothing")
        passed = 0
    print(f"rounds={rounds} kills={kills} acknowledged={acked} lost={f.count('lost')} duplicated={f.count('duplicated')} "
          f"missed={f.count('missed')} twice={f.count('twice')}")
    print(f"{passed} passed, {len(CHECKS) - passed} failed")
    return passed == len(CHECKS)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--rounds", type=int, default=100)
    args.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    args.add_argument("--keep", action="store_true", help="keep the data directory in any case")
    args.add_argument("programs", type=pathlib.Path, help="where writer and member are")
    args = args.parse_args()
    print(f"seed {args.seed}", flush=True)
    directory = tempfile.mkdtemp(prefix="killloop-client-", dir=ROOT / "build")
    w = World(directory, args.seed, args.programs)
    began = time.monotonic()
    done, whole, good = 0, False, False
    try:
        w.open()
        for done in range(1, args.rounds + 1):
            w.round()
            if done % 20 == 0:
                print(f"round {done}: {time.monotonic() - began:.0f} s", flush=True)
        w.judge(w.drain())
        whole = True
    except Exception as e:  # a broker or a service that ended by itself, or will not end
        w.faults.add("died", f"{type(e).__name__}: {e}")
    finally:
        w.close()
    good = report(w, done, time.monotonic() - began, whole)
    if good and not args.keep:
        shutil.rmtree(directory)
    else:
        print(f"kept: {directory}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
