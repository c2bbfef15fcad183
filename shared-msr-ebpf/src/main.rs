//! The kernel-side programs of shared-msr: one file per kind of event.
//!
//! | program | attached to | how often |
//! |---|---|---|
//! | `shared_msr_exit`, `_any`, `_classic` | raw or classic tracepoint `kvm_exit` | every VM-exit of every VM: the hot path |
//! | `shared_msr_reason`, `_classic` | the same, instead, for a report by reason | the same |
//! | `shared_msr_check_exit` | the same, as well, with `--verify` | the same |
//! | `shared_msr_user`, `_classic` | raw or classic tracepoint `kvm_userspace_exit` | every return to the VMM |
//! | `shared_msr_set`, `_fentry` | kprobe or fentry on `kvm_set_user_return_msr` or `kvm_set_shared_msr` | per slot and `vcpu_load` |
//! | `shared_msr_close`, `_fentry` | kprobe or fentry on `kvm_on_user_return` | per window |
//! | `shared_msr_unregister_fentry` | fentry on `user_return_notifier_unregister` | per window |
//! | `shared_msr_restored`, `_fexit` | return of `kvm_on_user_return`, with `--timing` | per window |
//! | `shared_msr_drop`, `_fentry` | where KVM gives a CPU up | per CPU that goes offline, or the like |
//! | `shared_msr_write` | raw tracepoint `write_msr`, where none of the functions above can be had | every WRMSR of the host |
//! | `shared_msr_check` | the same, with `--verify`, and where nothing more can be told | every WRMSR of the host |
//! | `shared_msr_thread_end`, `shared_msr_exec` | raw tracepoints `sched_process_exit`, `sched_process_exec` | every thread, every program |
//! | `shared_msr_vcpu_made` | raw tracepoint `kvm_write_tsc_offset` | every vCPU that is made, and little else |
//! | `shared_msr_peek` | nothing: run on demand by user space | at start, at the end, for `inspect` |
//! | `shared_msr_peek_fault` | page faults of one thread of user space, where nothing can be run on demand | the same |
//!
//! Kprobe and classic tracepoint programs return 0: any other value makes the kernel's perf code process the event as well.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// Inline assembly for BPF is unstable; an empty one serves as a barrier. BPF is built with unstable features anyway.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod books;
#[cfg(target_arch = "bpf")]
mod check_exit;
#[cfg(target_arch = "bpf")]
mod close;
#[cfg(target_arch = "bpf")]
mod drop;
#[cfg(target_arch = "bpf")]
mod events;
#[cfg(target_arch = "bpf")]
mod exit;
#[cfg(target_arch = "bpf")]
mod exit_reason;
#[cfg(target_arch = "bpf")]
mod globals;
#[cfg(target_arch = "bpf")]
mod live;
#[cfg(target_arch = "bpf")]
mod memory;
#[cfg(target_arch = "bpf")]
mod owner;
#[cfg(target_arch = "bpf")]
mod peek;
#[cfg(target_arch = "bpf")]
mod restored;
#[cfg(target_arch = "bpf")]
mod set;
#[cfg(target_arch = "bpf")]
mod state;
#[cfg(target_arch = "bpf")]
mod userspace_exit;
#[cfg(target_arch = "bpf")]
mod vcpus;
#[cfg(target_arch = "bpf")]
mod write;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses programs that could get here.
    loop {}
}

/// GPL-compatible, as `bpf_probe_read_kernel` asks for.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// For the host there is nothing to run; the crate still takes part in the workspace.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
