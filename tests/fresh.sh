#!/bin/bash
# make fresh: what the README says of a fresh Debian, on a fresh Debian. As root.
#
# A Debian 12 is made with debootstrap in a temporary directory, from the mirror that this machine's apt uses; the committed state of this
# repository is cloned into it; in a chroot `make run` must come up, answer, and end with 0 on SIGTERM, and `make test` must pass. Nothing is
# installed there beforehand but what it takes to have a clone and to type make: git and make. Says the seconds of each step.
set -u
repository=$(cd "$(dirname "$0")/.." && pwd)
suite=bookworm
limit=1800 # seconds, for a step
work=
mounted=()
running=

fail() {
    echo "fresh: $*" >&2
    exit 1
}

clean_up() {
    local code=$? i
    trap - EXIT
    if [ -n "$running" ]; then
        kill -9 "$running" 2>/dev/null
        [ -z "${daemon:-}" ] || kill -9 "$daemon" 2>/dev/null
        wait "$running" 2>/dev/null
    fi
    for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do
        umount "${mounted[i]}" 2>/dev/null || umount -l "${mounted[i]}"
    done
    if [ -n "$work" ]; then
        # Never through a mount, whatever happened to it.
        if grep -qF " $work/" /proc/self/mounts; then
            echo "fresh: something is still mounted below $work, which is kept" >&2
        else
            rm -rf --one-file-system "$work"
        fi
    fi
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

step() { # NAME COMMAND...
    local name=$1 began=$SECONDS
    shift
    if ! timeout -k 10 "$limit" "$@" >"$work/log" 2>&1 </dev/null; then
        grep -a -A 20 'FAILED (exit' "$work/log" >&2 # of tests; the end says the rest
        tail -n 60 "$work/log" >&2
        fail "$name failed"
    fi
    printf '%-34s %5d s\n' "$name" $((SECONDS - began))
}

mount_in() { # TYPE SOURCE PLACE
    mount -t "$1" "$2" "$root/$3" || fail "cannot mount $3"
    mounted+=("$root/$3")
}

mirror_of_this_machine() {
    apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite=$suite '$1 == suite && $2 == "main" { print $3; exit }'
}

children_of() {
    cat "/proc/$1/task/$1/children" 2>/dev/null
}

port_is_taken() { # 9092
    (exec 3<>/dev/tcp/127.0.0.1/9092) 2>/dev/null
}

run_it() { # make run, a question, SIGTERM
    local log=$work/run.log began=$SECONDS address arguments=()
    if port_is_taken; then
        echo "(port 9092 is taken on this machine: make run gets ARGS='--listen 127.0.0.1:0')"
        arguments=("ARGS=--listen 127.0.0.1:0")
    fi
    "${inside[@]}" /bin/sh -c 'cd /root/rivulet && exec make run "$@"' sh "${arguments[@]}" >"$log" 2>&1 </dev/null &
    running=$!
    until grep -q 'event=listening' "$log"; do
        kill -0 "$running" 2>/dev/null || { tail -n 60 "$log" >&2; fail "make run ended"; }
        [ $((SECONDS - began)) -lt $limit ] || { tail -n 60 "$log" >&2; fail "make run does not listen after $limit s"; }
        sleep 0.2
    done
    printf '%-34s %5d s\n' "make run, until it listens" $((SECONDS - began))
    address=$(sed -n 's/.*event=listening addr=\(127\.0\.0\.1:[0-9]*\).*/\1/p' "$log" | head -n 1)
    daemon=$(children_of "$running" | awk '{ print $1 }')
    [ "$(cat "/proc/$daemon/comm")" = rivuletd ] || fail "the child of make run is not rivuletd"
    "${inside[@]}" /root/rivulet/build/rivulet topic create fresh -p 3 -b "$address" >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; fail "no topic can be made"; }
    "${inside[@]}" /root/rivulet/build/rivulet topic list -b "$address" | grep -qw fresh || fail "the topic that was made is not listed"
    kill -TERM "$daemon"
    wait "$running" || fail "make run ended with $? after SIGTERM"
    running=
    grep -q 'event=stopped clean=true' "$log" || fail "the broker did not stop cleanly"
    echo "make run: a topic was made and listed, and SIGTERM ended it with 0"
}

[ "$(id -u)" = 0 ] || fail "needs root (debootstrap, chroot)"
command -v debootstrap >/dev/null || apt-get install -y -qq debootstrap >/dev/null || fail "debootstrap is missing"
mirror=$(mirror_of_this_machine)
[ -n "$mirror" ] || fail "apt on this machine knows no mirror of Debian $suite (apt-get update?)"
work=$(mktemp -d)
root=$work/root
# In the chroot, with an environment of its own.
inside=(chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8)

step "debootstrap $suite" debootstrap --variant=minbase "$suite" "$root" "$mirror"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/hosts "$root/etc/hosts"
apt-config dump | grep '^Acquire::https\?::Proxy' >"$root/etc/apt/apt.conf.d/01proxy" || rm "$root/etc/apt/apt.conf.d/01proxy"
mount --bind "$root" "$root" || fail "cannot mount the root" # as a machine's, it is a mount
mounted+=("$root")
mount_in proc proc proc
mount_in devpts devpts dev/pts # tests look at terminals
[ -e "$root/dev/ptmx" ] || ln -s pts/ptmx "$root/dev/ptmx"
chmod 666 "$root/dev/pts/ptmx"
step "apt-get install git make" "${inside[@]}" sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends git make'
step "git clone" git clone -q "$repository" "$root/root/rivulet"
run_it
step "make test" "${inside[@]}" sh -c 'cd /root/rivulet && exec make test'
grep -E '^[1-9][0-9]* passed, 0 failed$' "$work/log" || { tail -n 60 "$work/log" >&2; fail "make test does not say that it passed"; }
