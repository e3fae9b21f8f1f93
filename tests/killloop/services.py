"""The services of the client's kill loop: processes on librivulet (tests/peers/librivulet), whose lines are all that is known of them.

A line that a killed process has written is in the pipe, and is read before the process is looked at: what it was told, it was told.
"""
import collections
import json
import subprocess

import kit


class Service(kit.Process):
    def __init__(self, argv, name):
        super().__init__(argv)
        self.name = name
        self.killed = False

    def kill(self):
        self.killed = True
        self.p.kill()
        self.p.wait()
        for t in self.readers:
            t.join()


class Writer(Service):
    """What a writer was told: acked[partition][number] = offset, or -1 when nobody knows where; failed[partition][number]: unsure."""

    def read_lines(self, faults, may_fail=False):
        self.acked, self.failed, self.sent = collections.defaultdict(dict), collections.defaultdict(dict), {}
        self.flushed = None
        for line in self.out:
            words = line.split(" ", 5)
            if words[0] == "ack":
                partition, n, offset = map(int, words[1:4])
                if n in self.acked[partition] or n in self.failed[partition]:
                    faults.add("told_twice", f"{self.name} heard of partition {partition} number {n} twice")
                self.acked[partition][n] = offset
            elif words[0] == "failed":
                partition, n, unsure = int(words[1]), int(words[2]), int(words[4])
                if n in self.acked[partition] or n in self.failed[partition]:
                    faults.add("told_twice", f"{self.name} heard of partition {partition} number {n} twice")
                self.failed[partition][n] = bool(unsure)
                if not may_fail:
                    faults.add("not_delivered", f"{self.name}: {line}")
            elif words[0] == "sent":
                self.sent[int(words[1])] = int(words[2])
            elif words[0] == "flushed":
                self.flushed = words[1]
        if self.killed:
            return
        if self.flushed != "RV_OK" and not may_fail:
            faults.add("not_delivered", f"{self.name} was not flushed: {self.flushed}")
        for partition, count in self.sent.items():
            told = self.acked[partition].keys() | self.failed[partition].keys()
            if told != set(range(count)):
                faults.add("not_told", f"{self.name} partition {partition}: the fate of {len(told)} of {count} was told")


class Member(Service):
    """events: (time, member's number, kind, rest of the line)."""

    def read_lines(self):
        events = []
        for line in self.out:
            kind, at, *rest = line.split(" ", 2)
            events.append((int(at), self, kind, rest[0] if rest else ""))
        return events


def places(text):
    """{(topic/partition): offset} of "TOPIC/PARTITION:OFFSET ..."."""
    return {where: int(offset) for where, offset in (at.rsplit(":", 1) for at in text.split())}


class Group:
    """One group's members over time, and what must be true of them all together."""

    def __init__(self, name, options, delivery, poll_records, faults):
        self.name, self.options, self.delivery, self.poll_records, self.faults = name, options, delivery, poll_records, faults
        self.members = []   # alive
        self.everyone = []
        self.read_backs = []  # (time before, time after, {partition: offset})
        self.started = self.kills = self.stops = 0

    def note_committed(self, before, after, rows):
        self.read_backs.append((before, after, rows))

    # ---- the judgement

    def judge(self, ends):
        events = sorted((e for m in self.everyone for e in m.read_lines()), key=lambda e: e[0])
        self.counts = collections.Counter(kind for _, _, kind, _ in events)
        self.refusals = collections.Counter(rest.split(" ")[0] for _, _, kind, rest in events if kind in ("refused", "error"))
        self.reads = collections.defaultdict(lambda: collections.defaultdict(list))  # partition -> offset -> times
        self._walk(events)
        self._check_errors(events)
        if self.delivery == "at-most-once":
            self._check_most(ends)
        else:
            self._check_least(ends)
        self._check_read_backs(ends)

    def _walk(self, events):
        """Each assignment is read without a hole, from where the group had committed."""
        expected = {}  # (member, partition): the next offset; None: the first one is to come
        floor, tried = {}, collections.defaultdict(int)  # partition: committed, by an answer; tried at most
        begun = {}     # (member, partition): floor when it came
        trying = {}    # member: places
        for at, member, kind, rest in events:
            if kind == "own":
                for where in places(rest):
                    expected[member, where] = None
                    begun[member, where] = floor.get(where, 0)
            elif kind in ("give", "lost"):
                for where in places(rest):
                    expected.pop((member, where), None)
            elif kind == "try":
                trying[member] = places(rest)
                for where, offset in trying[member].items():
                    tried[where] = max(tried[where], offset)
            elif kind == "done":
                for where, offset in trying[member].items():
                    floor[where] = max(floor.get(where, 0), offset)
            elif kind == "read":
                where, offset, _ = rest.split(" ", 2)
                offset = int(offset)
                self.reads[where][offset].append(at)
                if (member, where) not in expected:
                    self.faults.add("foreign", f"{self.name} {member.name} {where}: offset {offset} came without an assignment")
                elif expected[member, where] is None:
                    if self.delivery == "manual" and not begun[member, where] <= offset <= tried[where]:
                        self.faults.add("again" if offset < begun[member, where] else "skipped",
                                        f"{self.name} {member.name} {where}: began at {offset}; committed was {begun[member, where]}, "
                                        f"tried at most {tried[where]}")
                elif offset != expected[member, where]:
                    self.faults.add("skipped" if offset > expected[member, where] else "again",
                                    f"{self.name} {member.name} {where}: offset {offset} came where {expected[member, where]} must")
                expected[member, where] = offset + 1

    def _check_errors(self, events):
        for at, member, kind, rest in events:
            if kind == "jump":
                self.faults.add("jumped", f"{self.name} {member.name}: {rest}")
            # rv_poll commits before it returns: that may fail, and then it returns nothing.
            elif kind == "error" and not (self.delivery == "at-most-once" and rest.startswith(("RV_E_LOST_MEMBER", "RV_E_TIMED_OUT"))):
                self.faults.add("poll_error", f"{self.name} {member.name}: {rest}")
            elif kind == "bye" and not rest.startswith("RV_OK"):
                self.faults.add("close_error", f"{self.name} {member.name}: {rest}")

    def _check_least(self, ends):
        for where, end in ends.items():
            missing = [o for o in range(end) if o not in self.reads[where]]
            if missing:
                self.faults.add("missed", f"{self.name} {where}: {len(missing)} records were never processed, the first is {missing[0]} of {end}")

    def _check_most(self, ends):
        lost = 0
        for where, end in ends.items():
            for offset, times in self.reads[where].items():
                if len(times) > 1:
                    self.faults.add("twice", f"{self.name} {where}: offset {offset} was processed {len(times)} times")
            lost += sum(o not in self.reads[where] for o in range(end))
        # What was given (or committed to be given) when a member ended, or lost its commit's answer and its membership.
        limit = self.poll_records * (self.kills + self.stops + self.counts["error"])
        self.unprocessed = lost
        if lost > limit:
            self.faults.add("missed", f"{self.name}: {lost} records were not processed, {limit} could be explained")

    def _check_read_backs(self, ends):
        last = {}
        for before, after, rows in self.read_backs:
            for where, committed in rows.items():
                if committed < last.get(where, 0):
                    self.faults.add("commit_back", f"{self.name} {where}: {committed} is committed, it was {last[where]} before")
                last[where] = max(committed, last.get(where, 0))
        if self.delivery == "at-most-once":
            return
        for where in ends:  # when was everything before an offset processed?
            done, latest = [], 0
            for offset in range(ends[where]):
                times = self.reads[where].get(offset)
                latest = max(latest, min(times)) if times else float("inf")
                done.append(latest)
            for before, after, rows in self.read_backs:
                committed = rows.get(where, 0)
                if committed > ends[where]:
                    self.faults.add("commit_invented", f"{self.name} {where}: {committed} is committed, the end is {ends[where]}")
                elif committed > 0 and done[committed - 1] > after:
                    self.faults.add("commit_early", f"{self.name} {where}: {committed} was committed before all records below it were processed")


