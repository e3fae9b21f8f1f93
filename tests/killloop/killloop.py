"""kill -9 of the daemon under load, again and again, with real clients that live across it all.

A cycle: 0.3 to 1 s of load, then kill -9 (one in ten: SIGTERM), then a start; one in five is killed again, and not only once, until one was
killed after it had read the journal and before it listened. All clients try again after 50 ms.

  writers     idempotent, acks=all: five of librdkafka, one a codec, to every partition of three topics; one each of librivulet, franz-go and the
              Java client to one of the topics each
  followers   of librdkafka, franz-go and the Java client: without a group, from offset 0
  groups      one that all three share, eager; one of each, cooperative, in which members come and go. They read and commit, and wait for the answer

All clients of franz-go live in one process, all of the Java client in one JVM (GROUPS says who sits where). After each start the committed offsets
are read back by a fresh client.

  lost        an acknowledged record that is not there at the end
  duplicated  a record that is there twice; reordered: of one writer in one partition, behind a later one
  moved       it is at another offset than its writer was told; altered: not the bytes that were written
  taken back  somebody read an offset that is not there at the end, or (replaced) holds another record
  commit back a committed offset that was answered, or read, and is less later; invented: more than anybody tried
  twice       within one assignment a record came again, or a new assignment began below the committed offset; skipped: likewise, left out
  reset       a client was told that its position is out of range, or had a fatal error

The schedule follows from the seed; how far the clients are at a kill does not.
"""
import argparse
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "peers")]

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from broker import BrokerError, Rivulet  # noqa: E402
import toolchains  # noqa: E402
from clients import CODECS, Follower, GuestFollower, GuestMember, GuestWriter, Host, Member, Program, Writer, common  # noqa: E402
from ledger import Acked, Faults, GroupOffsets, Seen, judge  # noqa: E402

TOPICS = {"plain": {}, "small": {"segment.bytes": "1048576", "index.interval.bytes": "512"},
          "stamped": {"message.timestamp.type": "LogAppendTime", "segment.ms": "2000"}}
PARTITIONS = 4
# name: strategy, a member each, whether members come and go
GROUPS = {"steady": ("range", ("librdkafka", "franz-go", "java"), False),
          "changing": ("cooperative-sticky", ("librdkafka", "librdkafka"), True),
          "franz": ("cooperative-sticky", ("franz-go", "franz-go"), True),
          "java": ("cooperative-sticky", ("java", "java"), True)}
LOG4J = """rootLogger.level=WARN
rootLogger.appenderRef.c.ref=C
appender.c.type=Console
appender.c.name=C
appender.c.target=SYSTEM_ERR
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
"""
STILL_S = 60      # the last reader may take its time, but not without a record
CUT_MAX_S = 0.02  # after the journal was read; a recovery takes about as long
AGAIN_S = 0.15    # of load, when a start was killed too late
CUT_TRIES = 12    # of a kill in a recovery, each sooner than the one before
SETTINGS = ("group.min.session.timeout.ms=100", "log.flush.offset.checkpoint.interval.ms=700", "offsets.topic.num.partitions=4",
            "offsets.topic.segment.bytes=1048576")


class StartCut(Exception):
    """A start that is to be killed."""


class Victim(Rivulet):
    cut_s = None

    def _wait(self, ready, what):
        if self.cut_s is None:
            return super()._wait(ready, what)
        deadline = time.monotonic() + 10
        while "event=journal_read" not in self._log_tail(1 << 20) and not ready() and time.monotonic() < deadline:
            self.check_alive()
            time.sleep(0.0005)
        time.sleep(self.cut_s)
        raise StartCut

    def start_and_kill(self, cut_s):
        """Kills it so long after it has read the journal. True: it was recovering, and had not come to listen."""
        self.cut_s = cut_s
        try:
            self.start()
        except StartCut:
            self.kill()
            said = self._log_tail(1 << 20)
            return "event=journal_read" in said and "event=listening" not in said
        finally:
            self.cut_s = None


