# Each obstacle, made for real: one clear sentence, the right status, and doctor names it.
. /smoke/lib.sh

obstacle() {
    try "$1" shared-msr report --duration 200ms
    try "$1-doctor" shared-msr doctor
}
# A guest of which the numbers are known: 50 KVM_RUN calls and one that sets MSRs.
known="shared-msr report --verify --format json -- shared-msr guest --outs 50 --cpuids 10 --tsc-aux 0xabc"
as_nobody() {
    su -s /bin/sh nobody -c "$*"
}

obstacle no-kvm
try no-kvm-guest shared-msr guest
try no-kvm-inspect shared-msr inspect
load-kvm

obstacle fine
try not-root as_nobody shared-msr report --duration 200ms
try not-root-doctor as_nobody shared-msr doctor
try not-root-guest as_nobody shared-msr guest

: >/tmp/empty
mount --bind /tmp/empty /sys/kernel/btf/vmlinux
try no-btf $known
try no-btf-doctor shared-msr doctor
try no-btf-fentry shared-msr report --probe fentry --duration 200ms
umount /sys/kernel/btf/vmlinux

grep -v kvm_set_user_return_msr /proc/kallsyms >/tmp/kallsyms
mount --bind /tmp/kallsyms /proc/kallsyms
try no-function $known
try no-function-doctor shared-msr doctor
try no-function-kprobe shared-msr report --probe kprobe --duration 200ms
umount /proc/kallsyms

grep -v kvm_on_user_return /proc/kallsyms >/tmp/kallsyms
mount --bind /tmp/kallsyms /proc/kallsyms
try no-closer $known
umount /proc/kallsyms

grep -v kvm_uret_msrs_list /proc/kallsyms >/tmp/kallsyms
mount --bind /tmp/kallsyms /proc/kallsyms
obstacle no-variable
try no-variable-inspect shared-msr inspect
try no-variable-writes ${known/report/report --probe tracepoint}
umount /proc/kallsyms

echo 2 >/proc/sys/kernel/kptr_restrict
obstacle hidden
echo 1 >/proc/sys/kernel/kptr_restrict

try zero shared-msr report --duration 0
try unknown shared-msr frobnicate
try not-found shared-msr report -- no-such-command
try not-executable shared-msr report -- /proc/version
try no-cpu shared-msr guest --cpu 77
try unwritable shared-msr report --output /no/such/folder/report.json -- touch /tmp/was-run
try was-run test -e /tmp/was-run
try full shared-msr report --output /dev/full -- sh -c 'exit 7'

# Kprobes that are switched off while they are attached: nothing is counted, and only the check can tell.
try blind shared-msr report --probe kprobe --verify --format json -- \
    sh -c 'echo 0 >/sys/kernel/debug/kprobes/enabled; shared-msr guest --outs 50 --tsc-aux 0xabc'
echo 1 >/sys/kernel/debug/kprobes/enabled

# Last: after these the kernel refuses new kprobes (ENODEV) until it is booted again.
echo 0 >/sys/kernel/debug/kprobes/enabled
try kprobes-off $known
try kprobes-off-doctor shared-msr doctor
try kprobes-off-kprobe shared-msr report --probe kprobe --duration 200ms
echo 1 >/sys/kernel/debug/kprobes/enabled
echo 0 >/proc/sys/kernel/ftrace_enabled
try ftrace-off $known
try ftrace-off-doctor shared-msr doctor
try ftrace-off-fentry shared-msr report --probe fentry --duration 200ms
try ftrace-off-kprobe shared-msr report --probe kprobe --duration 200ms
