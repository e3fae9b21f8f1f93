#!/usr/bin/env python3
"""Captures what real clients send: the golden bytes of tests/data/golden.

    tests/peers/capture.py [CLIENT...]        kcat confluent java (all of them unless some are named)

A tiny proxy stands before a broker (build/rivuletd) that advertises the proxy's address, so that everything goes through
it. The clients do their work; of every API and version that a client sent, the first requests that differ in length are
kept, in the order in which they came, in tests/data/golden/CLIENT.hex: a line `# what sent it`, then `API VERSION BYTES`
each, the bytes as they were on the wire, their size included. tests/unit/test_golden.c decodes and encodes them again;
tests/wire/test_golden_replay.c sends them to the daemon.
"""
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading

import toolchains
from broker import ROOT, Rivulet

GOLDEN = ROOT / "tests" / "data" / "golden"
PER_VERSION = 3
LARGEST = 1500  # bytes of a frame that is worth keeping


class Proxy:
    """Passes everything on, both ways, and remembers the frames that clients sent."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = None
        self.frames = []
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source, sink, requests):
        pending = b""
        try:
            while data := source.recv(65536):
                if requests:
                    pending = self._cut(pending + data)
                sink.sendall(data)
        except OSError:
            pass  # the other side hung up: so do we
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _cut(self, pending):
        while len(pending) >= 4:
            size = struct.unpack(">i", pending[:4])[0]
            if len(pending) < 4 + size:
                break
            with self.lock:
                self.frames.append(pending[:4 + size])
            pending = pending[4 + size:]
        return pending

    def close(self):
        self.listener.close()


def chosen(frames):
    """The first few of every API and version that differ in length."""
    seen = {}
    for frame in frames:
        api, version = struct.unpack(">hh", frame[4:8])
        lengths = seen.setdefault((api, version), set())
        if len(frame) > LARGEST or len(frame) in lengths or len(lengths) == PER_VERSION:
            continue
        lengths.add(len(frame))
        yield api, version, frame


def run(argv, stdin=b"", codes=(0,)):
    p = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, timeout=120)
    if p.returncode not in codes:
        raise SystemExit(f"{' '.join(map(str, argv))} ended with {p.returncode}\n{p.stdout.decode()}{p.stderr.decode()}")
    return p.stdout.decode()


# ---- kcat

def kcat(address, _):
    base = ["kcat", "-b", address, "-X", "broker.address.family=v4"]
    version = run(["kcat", "-V"]).splitlines()
    run([*base, "-L"])
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        for acks in ("0", "1", "all"):
            run([*base, "-P", "-t", "kcat", "-K", ":", "-z", codec, "-X", f"acks={acks}"], b"key:value\nkey:another value\n")
    run([*base, "-P", "-t", "kcat", "-K", ":", "-H", "name=value", "-X", "enable.idempotence=true"], b"key:once\n")
    run([*base, "-C", "-t", "kcat", "-o", "beginning", "-e", "-q"])
    run([*base, "-C", "-t", "kcat", "-o", "s@1000", "-e", "-q"])
    run([*base, "-Q", "-t", "kcat:0:1000"])
    run([*base, "-G", "kcat-group", "-X", "auto.offset.reset=earliest", "-c", "5", "-q", "kcat"])
    run([*base, "-G", "kcat-static", "-X", "group.instance.id=one", "-X", "auto.offset.reset=earliest", "-c", "5", "-q", "kcat"])
    return next((line for line in version if "librdkafka" in line), version[0])


# ---- confluent-kafka

CONFLUENT = r"""
import sys
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, IsolationLevel, Producer, TopicCollection, TopicPartition, libversion
from confluent_kafka import version
from confluent_kafka.admin import *

address = {"bootstrap.servers": sys.argv[1], "broker.address.family": "v4"}
admin = AdminClient(address)


def each(futures):
    return [f.result(30) for f in futures.values()]


each(admin.create_topics([NewTopic("confluent", 2, 1, config={"retention.ms": "-1"})]))
try:
    each(admin.create_topics([NewTopic("checked", 2, 1)], validate_only=True))
except Exception:
    pass
producer = Producer({**address, "enable.idempotence": True, "compression.type": "zstd"})
for n in range(10):
    producer.produce("confluent", f"value {n}", f"key {n}", headers={"h": b"v"})
assert producer.flush(30) == 0
for settings in ({}, {"group.instance.id": "one"}, {"partition.assignment.strategy": "cooperative-sticky"}):
    consumer = Consumer({**address, "group.id": f"confluent-{len(settings) and next(iter(settings)) or 'plain'}",
                         "auto.offset.reset": "earliest", "enable.auto.commit": False, **settings})
    consumer.subscribe(["confluent"])
    for n in range(10):
        assert consumer.poll(30) is not None
    consumer.commit(asynchronous=False)
    consumer.committed([TopicPartition("confluent", 0)], 30)
    consumer.offsets_for_times([TopicPartition("confluent", 0, 1000)], 30)
    consumer.get_watermark_offsets(TopicPartition("confluent", 0), 30)
    consumer.close()
