//! The rows that owners and causes are credited with. Only the rare paths come here.

use core::arch::asm;

use aya_ebpf::{
    helpers::{bpf_get_current_comm, generated::bpf_get_smp_processor_id},
    macros::map,
    maps::{Array, HashMap},
};
use shared_msr_common::{
    CauseKey, CauseTally, Tally, TallyKey,
    accounting::Books,
    owner::{COMMAND_BYTES, EVERY_CPU, NOBODY, Owner, REFUSED},
};

use crate::globals::by_cpu;

/// What each owner is credited with. Nobody's row is always there: user space makes it.
#[map]
static TALLIES: HashMap<TallyKey, Tally> = HashMap::with_max_entries(1, 0);
/// What each cause is credited with.
#[map]
static CAUSES: HashMap<CauseKey, CauseTally> = HashMap::with_max_entries(1, 0);
/// What is credited to causes whose payers found no row of their own: on a host where processes come and go there is no end of
/// payers.
#[map]
static OTHER_PAYERS: HashMap<CauseKey, CauseTally> = HashMap::with_max_entries(1, 0);
/// Rows as they begin: too large for the stack.
#[map]
static EMPTY_TALLY: Array<Tally> = Array::with_max_entries(1, 0);
#[map]
static EMPTY_CAUSE: Array<CauseTally> = Array::with_max_entries(1, 0);

/// `BPF_NOEXIST` (include/uapi/linux/bpf.h).
pub(crate) const MAKE: u64 = 1;
/// `BPF_ANY`.
pub(crate) const ANY: u64 = 0;

/// The maps above.
pub(crate) struct Maps;

impl Books for Maps {
    #[inline(always)]
    fn tally(&mut self, owner: Owner) -> Option<&mut Tally> {
        checked(tally(owner))
    }

    #[inline(always)]
    fn cause(&mut self, key: &CauseKey, command: &[u8; COMMAND_BYTES]) -> Option<&mut CauseTally> {
        let rows = &CAUSES;
        if rows.get_ptr(key).is_none() {
            let empty = EMPTY_CAUSE.get(0)?;
            let made = rows.insert(key, empty, MAKE);
            if made.is_err() {
                let (rows, others) = (&OTHER_PAYERS, CauseKey { payer: 0, ..*key });
                if rows.get_ptr(others).is_none() {
                    let _ = rows.insert(others, empty, MAKE);
                }
                return checked(rows.get_ptr_mut(others)?);
            }
            // SAFETY: made just now, and nobody else writes the name.
            unsafe { (*rows.get_ptr_mut(key)?).command = *command };
        }
        checked(rows.get_ptr_mut(key)?)
    }

    #[inline(always)]
    fn add(counter: &mut u64, number: u64) {
        // Several CPUs can be adding to the same row.
        // SAFETY: an aligned counter in a map's value.
        unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) &raw mut *counter, in(reg) number, options(nostack)) };
    }
}

/// A row, if it is there. The compiler must not do arithmetic on the pointer before it has checked that: the verifier would
/// refuse it.
#[inline(always)]
fn checked<T>(row: *mut T) -> Option<&'static mut T> {
    let mut row = row;
    if row.is_null() {
        return None;
    }
    // SAFETY: moves a register to itself, so that the compiler cannot see what becomes of the pointer. (An empty template
    // would have a line of its own in the debug information, at the same instruction as the next, which kernels refuse.)
    unsafe { asm!("{0} = {0}", inout(reg) row, options(nostack, preserves_flags)) };
    // SAFETY: the map's own memory, changed by `Maps::add` alone.
    unsafe { row.as_mut() }
}

/// An owner's row; nobody's where it has none.
#[inline(never)]
fn tally(owner: Owner) -> *mut Tally {
    let cpu = if by_cpu() { this_cpu() } else { EVERY_CPU };
    if owner != NOBODY && owner != REFUSED {
        let key = TallyKey { owner, cpu };
        if let Some(row) = TALLIES.get_ptr_mut(key) {
            return row;
        }
        if let Some(empty) = EMPTY_TALLY.get(0) {
            let _ = TALLIES.insert(key, empty, MAKE);
        }
        if let Some(row) = TALLIES.get_ptr_mut(key) {
            return row;
        }
    }
    TALLIES.get_ptr_mut(TallyKey { owner: NOBODY, cpu }).unwrap_or(core::ptr::null_mut())
}

/// Name of the thread that runs.
#[inline(always)]
pub(crate) fn command() -> [u8; COMMAND_BYTES] {
    bpf_get_current_comm().unwrap_or_default()
}

/// The CPU, where CPUs are told apart.
#[inline(always)]
pub(crate) fn cpu_of_key() -> u64 {
    if by_cpu() { this_cpu() } else { EVERY_CPU }
}

/// The CPU that runs this.
#[inline(always)]
pub(crate) fn this_cpu() -> u64 {
    // SAFETY: a helper without arguments.
    u64::from(unsafe { bpf_get_smp_processor_id() })
}