class World:
    def __init__(self, directory, seed, broker):
        self.rng = random.Random(seed)
        self.victim = Victim(directory, SETTINGS, broker)
        self.topics = tuple(TOPICS)
        self.partitions = [(t, p) for t in TOPICS for p in range(PARTITIONS)]
        self.faults = Faults()
        self.acked = Acked()
        self.seen = Seen(self.faults)
        self.errors = {}
        self.refused_commits = {}
        self.rebalances = 0
        self.delivered = {}  # to groups, by kind of client; commits likewise
        self.committed = {}
        self.lock = threading.Lock()
        self.kills = self.twice = self.cut_starts = self.cut_recovering = self.terms = self.in_flight = self.read_backs = 0
        self.start_ms = []
        self.made = []
        self.clients = []
        self.hosts = {}
        self.readers = {"librdkafka"}

    @property
    def address(self):
        return self.victim.address

    def client_error(self, name, error):
        self.errors[error.name()] = self.errors.get(error.name(), 0) + 1
        if error.fatal():
            self.faults.add("reset", f"{name}: fatal: {error}")

    def start(self):
        began = time.monotonic()
        self.victim.start()
        self.start_ms.append((time.monotonic() - began) * 1000)

    def open(self):
        self.start()
        self.admin = AdminClient(common(self, "admin"))
        for f in self.admin.create_topics([NewTopic(t, PARTITIONS, config=c) for t, c in TOPICS.items()]).values():
            f.result(30)
        self.open_hosts()
        self.writers = self.make_writers()
        self.followers = [Follower(self, "follower")] + [GuestFollower(self, f"follower-{k}", h) for k, h in self.hosts.items()]
        self.groups = [GroupOffsets(name, self.faults) for name, (_, kinds, _) in GROUPS.items() if self.kinds.issuperset(kinds)]
        self.member_number = 0
        self.members = {g.name: [self.member(g, kind) for kind in GROUPS[g.name][1]] for g in self.groups}
        self.clients = self.writers + self.followers + sum(self.members.values(), [])
        for c in self.clients:
            c.start()

    def open_hosts(self):
        """Without its toolchain a kind is left out, and the groups that need it; but not in CI."""
        log4j = self.victim.dir / "log4j2.properties"
        log4j.write_text(LOG4J)
        makers = {"franz-go": lambda: [toolchains.go_program(), "clients"],
                  "java": lambda: ["java", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                                   f"-Dlog4j2.configurationFile={log4j}", "-cp", toolchains.java_program(), "peers.Clients"]}
        for kind, make in makers.items():
            try:
                self.hosts[kind] = Host(self, kind, make(), self.victim.dir / f"{kind}.log")
            except toolchains.Missing as e:
                if os.environ.get("CI"):
                    raise
                print(f"without {kind}: {e}")
        self.readers = {"librdkafka", *self.hosts}
        self.kinds = {"librivulet", *self.readers}

    def make_writers(self):
        writers = [Writer(self, f"writer-{c}", c, self.rng.random()) for c in CODECS]
        writers.append(Program(self, "peer-librivulet", [ROOT / "build/release/tests/peers/librivulet/writer"], "plain", PARTITIONS,
                               ("enable.idempotence=true", "acks=all", "delivery.timeout.ms=600000", "reconnect.backoff.max.ms=100",
                                "retry.backoff.ms=20", "retry.backoff.max.ms=100")))
        topics = {"franz-go": "small", "java": "stamped"}
        return writers + [GuestWriter(self, f"peer-{k}", h, topics[k], PARTITIONS, self.rng.randrange(1 << 31)) for k, h in self.hosts.items()]

    def member(self, group, kind):
        name = f"{group.name}-{self.member_number}"
        self.member_number += 1
        strategy = GROUPS[group.name][0]
        if kind == "librdkafka":
            return Member(self, name, group, strategy, self.rng.random())
        return GuestMember(self, name, self.hosts[kind], group, strategy)

    def change_members(self):
        """The oldest member of a group leaves, another one of its kind comes."""
        group = self.rng.choice([g for g in self.groups if GROUPS[g.name][2]])
        self.members[group.name].pop(0).stop()
        new = self.member(group, GROUPS[group.name][1][0])
        self.members[group.name].append(new)
        self.clients.append(new)
        new.start()

    def count_deliveries(self, kind, count):
        with self.lock:
            self.delivered[kind] = self.delivered.get(kind, 0) + count

    def count_commit(self, kind):
        with self.lock:
            self.committed[kind] = self.committed.get(kind, 0) + 1

    # ---- a cycle

    def make_topic(self, cycle):
        name = f"made-{cycle}"
        self.made.append((name, self.admin.create_topics([NewTopic(name, 2)])[name]))

    def read_back(self, cycle):
        """Through a fresh client, as somebody who comes after the crash would."""
        for g in self.groups:
            floor = g.floor()
            how = "an admin client" if cycle % 2 else "a consumer"
            if cycle % 2:
                admin = AdminClient(common(self, "read-back"))
                asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(g.name)])
                found = asked[g.name].result(30).topic_partitions
            else:
                consumer = Consumer(common(self, "read-back", **{"group.id": g.name}))
                found = consumer.committed([TopicPartition(t, p) for t, p in self.partitions], 30)
                consumer.close()
            g.check({(f.topic, f.partition): f.offset for f in found if f.offset >= 0}, floor, how)
            self.read_backs += 1

    def cycle(self, number):
        load_s = 0.3 + 0.7 * self.rng.random() ** 2
        how = self.rng.choices(("kill", "twice", "term"), (70, 20, 10))[0]
        cut_s = self.rng.uniform(0, CUT_MAX_S)
        changes = self.rng.random() < 0.15
        makes = self.rng.random() < 0.25
        answer_s = self.rng.uniform(0, 0.015)
        until = time.monotonic() + load_s
        self.read_back(number)
        if changes:
            self.change_members()
        while time.monotonic() < until:
            time.sleep(max(0, min(0.05, until - time.monotonic())))
            self.victim.check_alive()
        if makes:  # its answer may come, or not
            self.make_topic(number)
            time.sleep(answer_s)
        self.in_flight += self.acked.in_flight()
        if how == "term":
            self.victim.stop()
            self.terms += 1
        else:
            self.victim.kill()
            self.kills += 1
        recovering = how != "twice"
        self.twice += how == "twice"
        for _ in range(CUT_TRIES if how == "twice" else 0):
            recovering = self.victim.start_and_kill(cut_s)
            self.cut_starts += 1
            self.cut_recovering += recovering
            cut_s *= 0.6
            if recovering:
                break
            self.start()  # it listened, and its journal is empty again
            time.sleep(AGAIN_S)
            self.victim.kill()
        if not recovering:
            self.faults.add("not_cut", f"cycle {number}: no start was killed in its recovery")
        self.start()

    # ---- the end

    def ends(self):
        consumer = Consumer(common(self, "ends", **{"group.id": "ends"}))
        ends = {tp: consumer.get_watermark_offsets(TopicPartition(*tp), 30)[1] for tp in self.partitions}
        consumer.close()
        return ends

    def wait_for(self, what, done, limit_s=60):
        deadline = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > deadline:
                self.faults.add("late", f"{what}, {limit_s} s after the last kill")
                return
            time.sleep(0.02)

    def drain(self):
        for w in self.writers:
            w.stop()
        for w in self.writers:
            w.join(90)
        ends = self.ends()
        for f in self.followers:
            self.wait_for(f"{f.name} is not at the end", lambda f=f: f.reading.position == ends)
        for g in self.groups:
            self.wait_for(f"{g.name} has not committed the end", lambda g=g: all(g.floor().get(tp, 0) >= e for tp, e in ends.items()))
        going = [c for c in self.clients if c.is_alive()]
        for c in going:
            c.stop()
        for h in self.hosts.values():
            h.end()
        for c in going + list(self.hosts.values()):
            c.join(60)
            if c.is_alive():
                self.faults.add("late", f"{c.name} does not end")

    def check_made(self):
        there = AdminClient(common(self, "topics")).list_topics(timeout=30).topics
        answered = 0
        for name, future in self.made:
            try:
                future.result(60)
            except KafkaException as e:
                if e.args[0].code() != KafkaError._TRANSPORT:  # killed before it answered: it may be there or not
                    self.faults.add("topic", f"{name}: {e}")
                continue
            answered += 1
            if name not in there or len(there[name].partitions) != 2:
                self.faults.add("topic", f"{name} was made and is not there")
        return answered

    def read_all(self):
        final = {tp: [] for tp in self.partitions}
        ends = self.ends()
        left = {tp for tp in self.partitions if ends[tp] > 0}
        consumer = Consumer(common(self, "last", **{"group.id": "last", "enable.auto.commit": False, "auto.offset.reset": "error"}))
        consumer.assign([TopicPartition(t, p, 0) for t, p in left])
        deadline = time.monotonic() + STILL_S
        while left and time.monotonic() < deadline:
            for m in consumer.consume(1000, 0.2):
                if m.error():
                    self.client_error("last", m.error())
                    continue
                deadline = time.monotonic() + STILL_S
                tp = (m.topic(), m.partition())
                final[tp].append((m.offset(), m.value()))
                if m.offset() + 1 >= ends[tp]:
                    left.discard(tp)
        consumer.close()
        if left:
            self.faults.add("late", f"the last reader never came to the end of {sorted(left)}")
        return final

    def check_files(self):
        """The segments and indexes as they lie there, by the dump tool."""
        for d in sorted(self.victim.data.glob("*-*/")):
            done = subprocess.run([str(ROOT / "build" / "rivulet"), "log", "dump", str(d)], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=120)
            if done.returncode:
                self.faults.add("files", f"{d.name}: {done.stdout[-400:].decode(errors='replace')}")

    def check_broker_log(self):
        text = self.victim.log_path.read_text(errors="replace")
        for line in re.findall(r"^.*\blevel=error\b.*$", text, re.M):
            self.faults.add("broker_error", line)
        return len(re.findall(r"\btail_cut\b", text))


