"""The command line tools of Apache Kafka 4.3.1, each a program of its own, out of the jars of java/pom.xml."""
import datetime
import re

import toolchains
from kit import ACKS, CODECS, same, that, until

NEEDS = ("java",)
SETTINGS = ("num.partitions=3",)
TOOL = {
    "producer": "org.apache.kafka.tools.ConsoleProducer",
    "consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "producer-perf": "org.apache.kafka.tools.ProducerPerformance",
    "consumer-perf": "org.apache.kafka.tools.ConsumerPerformance",
    "groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "topics": "org.apache.kafka.tools.TopicCommand",
    "configs": "kafka.admin.ConfigCommand",
    "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "offsets": "org.apache.kafka.tools.GetOffsetShell",
    "api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "dump": "org.apache.kafka.tools.DumpLogSegments",
}


def prepare():
    toolchains.jars()


def tool(ctx, name, *args, stdin=b"", codes=(0,), seconds=120, errors=False):
    quiet = ctx.dir / "log4j2.properties"
    if not quiet.exists():
        quiet.write_text("rootLogger.level=ERROR\nrootLogger.appenderRef.c.ref=C\nappender.c.type=Console\nappender.c.name=C\n"
                         "appender.c.target=SYSTEM_ERR\nappender.c.layout.type=PatternLayout\n"
                         "appender.c.layout.pattern=[%d] %p %m (%c)%n\n")
    server = [] if name == "dump" else ["--bootstrap-server", ctx.address]
    return ctx.run(["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={quiet}",
                    "-cp", f"{toolchains.JARS}/*", TOOL[name], *server, *args], stdin, seconds, codes=codes, errors=errors).decode()


