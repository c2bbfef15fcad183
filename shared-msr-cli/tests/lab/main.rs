//! What the built `shared-msr` says on a KVM host, held against what the guest and the kernel itself say of the same time.
//!
//! This program runs in the lab: `cargo xtask smoke` builds it, boots an emulated host for each set of scenarios that need the
//! same, and runs it there. A scenario is a file of its own, in which what is done and what must come of it stand together.

#[cfg(test)]
mod capabilities;
#[cfg(test)]
mod churn;
#[cfg(test)]
mod contention;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod exact;
#[cfg(test)]
mod filters;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod inside;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod kvm_exits;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod migrate;
#[cfg(test)]
mod names;
#[cfg(test)]
mod preempted;
#[cfg(test)]
mod qemu;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod real_hosts;
#[cfg(test)]
mod reloaded;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod stalled;
#[cfg(test)]
mod support;
#[cfg(test)]
mod switched_off;
#[cfg(test)]
mod timing;
#[cfg(test)]
mod top;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod two_guests;
#[cfg(test)]
mod unplug;
#[cfg(test)]
mod unreadable;
