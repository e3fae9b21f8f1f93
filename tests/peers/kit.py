"""What the suites of tests/peers share: tests and their report, processes with a time limit, the log as it is on disk.

A suite is a module suite_NAME.py with
    NEEDS      the toolchains it cannot do without (keys of toolchains.TOOLS)
    run(ctx)   its tests; each is ctx.test(name, body) or a line of a program, ctx.program(argv)
It gets a broker of its own, started, in an empty directory.

A program in another language is called with `BROKER CONTROL_URL KIND [TEST]` as its last arguments. It prints, on
standard output,
    ok NAME (S s)             or            not ok NAME | why        a line a test
    # anything                               what helps to understand the failure above it
    done N                                   the last line: N tests were run
"""
import json
import re
import subprocess
import threading
import time
import traceback

from broker import ROOT, Control, open_broker

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
ACKS = ("0", "1", "all")
BASE_MS = 1767225600000  # 2026-01-01: the records' own times
TAIL_LINES = 40


class Failed(Exception):
    """A test's verdict. Anything else that a body throws fails the test as well, with a traceback."""


def that(holds, text):
    if not holds:
        raise Failed(text)


def same(want, got, what):
    if want != got:
        raise Failed(f"{what}: want {shorten(want)}, got {shorten(got)}")


def shorten(value, limit=600):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def tail(text, lines=TAIL_LINES):
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def until(what, holds, seconds=60):
    """Waits for a condition; the time is a limit, never a measure."""
    deadline = time.monotonic() + seconds
    while not holds():
        that(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Report:
    """The lines that `make peers` prints, and the sums."""

    def __init__(self, only=""):
        self.only = only
        self.passed = self.failed = 0

    def wants(self, name):
        return self.only in name

    def line(self, suite, name, seconds, why=None):
        if why is None:
            self.passed += 1
            print(f"passed  {suite:<10} {name}  {seconds:.1f} s", flush=True)
        else:
            self.failed += 1
            print(f"FAILED  {suite:<10} {name}  {seconds:.1f} s\n        {why[:1000]}", flush=True)

    def detail(self, title, text):
        print(f"    ---- {title}", flush=True)
        for at in text.splitlines():
            print(f"    {at}", flush=True)


class Process:
    """A client that lives while the test goes on: its lines are collected as they come. Always used in a `with`."""

    def __init__(self, argv, env=None):
        self.argv = [str(a) for a in argv]
        self.out, self.err = [], []  # lines, without their ends
        self.p = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        self.readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                        for pair in ((self.p.stdout, self.out), (self.p.stderr, self.err))]
        for t in self.readers:
            t.start()

    @staticmethod
    def _read(stream, lines):
        for at in stream:
            lines.append(at.decode(errors="replace").rstrip("\n"))

    def write(self, data):
        try:
            self.p.stdin.write(data)
            self.p.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.argv[0]} ended early:\n{self.errors()}") from None

    def until(self, what, holds, seconds=60):
        try:
            until(what, lambda: holds() or self.p.poll() is not None, seconds)
            that(holds(), f"{self.argv[0]} ended with {self.p.returncode} before: {what}")
        except Failed as e:
            raise Failed(f"{e}\n{self.errors()}") from None

    def finish(self, signal=None, seconds=60, codes=(0,)):
        """Closes its standard input, or sends the signal, and waits for its end."""
        if signal is not None:
            self.p.send_signal(signal)
        try:
            self.p.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.argv[0]} did not end within {seconds} s\n{self.errors()}") from None
        for t in self.readers:
            t.join()
        that(self.p.returncode in codes, f"{self.argv[0]} ended with {self.p.returncode}\n{self.errors()}")

    def errors(self):
        return tail("\n".join(self.err))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        for t in self.readers:
            t.join()
        for stream in (self.p.stdin, self.p.stdout, self.p.stderr):
            try:
                stream.close()
            except BrokenPipeError:
                pass


