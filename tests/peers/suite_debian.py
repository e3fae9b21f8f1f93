"""Real input: this machine's Debian package index, some 60,000 stanzas keyed by package name. In through kcat, out through a
group of confluent-kafka's consumers (debian_reader.py), by way of a broker that is killed in between; compared by hash, and key by key
in order."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import toolchains
from kit import Failed, same, that
from suite_kcat import kcat

NEEDS = ("kcat",)
SETTINGS = ("num.partitions=6",)
TOPIC = "debian"
PARTITIONS = 6
LISTS = pathlib.Path("/var/lib/apt/lists")


def prepare():
    toolchains.python()
    if not indexes():
        as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        if not shutil.which("apt-get"):
            raise toolchains.Missing("apt-get is missing, and with it the Debian package index")
        toolchains.call([*as_root, "apt-get", "update", "-qq"], 300)
    if not indexes():
        raise toolchains.Broken(f"no package index in {LISTS}, even after apt-get update")


def indexes():
    return sorted(p for p in LISTS.glob("*_Packages*") if p.is_file())


def stanzas():
    """(package, stanza) in the order of the files. A stanza's newlines travel as they are: the delimiter is a byte no index has."""
    found = []
    for path in indexes():
        text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              check=True, timeout=120).stdout
        for stanza in text.split(b"\n\n"):
            stanza = stanza.strip(b"\n")
            if stanza:
                that(stanza.startswith(b"Package: "), f"a stanza of {path} begins with {stanza[:60]!r}")
                found.append((stanza.split(b"\n", 1)[0].removeprefix(b"Package: "), stanza))
    return found


def digest(pairs):
    """Of each key's values in order, and of all: what must come out as it went in."""
    by_key = {}
    for key, value in pairs:
        by_key.setdefault(key, hashlib.sha256()).update(len(value).to_bytes(4, "big") + value)
    whole = hashlib.sha256()
    for key in sorted(by_key):
        whole.update(key + b"\0" + by_key[key].digest())
    return {key.decode(): h.hexdigest() for key, h in by_key.items()}, whole.hexdigest()


def there_and_back(ctx):
    pairs = stanzas()
    that(len(pairs) > 1000, f"the index has only {len(pairs)} stanzas")
    keys, whole = digest(pairs)
    half = len(pairs) // 2
    for part, codec in ((pairs[:half], "zstd"), (pairs[half:], "lz4")):
        data = b"".join(key + b"\x1d" + value + b"\x1e" for key, value in part)
        that(data.count(b"\x1e") == data.count(b"\x1d") == len(part), "the index has a delimiter in it")
        ctx.run(kcat(ctx, "-P", "-t", TOPIC, "-K", "\x1d", "-D", "\x1e", "-z", codec, "-X", "acks=all",
                     "-X", "enable.idempotence=true", "-X", "topic.partitioner=murmur2_random"), data, seconds=180)
        ctx.restart("kill")
    out = ctx.run([toolchains.python(), "-B", toolchains.HERE / "debian_reader.py", ctx.address, TOPIC, str(len(pairs)), "3"], seconds=180)
    said = json.loads(out)
    same(len(pairs), said["records"], "records that came back")
    same(PARTITIONS, said["partitions"], "partitions that they came from")
    that(min(said["members"]) > 0, f"a member of the group read nothing: {said['members']}")
    wrong = [key for key in keys if said["keys"].get(key) != keys[key]]
    if wrong:
        raise Failed(f"{len(wrong)} of {len(keys)} packages came back otherwise, the first {wrong[0]}")
    same(whole, said["whole"], "hash of everything")
    print(f"        {len(pairs)} stanzas of {len(keys)} packages, {sum(len(v) for _, v in pairs) >> 20} MiB", flush=True)


def run(ctx):
    ctx.test("the package index comes back as it went in, each package's stanzas in order", there_and_back, ctx)
