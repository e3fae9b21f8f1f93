#!/bin/sh
# Prints the path of a Python with the clients of tests/peers/confluent/requirements.txt: a virtual environment under build/, shared with
# tests/peers, and made or mended when it is not as that file says.
set -eu
cd "$(dirname "$0")/../.."
pinned=tests/peers/confluent/requirements.txt
venv=build/peers/venv
has() {
    [ -x $venv/bin/python ] && $venv/bin/python - "$pinned" <<'PYTHON'
import importlib.metadata, re, sys
for name, version in re.findall(r"^([\w.-]+)==(\S+)", open(sys.argv[1]).read(), re.M):
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = ""
    if found != version:
        sys.exit(1)
PYTHON
}
if ! has; then
    tools/packaging/deps.sh peers >&2
    [ -x $venv/bin/python ] || python3 -m venv $venv >&2
    $venv/bin/python -m pip install -q --disable-pip-version-check --only-binary :all: -r $pinned >&2
    has || { echo "python.sh: $venv is not as $pinned says" >&2; exit 1; }
fi
echo $venv/bin/python
