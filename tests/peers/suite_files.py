"""The files. Apache Kafka's own DumpLogSegments reads what rivulet wrote; rivulet's dump reads what Kafka wrote."""
import base64
import collections
import hashlib
import re
import shutil

import toolchains
from kit import CODECS, ROOT, same, that
from suite_kcat import kcat
from suite_tools import tool

NEEDS = ("java", "kcat", "zstd")
SETTINGS = ("log.index.interval.bytes=1000", "log.flush.offset.checkpoint.interval.ms=10", "rivulet.log.compact.roll.bytes=1000",
            "offsets.topic.num.partitions=2")
RECORDS = 600  # a topic, of 16 KB each that no codec makes smaller than a third: several segments of a MiB
COMPLAINTS = ("Mismatches in", "Non-consecutive", "timestamp mismatch", "out of order timestamp", "isvalid: false", "Exception",
              "corrupt", "Invalid", "Could not", "Duplicate timestamp")


def prepare():
    toolchains.jars()


def topic_of(codec):
    return f"files-codec-{codec}-all"


def value(n):
    """Text of which every codec makes something smaller, and none much smaller."""
    blocks = b"".join(hashlib.sha256(f"{n} {i}".encode()).digest() for i in range(190))
    return base64.b64encode(blocks) * 2


