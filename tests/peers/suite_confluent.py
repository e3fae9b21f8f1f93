"""confluent-kafka (librdkafka) of Python, pinned in confluent/requirements.txt."""
import toolchains

NEEDS = ()
SETTINGS = ("num.partitions=3",)


def prepare():
    toolchains.python()


def run(ctx):
    ctx.program([toolchains.python(), "-B", toolchains.HERE / "confluent" / "main.py"], 240)
