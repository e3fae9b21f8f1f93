"""What the bench programs share: a broker that tells how long its start took, and the command line on it."""
import pathlib
import socket
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "peers"))
import broker as peers  # noqa: E402

CLI = ROOT / "build" / "rivulet"
START_LIMIT_S = 60


class BenchError(Exception):
    pass


def ask_metadata(port):
    """Metadata v1 for all topics. True: there was an answer; False: nobody listens yet."""
    request = struct.pack(">hhih", 3, 1, 7, -1) + struct.pack(">i", -1)
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            s.sendall(struct.pack(">i", len(request)) + request)
            head = s.recv(8, socket.MSG_WAITALL)
            return len(head) == 8 and struct.unpack(">ii", head)[1] == 7
    except OSError:
        return False


class Timed:
    def _spawn(self, argv, env=None):
        if not self.port:
            self.port = peers.free_port()
            argv = [a.replace("127.0.0.1:0", self.address) for a in argv]
        self.spawned = time.perf_counter()
        super()._spawn(argv, env)

    def _wait(self, ready, what):
        while not ask_metadata(self.port):
            if self.process.poll() is not None:
                raise BenchError(f"{self.name} ended while starting:\n{self._log_tail()}")
            if time.perf_counter() - self.spawned > START_LIMIT_S:
                raise BenchError(f"{self.name} does not answer:\n{self._log_tail()}")
            time.sleep(0.0002)
        self.start_ms = (time.perf_counter() - self.spawned) * 1000
        super()._wait(ready, what)


class Rivulet(Timed, peers.Rivulet):
    def __init__(self, name, binary, directory, settings=()):
        super().__init__(directory, settings, binary)
        self.name = name
        self.durable = []


def cli(b, *words):
    done = subprocess.run([CLI, "-b", b.address, "--json", *words], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise BenchError(f"{b.name}: rivulet {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
