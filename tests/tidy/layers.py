"""Who may include whom: the table of docs/ARCHITECTURE.md."""
import re
import sys

from sources import sources

LOW = {"base"}
WIRE = LOW | {"protocol", "gen"}
# room -> rooms that it may include, besides itself. broker/config.h and broker/metrics.h are "broker".
MAY = {
    "base": set(),
    "protocol": LOW | {"gen"},
    "client": WIRE,
    "tools": WIRE | {"client"},
    "broker/store": LOW,
    "broker/log": LOW | {"protocol", "broker/store", "broker"},
    "broker/group": LOW,
    "broker/meta": LOW | {"protocol", "broker/log", "broker"},
    "broker/coord": WIRE | {"broker/group", "broker/log", "broker/meta", "broker"},
    "broker/api": WIRE | {"broker/coord", "broker/group", "broker/log", "broker/meta", "broker/store", "broker"},
    "broker/net": LOW | {"broker/store", "broker"},
    "broker/server": WIRE | {"broker/" + r for r in "api coord group log meta net store".split()} | {"broker"},
    "broker": LOW | {"broker/server"},
}
# These may include more than their room.
ALSO = {re.compile(r"tools/log_\w+\.[ch]$"): {"broker/log", "broker/store"}}
# Rooms that must not see these headers of the system.
NEVER = {"uv.h": {"base", "protocol", "client", "tools", "broker/log", "broker/group", "broker/meta", "broker/coord", "broker/api", "broker/store"}}


def room(path):
    parts = path.split("/")
    if parts[0] == "broker":
        return "broker/" + parts[1] if len(parts) > 2 else "broker"
    return parts[0]


def main():
    bad = 0
    for path in sources("*.c", "*.h"):
        mine = room(path)
        if mine not in MAY:
            continue
        allowed = MAY[mine] | {mine}
        for pattern, more in ALSO.items():
            if pattern.match(path):
                allowed |= more
        for number, line in enumerate(open(path), 1):
            m = re.match(r'\s*#\s*include\s+(["<])([^">]+)', line)
            if not m:
                continue
            kind, name = m.groups()
            if kind == "<":
                wrong = mine in NEVER.get(name, ())
            else:
                wrong = room(name) not in allowed
            if wrong:
                print(f"{path}:{number}: {mine} must not include {name}")
                bad += 1
    return bad > 0


sys.exit(main())
