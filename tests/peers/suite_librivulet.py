"""librivulet's own tests, which `make test` runs against a broker in their process, against this broker: the same
results. Transactions, which need a broker that has them, are tested in both of their flows on Kafka."""
import os
import re
import subprocess
import time

import toolchains
from broker import ROOT, Control, Kafka
from kit import tail

NEEDS = ()
SETTINGS = ("num.partitions=1", "group.min.session.timeout.ms=100", "group.initial.rebalance.delay.ms=0",
            "auto.create.topics.enable=true")
KAFKA_SETTINGS = ("transaction.abort.timed.out.transaction.cleanup.interval.ms=200",)
PROGRAMS = ("unit/test_client_producer", "unit/test_client_consumer", "unit/test_client_group", "unit/test_client_admin")
TRANSACTIONS = "peers/test_transactions"
BINARIES = ROOT / "build" / "release" / "tests"
LIMIT_S = 300


def prepare():
    toolchains.call(["make", "-C", ROOT, "-j2", *(f"build/release/tests/{p}" for p in (*PROGRAMS, TRANSACTIONS))], 600)


def cmocka(ctx, program, broker, control, title="", env=None):
    """Runs a program of cmocka tests; each of its tests is a line of the report."""
    began, log_path = time.monotonic(), ctx.dir / f"{program.replace('/', '-')}{title.strip()}.log"
    with open(log_path, "wb") as log:
        try:
            code = subprocess.run([BINARIES / program], stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=LIMIT_S,
                                  env={**os.environ, "RV_TEST_BROKERS": broker.address, "RV_TEST_CONTROL": control.url,
                                       **(env or {})}).returncode
        except subprocess.TimeoutExpired:
            code = f"not within {LIMIT_S} s"
    text = log_path.read_text(errors="replace")
    runs = re.findall(r"^\[ RUN      \] (\S+)$", text, re.M)
    good = set(re.findall(r"^\[       OK \] (\S+)$", text, re.M))
    seconds = (time.monotonic() - began) / max(len(runs), 1)
    for name in runs:
        if ctx.report.wants(name):
            ctx.report.line(ctx.suite, title + name, seconds, None if name in good else "failed")
    wanted = sum(map(int, re.findall(r"^\[==========\] (?:.*: )?Running (\d+) test", text, re.M)))
    if len(good) != len(runs) or code != 0 or not wanted or wanted != len(runs):
        ctx.report.line(ctx.suite, f"{title}{program} runs to its end", seconds, f"it ended with {code}")
        ctx.report.detail(f"client ({log_path})", tail(text))


def run(ctx):
    for program in PROGRAMS:
        cmocka(ctx, program, ctx.broker, ctx.control)
    if ctx.rivulet:
        cmocka(ctx, TRANSACTIONS, ctx.broker, ctx.control, env={"RV_TEST_TRANSACTIONS": "0"})
        return
    cmocka(ctx, TRANSACTIONS, ctx.broker, ctx.control, "V2: ", {"RV_TEST_TRANSACTIONS": "2"})
    older = Kafka(ctx.dir / "older", ctx.jars, (*SETTINGS, *KAFKA_SETTINGS), ["transaction.version=0"])
    control = None
    try:
        older.start()
        control = Control(older)
        cmocka(ctx, TRANSACTIONS, older, control, "V1: ", {"RV_TEST_TRANSACTIONS": "1"})
    finally:
        if control:
            control.close()
        older.discard()
