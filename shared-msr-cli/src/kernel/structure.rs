//! One CPU's `struct kvm_user_return_msrs` as it stands in kernel memory.

use serde::Serialize;
use shared_msr_common::MAX_SLOTS;

use super::layout::{Layout, VALUE_BYTES};

/// Host's and current value of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Value {
    /// The host's value.
    pub host: u64,
    /// The value now in hardware.
    pub curr: u64,
}

/// The structure of one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// `urn.on_user_return`: set at the first registration, never cleared.
    pub notifier: u64,
    /// The raw byte of `registered`: 0 or 1 in a real structure.
    pub registered: u8,
    /// All 16 elements.
    pub values: [Value; MAX_SLOTS],
}

impl Structure {
    /// How many bytes [`Self::parse`] needs.
    pub const fn length(layout: Layout) -> usize {
        layout.values + MAX_SLOTS * VALUE_BYTES
    }

    /// Takes the structure out of a copy of kernel memory; none when that is too short.
    pub fn parse(bytes: &[u8], layout: Layout) -> Option<Self> {
        let word = |offset: usize| Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?));
        let mut values = [Value { host: 0, curr: 0 }; MAX_SLOTS];
        for (slot, value) in values.iter_mut().enumerate() {
            let offset = layout.values + slot * VALUE_BYTES;
            *value = Value { host: word(offset)?, curr: word(offset + 8)? };
        }
        Some(Self { notifier: word(0)?, registered: *bytes.get(layout.registered)?, values })
    }

    /// Bit per dirty slot.
    pub fn dirty(&self, slots: usize) -> u64 {
        let dirty = self.values.iter().take(slots).enumerate().filter(|(_, value)| value.host != value.curr);
        dirty.map(|(slot, _)| 1 << slot).sum()
    }

    /// Whether this can be the structure, if KVM has `slots` slots and its restoring function is at `closer`; says what
    /// contradicts it.
    ///
    /// `closer` is 0 when its address is not known.
    pub fn check(&self, slots: usize, closer: u64) -> Result<(), String> {
        if self.registered > 1 {
            return Err(format!("registered is {}", self.registered));
        }
        if self.notifier != 0 && closer != 0 && self.notifier != closer {
            return Err(format!("its notifier is {:#x}, not {:#x}", self.notifier, closer));
        }
        if slots == 0 && self.notifier != 0 {
            return Err("its notifier was registered once, but KVM's list of MSRs is empty".to_owned());
        }
        if self.registered == 1 && self.notifier == 0 {
            return Err("it is registered without a notifier".to_owned());
        }
        if self.registered == 0 && self.dirty(slots) != 0 {
            return Err("a slot is dirty though nothing is registered".to_owned());
        }
        match self.values.iter().skip(slots).position(|value| value.host != 0 || value.curr != 0) {
            Some(beyond) => Err(format!("slot {} has values, but KVM has {slots} slots", slots + beyond)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::layout::DOCUMENTED;

    /// A structure with one slot.
    pub(crate) fn structure(registered: u8, host: u64, curr: u64) -> Structure {
        let mut values = [Value { host: 0, curr: 0 }; MAX_SLOTS];
        values[0] = Value { host, curr };
        Structure { notifier: u64::from(registered) * 0xffff_ffff_c054_5f10, registered, values }
    }

    #[test]
    fn the_fields_are_found_at_their_offsets() {
        let mut bytes = vec![0; Structure::length(DOCUMENTED)];
        bytes[24] = 1;
        bytes[32] = 3;
        bytes[40] = 0xbc;
        bytes[41] = 0x0a;
        bytes[56] = 7;
        let structure = Structure::parse(&bytes, DOCUMENTED).unwrap();
        assert_eq!(structure.registered, 1);
        assert_eq!(structure.values[0], Value { host: 3, curr: 0xabc });
        assert_eq!(structure.values[1], Value { host: 0, curr: 7 });
        assert_eq!(structure.dirty(2), 0b11);
        assert_eq!(structure.dirty(1), 0b01);
    }

    #[test]
    fn a_short_copy_is_no_structure() {
        assert_eq!(Structure::parse(&[0; 100], DOCUMENTED), None);
    }

    #[test]
    fn a_structure_at_a_wrong_address_is_found_out() {
        let good = structure(1, 0, 0xabc);
        assert_eq!(good.check(1, 0xffff_ffff_c054_5f10), Ok(()));
        assert!(good.check(1, 0x1234).is_err(), "another notifier");
        assert!(good.check(0, 0).is_err(), "values beyond the last slot");
        let used = Structure { notifier: 0x1234, ..structure(0, 0, 0) };
        assert!(used.check(1, 0x1234).is_ok() && used.check(0, 0x1234).is_err(), "used, though KVM's list is empty");
        assert!(Structure { registered: 77, ..good.clone() }.check(1, 0).is_err(), "no boolean");
        assert!(Structure { registered: 0, ..good }.check(1, 0).is_err(), "dirty but not registered");
    }
}
