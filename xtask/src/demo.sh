# What `cargo xtask demo` shows. Standard error carries what the guests say; here the reports are the story.
set -e
say() {
    printf '\n=== %s\n' "$@"
}
show() {
    printf '$ shared-msr report %s\n\n' "$*"
    shared-msr report "$@" 2>/tmp/err || { cat /tmp/err; exit 1; }
}
printf 'Linux %s, KVM, one CPU. A guest has its own value of TSC_AUX; the host needs its own only in user mode.\n' "$(uname -r)"
say 'A guest that stays in the kernel: 20,000 exits by CPUID, handled by KVM, and 1 exit to user space.'
show -- shared-msr guest --cpuids 20000 --outs 1 --tsc-aux 0xabc
say 'The same 20,000 exits, but every tenth is followed by one to user space: each costs a restore.'
show -- shared-msr guest --cpuids 10 --outs 2000 --tsc-aux 0xabc
say 'The same again, with the host'"'"'s own TSC_AUX in the guest: nothing to switch, nothing to restore.'
show -- shared-msr guest --cpuids 10 --outs 2000 --tsc-aux host
say 'A guest and two busy programs on one CPU: mostly it is these that pay for the restores.'
yes >/dev/null &
dd if=/dev/zero of=/dev/null bs=64 2>/dev/null &
show --by vcpu,cause,payer -- shared-msr guest --cpuids 1500 --outs 20 --tsc-aux 0xabc
kill %1 %2
say 'One window from open to close.'
shared-msr trace --limit 11 -- shared-msr guest --cpuids 2 --outs 1 --tsc-aux 0xabc 2>/dev/null