CHECKS = (
    ("no acknowledged record is lost", ("lost",)),
    ("no record is there twice", ("duplicated",)),
    ("no record of a writer stands behind a later one", ("reordered", "gap")),
    ("records are what and where their writers were told", ("moved", "altered")),
    ("every record was acknowledged in the end", ("not_delivered",)),
    ("what was read once stays", ("replaced", "taken_back")),
    ("committed offsets never go back", ("commit_back", "commit_invented")),
    ("readers get every record once, but for what a group had not committed", ("twice", "skipped", "foreign")),
    ("no client is told that its position is gone, none dies", ("reset", "client_died")),
    ("readers come to the end", ("late",)),
    ("one in five was killed in its recovery too", ("not_cut",)),
    ("topics that were made are there", ("topic",)),
    ("segments and indexes are whole", ("files",)),
    ("the broker never fails by itself, and stops cleanly", ("broker", "broker_error")),
)


def counts(by_kind):
    return ", ".join(f"{kind} {n}" for kind, n in sorted(by_kind.items()))


def report(w, cycles, seconds):
    f = w.faults
    starts = sorted(w.start_ms)
    records = sum(len(v) for v in w.seen.records.values())
    print(f"{cycles} cycles in {seconds:.0f} s: {w.kills} kill -9, {w.terms} SIGTERM; in {w.twice} cycles killed again in the start: "
          f"{w.cut_starts} starts killed, {w.cut_recovering} in their recovery; "
          f"clients: {', '.join(sorted(w.kinds))}; {w.in_flight // max(cycles, 1)} records without an answer at the end of a cycle, on average")
    print(f"starts: median {starts[len(starts) // 2]:.0f} ms, slowest {starts[-1]:.0f} ms (looked at every 10 ms); torn tails cut: {w.tails}; "
          f"{records} records, {w.rebalances} assignments, {w.read_backs} commits read back, {w.made_count} topics made")
    print(f"deliveries to groups: {counts(w.delivered)}; commits answered: {counts(w.committed)}; "
          f"records that librdkafka gave once more over a rebalance: {sum(c.reading.repeats for c in w.clients if isinstance(c, Member))}")
    if w.refused_commits or w.errors:
        print(f"commits not answered: {w.refused_commits}; what clients were told: {w.errors}")
    for detail in f.details:
        print(f"  {detail}")
    passed = 0
    for name, kinds in CHECKS:
        passed += f.count(*kinds) == 0
        if f.count(*kinds):
            print(f"FAILED: {name} ({', '.join(f'{k} {f.count(k)}' for k in kinds if f.count(k))})")
    idle = [k for k in w.readers if not w.delivered.get(k) or not w.committed.get(k)]
    if w.kills + w.cut_starts == 0 or w.acked.count() == 0 or idle:
        print(f"FAILED: nothing was killed, written, or by {idle} read and committed: this run shows nothing")
        passed = 0
    print(f"cycles={cycles} acknowledged={w.acked.count()} lost={f.count('lost')} duplicated={f.count('duplicated')} "
          f"reordered={f.count('reordered')} commits_back={f.count('commit_back')}")
    print(f"{passed} passed, {len(CHECKS) - passed} failed")
    return passed == len(CHECKS)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--cycles", type=int, default=200)
    args.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    args.add_argument("--broker", help="another build of rivuletd: of a sanitizer, or one with a defect that must be found")
    args.add_argument("--keep", action="store_true", help="keep the data directory in any case")
    args = args.parse_args()
    print(f"seed {args.seed}", flush=True)
    directory = tempfile.mkdtemp(prefix="killloop-", dir=ROOT / "build")
    w = World(directory, args.seed, args.broker)
    w.tails = w.made_count = 0
    began = time.monotonic()
    done = 0
    good = False
    try:
        w.open()
        for done in range(1, args.cycles + 1):
            w.cycle(done)
            if done % 20 == 0:
                print(f"cycle {done}: {w.acked.count()} acknowledged, {time.monotonic() - began:.0f} s", flush=True)
        w.drain()
        w.made_count = w.check_made()
        w.victim.restart("term")
        judge(w.read_all(), w.acked, w.seen, w.faults)
        w.victim.stop()
        w.check_files()
    except BrokerError as e:
        w.faults.add("broker", str(e))
    finally:
        w.victim.discard()
        for c in [*w.clients, *w.hosts.values()]:
            if isinstance(c, (Program, Host)):
                c.process.kill()
    w.tails = w.check_broker_log()
    good = report(w, done, time.monotonic() - began)
    if good and not args.keep:
        shutil.rmtree(directory)
    else:
        print(f"kept: {directory} (seed {args.seed})", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