class Context:
    """One suite's broker, directory and report."""

    def __init__(self, suite, kind, directory, report, jars, settings=()):
        self.suite, self.kind, self.dir, self.report, self.jars = suite, kind, directory, report, jars
        self.directory_on_disk = None
        self.broker = open_broker(kind, directory / "broker", settings, jars)
        self.control = None

    def start(self):
        self.broker.start()
        self.control = Control(self.broker)

    def close(self):
        if self.control:
            self.control.close()
        self.broker.discard()

    @property
    def address(self):
        return self.broker.address

    @property
    def rivulet(self):
        return self.kind != "kafka"

    def test(self, name, body, *args):
        if not self.report.wants(name):
            return
        began = time.monotonic()
        why, details = None, ""
        try:
            body(*args)
            if self.broker.process:  # a test may have stopped it on purpose
                self.broker.check_alive()
        except Failed as e:
            why, _, details = str(e).partition("\n")
        except Exception as e:
            why, details = f"{type(e).__name__}: {e}", traceback.format_exc()
        self.report.line(self.suite, name, time.monotonic() - began, why)
        if why is not None:
            if details:
                self.report.detail("client", tail(details))
            self.broker_tail()

    def broker_tail(self):
        if self.broker.log_path.exists():
            self.report.detail(f"broker ({self.broker.log_path})", tail(self.broker.log_path.read_bytes()[-20000:]))

    def run(self, argv, stdin=b"", seconds=120, env=None, codes=(0,), errors=False):
        """A client that does one thing and ends: its standard output, with its standard error behind it if asked."""
        argv = [str(a) for a in argv]
        try:
            p = subprocess.run(argv, input=stdin, capture_output=True, timeout=seconds, env=env)
        except subprocess.TimeoutExpired as e:
            raise Failed(f"{argv[0]} did not end within {seconds} s\n{' '.join(argv)[:2000]}\n{tail(e.stderr or b'')}") from None
        that(p.returncode in codes, f"{argv[0]} ended with {p.returncode}\n{' '.join(argv)[:2000]}\n"
             f"{tail(p.stdout)}\n{tail(p.stderr)}")
        return p.stdout + p.stderr if errors else p.stdout

    def program(self, argv, seconds, env=None):
        """A program of tests in another language. That it ran to its end is a test as well."""
        argv = [str(a) for a in argv] + [self.address, self.control.url, "kafka" if not self.rivulet else "rivulet"]
        if self.report.only:
            argv.append(self.report.only)
        began, seen, done, failing = time.monotonic(), 0, None, False
        errors_path = self.dir / "client.log"
        with open(errors_path, "wb") as errors, \
                subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=env) as p:
            limit = threading.Timer(seconds, p.kill)
            limit.start()
            try:
                for raw in p.stdout:
                    text = raw.decode(errors="replace").rstrip("\n")
                    good = re.fullmatch(r"ok (.*) \(([\d.]+) s\)", text)
                    bad = re.fullmatch(r"not ok (.*) \(([\d.]+) s\) \| (.*)", text)
                    end = re.fullmatch(r"done (\d+)", text)
                    if good or bad:
                        failing = bool(bad)
                        seen += 1
                        self.report.line(self.suite, (good or bad)[1], float((good or bad)[2]), None if good else bad[3])
                    elif end:
                        done = int(end[1])
                    elif failing:
                        print(f"    {text}", flush=True)
                p.wait()
            finally:
                limit.cancel()
        complete = done == seen and p.returncode in (0, 1) and not self.control.errors
        if not complete:
            self.report.line(self.suite, "the program runs to its end", time.monotonic() - began,
                             f"exit {p.returncode} after {seen} tests, it says {done}; restarts that failed: {self.control.errors}")
        if failing or not complete:
            self.report.detail(f"client ({errors_path})", tail(errors_path.read_bytes()))
            self.broker_tail()

    def restart(self, how):
        self.broker.restart(how)

    # ---- the log as it is on disk

    def dump(self, *paths):
        """Entries of `rivulet log dump`; a dump that finds something wrong fails the test."""
        out = self.run([ROOT / "build" / "rivulet", "log", "dump", "--json", *paths])
        return [json.loads(at) for at in out.splitlines()]

    def codecs_on_disk(self, topic):
        found = set()
        for directory in sorted(self.broker.data.glob(f"{topic}-[0-9]*")):
            if re.fullmatch(re.escape(topic) + r"-\d+", directory.name):
                found |= {e["codec"] for e in self.dump(*sorted(directory.glob("*.log"))) if e["kind"] == "batch"}
        return found

    def codec_is(self, topic, codec):
        same({codec}, self.codecs_on_disk(topic), f"codecs of the batches of {topic} on disk")

    def at_rest(self):
        """The last test of every suite: a clean stop, a log that its own dump finds nothing wrong with, and of every
        topic NAME-codec-CODEC-ACKS the batches that were asked for."""
        if self.report.only:
            return

        def check():
            self.broker.stop()
            if self.rivulet:
                self.dump(self.broker.data)
            topics = {d.name.rpartition("-")[0] for d in self.broker.data.iterdir() if "-codec-" in d.name}
            for topic in sorted(topics):
                self.codec_is(topic, re.search(r"-codec-([a-z0-9]+)-", topic)[1])

        self.test("the broker stops; the log on disk is sound, its batches have the codecs asked for", check)
