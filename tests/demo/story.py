"""Users, Audit, Billing and two services that come later, around one broker that is killed twice.

Users and Billing are Python's confluent-kafka, Audit, Search and Fraud are kcat: none of them was written for rivulet. What is told is what was
seen; the last part compares what everybody ended up with, and the exit code is 1 when it is not the same.
"""
import datetime
import hashlib
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "peers"))

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from broker import BrokerError, Rivulet  # noqa: E402

LIMIT_S = 45
PARTITIONS = 3
PEOPLE = [f"{name}{n}" for n in range(1, 9) for name in ("ada", "bob", "cleo", "dan", "eve")]


class StoryFailed(Exception):
    pass


def tell(text=""):
    print(text, flush=True)


def chapter(number, title):
    tell(f"\n{number}. {title}")


def wait_until(what, holds):
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise StoryFailed(f"after {LIMIT_S} s it is still not so that {what}")
        time.sleep(0.02)


def places(offsets):
    return ", ".join(f"{p}: {o}" for p, o in sorted(offsets.items()))


class Broker(Rivulet):
    def _wait(self, ready, what):  # to the millisecond, because it is told
        deadline = time.monotonic() + LIMIT_S
        while not ready():
            self.check_alive()
            if time.monotonic() > deadline:
                raise BrokerError(f"not {what} after {LIMIT_S} s")
            time.sleep(0.0005)

    def start_ms(self):
        began = time.monotonic()
        self.start()
        return (time.monotonic() - began) * 1000


class Users:
    """Owns the addresses, and publishes each change, keyed by user: the changes of one user stay in order."""

    def __init__(self, address):
        self.producer = Producer({"bootstrap.servers": address, "client.id": "users", "enable.idempotence": True, "log_level": 2})
        self.rng = random.Random(2)
        self.addresses = {}
        self.events = {}       # (partition, offset) -> (user, e-mail, timestamp), as acknowledged
        self.in_order = {}     # user -> e-mails as they were changed
        self.sent = self.refused = 0

    def delivered(self, error, message):
        if error:
            self.refused += 1
        else:
            self.events[message.partition(), message.offset()] = (message.key().decode(), message.value().decode(), message.timestamp()[1])

    def change(self, count):
        for _ in range(count):
            self.sent += 1
            user = self.rng.choice(PEOPLE)
            email = f"{user}.{self.sent}@example.org"
            self.addresses[user] = email
            self.in_order.setdefault(user, []).append(email)
            self.producer.produce("users", email, key=user, on_delivery=self.delivered)
            self.producer.poll(0)

    def flush(self):
        began = time.monotonic()
        if self.producer.flush(LIMIT_S) or self.refused:
            raise StoryFailed(f"Users has {self.sent - len(self.events)} changes that were not acknowledged")
        if len(self.events) != self.sent:
            raise StoryFailed(f"{self.sent} changes were acknowledged at {len(self.events)} different offsets")
        return (time.monotonic() - began) * 1000

    def ends(self):
        ends = dict.fromkeys(range(PARTITIONS), 0)
        for partition, offset in self.events:
            ends[partition] = max(ends[partition], offset + 1)
        return ends


class Kcat:
    """A kcat that reads; every line is "partition offset user e-mail"."""

    def __init__(self, directory, name, address, *args):
        self.name = name
        self.path = directory / f"{name}.out"
        self.out = open(self.path, "wb")
        self.errors = open(directory / f"{name}.err", "wb")
        self.process = subprocess.Popen(["kcat", "-b", address, "-u", "-q", *args[:1], "-f", "%p %o %k %s\n", *args[1:]],
                                        stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.errors)

    def lines(self):
        text = self.path.read_text()
        return [line.split(" ") for line in text[:text.rfind("\n") + 1].splitlines()]

    def events(self):
        return {(int(p), int(o)): (user, email) for p, o, user, email in self.lines()}

    def finish(self):
        try:
            code = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.end()
            raise StoryFailed(f"{self.name} does not come to the end") from None
        if code:
            raise StoryFailed(f"{self.name} ended with {code}")

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.out.close()
        self.errors.close()


class Billing:
    def __init__(self, directory, address):
        self.path = directory / "billing.db"
        self.errors = open(directory / "billing.err", "ab")
        self.address = address
        self.process = None

    def start(self):
        self.process = subprocess.Popen([sys.executable, str(pathlib.Path(__file__).with_name("billing.py")), self.address, str(self.path)],
                                        stdin=subprocess.DEVNULL, stderr=self.errors)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ask(self, question, *args):
        if not self.path.exists():
            return []
        db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(question, args).fetchall()
        except sqlite3.OperationalError:  # it has not made its tables yet
            return []
        finally:
            db.close()

    def applied(self, run=None):
        return set(self.ask("select distinct partition, offset from applied where run = ? or ? is null", run, run))

    def table(self):
        return dict(self.ask("select user, email from addresses"))


