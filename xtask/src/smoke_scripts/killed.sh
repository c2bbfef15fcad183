# However the program ends, nothing of it stays in the kernel, whichever hooks it used.
. /smoke/lib.sh

# The kernel's own listings: functions that anything is hooked to, BPF programs held by any process, all BPF programs.
functions() {
    grep -E '^(kvm_set_user_return_msr|kvm_on_user_return|kvm_arch_disable_virtualization_cpu)' "$T/enabled_functions"
}
listing() {
    functions | section "$1.functions"
    grep -l -E '^(prog_type|link_type):' /proc/[0-9]*/fdinfo/* 2>/dev/null | section "$1.descriptors"
    shared-msr doctor | grep ' others ' | section "$1.programs"
    sort /proc/mounts | section "$1.mounts"
    sort "$T/kprobe_events" | section "$1.kprobe-events"
}
gone() {
    ! functions >/dev/null
}

listing before
shared-msr guest --spin --cpuids 1 --tsc-aux 0xabc >/dev/null 2>&1 &
guest=$!
for step in kprobe fentry tracepoint; do
    for signal in KILL TERM; do
        shared-msr report --probe $step --duration 60 >/tmp/report.out 2>&1 &
        pid=$!
        wait_for attached $pid
        sleep 1
        listing "during-$step-$signal"
        kill -$signal $pid
        # The shell itself says "Killed" here.
        wait $pid 2>/dev/null
        echo $? | section "report-$step-$signal.status"
        wait_for gone
        sleep 1
        listing "after-$step-$signal"
    done
done
kill -TERM $guest
wait $guest
# Modules that something still held could not be unloaded.
try unload sh -c 'rmmod kvm_amd && rmmod kvm'