def table(text):
    """Rows of a tool's table, by the names of its columns."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    head = next((n for n, row in enumerate(rows) if "TOPIC" in row or "GROUP" in row), None)
    that(head is not None, f"no table in {text!r}")
    return [dict(zip(rows[head], row)) for row in rows[head + 1:]]


def lines(first, count):
    return "".join(f"key-{n % 37}:{n:06d} the same words again and again\n" for n in range(first, first + count)).encode()


def produce(ctx, topic, data, *more):
    tool(ctx, "producer", "--topic", topic, "--reader-property", "parse.key=true", "--reader-property", "key.separator=:", *more,
         stdin=data)


def consume(ctx, topic, count, *more):
    out = tool(ctx, "consumer", "--topic", topic, "--max-messages", str(count), "--timeout-ms", "30000",
               "--formatter-property", "print.key=true", "--formatter-property", "print.partition=true",
               "--formatter-property", "print.offset=true", "--formatter-property", "key.separator=:", *more)
    got = re.findall(r"^Partition:(\d+):Offset:(\d+):(.*)$", out, re.M)
    return [(int(p), int(o), text) for p, o, text in got]


def check_read(want, got, what):
    same(sorted(want.decode().splitlines()), sorted(text for _, _, text in got), f"{what}: records")
    for partition in {p for p, _, _ in got}:
        part = [(o, text.split(":")[1]) for p, o, text in got if p == partition]
        same(sorted(part), part, f"{what}: order of offsets and of records in partition {partition}")


def topics(ctx):
    tool(ctx, "topics", "--create", "--topic", "tools-topic", "--partitions", "4", "--config", "retention.ms=86400000")
    that("tools-topic" in tool(ctx, "topics", "--list").split(), "the topic is not listed")
    text = tool(ctx, "topics", "--describe", "--topic", "tools-topic")
    that("PartitionCount: 4" in text and "retention.ms=86400000" in text, f"description: {text}")
    same(4, len(re.findall(r"Partition: \d+\s+Leader: \d+", text)), "partitions with a leader")
    tool(ctx, "topics", "--create", "--topic", "tools-topic", codes=(1,))
    tool(ctx, "topics", "--delete", "--topic", "tools-topic")
    until("the topic is gone", lambda: "tools-topic" not in tool(ctx, "topics", "--list").split())


def configs(ctx):
    tool(ctx, "topics", "--create", "--topic", "tools-configs", "--partitions", "1")
    who = ("--entity-type", "topics", "--entity-name", "tools-configs")
    tool(ctx, "configs", *who, "--alter", "--add-config", "max.message.bytes=12345,retention.ms=3600000")
    text = tool(ctx, "configs", *who, "--describe")
    that("max.message.bytes=12345" in text and "retention.ms=3600000" in text, f"settings: {text}")
    tool(ctx, "configs", *who, "--alter", "--delete-config", "retention.ms")
    text = tool(ctx, "configs", *who, "--describe")
    that("retention.ms" not in text and "max.message.bytes=12345" in text, f"settings: {text}")
    that("segment.bytes=1073741824" in tool(ctx, "configs", *who, "--describe", "--all"), "defaults are not described")


def console(ctx, codec, acks):
    topic = f"tools-codec-{codec}-{acks}"
    data = lines(0, 300)
    produce(ctx, topic, data, "--compression-codec", codec, "--command-property", f"acks={acks}",
            "--command-property", "batch.size=2000", "--command-property", f"enable.idempotence={'true' if acks == 'all' else 'false'}")
    check_read(data, consume(ctx, topic, 300, "--from-beginning"), topic)
    ctx.codec_is(topic, codec)


def perf(ctx):
    tool(ctx, "topics", "--create", "--topic", "tools-perf", "--partitions", "3")
    text = tool(ctx, "producer-perf", "--topic", "tools-perf", "--num-records", "100000", "--record-size", "100", "--throughput", "-1",
                "--command-property", "acks=all", "--command-property", "compression.type=lz4")
    that("100000 records sent" in text, f"the producer says {text}")
    text = tool(ctx, "consumer-perf", "--topic", "tools-perf", "--num-records", "100000", "--timeout", "60000")
    row = text.strip().splitlines()[-1].split(", ")
    same(100000, int(row[4]), "records that the consumer counted")
    text = tool(ctx, "offsets", "--topic", "tools-perf")
    same(100000, sum(int(line.split(":")[2]) for line in text.split()), "sum of the end offsets")


def groups(ctx):
    topic, group = "tools-groups", "tools-group"
    tool(ctx, "topics", "--create", "--topic", topic, "--partitions", "3")
    stamps = []
    for turn in range(2):
        stamps.append(datetime.datetime.now(datetime.timezone.utc))
        produce(ctx, topic, lines(turn * 150, 150))
    check_read(lines(0, 300), consume(ctx, topic, 300, "--group", group, "--from-beginning"), "the group")
    that(group in tool(ctx, "groups", "--list").split(), "the group is not listed")

    def described():
        return {int(row["PARTITION"]): row for row in table(tool(ctx, "groups", "--describe", "--group", group, codes=(0, 1)))}

    same({"0"}, {row["LAG"] for row in described().values()}, "lag of the group")
    ends = {p: int(row["LOG-END-OFFSET"]) for p, row in described().items()}
    that("Empty" in tool(ctx, "groups", "--describe", "--group", group, "--state"), "the group is not empty")
    at = stamps[1].strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    rows = table(tool(ctx, "groups", "--group", group, "--topic", topic, "--reset-offsets", "--to-datetime", at, "--execute"))
    same(3, len(rows), "partitions that were reset")
    again = consume(ctx, topic, 150, "--group", group)
    check_read(lines(150, 150), again, "the group after --to-datetime")
    tool(ctx, "groups", "--group", group, "--topic", topic, "--reset-offsets", "--shift-by", "-2", "--execute")
    same({p: str(end - 2) for p, end in ends.items()}, {p: row["CURRENT-OFFSET"] for p, row in described().items()}, "offsets after --shift-by")
    tool(ctx, "groups", "--group", group, "--topic", topic, "--reset-offsets", "--to-earliest", "--execute")
    check_read(lines(0, 300), consume(ctx, topic, 300, "--group", group), "the group after --to-earliest")
    tool(ctx, "groups", "--delete-offsets", "--group", group, "--topic", f"{topic}:1")
    same({0, 2}, {p for p, row in described().items() if row["CURRENT-OFFSET"] != "-"}, "partitions that still have an offset")
    tool(ctx, "groups", "--delete", "--group", group)
    that(group not in tool(ctx, "groups", "--list").split(), "the deleted group is listed")


def restart(ctx, how):
    topic = f"tools-restart-{how}"
    produce(ctx, topic, lines(0, 100), "--command-property", "acks=all")
    same(100, len(consume(ctx, topic, 100, "--group", topic, "--from-beginning")), "read before")
    ctx.restart(how)
    produce(ctx, topic, lines(100, 100), "--command-property", "acks=all")
    check_read(lines(100, 100), consume(ctx, topic, 100, "--group", topic), "read after, from the commit")
    check_read(lines(0, 200), consume(ctx, topic, 200, "--from-beginning"), "all of it")


def log_dirs(ctx):
    text = tool(ctx, "log-dirs", "--describe", "--topic-list", "tools-codec-none-all")
    that('"error":null' in text and re.search(r'"partition":"tools-codec-none-all-\d","size":[1-9]\d*', text), f"log-dirs says {text}")


def api_versions(ctx):
    text = tool(ctx, "api-versions")
    that(ctx.address in text and re.search(r"Produce\(0\): 0 to 13", text), f"api-versions says {text[:500]}")


def run(ctx):
    ctx.test("kafka-topics: create, list, describe, delete", topics, ctx)
    ctx.test("kafka-configs: alter, describe, delete", configs, ctx)
    for n, codec in enumerate(CODECS):
        acks = ACKS[n % 3]
        ctx.test(f"kafka-console-producer {codec} acks={acks}, kafka-console-consumer", console, ctx, codec, acks)
    ctx.test("kafka-console-producer none acks=all, kafka-console-consumer", console, ctx, "none", "all")
    ctx.test("kafka-producer-perf-test, kafka-consumer-perf-test, kafka-get-offsets: 100,000 records", perf, ctx)
    ctx.test("kafka-consumer-groups: lag, resets by time and by count, deletes", groups, ctx)
    ctx.test("kafka-log-dirs", log_dirs, ctx)
    ctx.test("kafka-broker-api-versions", api_versions, ctx)
    ctx.test("a group goes on after SIGTERM of the broker", restart, ctx, "term")
    ctx.test("a group goes on after kill -9 of the broker", restart, ctx, "kill")
