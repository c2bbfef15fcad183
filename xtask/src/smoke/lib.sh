# What the smoke scripts share. A script prints sections, each under a line "@@@ NAME"; the checks read them.
T=/sys/kernel/tracing

# Prints standard input under a name.
section() {
    echo "@@@ $1"
    cat
    echo
}

# try NAME COMMAND...: runs the command and prints NAME.status, NAME.out and NAME.err.
try() {
    name=$1
    shift
    "$@" >/tmp/try.out 2>/tmp/try.err
    echo $? | section "$name.status"
    section "$name.out" </tmp/try.out
    section "$name.err" </tmp/try.err
}

# watch NAME EVENT [FILTER]: lets the kernel itself count an event, in a trace instance of its own.
watch() {
    mkdir "$T/instances/$1"
    echo 4096 >"$T/instances/$1/buffer_size_kb"
    [ -z "$3" ] || echo "$3" >"$T/instances/$1/events/$2/filter"
    echo 1 >"$T/instances/$1/events/$2/enable"
    watched="$watched $1"
}

# watched PREFIX: prints what was counted as PREFIX.NAME, and stops counting.
watched() {
    for instance in $watched; do
        echo 0 >"$T/instances/$instance/tracing_on"
        # Overwritten events were events too.
        awk '/^(entries|overrun):/ { sum += $2 } /^dropped events:/ { sum += $3 } END { print sum + 0 }' \
            "$T/instances/$instance"/per_cpu/cpu*/stats | section "$1.$instance"
        rmdir "$T/instances/$instance"
    done
    watched=
}

# attached PID: whether that process measures; the hook of exits is attached after those of functions.
attached() {
    grep -q -s 'tp_name:.*kvm_exit' /proc/"$1"/fdinfo/*
}

# wait_for COMMAND...: until it succeeds, for at most 20 s.
wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || return 1
        usleep 100000
    done
}