def value_of(name, partition, n):
    head = f"{name}/{partition}/{n}/"
    padding = n * 37 % 400
    return head + (head * (padding // len(head) + 1))[:padding]


def judge_records(records, writers, faults, first=None):
    """`records`: partition -> [(offset, value)], as they lie there at the end. Returns how many outcomes were open.
    `first`: (writer, partition) -> number: what came before it was in a log that is gone."""
    first = first or {}
    by_name = {w.name: w for w in writers}
    found = collections.defaultdict(dict)  # (writer, partition): number -> offset
    for partition, rows in records.items():
        for at, (offset, value) in enumerate(rows):
            if offset != at:
                faults.add("gap", f"partition {partition}: offset {offset} where {at} must be")
            name, where, n = value.split("/")[:3]
            n = int(n)
            if name not in by_name or int(where) != partition or value != value_of(name, partition, n):
                faults.add("altered", f"partition {partition} offset {offset}: {value[:100]!r}")
                continue
            mine = found[name, partition]
            if n in mine:
                faults.add("duplicated", f"{name} partition {partition} number {n}: offsets {mine[n]} and {offset}")
                continue
            # Of one writer in one partition what is there is the beginning of what it sent, but for what failed.
            before = max(mine, default=first.get((name, partition), 0) - 1)
            left_out = [k for k in range(before + 1, n) if k not in by_name[name].failed[partition]]
            if n < before or left_out:
                faults.add("reordered", f"{name} partition {partition}: number {n} at offset {offset}, behind {before}")
            mine[n] = offset
    opened = 0
    for w in writers:
        for partition in w.acked.keys() | w.failed.keys():
            mine = found[w.name, partition]
            acked = {n: o for n, o in w.acked[partition].items() if n >= first.get((w.name, partition), 0)}
            for n, offset in acked.items():
                if n not in mine:
                    faults.add("lost", f"{w.name} partition {partition} number {n}, acknowledged at offset {offset}")
                elif offset >= 0 and mine[n] != offset:
                    faults.add("moved", f"{w.name} partition {partition} number {n}: acknowledged at {offset}, found at {mine[n]}")
            for n, unsure in w.failed[partition].items():
                if n in mine and not unsure:
                    faults.add("stored_all_the_same", f"{w.name} partition {partition} number {n}: is said to be surely not stored")
            unknown = mine.keys() - acked.keys() - w.failed[partition].keys()
            opened += len(unknown)
            if unknown and not w.killed:
                faults.add("not_told", f"{w.name} partition {partition}: {len(unknown)} are stored and were not told of")
    return opened


def rivulet(root, address, *argv, seconds=60):
    """Objects that the command line prints; None: it could not."""
    p = subprocess.run([root / "build" / "rivulet", *argv, "--json", "-b", address, "--timeout", "30"], capture_output=True, text=True,
                       timeout=seconds)
    return [json.loads(at) for at in p.stdout.splitlines()] if p.returncode == 0 else None
