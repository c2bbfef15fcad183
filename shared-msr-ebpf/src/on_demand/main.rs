//! Programs that are attached to nothing: user space runs them by `BPF_PROG_TEST_RUN` when it wants to know something of the kernel.
//!
//! | program | asks for | when |
//! |---|---|---|
//! | `shared_msr_lookup` | addresses of symbols | at start |
//! | `shared_msr_peek` | kernel memory | at start, at the end, for `inspect` |
//! | `shared_msr_peek_fault` | the same, on page faults of one thread of user space, where nothing can be run on demand | the same |

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod lookup;
#[cfg(target_arch = "bpf")]
#[path = "../object.rs"]
mod object;
#[cfg(target_arch = "bpf")]
mod peek;

/// For the host there is nothing to run; the crate still takes part in the workspace.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
