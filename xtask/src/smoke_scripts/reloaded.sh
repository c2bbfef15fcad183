# The vendor module is taken out and loaded anew in the middle of a measurement, on each step. The argument: the module.
. /smoke/lib.sh

if [ "$1" = around ]; then
    # Run by the reports below.
    shared-msr guest --outs 60 --cpuids 20 --tsc-aux 0xa01 || exit
    rmmod "$2" && load-kvm || exit
    shared-msr guest --outs 90 --cpuids 10 --tsc-aux 0xb02
    exit
fi

for step in fentry kprobe tracepoint; do
    record_writes
    measured $step --probe $step -- sh /smoke/reloaded.sh around "$1"
    restores | section $step.restored
done
try table shared-msr report --verify -- sh /smoke/reloaded.sh around "$1"