topic = ConfigResource(ConfigResource.Type.TOPIC, "confluent")
each(admin.describe_configs([topic, ConfigResource(ConfigResource.Type.BROKER, "1")]))
each(admin.incremental_alter_configs([ConfigResource(ConfigResource.Type.TOPIC, "confluent", incremental_configs=[
    ConfigEntry("retention.ms", "5000", incremental_operation=AlterConfigOpType.SET),
    ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.APPEND)])]))
each(admin.alter_configs([ConfigResource(ConfigResource.Type.TOPIC, "confluent", set_config={"retention.ms": "-1"})]))
admin.list_topics(timeout=30)
admin.describe_cluster(include_authorized_operations=True).result(30)
each(admin.describe_topics(TopicCollection(["confluent"]), include_authorized_operations=True))
each(admin.list_offsets({TopicPartition("confluent", 0): OffsetSpec.max_timestamp(),
                         TopicPartition("confluent", 1): OffsetSpec.earliest()}))
admin.list_consumer_groups().result(30)
each(admin.describe_consumer_groups(["confluent-plain"], include_authorized_operations=True))
each(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("confluent-plain")]))
each(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions("confluent-plain", [TopicPartition("confluent", 0, 1)])]))
each(admin.delete_consumer_groups(["confluent-plain"]))
each(admin.delete_topics(["confluent"]))
print(f"confluent-kafka {version()[0] if isinstance(version(), tuple) else version()}, librdkafka {libversion()[0]}")
"""


def confluent(address, _):
    return run([toolchains.python(), "-c", CONFLUENT, address]).strip()


# ---- the tools of Apache Kafka, which are Java's clients

def java(address, directory):
    quiet = directory / "log4j2.properties"
    quiet.write_text("rootLogger.level=OFF\n")

    def tool(name, *args, stdin=b"", codes=(0,)):
        return run(["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={quiet}",
                    "-cp", f"{toolchains.jars()}/*", name, "--bootstrap-server", address, *args], stdin, codes)

    tools = "org.apache.kafka.tools."
    groups = tools + "consumer.group.ConsumerGroupCommand"
    tool(tools + "TopicCommand", "--create", "--topic", "java", "--partitions", "2", "--config", "retention.ms=-1")
    tool(tools + "TopicCommand", "--create", "--topic", "assigned", "--replica-assignment", "1,1")
    tool(tools + "TopicCommand", "--describe")
    tool(tools + "ConsoleProducer", "--topic", "java", "--compression-codec", "lz4", "--reader-property", "parse.key=true",
         "--reader-property", "key.separator=:", stdin=b"key:value\nkey:another\n")
    tool(tools + "ConsoleProducer", "--topic", "java", "--producer-property", "enable.idempotence=false", "--producer-property",
         "acks=1", stdin=b"plain\n")
    for more in ((), ("--consumer-property", "group.instance.id=one", "--consumer-property", "isolation.level=read_committed")):
        tool(tools + "consumer.ConsoleConsumer", "--topic", "java", "--group", f"java-{len(more)}", "--from-beginning",
             "--max-messages", "3", "--timeout-ms", "30000", *more)
    tool(groups, "--list")
    tool(groups, "--describe", "--group", "java-0")
    tool(groups, "--describe", "--group", "java-0", "--members", "--verbose", codes=(0, 1))
    tool(groups, "--group", "java-0", "--reset-offsets", "--to-earliest", "--topic", "java", "--execute")
    tool(groups, "--group", "java-0", "--delete-offsets", "--topic", "java")
    tool(groups, "--group", "java-0", "--delete")
    tool("kafka.admin.ConfigCommand", "--alter", "--entity-type", "topics", "--entity-name", "java", "--add-config",
         "retention.ms=1000")
    tool("kafka.admin.ConfigCommand", "--describe", "--all", "--entity-type", "topics", "--entity-name", "java")
    tool("kafka.admin.ConfigCommand", "--describe", "--all", "--entity-type", "brokers", "--entity-name", "1")
    for time in ("-1", "-2", "-3", "1000"):
        tool(tools + "GetOffsetShell", "--topic", "java", "--time", time)
    tool(tools + "LogDirsCommand", "--describe")
    tool(tools + "BrokerApiVersionsCommand")
    tool(tools + "TopicCommand", "--delete", "--topic", "java")
    jar = next(toolchains.jars().glob("kafka-clients-*.jar"))
    return f"Apache Kafka's tools, {jar.stem}"


CLIENTS = {"kcat": kcat, "confluent": confluent, "java": java}


def capture(name):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="rivulet-capture-"))
    proxy = Proxy()
    broker = Rivulet(directory / "broker", [f"advertised.listeners=PLAINTEXT://127.0.0.1:{proxy.port}"])
    try:
        broker.start()
        proxy.target = broker.port
        what = CLIENTS[name](f"127.0.0.1:{proxy.port}", directory)
    finally:
        broker.discard()
        proxy.close()
        shutil.rmtree(directory)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    kept = list(chosen(proxy.frames))
    with open(GOLDEN / f"{name}.hex", "w") as out:
        out.write(f"# {what}\n")
        for api, version, frame in kept:
            out.write(f"{api} {version} {frame.hex()}\n")
    print(f"{name}: {len(proxy.frames)} requests, {len(kept)} kept ({what})")


def main():
    for name in sys.argv[1:] or CLIENTS:
        if name not in CLIENTS:
            raise SystemExit(f"unknown client {name}: {' '.join(CLIENTS)}")
        capture(name)


main()
