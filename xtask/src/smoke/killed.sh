# However the program ends, nothing of it stays in the kernel.
. /smoke/lib.sh

# The kernel's own listings: kprobes, and BPF programs held by any process; then the list of all programs by their ids.
listing() {
    grep -E 'kvm_(set_user_return_msr|on_user_return)' /sys/kernel/debug/kprobes/list | section "$1.kprobes"
    grep -l -E '^(prog_type|link_type):' /proc/[0-9]*/fdinfo/* 2>/dev/null | section "$1.descriptors"
    shared-msr doctor | grep ' others ' | section "$1.programs"
    sort /proc/mounts | section "$1.mounts"
    sort "$T/kprobe_events" | section "$1.kprobe-events"
}
gone() {
    ! grep -q kvm_on_user_return /sys/kernel/debug/kprobes/list
}

listing before
shared-msr guest --spin --cpuids 1 --tsc-aux 0xabc >/dev/null 2>&1 &
guest=$!
for signal in KILL TERM; do
    shared-msr report --duration 60 >/tmp/report.out 2>&1 &
    pid=$!
    wait_for grep -q kvm_on_user_return /sys/kernel/debug/kprobes/list
    sleep 1
    listing "during-$signal"
    kill -$signal $pid
    # The shell itself says "Killed" here.
    wait $pid 2>/dev/null
    echo $? | section "report-$signal.status"
    wait_for gone
    sleep 1
    listing "after-$signal"
done
kill -TERM $guest
wait $guest
# Modules that something still held could not be unloaded.
try unload sh -c 'rmmod kvm_amd && rmmod kvm'
