"""The command line tools of Apache Kafka 4.3.1, each a program of its own, out of the jars of java/pom.xml."""
import datetime
import json
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
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "reassign": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "transactions": "org.apache.kafka.tools.TransactionsCommand",
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


def more_partitions(ctx):
    topic = "tools-more"
    tool(ctx, "topics", "--create", "--topic", topic, "--partitions", "2", "--config", "retention.ms=86400000")
    produce(ctx, topic, lines(0, 100))
    tool(ctx, "topics", "--alter", "--topic", topic, "--partitions", "5")
    text = tool(ctx, "topics", "--describe", "--topic", topic)
    that("PartitionCount: 5" in text and "retention.ms=86400000" in text, f"description: {text}")
    same(5, len(re.findall(r"Partition: \d+\s+Leader: \d+", text)), "partitions with a leader")
    produce(ctx, topic, lines(100, 200))
    got = consume(ctx, topic, 300, "--from-beginning")
    same(300, len(got), "records in the old and the new partitions")
    that({p for p, _, _ in got} > {0, 1}, "nothing went to a new partition")
    text = tool(ctx, "topics", "--alter", "--topic", topic, "--partitions", "5", codes=(1,), errors=True)
    that("Topic already has 5 partition" in text, f"the same number again: {text}")
    text = tool(ctx, "topics", "--alter", "--topic", topic, "--partitions", "3", codes=(1,), errors=True)
    that("would not be an increase" in text, f"fewer: {text}")


def delete_records(ctx):
    topic = "tools-delete"
    tool(ctx, "topics", "--create", "--topic", topic, "--partitions", "2")
    produce(ctx, topic, lines(0, 200))
    ends = {int(line.split(":")[1]): int(line.split(":")[2]) for line in tool(ctx, "offsets", "--topic", topic).split()}
    asked = ctx.dir / "delete-records.json"
    asked.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 7},
                                                              {"topic": topic, "partition": 1, "offset": -1}]}))
    for turn in range(2):  # the second time it is done already
        text = tool(ctx, "delete-records", "--offset-json-file", str(asked))
        that(f"partition: {topic}-0\tlow_watermark: 7" in text, f"{topic}-0: {text}")
        that(f"partition: {topic}-1\tlow_watermark: {ends[1]}" in text, f"{topic}-1: {text}")
    starts = {int(line.split(":")[1]): int(line.split(":")[2]) for line in tool(ctx, "offsets", "--topic", topic, "--time", "-2").split()}
    same({0: 7, 1: ends[1]}, starts, "starts of the partitions")
    got = consume(ctx, topic, ends[0] - 7, "--from-beginning")
    same(list(range(7, ends[0])), [o for _, o, _ in got], "what is left")
    asked.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": ends[0] + 1}]}))
    text = tool(ctx, "delete-records", "--offset-json-file", str(asked), codes=(0, 1), errors=True)
    that("OffsetOutOfRange" in text or "offset" in text.lower() and "error" in text.lower(), f"behind the end: {text}")


def one_replica(ctx):
    topic = "tools-replica"
    tool(ctx, "topics", "--create", "--topic", topic, "--partitions", "1")
    text = tool(ctx, "leader-election", "--election-type", "preferred", "--topic", topic, "--partition", "0", errors=True)
    that("already" in text.lower() or "not needed" in text.lower(), f"an election: {text}")
    text = tool(ctx, "leader-election", "--election-type", "preferred", "--all-topic-partitions", errors=True)
    that("error" not in text.lower(), f"elections everywhere: {text}")
    text = tool(ctx, "reassign", "--list")
    that("No partition reassignments found" in text, f"reassignments: {text}")
    produce(ctx, topic, lines(0, 10))
    text = tool(ctx, "transactions", "describe-producers", "--topic", topic, "--partition", "0")
    row = dict(zip(*(line.split("\t") for line in re.sub(r" *\t *", "\t", text.strip()).splitlines()[:2])))
    same("0", row["ProducerEpoch"].strip(), "epoch of the producer")
    same("9", row["LastSequence"].strip(), "its last sequence number")
    same("None", row["CurrentTransactionStartOffset"].strip(), "its transaction")


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
    ctx.test("kafka-topics: more partitions", more_partitions, ctx)
    ctx.test("kafka-delete-records: to an offset, to the end, again, too far", delete_records, ctx)
    ctx.test("kafka-leader-election, kafka-reassign-partitions --list, kafka-transactions describe-producers", one_replica, ctx)
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