def last_of_each(events):
    """What a reader knows who keeps the last address of each user."""
    table = {}
    for (partition, offset) in sorted(events, key=lambda at: at[1]):
        table[events[partition, offset][0]] = events[partition, offset][1]
    return table


def print_of(table):
    return hashlib.sha256(repr(sorted(table.items())).encode()).hexdigest()[:12]


class Story:
    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.broker = Broker(directory)
        self.readers = []
        self.billing = None

    def stored(self):
        """Billing's offsets, as anybody may ask for them."""
        consumer = Consumer({"bootstrap.servers": self.broker.address, "group.id": "billing", "log_level": 2})
        found = consumer.committed([TopicPartition("users", p) for p in range(PARTITIONS)], LIMIT_S)
        consumer.close()
        return {p.partition: max(p.offset, 0) for p in found}

    def kcat(self, name, *args):
        reader = Kcat(self.dir, name, self.broker.address, *args)
        self.readers.append(reader)
        return reader

    def kill_broker_under_users(self, count):
        """The broker dies in the middle of `count` changes; Users goes on as if nothing had happened."""
        self.users.change(count // 2)
        without_answer = self.users.sent - len(self.users.events)
        self.broker.kill()
        self.users.change(count - count // 2)
        ms = self.broker.start_ms()
        self.users.flush()
        tell(f"   kill -9 of the broker while {without_answer} of Users' changes have no answer yet; Users does not stop publishing.")
        tell(f"   Started again, it listens after {ms:.0f} ms. Users' client sends again by itself what nobody answered:")
        tell(f"   all {self.users.sent} changes so far are acknowledged, each at one offset of its own.")

    def everybody_is_there(self):
        chapter(1, "Users publishes, Audit and Billing follow")
        ms = self.broker.start_ms()
        address = self.broker.address
        tell(f"   rivulet, the broker, starts in an empty directory and listens on {address} after {ms:.0f} ms.")
        admin = AdminClient({"bootstrap.servers": address})
        admin.create_topics([NewTopic("users", PARTITIONS)])["users"].result(LIMIT_S)
        self.users = Users(address)
        self.billing = Billing(self.dir, address)
        self.billing.start()
        self.audit = self.kcat("audit", "-E", "-X", "auto.offset.reset=earliest", "-X", "auto.commit.interval.ms=200", "-G", "audit", "users")
        self.users.change(300)
        self.users.flush()
        tell(f"   Users changes 300 e-mail addresses of {len(self.users.addresses)} people and publishes each change, keyed by the person: "
             f"300 acknowledged,")
        tell(f"   now on disk in the {PARTITIONS} partitions of the topic \"users\" (next offsets {places(self.users.ends())}).")
        wait_until("Billing has applied 300 changes", lambda: len(self.billing.applied()) == 300 and self.stored() == self.users.ends())
        wait_until("Audit has 300 lines", lambda: len(self.audit.events()) == 300)
        tell(f"   Billing has put 300 changes into its own table; its group's stored offsets are {places(self.stored())}.")
        tell("   Audit has 300 lines.")

    def billing_dies(self):
        chapter(2, "Billing dies, and misses things")
        self.billing.kill()
        before = self.stored()
        self.split_ms = int(time.time() * 1000) + 1
        wait_until("a millisecond has passed", lambda: time.time() * 1000 > self.split_ms)
        tell("   kill -9 of Billing. Users does not notice, and need not.")
        self.users.change(250)
        self.users.flush()
        wait_until("Audit has 550 lines", lambda: len(self.audit.events()) == 550)
        if self.stored() != before:
            raise StoryFailed("Billing's stored offsets moved while it was dead")
        tell(f"   Users publishes 250 more. Audit has 550 lines; Billing's stored offsets still say {places(before)}.")

    def broker_dies(self):
        chapter(3, "The broker dies too")
        before = self.stored()
        self.kill_broker_under_users(200)
        if self.stored() != before:
            raise StoryFailed("the stored offsets are not those from before the kill")
        tell(f"   Billing's stored offsets are what they were: {places(before)}.")

    def billing_is_back(self):
        chapter(4, "Billing comes back")
        stored = self.stored()
        missed = {at for at in self.users.events if at[1] >= stored[at[0]]}
        began = time.monotonic()
        self.billing.start()
        wait_until("Billing has caught up", lambda: self.billing.applied(2) >= missed and self.stored() == self.users.ends())
        seconds = time.monotonic() - began
        first = {}
        for partition, offset in self.billing.applied(2):
            first[partition] = min(offset, first.get(partition, offset))
        if first != {p: o for p, o in stored.items() if o < self.users.ends()[p]}:
            raise StoryFailed(f"Billing went on at {places(first)}, and {places(stored)} was stored")
        tell(f"   Started again, it goes on where its stored offsets say ({places(first)}), gets the {len(missed)} changes that it missed,")
        tell(f"   and has caught up {seconds:.1f} s after its start (its old membership has to time out first; 6 s at most).")

    def broker_dies_again(self):
        chapter(5, "The broker dies once more, with everybody connected")
        self.kill_broker_under_users(300)
        everything = set(self.users.events)
        wait_until("Billing has everything", lambda: self.billing.applied() >= everything and self.stored() == self.users.ends())
        wait_until("Audit has everything", lambda: set(self.audit.events()) >= everything)
        tell(f"   Billing and Audit found the broker again without being told: both have all {len(everything)} changes.")

    def newcomers(self):
        chapter(6, "Two services that did not exist when it happened")
        began = time.monotonic()
        self.search = self.kcat("search", "-e", "-X", "fetch.wait.max.ms=10", "-o", "beginning", "-C", "-t", "users")
        self.search.finish()
        tell(f"   Search reads the topic from the beginning: {len(self.search.lines())} changes in {(time.monotonic() - began) * 1000:.0f} ms.")
        at = datetime.datetime.fromtimestamp(self.split_ms / 1000)
        self.fraud = self.kcat("fraud", "-e", "-X", "fetch.wait.max.ms=10", "-o", f"s@{self.split_ms}", "-C", "-t", "users")
        self.fraud.finish()
        first = {}
        for partition, offset in self.fraud.events():
            first[partition] = min(offset, first.get(partition, offset))
        tell(f"   Fraud wants only what happened since Billing died at {at:%H:%M:%S}.{self.split_ms % 1000:03d}: it asks for that moment,")
        tell(f"   is sent to the offsets {places(first)}, and reads {len(self.fraud.lines())} changes.")

    def compare(self):
        chapter(7, "Does everybody know the same?")
        truth = {at: (user, email) for at, (user, email, _) in self.users.events.items()}
        since = {at: truth[at] for at, e in self.users.events.items() if e[2] >= self.split_ms}
        differs = []
        rows = [("Users", self.users.addresses, len(truth), "the owner"),
                ("Billing", self.billing.table(), len(self.billing.applied()), "was dead for a while"),
                ("Audit", last_of_each(self.audit.events()), len(self.audit.events()), "was there all the time"),
                ("Search", last_of_each(self.search.events()), len(self.search.events()), "read it all afterwards")]
        for name, table, events, note in rows:
            tell(f"   {name:<8} {events:5} changes, {len(table)} people, addresses {print_of(table)}   ({note})")
            for user in sorted(set(table) | set(self.users.addresses)):
                if table.get(user) != self.users.addresses.get(user):
                    differs.append(f"{name} has {table.get(user)} for {user}, Users has {self.users.addresses.get(user)}")
        want_fraud, got_fraud = last_of_each(since), last_of_each(self.fraud.events())
        tell(f"   {'Fraud':<8} {len(self.fraud.events()):5} changes, {len(got_fraud)} people, addresses {print_of(got_fraud)}   (Users since then: "
             f"{len(since)} changes, {print_of(want_fraud)})")
        if self.fraud.events() != since:
            differs.append(f"Fraud read {len(self.fraud.events())} changes, Users made {len(since)} since that time")
        for reader in (self.audit, self.search):
            if reader.events() != truth:
                differs.append(f"{reader.name} did not read exactly what was acknowledged to Users")
            emails = {}
            for (_, email_at) in sorted(reader.events().items(), key=lambda e: e[0]):
                emails.setdefault(email_at[0], []).append(email_at[1])
            if emails != self.users.in_order:
                differs.append(f"{reader.name} has the changes of some person in another order than Users made them")
        if len(self.search.lines()) != len(truth) or self.billing.applied() != set(truth):
            differs.append("a change is there twice, or Billing applied something else than was published")
        self.billing.kill()
        self.broker.stop()
        return differs

    def play(self):
        tell("A story of five services around one log. Users owns people's e-mail addresses, and publishes every change. Billing keeps a")
        tell("copy for its invoices, Audit writes everything down; Search and Fraud will come later. None of them knows of the others, and")
        tell("none was written for rivulet: Users and Billing are Python's confluent-kafka, Audit, Search and Fraud are kcat.")
        self.everybody_is_there()
        self.billing_dies()
        self.broker_dies()
        self.billing_is_back()
        self.broker_dies_again()
        self.newcomers()
        return self.compare()

    def end(self):
        if self.billing and self.billing.process and self.billing.process.poll() is None:
            self.billing.kill()
        for reader in self.readers:
            reader.end()
        self.broker.discard()


def main():
    began = time.monotonic()
    directory = tempfile.mkdtemp(prefix="demo-", dir=ROOT / "build")
    story = Story(directory)
    try:
        differs = story.play()
    except (StoryFailed, BrokerError, KafkaException) as e:
        differs = [str(e)]
    finally:
        story.end()
    tell()
    if differs:
        tell("They do not:" if len(differs) > 1 else "It went wrong:")
        for line in differs[:20]:
            tell(f"   {line}")
        tell(f"   (everything is kept in {directory})")
        return 1
    shutil.rmtree(directory)
    tell(f"Yes: nothing was lost, nothing came twice, everybody agrees. {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
