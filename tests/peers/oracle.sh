#!/bin/sh
# The codec against Apache's own message classes, both ways: Java writes random messages of every API, record kind and
# version and C must give back the same bytes; then C writes and Java must.
#
#   tests/peers/oracle.sh [SEED [ROUNDS]]       a random seed and 30 rounds unless told
#   tests/peers/oracle.sh sample                makes tests/data/messages/java.gz anew
#
# Needs java, and mvn once for the jars (tests/peers/java/pom.xml); MODE=asan checks with the sanitizers.
set -eu
cd "$(dirname "$0")/../.."
jars=build/peers/java/jars
work=build/peers/oracle
check=build/${MODE:-release}/tests/unit/test_messages

command -v java >/dev/null || { echo "oracle: java is missing" >&2; exit 1; }
if ! ls "$jars"/kafka-group-coordinator-*.jar >/dev/null 2>&1; then
    command -v mvn >/dev/null || { echo "oracle: mvn is missing" >&2; exit 1; }
    mvn -q -B -f tests/peers/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/$jars"
fi
make -s "$check"
mkdir -p "$work"
"$check" list >"$work/list"
oracle() {
    timeout 300 java -Xmx256m -XX:+UseSerialGC -cp "$jars/*" tests/peers/oracle/Oracle.java "$@"
}

if [ "${1:-}" = sample ]; then
    mkdir -p tests/data/messages
    oracle write "$work/list" tests/data/messages/java.gz 2026 5
    exec "$check"
fi
seed=${1:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
rounds=${2:-30}
echo "oracle: seed $seed, $rounds rounds"
oracle write "$work/list" "$work/java.gz" "$seed" "$rounds"
timeout 300 "$check" check "$work/java.gz"
timeout 300 "$check" write "$work/c.gz" "$seed" "$rounds"
oracle read "$work/c.gz"
