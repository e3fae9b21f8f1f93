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
    "client": WIRE | {"client/rivulet.h"},
    "client/rivulet.h": set(),
    "client/sealed": WIRE | {"client/rivulet.h"},
    "client/sql": WIRE | {"client/rivulet.h"},
    "tools": WIRE | {"client", "client/"},
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
# The parts beside librivulet, client/X; to include "client/" is to include any of them.
PART = WIRE | {"client/rivulet.h", "client/sealed", "client/sql"}
MAY["client/view_sqlite"] = PART | {"client/view"}  # of which it is a storage: its public header
# These may include more than their room.
ALSO = {re.compile(r"tools/log_\w+\.[ch]$"): {"broker/log", "broker/store"}}
# Rooms that must not see these headers of the system.
NEVER = {"uv.h": {"base", "protocol", "client", "client/", "tools", "broker/log", "broker/group", "broker/meta", "broker/coord", "broker/api", "broker/store"}}


def room(path):
    parts = path.split("/")
    if path == "client/rivulet.h":
        return path
    if parts[0] in ("broker", "client") and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0]


def may_include(mine):
    if mine.startswith("client/"):
        return MAY.get(mine, PART)
    return MAY.get(mine)


def is_allowed(name, allowed):
    return room(name) in allowed or ("client/" in allowed and room(name).startswith("client/"))


def main():
    bad = 0
    for path in sources("*.c", "*.h"):
        mine = room(path)
        allowed = may_include(mine)
        if allowed is None:
            continue
        allowed = allowed | {mine}
        for pattern, more in ALSO.items():
            if pattern.match(path):
                allowed |= more
        for number, line in enumerate(open(path), 1):
            m = re.match(r'\s*#\s*include\s+(["<])([^">]+)', line)
            if not m:
                continue
            kind, name = m.groups()
            if kind == "<":
                wrong = mine in NEVER.get(name, ()) or (mine.startswith("client/") and "client/" in NEVER.get(name, ()))
            else:
                wrong = not is_allowed(name, allowed)
            if wrong:
                print(f"{path}:{number}: {mine} must not include {name}")
                bad += 1
    return bad > 0


sys.exit(main())
