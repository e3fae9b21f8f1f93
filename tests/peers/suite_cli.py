"""rivulet's own command line: its transcripts answer on every broker the same; its formats are kcat's; what one sends the other one reads."""
import importlib.machinery
import importlib.util
import json

from kit import ROOT, same, that

NEEDS = ("kcat",)
CLI = ROOT / "build" / "rivulet"


def prepare():
    pass


def transcripts(ctx):
    loader = importlib.machinery.SourceFileLoader("test_cli", str(ROOT / "tests" / "scripts" / "test_cli"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("test_cli", loader))
    loader.exec_module(module)
    directory = ctx.dir / "transcripts"
    directory.mkdir()
    module.prepare(directory, CLI)
    for path in sorted(module.TRANSCRIPTS.glob("*.txt")):
        ctx.test(f"transcript {path.stem}", lambda path=path: that(module.play(path, ctx.broker, directory, False), "it answers differently"))


def formats(ctx):
    """Every letter prints what kcat prints."""
    cli = [CLI, "-b", ctx.address]
    ctx.run([*cli, "topic", "create", "formats", "-p", "1"])
    kcat = ["kcat", "-b", ctx.address, "-t", "formats"]
    ctx.run([*kcat, "-P", "-K", ":", "-H", "a=1", "-H", "b=two words"], b":empty key\nkey:value\nlong:" + b"x" * 3000 + b"\n")
    ctx.run([*kcat, "-P", "-K", ":", "-Z"], b"gone:\n")
    for letters in ("%t %p %o\\n", "%k=%s;\\n", "%K %S\\n", "%T\\n", "%h|\\n", "100%% %o\\n", "\\x41\\t%o\\r\\n"):
        for begin, more in ((0, []), (1, ["-Z"])):  # kcat takes an empty key for null
            wanted = ctx.run([*kcat, "-C", "-o", begin, "-e", "-q", "-f", letters, *more])
            got = ctx.run([*cli, "consume", "formats", "-o", begin, "--until", "end", "-f", letters, *more])
            same(wanted, got, f"what {letters} {' '.join(more)} prints")


def both_ways(ctx):
    """Keys, nulls, headers and times, sent by one and read by the other."""
    cli = [CLI, "-b", ctx.address]
    ctx.run([*cli, "topic", "create", "ways", "-p", "1"])
    ctx.run([*cli, "produce", "ways", "--json-in", "-z", "lz4"],
            b'{"key":"k","value":null,"timestamp_ms":1700000000000}\n{"value":"v","headers":[["h","\xc3\xa4"]],"timestamp_ms":1700000000001}\n')
    out = ctx.run(["kcat", "-b", ctx.address, "-t", "ways", "-C", "-o", "beginning", "-e", "-q", "-J"])
    got = [json.loads(line) for line in out.splitlines()]
    same([("k", None, 1700000000000, None), (None, "v", 1700000000001, ["h", "ä"])],
         [(r["key"], r["payload"], r["ts"], r.get("headers")) for r in got], "what kcat reads")
    ctx.run(["kcat", "-b", ctx.address, "-t", "ways", "-P", "-k", "from kcat", "-H", "x=y"], b"there\n")
    last = json.loads(ctx.run([*cli, "consume", "ways", "-o", "2", "--until", "end", "--json"]))
    same(("from kcat", "there", [["x", "y"]]), (last["key"], last["value"], last["headers"]), "what rivulet reads")


def run(ctx):
    transcripts(ctx)
    ctx.test("formats are kcat's", formats, ctx)
    ctx.test("kcat and rivulet read each other", both_ways, ctx)
