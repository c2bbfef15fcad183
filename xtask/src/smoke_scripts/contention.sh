# A guest and two busy tasks on one CPU: most windows are closed by tasks that have nothing to do with the guest.
. /smoke/lib.sh

# A task is named after its script.
for busy in busy_a busy_b; do
    printf '#!/bin/sh\nwhile :; do :; done\n' >/tmp/$busy
    chmod +x /tmp/$busy
    /tmp/$busy &
    eval "$busy=$!"
    echo $! | section $busy.pid
done

# contended NAME CPUIDS REPORT-OPTIONS...
contended() {
    run=$1
    cpuids=$2
    shift 2
    record_writes
    # The shell becomes the guest, so that its number is known.
    measured "$run" "$@" -- \
        sh -c "echo \$\$ >/tmp/guest.pid; exec shared-msr guest --format json --outs 20 --cpuids $cpuids --tsc-aux 0xabc"
    # Who wrote the host's value, by the kernel's own record.
    recorded | awk '$2 == "0" { payers[$1]++ } END { for (payer in payers) print payer, payers[payer] }' | section "$run.payers"
    section "$run.pid" </tmp/guest.pid
}

contended json 1500
contended rows 300 --by vcpu,cause

kill -KILL $busy_a $busy_b
wait 2>/dev/null