def fill(ctx):
    """One topic a codec by an idempotent producer, with a kill -9 and a SIGTERM of the broker between the thirds."""
    rivulet = ROOT / "build" / "rivulet"
    for n, how in enumerate((None, "kill", "term")):
        if how:
            ctx.restart(how)
        for codec in CODECS:
            if n == 0:
                ctx.run([rivulet, "-b", ctx.address, "topic", "create", topic_of(codec), "-p", "1", "-c", "segment.bytes=1048576"])
            data = b"".join(b"key-%d:%s %07d\n" % (k % 9, value(k), k) for k in range(n * RECORDS // 3, (n + 1) * RECORDS // 3))
            ctx.run(kcat(ctx, "-P", "-t", topic_of(codec), "-K", ":", "-z", codec, "-X", "enable.idempotence=true",
                         "-X", "batch.num.messages=2"), data)
    ctx.run(kcat(ctx, "-G", "files-group", topic_of("none"), "-e", "-q", "-X", "auto.offset.reset=earliest", "-c", "20"))
    for n in range(40):
        ctx.run([rivulet, "-b", ctx.address, "consume", topic_of("none"), "-g", f"files-again-{n % 4}", "-n", "1"])
    ctx.broker.stop()


def files(ctx, topic, suffix):
    found = sorted(ctx.broker.data.glob(f"{topic}-0/*.{suffix}"))
    that(found, f"{topic} has no {suffix} files")
    return found


def kafka_dump(ctx, paths, *more, gaps=False):
    text = tool(ctx, "dump", "--files", ",".join(str(p) for p in paths), *more, errors=True)
    # Of every segment but a log's first the tool says this, of Kafka's own as well.
    text = re.sub(r"^Non-consecutive offsets in .*/0*(\d+)\.log\n  -1 is followed by \1$", "", text, flags=re.M)
    if gaps:  # cleaning leaves them, and the tool says it of Kafka's cleaned segments too
        text = re.sub(r"^Non-consecutive offsets in .*\n(  -?\d+ is followed by \d+\n?)+", "", text, flags=re.M)
    for complaint in COMPLAINTS:
        that(complaint not in text, f"Kafka's dump says {complaint!r}\n" + "\n".join(a for a in text.splitlines() if complaint in a))
    return text


def segments(ctx):
    """Kafka reads every batch and record; what it says of them is what our own dump says."""
    for codec in CODECS:
        logs = files(ctx, topic_of(codec), "log")
        that(len(logs) >= 3, f"{topic_of(codec)} has only {len(logs)} segments")
        text = kafka_dump(ctx, logs, "--deep-iteration")
        theirs = [dict(re.findall(r"(\w+): (\S+)", line)) for line in text.splitlines() if line.startswith("baseOffset:")]
        ours = [e for e in ctx.dump(*logs) if e["kind"] == "batch"]
        same(len(ours), len(theirs), f"batches of {codec}")
        for o, t in zip(ours, theirs):
            same((str(o["base_offset"]), str(o["last_offset"]), str(o["count"]), str(o["position"]), str(o["size_bytes"]), o["codec"],
                  str(o["producer_id"]), str(o["producer_epoch"]), str(o["base_sequence"]), str(o["leader_epoch"]),
                  str(o["max_timestamp"]), "true"),
                 (t["baseOffset"], t["lastOffset"], t["count"], t["position"], t["size"], t["compresscodec"].lower(), t["producerId"],
                  t["producerEpoch"], t["baseSequence"], t["partitionLeaderEpoch"], t["CreateTime"], t["isvalid"]), f"a batch of {codec}")
        offsets = [int(n) for n in re.findall(r"^\| offset: (\d+)", text, re.M)]
        same(list(range(RECORDS)), offsets, f"offsets of the records of {codec}")


def indexes(ctx):
    """Kafka checks each entry of our indexes against our segments."""
    for suffix, entry_size in (("index", 8), ("timeindex", 12)):
        paths = [p for codec in CODECS for p in files(ctx, topic_of(codec), suffix)]
        kafka_dump(ctx, paths, "--verify-index-only")
        filled = [p for p in paths if p.stat().st_size]  # the active segment's may have no entry yet
        sanity = kafka_dump(ctx, filled, "--index-sanity-check")
        same(len(filled), sanity.count("passed sanity check"), f"{suffix} files that are sound")
        entries = sum(p.stat().st_size for p in paths) // entry_size
        that(entries > 100, f"only {entries} entries in the {suffix} files")


def wrong_index_is_seen(ctx):
    """That the checks above can fail: of a copy with one wrong position Kafka's dump says so."""
    source = files(ctx, topic_of("none"), "log")[0]
    directory = ctx.dir / "wrong" / f"{topic_of('none')}-0"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for suffix in ("log", "index", "timeindex"):
        shutil.copy(source.with_suffix(f".{suffix}"), directory)
    index = directory / source.with_suffix(".index").name
    data = bytearray(index.read_bytes())
    data[7] ^= 1
    index.write_bytes(data)
    text = tool(ctx, "dump", "--files", str(index), "--verify-index-only", codes=(0, 1), errors=True)
    that("Mismatches in" in text or "Exception" in text, f"Kafka's dump found nothing wrong: {text}")


def snapshots(ctx):
    """The producers that Kafka reads in our newest snapshot are those whose batches are the log's last ones."""
    for codec in CODECS:
        newest = files(ctx, topic_of(codec), "snapshot")[-1]
        same(RECORDS, int(newest.stem), f"offset of the newest snapshot of {codec}")
        theirs = {}
        for line in kafka_dump(ctx, [newest]).splitlines():
            if line.startswith("producerId:"):
                entry = dict(re.findall(r"(\w+): ([^\s\]]+)", line))
                theirs[entry["producerId"]] = (entry["producerEpoch"], entry["lastSequence"], entry["lastOffset"])
        want = {}
        for e in ctx.dump(*files(ctx, topic_of(codec), "log")):
            if e["kind"] == "batch":
                want[str(e["producer_id"])] = (str(e["producer_epoch"]), str(e["base_sequence"] + e["count"] - 1), str(e["last_offset"]))
        same(3, len(want), f"producers of {codec}")
        same(want, {k: tuple(x.rstrip(",") for x in v) for k, v in theirs.items()}, f"producers of {codec}")


def offsets_topic(ctx):
    """Kafka decodes our __consumer_offsets with its own record classes."""
    logs = [p for p in ctx.broker.data.glob("__consumer_offsets-*/*.log") if p.stat().st_size]
    that(logs, "no group has written anything")
    text = kafka_dump(ctx, logs, "--offsets-decoder", gaps=True)
    that(f'"topic":"{topic_of("none")}"' in text and '"group":"files-group"' in text, f"offsets that Kafka decoded: {text[-1500:]}")


def cleaned(ctx):
    """Of a compacted log Kafka reads the same batches and records as we do, and finds nothing but gaps; its indexes are right."""
    logs = [p for p in ctx.broker.data.glob("__consumer_offsets-*/*.log") if p.stat().st_size]
    ours = [e for e in ctx.dump(*logs) if e["kind"] == "batch"]
    that(sum(e["count"] for e in ours) < max(e["last_offset"] for e in ours), "the cleaner has removed nothing")
    text = kafka_dump(ctx, logs, "--deep-iteration", gaps=True)
    theirs = [dict(re.findall(r"(\w+): (\S+)", line)) for line in text.splitlines() if line.startswith("baseOffset:")]
    same([(str(e["base_offset"]), str(e["last_offset"]), str(e["count"]), str(e["size_bytes"]), "true") for e in ours],
         [(t["baseOffset"], t["lastOffset"], t["count"], t["size"], t["isvalid"]) for t in theirs], "batches")
    for suffix in ("index", "timeindex"):
        kafka_dump(ctx, [p.with_suffix(f".{suffix}") for p in logs], "--verify-index-only")


# ---- what Kafka wrote

def extract(ctx, name):
    directory = ctx.dir / f"kafka-{name}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    ctx.run(["tar", "-C", directory, "--zstd", "-xf", ROOT / "tests" / "data" / f"kafka-4.3.1-{name}.tar.zst"])
    return directory / "data"


def plain(text):
    """A key or value of our dump, as bytes."""
    if text is None:
        return None
    return base64.b64decode(text["base64"]) if isinstance(text, dict) else text.encode()


def our_reading(ctx, directory):
    """Lines as in the manifest, of one partition, and its next offset. Control batches have none."""
    lines, batch, end = [], None, 0
    topic, _, partition = directory.name.rpartition("-")
    for e in ctx.dump("--records", *sorted(directory.glob("*.log"))):
        if e["kind"] == "batch":
            that(e["crc_ok"], f"checksum of a batch of {directory.name}")
            batch, end = e, e["last_offset"] + 1
        elif e["kind"] == "record" and not batch["control"]:
            key, value_ = plain(e["key"]), plain(e["value"])
            stamp = batch["max_timestamp"] if batch["timestamp_type"] == "append" else e["timestamp"]
            lines.append("\t".join((topic, partition, str(e["offset"]), batch["timestamp_type"], str(stamp),
                                    "-" if key is None else key.hex() or "empty",
                                    *(("-", "-") if value_ is None else (str(len(value_)), hashlib.sha256(value_).hexdigest()[:16])),
                                    str(len(e["headers"])))))
    return lines, end


def kafka_wrote(ctx, name):
    data = extract(ctx, name)
    manifest = (ROOT / "tests" / "data" / f"kafka-4.3.1-{name}.manifest.tsv").read_text().splitlines()
    records, ends = collections.defaultdict(list), {}
    for line in manifest:
        at = line.split("\t")
        if at[0] == "end":
            ends[f"{at[1]}-{at[2]}"] = int(at[4])
        elif at[0] != "committed":
            records[f"{at[0]}-{at[1]}"].append(line)
    that(len(ends) > 20 and sum(map(len, records.values())) > 500, "the manifest is short")
    for partition, end in ends.items():
        lines, our_end = our_reading(ctx, data / partition)
        if partition.startswith("transactional-"):  # the manifest has no aborted records
            lines = [at for at in lines if b"t2".hex() not in at.split("\t")]
        same(records[partition], lines, f"records of {partition}")
        same(end, our_end, f"end of {partition}")


def cut_is_seen(ctx):
    """That the dump can fail: a segment with a byte changed ends it with an error that names the place."""
    data = extract(ctx, "clean")
    victim = data / "codec-lz4-0" / f"{0:020}.log"
    bytes_ = bytearray(victim.read_bytes())
    bytes_[-3] ^= 0x40
    victim.write_bytes(bytes_)
    text = ctx.run([ROOT / "build" / "rivulet", "log", "dump", "--json", victim], codes=(1, 2, 3, 4, 5)).decode()
    that('"crc_ok":false' in text, f"our dump found nothing wrong: {text[-500:]}")


def run(ctx):
    if not ctx.rivulet:
        return  # it is rivulet's files that are looked at
    ctx.test("five codecs in segments of a MiB, through kill -9 and SIGTERM", fill, ctx)
    ctx.test("Kafka reads our segments: every batch and record", segments, ctx)
    ctx.test("Kafka verifies our indexes and time indexes", indexes, ctx)
    ctx.test("Kafka's verification sees an index entry that is wrong", wrong_index_is_seen, ctx)
    ctx.test("Kafka reads our producer snapshots", snapshots, ctx)
    ctx.test("Kafka decodes our __consumer_offsets", offsets_topic, ctx)
    ctx.test("Kafka reads a log that was cleaned", cleaned, ctx)
    ctx.test("our dump reads what Kafka wrote and stopped", kafka_wrote, ctx, "clean")
    ctx.test("our dump reads what Kafka wrote and was killed over", kafka_wrote, ctx, "killed")
    ctx.test("our dump sees a byte that is wrong", cut_is_seen, ctx)
