#!/bin/sh
# Installs what building and testing rivulet need and this machine lacks. Runs nothing when all is there.
#   deps.sh          compiler, libraries, cmocka, kcat: for `make run` and `make test` (which starts PostgreSQL servers of its own)
#   deps.sh peers    also kcat, and the toolchains of tests/peers that are not on PATH
#   deps.sh valgrind   also valgrind
#   deps.sh tidy     also clang-format, clang-tidy and the fuzzer's runtime
set -u

packages="python3 gcc g++ make pkg-config libc6-dev libuv1-dev libcmocka-dev liblz4-dev libzstd-dev libsnappy-dev zlib1g-dev uthash-dev libjansson-dev libsqlite3-dev sqlite3 libpq-dev postgresql zstd scdoc"
for extra in "$@"; do
    case $extra in
    tidy) packages="$packages binutils git python3 librdkafka-dev clang-format-14 clang-tidy-14 clang-14 libclang-rt-14-dev" ;;
    peers)
        # A toolchain that is on PATH is used as it is, however it came there; tests/peers/run says when it is too old.
        packages="$packages kcat python3-venv man-db zsh fish"
        command -v javac >/dev/null || packages="$packages default-jdk-headless"
        command -v mvn >/dev/null || packages="$packages maven"
        command -v go >/dev/null || packages="$packages golang-go"
        command -v node >/dev/null || packages="$packages nodejs"
        command -v npm >/dev/null || packages="$packages npm"
        ;;
    valgrind) packages="$packages valgrind" ;;
    *) echo "deps.sh: unknown set '$extra' (tidy, peers, valgrind)" >&2; exit 2 ;;
    esac
done

missing=
if command -v dpkg-query >/dev/null 2>&1; then
    for p in $packages; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
    done
else
    # Not Debian: what matters is whether the headers are there.
    for h in uv.h cmocka.h lz4frame.h zstd.h snappy-c.h zlib.h uthash.h jansson.h; do
        echo "#include <$h>" | "${CC:-cc}" -include stdarg.h -include stddef.h -include setjmp.h -include stdint.h -E - >/dev/null 2>&1 ||
            missing="$missing $h"
    done
fi
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "rivulet needs these, and there is no apt-get to install them with:$missing" >&2
    echo "Install them with this system's package manager, then try again." >&2
    exit 1
fi
sudo=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "rivulet needs these packages, and this user may not install them:$missing" >&2
        echo "Run as root:  apt-get install$missing" >&2
        exit 1
    fi
    sudo=sudo
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
$sudo apt-get install -y -qq $missing >/dev/null 2>&1 ||
    { $sudo apt-get update -qq && $sudo apt-get install -y -qq $missing; } ||
    { echo "could not install:$missing" >&2; exit 1; }
