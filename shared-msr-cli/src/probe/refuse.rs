//! Ways that are refused because a test asks for it. Kernels that lack a way are seldom at hand; so what is done instead stays alive on
//! one that lacks nothing.

use std::env;

use crate::obstacle::Obstacle;

/// The environment variable that names the refused ways, with commas between them.
pub const VARIABLE: &str = "SHARED_MSR_REFUSE";

/// [`super::lookup`]: symbols by name.
pub const LOOKUP: &str = "lookup";
/// [`super::reader`]: kernel memory by a program that is run on demand.
pub const RUN_ON_DEMAND: &str = "run_on_demand";
/// The same by a program on page faults.
pub const PAGE_FAULT: &str = "page_fault";
/// The same by /proc/kcore.
pub const KCORE: &str = "kcore";
/// Maps that are ring buffers.
pub const RING_BUFFER: &str = "ring_buffer";
/// Many rows of a map at once.
pub const BATCH: &str = "batch";

/// Whether a way may be tried.
pub(super) fn check(way: &str) -> Result<(), Obstacle> {
    let refused = env::var(VARIABLE).unwrap_or_default();
    if refused.split(',').any(|refused| refused == way) {
        return Err(Obstacle::new(format!("{VARIABLE} refuses {way}"), format!("take {way} out of that environment variable")));
    }
    Ok(())
}
