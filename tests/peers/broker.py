"""A broker process for the peer tests: rivulet's own daemon, or a real Apache Kafka to measure the suites by.

A suite never knows which of the two it talks to. Both keep their address over a restart (the first start takes a
free port, every later one asks for the same), so that clients which are connected while the broker is killed find it
again by themselves. Everything stays on 127.0.0.1.

A Control is a tiny HTTP server beside the broker: a test program in any language restarts the broker with
GET /kill (kill -9, start again) or GET /term (SIGTERM, start again), or stops it (GET /stop) and starts it later (GET
/start). The answer comes when the broker listens again, or is gone.
"""
import http.server
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_LIMIT_S = 60
STOP_LIMIT_S = 60


class BrokerError(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Broker:
    """One broker process at a time over one data directory. Used by one thread at a time (the lock sees to it)."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.log_path = self.dir / "broker.log"
        self.port = 0
        self.process = None
        self.lock = threading.RLock()
        self.starts = 0

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _spawn(self, argv, env=None):
        self.log = open(self.log_path, "ab")
        self.log_from = self.log_path.stat().st_size
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env)
        self.starts += 1

    def _log_tail(self, limit=4000):
        with open(self.log_path, "rb") as f:
            f.seek(self.log_from)
            return f.read()[-limit:].decode(errors="replace")

    def _wait(self, ready, what):
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BrokerError(f"broker ended with {self.process.returncode} while starting:\n{self._log_tail()}")
            if ready():
                return
            time.sleep(0.01)
        raise BrokerError(f"broker not {what} after {START_LIMIT_S} s:\n{self._log_tail()}")

    def check_alive(self):
        """A broker that died by itself is a failure of the test that noticed, not a missing answer."""
        if self.process is not None and self.process.poll() is not None:
            raise BrokerError(f"broker died by itself with {self.process.returncode}:\n{self._log_tail()}")

    def kill(self):
        """kill -9: no goodbye. What was acknowledged must be there afterwards."""
        with self.lock:
            self.check_alive()
            self.process.kill()
            self.process.wait()
            self.process = None
            self.log.close()

    def stop(self):
        with self.lock:
            if self.process is None:
                return
            self.check_alive()
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                self.process = None
                raise BrokerError(f"broker did not stop within {STOP_LIMIT_S} s of SIGTERM:\n{self._log_tail()}")
            self.process = None
            self.log.close()
            if code not in self.clean_codes:
                raise BrokerError(f"SIGTERM ended the broker with {code}:\n{self._log_tail()}")

    def discard(self):
        """End it without asking anything of it (after a failure)."""
        with self.lock:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None

    def stand_still(self):
        """Until go_on: neither dead nor alive."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def forget(self):
        """Everything. Only while it is down; it keeps its address."""
        shutil.rmtree(self.data)

    def restart(self, how):
        with self.lock:
            self.kill() if how == "kill" else self.stop()
            self.start()


class Rivulet(Broker):
    name = "rivulet"
    clean_codes = (0,)

    def __init__(self, directory, settings=(), binary=None):
        super().__init__(directory)
        self.binary = pathlib.Path(binary) if binary else ROOT / "build" / "rivuletd"
        self.settings = list(settings)
        self.data = self.dir / "data"

    def start(self):
        with self.lock:
            argv = [str(self.binary), "--data", str(self.data), "--listen", f"127.0.0.1:{self.port}"]
            for setting in self.settings:
                argv += ["--set", setting]
            self._spawn(argv)
            found = []

            def listening():
                # The whole log of this start: the line must not be missed behind much else.
                with open(self.log_path, "rb") as f:
                    f.seek(self.log_from)
                    hit = re.search(rb"\blistening\b.*?\baddr=\"?127\.0\.0\.1:(\d+)", f.read())
                if hit:
                    found.append(int(hit.group(1)))
                return bool(hit)

            self._wait(listening, "listening")
            self.port = found[0]


class Kafka(Broker):
    """A single KRaft node out of the jars of tests/peers/java/pom.xml. For developers: the suites are tried on it."""
    name = "kafka"
    clean_codes = (0, 143)

    def __init__(self, directory, jars, settings=(), features=()):
        super().__init__(directory)
        self.jars = jars
        self.features = list(features)  # "transaction.version=0": levels other than the newest
        self.settings = list(settings)
        self.data = self.dir / "data"

    def _java(self, main, *args):
        return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-Dlog4j2.configurationFile=" + str(self.dir / "log4j2.properties"),
                "-cp", f"{self.jars}/*", main, *args]

    def start(self):
        with self.lock:
            config = self.dir / "server.properties"
            if not config.exists():
                self.port = free_port()
                controller = free_port()
                (self.dir / "log4j2.properties").write_text(
                    "rootLogger.level=WARN\nrootLogger.appenderRef.c.ref=C\nappender.c.type=Console\nappender.c.name=C\n"
                    "appender.c.layout.type=PatternLayout\nappender.c.layout.pattern=[%d] %p %m (%c)%n\n")
                lines = {
                    "process.roles": "broker,controller", "node.id": "1",
                    "controller.quorum.voters": f"1@127.0.0.1:{controller}",
                    "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
                    "controller.listener.names": "CONTROLLER", "log.dirs": str(self.data),
                    "offsets.topic.replication.factor": "1", "offsets.topic.num.partitions": "5",
                    "transaction.state.log.num.partitions": "2", "transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
                    "group.initial.rebalance.delay.ms": "0", "log.retention.ms": "-1",
                    "log.message.timestamp.after.max.ms": "9223372036854775807",
                    "broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500",
                }
                lines.update(s.split("=", 1) for s in self.settings)
                config.write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
            if not self.data.exists():
                levels = [word for f in self.features for word in ("--feature", f)]
                subprocess.run(self._java("kafka.tools.StorageTool", "format", "-t", "cml2dWxldC1wZWVycy0wMQ", "-c",
                                          str(config), *levels), check=True, stdout=subprocess.DEVNULL)
            self._spawn(self._java("kafka.Kafka", str(config)))

            def answers():
                try:
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    return True
                except OSError:
                    return False

            self._wait(answers, "listening")


class Control:
    """The HTTP server that lets a test program restart its broker. One thread, one request at a time."""

    def __init__(self, broker):
        outer = self
        self.errors = []
        acts = {"kill": lambda: broker.restart("kill"), "term": lambda: broker.restart("term"), "stop": broker.stop,
                "start": broker.start}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                how = self.path.strip("/")
                try:
                    if how not in acts:
                        raise BrokerError(f"unknown control request {how}")
                    acts[how]()
                    code, text = 200, b"ok\n"
                except Exception as e:  # told to the test program and to the runner: both must fail
                    outer.errors.append(str(e))
                    code, text = 500, str(e).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def open_broker(kind, directory, settings=(), jars=None):
    if kind == "kafka":
        return Kafka(directory, jars or ROOT / "build" / "peers" / "java" / "jars", settings)
    return Rivulet(directory, settings, None if kind == "rivulet" else kind)
