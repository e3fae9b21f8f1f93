"""kafkajs, pinned in kafkajs/package-lock.json (which records no address to fetch from). Its users bring codecs of their
own: kafkajs-snappy, lz4-napi, zstd-wasm."""
import os

import toolchains
from kit import same

NEEDS = ("node", "npm")
SETTINGS = ("num.partitions=1",)


def prepare():
    toolchains.node_program()


def pinned(ctx):
    text = (toolchains.HERE / "kafkajs" / "package-lock.json").read_text()
    same([], [word for word in ("resolved", "http:", "https:") if word in text], "addresses in the lock file")


def run(ctx):
    ctx.test("the lock file records no addresses", pinned, ctx)
    ctx.program(["node", toolchains.node_program()], 240, env={**os.environ, "KAFKAJS_NO_PARTITIONER_WARNING": "1"})
