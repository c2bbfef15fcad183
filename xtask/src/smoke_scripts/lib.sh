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

# counted FILE...: how many events the kernel has counted by these files. Overwritten events were events too.
counted() {
    awk '/^(entries|overrun):/ { sum += $2 } /^dropped events:/ { sum += $3 } END { print sum + 0 }' "$@"
}

# watched PREFIX: prints what was counted as PREFIX.NAME, and of each CPU as PREFIX.NAME.cpuN, and stops counting.
watched() {
    for instance in $watched; do
        echo 0 >"$T/instances/$instance/tracing_on"
        counted "$T/instances/$instance"/per_cpu/cpu*/stats | section "$1.$instance"
        for cpu in "$T/instances/$instance"/per_cpu/cpu*; do
            counted "$cpu/stats" | section "$1.$instance.${cpu##*/}"
        done
        rmdir "$T/instances/$instance"
    done
    watched=
}

# record_writes: lets the kernel keep each write of TSC_AUX, in its order, in $T/instances/record/trace.
record_writes() {
    mkdir "$T/instances/record"
    echo 16384 >"$T/instances/record/buffer_size_kb"
    echo 'msr == 0xc0000103' >"$T/instances/record/events/msr/write_msr/filter"
    echo 1 >"$T/instances/record/events/msr/write_msr/enable"
}

# recorded: prints what was kept, "TASK VALUE" on each line, and keeps no more.
recorded() {
    echo 0 >"$T/instances/record/tracing_on"
    sed -n 's/^ *\(.*\)-[0-9]* .* write_msr: .*value \([0-9a-f]*\).*/\1 \2/p' "$T/instances/record/trace"
    rmdir "$T/instances/record"
}

# restores: prints "THREAD VALUE NUMBER" of whose values restores took back, and keeps no more. What a restore takes back is what
# was loaded last on that CPU.
restores() {
    echo 0 >"$T/instances/record/tracing_on"
    sed -n 's/^.*-\([0-9]*\) *\[\([0-9]*\)\] .* write_msr: .*value \([0-9a-f]*\).*/\1 \2 \3/p' "$T/instances/record/trace" | awk '
        length($3) == 1 && last[$2] != "" { restored[last[$2]]++ }
        { last[$2] = length($3) == 1 ? "" : $1 " " $3 }
        END { for (whose in restored) print whose, restored[whose] }'
    rmdir "$T/instances/record"
}

# count_by NAME EVENT KEYS [FILTER]: lets the kernel count an event by its fields, in a trace instance of its own.
count_by() {
    mkdir "$T/instances/$1"
    echo "hist:keys=$3${4:+ if $4}" >"$T/instances/$1/events/$2/trigger"
    counted_by="$counted_by $1/events/$2/hist"
}

# counted_by PREFIX: prints as PREFIX.NAME "KEY... NUMBER" on each line, and stops counting. A full histogram says so.
counted_by() {
    for histogram in $counted_by; do
        awk '/^[{]/ { gsub(/[a-z_]*:|[{},]/, " "); $1 = $1; print } /Dropped: *[1-9]/ { print "full" }' \
            "$T/instances/$histogram" | section "$1.${histogram%%/*}"
        rmdir "$T/instances/${histogram%%/*}"
    done
    counted_by=
}

# measured NAME ARGUMENTS...: a report with the check, as NAME.report, and what the kernel itself counted meanwhile. The host's
# TSC_AUX is the number of the CPU, so that guests' values must be larger than that.
format=json
measured() {
    name=$1
    shift
    watch wrmsr_to_guest msr/write_msr 'msr == 0xc0000103 && val >= 8'
    watch wrmsr_to_host msr/write_msr 'msr == 0xc0000103 && val < 8'
    watch kvm_exit kvm/kvm_exit
    watch kvm_userspace_exit kvm/kvm_userspace_exit
    rm -f /tmp/report.json
    try "$name" shared-msr report --verify --format $format --output /tmp/report.json "$@"
    [ ! -e /tmp/report.json ] || section "$name.report" </tmp/report.json
    watched "$name"
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
