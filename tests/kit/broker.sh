# Sourced by scripts that need the daemon: one at a time, on a free port of 127.0.0.1.
broker_pid=
broker_log=$(mktemp)

broker_start() { # DATA [ARGUMENT...]
    local data=$1
    shift
    : >"$broker_log" # before it is read: the address of the last one is no address
    build/rivuletd --data "$data" --listen 127.0.0.1:0 "$@" 2>"$broker_log" &
    broker_pid=$!
    until address=$(sed -n 's/.*event=listening addr=//p' "$broker_log") && [ -n "$address" ]; do
        kill -0 $broker_pid 2>/dev/null || { cat "$broker_log" >&2; return 1; }
        sleep 0.01
    done
}

broker_stop() {
    kill "$broker_pid"
    wait "$broker_pid"
    broker_pid=
}

broker_kill() {
    kill -9 "$broker_pid"
    wait "$broker_pid" 2>/dev/null || true
    broker_pid=
}

broker_end() { # whatever happened
    [ -z "$broker_pid" ] || kill -9 "$broker_pid" 2>/dev/null || true
    rm -f "$broker_log"
}

rivulet() {
    build/rivulet -b "$address" "$@"
}

# What clients see of a broker: topics, settings, every record, offsets of every group.
look() {
    rivulet topic list --json
    rivulet topic describe users --json | sed 's/,"size_bytes":[0-9]*//'
    rivulet topic describe users | grep '=' | sort
    rivulet consume users -o start --until end --json | sort
    for group in audit billing; do rivulet group describe $group --json; done
}
