# VMMs of all shapes under each step: the report, what the VMM says, and what the kernel counts of each thread.
# Each argument is STEP.SHAPE=ARGUMENTS.
. /smoke/lib.sh

# Makes the kernel use addresses of VMs again soon: it gives them back when it makes memory executable, as for a tracer of functions.
reuse_addresses() {
    mkdir "$T/instances/reuse"
    echo do_nanosleep >"$T/instances/reuse/set_ftrace_filter"
    while [ -e /tmp/reuse ]; do
        echo function >"$T/instances/reuse/current_tracer"
        echo nop >"$T/instances/reuse/current_tracer"
        usleep 100000
    done
    rmdir "$T/instances/reuse"
}

for run in "$@"; do
    name=${run%%=*}
    record_writes
    count_by exits kvm/kvm_exit common_pid,vcpu_id
    count_by returns kvm/kvm_userspace_exit common_pid
    count_by writes msr/write_msr common_pid,val 'msr == 0xc0000103 && val >= 8'
    case $name in
    *.remake)
        : >/tmp/reuse
        reuse_addresses &
        ;;
    esac
    rm -f /tmp/report.json
    try "$name" shared-msr report --probe "${name%%.*}" --verify --format json --output /tmp/report.json -- shapes ${run#*=}
    [ ! -e /tmp/report.json ] || section "$name.report" </tmp/report.json
    rm -f /tmp/reuse
    wait
    counted_by "$name"
    restores | section "$name.restored"
done
