# Kernel memory that cannot be read, or is not what it is taken for, because /proc/kallsyms names another address.
. /smoke/lib.sh

# asked NAME: everything that reads kernel memory.
asked() {
    try "$1-doctor" shared-msr doctor
    try "$1-inspect" shared-msr inspect
    try "$1-report" shared-msr report --verify -- shared-msr guest --outs 50 --tsc-aux 0xabc
}

# Only what matters here, so that it is quick.
words='uret_msr user_return shared_msr per_cpu this_cpu_off kvm_arch_disable kvm_arch_hardware linux_banner empty_zero_page'
grep -F "$(echo $words | tr ' ' '\n')" /proc/kallsyms >/tmp/symbols

# at SYMBOL ADDRESS NAME: asks with this symbol at another address.
at() {
    awk -v symbol="$1" -v address="$2" '$3 == symbol { $1 = address } { print }' /tmp/symbols >/tmp/kallsyms
    mount --bind /tmp/kallsyms /proc/kallsyms
    asked "$3"
    umount /proc/kallsyms
}

address_of() {
    awk -v symbol="$1" '$3 == symbol { print $1 }' /tmp/symbols
}

# Since 5.13; before, the length and the list are in one variable.
list=kvm_nr_uret_msrs
grep -q " $list" /tmp/symbols || list=user_return_msrs_global
echo $list | section list

at $list 0000000000001000 list-user
at $list ffff800000000000 list-unmapped
at __per_cpu_offset 0000000000001000 offsets-user
at __per_cpu_offset ffff800000000000 offsets-unmapped
at user_return_msrs ffff800000000000 pointer-unmapped

# Memory that can be read, but holds something else: the kernel's version, and zeros.
at $list "$(address_of linux_banner)" list-text
at __per_cpu_offset "$(address_of linux_banner)" offsets-text
at __per_cpu_offset "$(address_of empty_zero_page)" offsets-zero
at $list "$(address_of empty_zero_page)" list-zero
# The same where the processor is said to have no TSC_AUX, so that an empty list could be true.
sed 's/ rdtscp//; s/ rdpid//' /proc/cpuinfo >/tmp/cpuinfo
mount --bind /tmp/cpuinfo /proc/cpuinfo
at $list "$(address_of empty_zero_page)" list-believed
# By now KVM has used a structure, and that can be seen at the start.
at $list "$(address_of empty_zero_page)" list-used
umount /proc/cpuinfo

# Nothing is in the way any more; last, because it cannot be taken back: a locked-down kernel.
asked fine
[ -e /sys/kernel/security/lockdown ] || mount -t securityfs securityfs /sys/kernel/security
echo confidentiality >/sys/kernel/security/lockdown
section lockdown </sys/kernel/security/lockdown
asked locked
