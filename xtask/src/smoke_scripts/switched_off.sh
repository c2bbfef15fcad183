# Hooks that are switched off, and on again, while they are attached: the report must tell that it has not seen all.
. /smoke/lib.sh

if [ "$1" = guest ]; then
    # Run by the reports below: a guest that returns all the time, and a switch.
    switch=$2
    shared-msr guest --outs 1000000000 --cpuids 10 --tsc-aux 0xabc >/dev/null 2>&1 &
    guest=$!
    sleep "$3"
    echo 0 >"$switch"
    sleep "$4"
    echo 1 >"$switch"
    sleep "$5"
    kill -TERM $guest
    wait $guest
    exit 0
fi

# off NAME STEP SWITCH BEFORE OFF AFTER: seconds. Without --verify: with it, the kernel's own record of WRMSRs would tell.
off() {
    name=$1
    step=$2
    shift 2
    rm -f /tmp/report.json
    try "$name" shared-msr report --probe "$step" --format json --output /tmp/report.json -- sh /smoke/switched_off.sh guest "$@"
    [ ! -e /tmp/report.json ] || section "$name.report" </tmp/report.json
}
ftrace=/proc/sys/kernel/ftrace_enabled
kprobes=/sys/kernel/debug/kprobes/enabled
# The switches are looked at every 5 s.
long="4 7 3"
quick="1 1 1"

off control-fentry fentry /dev/null $long
off control-kprobe kprobe /dev/null $quick
off fentry-ftrace-long fentry $ftrace $long
off fentry-ftrace-quick fentry $ftrace $quick
off kprobe-ftrace-quick kprobe $ftrace $quick
off kprobe-kprobes-quick kprobe $kprobes $quick
off kprobe-kprobes-long kprobe $kprobes $long
