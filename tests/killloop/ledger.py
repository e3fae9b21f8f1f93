"""What the clients of the kill loop were told, and what of it turned out not to be true."""
import re
import threading
import zlib

PAD = bytes(zlib.crc32(i.to_bytes(4, "big")) % 94 + 33 for i in range(4096))
DETAILS_MAX = 20


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
    """Counts by kind; the first few of all are kept in words."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {}
        self.details = []

    def add(self, kind, text):
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            if len(self.details) < DETAILS_MAX:
                self.details.append(f"{kind}: {text}")

    def count(self, *kinds):
        return sum(self.counts.get(k, 0) for k in kinds)


class Seen:
    """Whatever anybody read at (partition, offset). A second reader must find the same."""

    def __init__(self, faults):
        self.lock = threading.Lock()
        self.faults = faults
        self.records = {}

    def note(self, tp, offset, value, who):
        mark = hash(value)
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
        self.read_back = {}
        self.commits = 0

    def begin(self, offsets):
        with self.lock:
            for tp, offset in offsets.items():
                self.tried[tp] = max(self.tried.get(tp, 0), offset)

    def end(self, offsets):
        with self.lock:
            self.commits += 1
            for tp, offset in offsets.items():
                if offset < self.answered.get(tp, 0):
                    self.faults.add("commit_back", f"{self.name} {tp}: {offset} was taken after {self.answered[tp]}")
                self.answered[tp] = max(self.answered.get(tp, 0), offset)

    def floor(self):
        with self.lock:
            return dict(self.answered)

    def check(self, found, floor, how):
        """`found` was read after `floor` was taken."""
        with self.lock:
            for tp, least in floor.items():
                least = max(least, self.read_back.get(tp, 0))
                value = found.get(tp, -1)
                if value < least:
                    self.faults.add("commit_back", f"{self.name} {tp}: {value} read through {how}, {least} was committed before")
                elif value > self.tried.get(tp, 0):
                    self.faults.add("commit_invented", f"{self.name} {tp}: {value} read, nobody went past {self.tried.get(tp, 0)}")
            for tp, value in found.items():
                self.read_back[tp] = max(value, self.read_back.get(tp, 0))


def judge(final, acked, seen, faults):
    """`final`: partition -> [(offset, value)] as a fresh reader found them at the end."""
    for tp, records in final.items():
        where = {}
        newest = {}
        for at, (offset, value) in enumerate(records):
            if offset != at:
                faults.add("gap", f"{tp}: offset {offset} where {at} must be")
            seen.note(tp, offset, value, "the last reader")
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
                if offset is not None and (writer, n) not in where:
                    faults.add("lost", f"{writer} {tp} number {n}, acknowledged at offset {offset}")
                elif offset is not None and offset >= 0 and where[writer, n] != offset:
                    faults.add("moved", f"{writer} {tp} number {n}: acknowledged at {offset}, found at {where[writer, n]}")
