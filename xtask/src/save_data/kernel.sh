# Prints an archive (cpio) of what a kernel says of itself. Arguments: the files that are wanted, of those below.
set -e
events=/sys/kernel/tracing/events/kvm
mkdir -p /tmp/saved
cd /tmp/saved

# The mechanism's symbols in the names of all eras (shared-msr-cli/src/kernel/symbols.rs) and their twins, and some beside them.
symbols='user_return_notifier_(un)?register|fire_user_return_notifiers|kvm_on_user_return|kvm_set_(user_return|shared)_msr'
symbols="$symbols|kvm_user_return_msr_cpu_online|kvm_uret_msrs_list|kvm_nr_uret_msrs|(user_return|shared)_msrs(_global)?"
symbols="$symbols|kvm_arch_disable_virtualization_cpu|kvm_arch_hardware_disable|kvm_running_vcpu"
symbols="$symbols|__per_cpu_(offset|start|end)|this_cpu_off|nr_cpu_ids"

say() {
    case $1 in
    release) uname -r ;;
    kallsyms) grep -E " (__pfx_)?($symbols)(	|\$)" /proc/kallsyms ;;
    # Without its id, which is another one where there are other events.
    kvm_exit.format) sed '/^ID: /d; /^print fmt: /d' $events/kvm_exit/format | sed '${/^$/d}' ;;
    *.print_fmt) grep '^print fmt: ' "$events/${1%.print_fmt}/format" ;;
    *.btf) cat "/sys/kernel/btf/${1%.btf}" ;;
    esac
}
for file; do say "$file" >"$file"; done
printf '%s\n' "$@" | cpio -o -H newc 2>/dev/null | gzip -1
