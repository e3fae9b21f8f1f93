"""What the clients of the kill loop were told, and what of it turned out not to be true."""
import bisect
import re
import threading
import time
import zlib

PAD = bytes(zlib.crc32(i.to_bytes(4, "big")) % 94 + 33 for i in range(4096))
DETAILS_MAX = 5  # of a kind
LINES_LATE_S = 5  # what one process was told before another one may be read so much later out of its pipe


def mark_of(value):
    """What a reader says of a record: enough to know it again, and every library can compute it."""
    return zlib.crc32(value)


def make_value(writer, n):
    """The n-th record of a writer in one partition: its content follows from its name, so that reading checks all of it."""
    mix = zlib.crc32(f"{writer}/{n}".encode())
    start = mix % 3000
    return b"%s:%d:" % (writer.encode(), n) + PAD[start:start + (mix >> 16) % 400]


def peer_value(writer, partition, n):
    """The same of the writers that are programs (tests/peers/librivulet/writer.c says how)."""
    head = b"%s/%d/%d/" % (writer.encode(), partition, n)
    size = len(head) + n * 37 % 400
    return (head * (size // len(head) + 1))[:size]


def parse_value(value):
    writer, n, peers_n = re.match(rb"([a-z0-9-]+)(?::(\d+):|/\d+/(\d+)/)", value).groups()
    return writer.decode(), int(n or peers_n)


def expected_value(writer, partition, n):
    return peer_value(writer, partition, n) if writer.startswith("peer-") else make_value(writer, n)


class Faults:
    """Counts by kind; the first few of each are kept in words."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {}
        self.details = []

    def add(self, kind, text):
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            if self.counts[kind] <= DETAILS_MAX:
                self.details.append(f"{kind}: {text}")

    def count(self, *kinds):
        return sum(self.counts.get(k, 0) for k in kinds)


class Seen:
    """Whatever anybody read at (partition, offset). A second reader must find the same."""

    def __init__(self, faults):
        self.lock = threading.Lock()
        self.faults = faults
        self.records = {}

    def note(self, tp, offset, mark, who):
        with self.lock:
            before = self.records.setdefault(tp, {}).setdefault(offset, mark)
        if before != mark:
            self.faults.add("replaced", f"{who} read another record at {tp} offset {offset} than was read there before")


class Acked:
    """What the writers sent, and the offsets they were told: by (writer, partition), a list by number; None is no answer yet."""

    def __init__(self):
        self.sent = {}

    def begin(self, writer, tp):
        offsets = self.sent.setdefault((writer, tp), [])
        offsets.append(None)
        return len(offsets) - 1

    def told(self, writer, tp, n, offset):
        """Of a program's record: that it was sent is known only now."""
        offsets = self.sent.setdefault((writer, tp), [])
        offsets.extend([None] * (n + 1 - len(offsets)))
        offsets[n] = offset

    def count(self):
        return sum(1 for offsets in list(self.sent.values()) for o in list(offsets) if o is not None)

    def in_flight(self):
        return sum(1 for offsets in list(self.sent.values()) for o in offsets[-5000:] if o is None)


class GroupOffsets:
    """Commits of one group: what was tried, what was answered. The truth lies between the two and never goes back."""

    def __init__(self, name, faults):
        self.name = name
        self.faults = faults
        self.lock = threading.Lock()
        self.tried = {}
        self.answered = {}
        self.answers = {}  # by partition: (ns, offset), ns and the newest of the offsets rising
        self.read_back = {}
        self.commits = 0

    def begin(self, offsets):
        with self.lock:
            for tp, offset in offsets.items():
                self.tried[tp] = max(self.tried.get(tp, 0), offset)

    def end(self, offsets, ns):
        with self.lock:
            self.commits += 1
            for tp, offset in offsets.items():
                if offset < self.floor_at(tp, ns):
                    self.faults.add("commit_back", f"{self.name} {tp}: {offset} was taken after {self.floor_at(tp, ns)}")
                self.answered[tp] = max(self.answered.get(tp, 0), offset)
                bisect.insort(self.answers.setdefault(tp, []), (ns, offset))

    def floor(self):
        with self.lock:
            return dict(self.answered)

    def floor_at(self, tp, ns):
        """What had been answered by then: a partition has one owner at a time, so the last is the most."""
        answers = self.answers.get(tp, [])
        at = bisect.bisect(answers, (ns,))
        return answers[at - 1][1] if at else 0

    def was_tried(self, tp, offset):
        """Another process may have tried it, and not been heard yet."""
        deadline = time.monotonic() + LINES_LATE_S
        while self.tried.get(tp, 0) < offset and time.monotonic() < deadline:
            time.sleep(0.001)
        return self.tried.get(tp, 0) >= offset

    def check(self, found, floor, how):
        """`found` was read after `floor` was taken."""
        for tp in {*floor, *self.read_back, *found}:
            least = max(floor.get(tp, 0), self.read_back.get(tp, 0))
            value = found.get(tp, -1)
            if value < least:
                self.faults.add("commit_back", f"{self.name} {tp}: {value} read through {how}, {least} was committed before")
            elif not self.was_tried(tp, value):
                self.faults.add("commit_invented", f"{self.name} {tp}: {value} read, nobody went past {self.tried.get(tp, 0)}")
            self.read_back[tp] = max(value, self.read_back.get(tp, 0))


class Reading:
    """What a reader without a group must be given: every partition from 0 on."""

    def __init__(self, name, partitions, faults):
        self.name = name
        self.faults = faults
        self.position = dict.fromkeys(partitions, 0)

    def read(self, tp, offset):
        if offset != self.position[tp]:
            self.faults.add("skipped" if offset > self.position[tp] else "twice",
                            f"{self.name} {tp}: offset {offset} came where {self.position[tp]} must")
        self.position[tp] = offset + 1


class Seat:
    """What a member of a group must be given: of what it owns every record in order, from a committed offset on."""

    def __init__(self, name, offsets, faults):
        self.name = name
        self.offsets = offsets
        self.faults = faults
        self.expected = {}  # by partition: what must come; before the first record (least,)
        self.unsettled = set()
        self.repeats = 0

    def unsettle(self):
        """A rebalance of librdkafka. It pauses what the member keeps and goes on behind the last record that was handed over: which does not count
        the one that is just being handed over (rd_kafka_toppar_pause_resume, rd_kafka_fetch_op_app_prepare), so that may come once more."""
        self.unsettled = {tp for tp, expected in self.expected.items() if isinstance(expected, int)}

    def own(self, partitions, ns):
        for tp in partitions:
            self.expected[tp] = (self.offsets.floor_at(tp, ns),)

    def give(self, partitions):
        for tp in partitions:
            self.expected.pop(tp, None)

    def read(self, tp, offset):
        expected = self.expected.get(tp)
        if expected is None:
            self.faults.add("foreign", f"{self.name} {tp}: offset {offset} came without an assignment")
        elif isinstance(expected, tuple):
            if offset < expected[0]:
                self.faults.add("twice", f"{self.name} {tp}: began at {offset}; {expected[0]} was committed")
            elif not self.offsets.was_tried(tp, offset):
                self.faults.add("skipped", f"{self.name} {tp}: began at {offset}; nobody tried more than {self.offsets.tried.get(tp, 0)}")
        elif offset == expected - 1 and tp in self.unsettled:
            self.repeats += 1
        elif offset != expected:
            self.faults.add("skipped" if offset > expected else "twice", f"{self.name} {tp}: offset {offset} came where {expected} must")
        self.unsettled.discard(tp)
        self.expected[tp] = offset + 1


def judge(final, acked, seen, faults):
    """`final`: partition -> [(offset, value)] as a fresh reader found them at the end."""
    for tp, records in final.items():
        where = {}
        newest = {}
        for at, (offset, value) in enumerate(records):
            if offset != at:
                faults.add("gap", f"{tp}: offset {offset} where {at} must be")
            seen.note(tp, offset, mark_of(value), "the last reader")
            writer, n = parse_value(value)
            if value != expected_value(writer, tp[1], n):
                faults.add("altered", f"{tp} offset {offset}: not what {writer} wrote as number {n}")
            if (writer, n) in where:
                faults.add("duplicated", f"{writer} {tp} number {n}: offsets {where[writer, n]} and {offset}")
                continue
            if n < newest.get(writer, -1):
                faults.add("reordered", f"{writer} {tp} number {n} at offset {offset}, behind {newest[writer]}")
            newest[writer] = max(n, newest.get(writer, -1))
            where[writer, n] = offset
        for offset in seen.records.get(tp, {}):
            if offset >= len(records):
                faults.add("taken_back", f"{tp} offset {offset} was read and is not there at the end")
        for (writer, where_tp), offsets in acked.sent.items():
            for n, offset in enumerate(offsets if where_tp == tp else ()):
                if offset is None:
                    faults.add("not_delivered", f"{writer} {tp} number {n}: nobody was told what became of it")
                elif (writer, n) not in where:
                    faults.add("lost", f"{writer} {tp} number {n}, acknowledged at offset {offset}")
                elif offset >= 0 and where[writer, n] != offset:
                    faults.add("moved", f"{writer} {tp} number {n}: acknowledged at {offset}, found at {where[writer, n]}")
