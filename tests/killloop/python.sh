#!/bin/sh
# Prints the path of a Python that has the pinned confluent-kafka: a virtual environment under build/, made at the first call.
set -eu
cd "$(dirname "$0")/../.."
pin=confluent-kafka==$(cat tests/killloop/confluent-kafka.version)
venv=build/peers/venv
has() { "$venv/bin/python" -m pip freeze 2>/dev/null | grep -qx "$pin"; }
if ! has; then
    python3 -c 'import ensurepip' 2>/dev/null || tools/packaging/deps.sh peers >&2
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" >&2
    "$venv/bin/python" -m pip install -q --disable-pip-version-check "$pin" >&2
    has || { echo "python.sh: no $pin in $venv" >&2; exit 1; }
fi
echo "$venv/bin/python"
