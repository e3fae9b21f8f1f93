"""The tests of client/outbox, which `make test` runs against brokers of their own, against this broker: the same results. It forgets producers
as soon as it is stopped, and makes no topic by itself; where it is Kafka it is stopped and started where rivuletd is killed."""
import toolchains
from broker import ROOT
from suite_librivulet import cmocka

NEEDS = ()
SETTINGS = ("num.partitions=1", "auto.create.topics.enable=false", "producer.id.expiration.ms=1")
PROGRAMS = ("unit/test_outbox_relay", "unit/test_outbox_trouble", "unit/test_outbox_life", "unit/test_outbox_chaos")


def prepare():
    toolchains.call(["make", "-C", ROOT, "-j2", *(f"build/release/tests/{p}" for p in PROGRAMS)], 600)


def run(ctx):
    for program in PROGRAMS:
        cmocka(ctx, program, ctx.broker, ctx.control)
