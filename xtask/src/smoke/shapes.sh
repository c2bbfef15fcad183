# VMMs of all shapes under each step: the report, what the VMM says, and what the kernel counts of each thread.
# Each argument is STEP.SHAPE=ARGUMENTS.
. /smoke/lib.sh

for run in "$@"; do
    name=${run%%=*}
    record_writes
    count_by exits kvm/kvm_exit common_pid,vcpu_id
    count_by returns kvm/kvm_userspace_exit common_pid
    count_by writes msr/write_msr common_pid,val 'msr == 0xc0000103 && val >= 8'
    rm -f /tmp/report.json
    try "$name" shared-msr report --probe "${name%%.*}" --verify --format json --output /tmp/report.json -- shapes ${run#*=}
    [ ! -e /tmp/report.json ] || section "$name.report" </tmp/report.json
    counted_by "$name"
    restores | section "$name.restored"
done
cut -d ' ' -f 1 /proc/uptime | section uptime
