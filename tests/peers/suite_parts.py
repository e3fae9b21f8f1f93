"""The tests of the parts beside librivulet (client/X), which `make test` runs against brokers of their own, against this broker: the same
results. Where this broker is Kafka it is stopped and started where rivuletd is killed."""
import toolchains
from broker import ROOT
from suite_librivulet import KAFKA_SETTINGS, SETTINGS, cmocka  # noqa: F401, the settings are read by run

NEEDS = ()
PROGRAMS = ("unit/test_exactly_once", "wire/test_exactly_once_kills", "unit/test_view_sqlite", "unit/test_park")


def prepare():
    toolchains.call(["make", "-C", ROOT, "-j2", *(f"build/release/tests/{p}" for p in PROGRAMS)], 600)


def run(ctx):
    for program in PROGRAMS:
        cmocka(ctx, program, ctx.broker, ctx.control)
