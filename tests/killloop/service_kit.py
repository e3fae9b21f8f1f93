"""The programs of examples/ as people get them, for tests: built from an installed tree by the line that their comment gives, started, killed.

What a process has written to its standard output is in `lines`; its standard error goes to a file beside its data.
"""
import collections
import glob
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLI = ROOT / "build" / "rivulet"
LIMIT_S = 120
EXAMPLES = ("users", "billing", "first_sync", "outbox_postgresql", "saga_orders", "saga_payments", "saga_stock", "spooled", "retry")


class Broken(Exception):
    """Something did not come to be as it must."""


def until(what, holds, seconds=LIMIT_S):
    """Waits for a condition; the time is a limit, never a measure."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Broken(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def install(directory):
    """What `make install` gives, somewhere else. Returns the environment in which it is found."""
    subprocess.run(["make", "-s", "--no-print-directory", "-C", ROOT, "install", f"DESTDIR={directory}", "PREFIX=/usr"], check=True,
                   stdout=subprocess.DEVNULL, timeout=600)
    lib = directory / "usr" / "lib"
    return {**os.environ, "PKG_CONFIG_PATH": str(lib / "pkgconfig"), "LD_LIBRARY_PATH": str(lib),
            "PATH": f"{directory / 'usr' / 'bin'}:{os.environ['PATH']}"}


def build(name, directory, env):
    """One example, by the line at the end of its comment, with all warnings. Returns the program."""
    folder = directory / "usr" / "share" / "doc" / "rivulet" / "examples"
    comment = (folder / f"{name}.c").read_text().split("*/")[0].replace("\\\n *", "")
    line = re.search(r"^ \* (cc .*)$", comment, re.M).group(1)
    if not line.startswith(f"cc {name}.c -o {name} "):
        raise Broken(f"{name}.c: how it is built is not in its comment: {line}")
    command = line.replace("cc ", f"{os.environ.get('CC', 'cc')} -O1 -Wall -Wextra -Wshadow -Wconversion -Werror ", 1)
    done = subprocess.run(command, shell=True, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S)
    if done.returncode:
        raise Broken(f"{command}\n{done.stdout}")
    return folder / name


class Process:
    """A program that is started again and again."""

    def __init__(self, name, argv, directory, env, reads=False):
        self.name, self.argv, self.env = name, [str(a) for a in argv], env
        self.reads = reads  # it ends with its input, and not by SIGTERM
        self.log = pathlib.Path(directory) / f"{name}.err"
        self.process = None
        self.lines = []  # of all its lives

    def start(self):
        with open(self.log, "ab") as log:
            process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=self.env)
        process.reader = threading.Thread(target=self._read, args=(process,))
        process.reader.start()
        self.process = process  # whole, for a thread that asks
        return self

    def _read(self, process):
        for line in process.stdout:
            if line.endswith("\n"):  # a torn line was not said
                self.lines.append(line[:-1])

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def ask(self, line):
        """Gives it a line and waits for its answer. None: it died before."""
        process, heard = self.process, len(self.lines)
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError, AttributeError):
            return None
        deadline = time.monotonic() + LIMIT_S
        while len(self.lines) == heard:
            if process.poll() is not None:
                process.reader.join()
                return self.lines[heard] if len(self.lines) > heard else None
            if time.monotonic() > deadline:
                raise Broken(f"{self.name} does not answer {line!r}")
            time.sleep(0.0005)
        return self.lines[heard]

    def _ended(self):
        code = self.process.wait(LIMIT_S)
        self.process.reader.join()
        self.process = None
        return code

    def kill(self):
        if self.process.poll() is not None:
            raise Broken(f"{self.name} ended by itself with {self.process.returncode}:\n{self.said()}")
        self.process.kill()
        self._ended()

    def stop(self):
        """In order: it must end well."""
        if self.process is None:
            return
        self.process.stdin.close()
        if not self.reads:
            self.process.terminate()
        code = self._ended()
        if code:
            raise Broken(f"{self.name} ended with {code}:\n{self.said()}")

    def discard(self):
        if self.process is not None:
            self.process.kill()
            self._ended()

    def said(self):
        return self.log.read_text(errors="replace")[-3000:]


class Postgres:
    """A server of its own, on a socket in a directory of its own. Root may not run one: then the user postgres does."""
    name = "postgresql"

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="pg-")
        self.process = None
        self.user = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            self.user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.dir, entry.pw_uid, entry.pw_gid)
        self.conninfo = f"host={self.dir} user=rivulet dbname=postgres"
        self.uri = f"postgresql://rivulet@/postgres?host={self.dir}"
        self._run("initdb", "-D", "data", "-U", "rivulet", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")

    @staticmethod
    def _program(name):
        there = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
        found = there[-1] if there else shutil.which(name)
        if not found:
            raise Broken(f"there is no {name}: the package postgresql is needed, see tools/packaging/deps.sh")
        return found

    def _run(self, name, *args):
        done = subprocess.run([self._program(name), *args], cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=LIMIT_S, **self.user)
        if done.returncode:
            raise Broken(f"{name}: {done.stdout[-2000:]}")
        return done.stdout

    def start(self):
        with open(f"{self.dir}/log", "ab") as log:
            self.process = subprocess.Popen([self._program("postgres"), "-D", "data", "-k", self.dir, "-c", "listen_addresses=", "-c",
                                             "shared_buffers=16MB"], cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.user)
        state = pathlib.Path(self.dir, "data", "postmaster.pid")

        def ready():
            if self.process.poll() is not None:
                raise Broken(f"PostgreSQL ended while starting: {pathlib.Path(self.dir, 'log').read_text()[-2000:]}")
            lines = state.read_text().split("\n") if state.exists() else []
            return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

        until("PostgreSQL is ready", ready)
        return self

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """An immediate stop: no checkpoint, no goodbye."""
        if not self.is_alive():
            raise Broken(f"PostgreSQL ended by itself: {pathlib.Path(self.dir, 'log').read_text()[-2000:]}")
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(LIMIT_S)
        self.process = None

    def sql(self, text):
        """Rows, as lists, of statements that are put together to JSON arrays."""
        out = self._run("psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo, "-c", text)
        return [json.loads(line) for line in out.splitlines()]

    def discard(self):
        if self.is_alive():
            self.kill()
        shutil.rmtree(self.dir)


def sqlite(path, text, *values):
    """Rows of one statement."""
    db = sqlite3.connect(path, timeout=30)
    try:
        with db:
            return db.execute(text, values).fetchall()
    finally:
        db.close()


def has(path, table):
    """Whether a program has made it already."""
    return path.exists() and bool(sqlite(path, "SELECT 1 FROM sqlite_master WHERE name = ?", table))


def rivulet(*args, code=0, stdin=None):
    done = subprocess.run([str(CLI), *map(str, args)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S)
    if done.returncode != code:
        raise Broken(f"rivulet {' '.join(map(str, args))} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def consumed(broker, topic):
    """The records, as `rivulet consume --json` shows them, each partition in its order."""
    lines = rivulet("consume", topic, "-b", broker.address, "-o", "start", "--until", "end", "--json").splitlines()
    return [json.loads(line) for line in lines]


def by_key(pairs):
    """{key: [value, ...]} of (key, value), in their order."""
    result = collections.defaultdict(list)
    for key, value in pairs:
        result[key].append(value)
    return dict(result)


class Verdict:
    """What is lost, doubled and out of order, against the model."""

    def __init__(self):
        self.lost = self.doubled = self.order = 0
        self.words = []

    def say(self, text):
        if len(self.words) < 20:
            self.words.append(text)

    def compare(self, what, model, got):
        """Both {key: [value, ...]}: the same values of each key, in the same order."""
        for key in model.keys() | got.keys():
            want, have = collections.Counter(model.get(key, [])), collections.Counter(got.get(key, []))
            missing, extra = want - have, have - want
            self.lost += missing.total()
            self.doubled += extra.total()
            if missing or extra:
                self.say(f"{what}: {key}: lost {dict(list(missing.items())[:3])}, doubled {dict(list(extra.items())[:3])}")
            elif model.get(key) != got.get(key):
                self.order += 1
                self.say(f"{what}: {key}: out of order: {got[key][:20]} where {model[key][:20]} must be")

    def add_lost(self, text):
        self.lost += 1
        self.say(f"lost: {text}")

    def add_doubled(self, text):
        self.doubled += 1
        self.say(f"doubled: {text}")

    def is_good(self):
        return self.lost == self.doubled == self.order == 0
