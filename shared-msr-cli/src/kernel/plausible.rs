//! Whether what was read can be what it is taken for. An address that is wrong, but can be read, gives a wrong answer instead of
//! an error; so each answer is held against something that is known from elsewhere.

use std::{collections::BTreeSet, fs};

use super::{
    host::Vendor,
    msr,
    symbols::ListSymbols,
    tables::{Memory, Slot, read_u64},
};
use crate::obstacle::Obstacle;

/// The numbers that MSRs of x86 processors have: those of the VMX and SVM bitmaps (`MSRPM` in the AMD manual, volume 2). 0, an old
/// machine check's, is in no list of KVM's.
const NUMBERS: [std::ops::RangeInclusive<u32>; 3] = [0x1..=0x1fff, 0xc000_0000..=0xc000_1fff, 0xc001_0000..=0xc001_1fff];

/// An MSR that this host's KVM has in its list for sure; none where none is known.
///
/// kvm_intel has always listed LSTAR (`vmx_uret_msrs_list`, vmx.c), kvm_pvm does so, too. kvm_amd lists TSC_AUX since 5.13, where
/// list and length are apart, if the processor has it (`svm_hardware_setup`, svm.c); before, it did not use the list.
pub fn certain(vendor: Vendor, symbols: ListSymbols) -> Option<u32> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    certain_with(vendor, symbols, &cpuinfo)
}

fn certain_with(vendor: Vendor, symbols: ListSymbols, cpuinfo: &str) -> Option<u32> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has_tsc_aux = flags.split_whitespace().any(|flag| flag == "rdtscp" || flag == "rdpid");
    match (vendor, symbols) {
        (Vendor::Intel | Vendor::Pvm, _) => Some(msr::LSTAR),
        (Vendor::Amd, ListSymbols::Apart { .. }) => has_tsc_aux.then_some(msr::TSC_AUX),
        (Vendor::Amd, ListSymbols::Together(_)) => None,
    }
}

/// Whether this can be KVM's list, if `certain` is in it.
pub fn list(list: &[Slot], certain: Option<(u32, Vendor)>) -> Result<(), Obstacle> {
    let wrong = |why: String| {
        Err(Obstacle::new(
            format!("what stands where KVM's list of MSRs should be is not that list: {why}"),
            "see that /proc/kallsyms is this kernel's own and nothing is mounted over it; if it is, report this kernel to the \
             authors of shared-msr",
        ))
    };
    let mut seen = BTreeSet::new();
    for slot in list {
        if !NUMBERS.iter().any(|numbers| numbers.contains(&slot.index)) {
            return wrong(format!("{:#x} in slot {} is the number of no MSR", slot.index, slot.slot));
        }
        if !seen.insert(slot.index) {
            return wrong(format!("{} is in it twice", slot.name));
        }
    }
    match certain {
        Some((index, vendor)) if !seen.contains(&index) => {
            let has = if list.is_empty() { "it is empty".to_owned() } else { format!("{} is not in it", msr::name(index)) };
            wrong(format!("{has}, but this kernel's {} uses {}", vendor.module(), msr::name(index)))
        }
        _ => Ok(()),
    }
}

/// Whether each CPU's offset is the one that this CPU itself keeps in its own memory (`this_cpu_off`, arch/x86/kernel/setup_percpu.c:
/// set for all possible CPUs when the kernel boots). A wrong offset does not lead to a copy of itself.
pub fn offsets(memory: &dyn Memory, own: u64, cpus: &[u32], offsets: &[u64]) -> Result<(), Obstacle> {
    for (cpu, offset) in cpus.iter().zip(offsets) {
        let kept = read_u64(memory, own.wrapping_add(*offset))
            .map_err(|obstacle| obstacle.of(format!("the memory of CPU {cpu}, {offset:#x} by __per_cpu_offset")))?;
        if kept != *offset {
            return Err(Obstacle::new(
                format!("__per_cpu_offset says {offset:#x} of CPU {cpu}, but what that CPU keeps there is {kept:#x}"),
                "see that /proc/kallsyms is this kernel's own and nothing is mounted over it; if it is, report this kernel to the \
                 authors of shared-msr",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const APART: ListSymbols = ListSymbols::Apart { list: 0x200, length: 0x100 };

    fn slots(indices: &[u32]) -> Vec<Slot> {
        indices.iter().enumerate().map(|(slot, index)| Slot { slot, index: *index, name: msr::name(*index) }).collect()
    }

    #[test]
    fn an_empty_list_is_believed_only_where_nothing_is_known_to_use_it() {
        let with = "flags\t\t: fpu svm rdtscp\n";
        let needed = |vendor, symbols, cpuinfo| certain_with(vendor, symbols, cpuinfo).map(|index| (index, vendor));
        assert!(list(&[], needed(Vendor::Amd, ListSymbols::Together(0x100), with)).is_ok(), "kvm_amd up to 5.12");
        assert!(list(&[], needed(Vendor::Amd, APART, "flags : fpu svm\n")).is_ok(), "no TSC_AUX");
        for (vendor, symbols) in
            [(Vendor::Amd, APART), (Vendor::Intel, APART), (Vendor::Intel, ListSymbols::Together(0x100)), (Vendor::Pvm, APART)]
        {
            let obstacle = list(&[], needed(vendor, symbols, with)).unwrap_err();
            assert!(obstacle.problem.contains("it is empty") && obstacle.problem.contains(vendor.module()), "{obstacle}");
        }
    }

    #[test]
    fn what_stands_beside_the_list_is_not_taken_for_it() {
        let intel = Some((msr::LSTAR, Vendor::Intel));
        assert!(list(&slots(&[0xc000_0084, 0xc000_0082, 0x122]), intel).is_ok());
        assert!(list(&slots(&[0xc000_0084, 0x122]), intel).is_err(), "without the one that is certain");
        for indices in [&[0, 0xc000_0082][..], &[0xffff_ffff, 0xc000_0082], &[0xc000_0082, 0xc000_0082]] {
            assert!(list(&slots(indices), intel).is_err(), "{indices:x?}");
        }
        assert!(list(&slots(&[0xc000_0103, 0xc001_102e]), None).is_ok(), "one that has no name here yet");
    }

    /// Memory in which address N holds 8 bytes: N less `skew`.
    struct Skewed(u64);

    impl Memory for Skewed {
        fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
            match address {
                0x9000.. => Err(Obstacle::new("not mapped", "")),
                _ => Ok((address - self.0).to_le_bytes()[..length].to_vec()),
            }
        }
    }

    #[test]
    fn an_offset_is_believed_if_its_cpu_keeps_the_same() {
        assert!(offsets(&Skewed(0x10), 0x10, &[0, 1], &[0x1000, 0x2000]).is_ok());
        let wrong = offsets(&Skewed(0x18), 0x10, &[0, 1], &[0x1000, 0x2000]).unwrap_err();
        assert!(wrong.problem.contains("CPU 0") && wrong.problem.contains("__per_cpu_offset"), "{wrong}");
        let unmapped = offsets(&Skewed(0x10), 0x10, &[0, 1], &[0x1000, 0xa000]).unwrap_err();
        assert!(unmapped.problem.contains("CPU 1") && unmapped.problem.contains("not mapped"), "{unmapped}");
    }
}
