//! Where things are in the guest's memory.
//!
//! One page of 2 MiB at address 0 holds everything: three tables that map it onto itself, and the code. A second one is mapped to
//! nothing, for exits by MMIO.

/// How much memory the guest has: what one entry of a page directory maps.
pub(super) const SIZE: usize = 2 << 20;
/// The top-level page table; what CR3 points to.
pub(super) const PML4: u64 = 0x1000;
/// The second level.
const PDPT: u64 = 0x2000;
/// The third level, the last one as its entry maps 2 MiB.
const PAGE_DIRECTORY: u64 = 0x3000;
/// The program.
pub(super) const CODE: u64 = 0x10000;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;

/// Where the guest writes to make an exit by MMIO: mapped, but to physical memory that it does not have.
pub(super) const MMIO: u64 = SIZE as u64;
/// Where that is in the guest's physical memory. Also a host with few physical address bits has it.
pub(super) const NOWHERE: u64 = 0xd000_0000;

/// The page tables: address of each entry, and the entry. Everything else in the tables is 0.
pub(super) const PAGE_TABLES: [(u64, u64); 4] = [
    (PML4, PDPT | PRESENT | WRITABLE),
    (PDPT, PAGE_DIRECTORY | PRESENT | WRITABLE),
    (PAGE_DIRECTORY, PRESENT | WRITABLE | LARGE),
    (PAGE_DIRECTORY + 8, NOWHERE | PRESENT | WRITABLE | LARGE),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What the CPU does with an address: 9 bits per level, then 21 bits within the large page.
    fn translate(address: u64) -> Option<u64> {
        let entry = |table: u64, index: u64| PAGE_TABLES.iter().find(|(at, _)| *at == table + index * 8).map(|(_, entry)| *entry);
        let mut table = PML4;
        for shift in [39, 30, 21] {
            let entry = entry(table, (address >> shift) & 0x1ff)?;
            assert_eq!(entry & (PRESENT | WRITABLE), PRESENT | WRITABLE);
            table = entry & !0xfff;
            if entry & LARGE != 0 {
                assert_eq!(shift, 21);
                return Some(table + (address & ((1 << 21) - 1)));
            }
        }
        None
    }

    #[test]
    fn all_memory_is_mapped_onto_itself() {
        for address in [0, PML4, CODE, SIZE as u64 - 1] {
            assert_eq!(translate(address), Some(address));
        }
    }

    #[test]
    fn nothing_beyond_the_memory_is_mapped() {
        for address in [2 * SIZE as u64, 1 << 30, 1 << 39] {
            assert_eq!(translate(address), None);
        }
    }

    #[test]
    fn mmio_is_mapped_to_memory_that_is_not_there() {
        assert_eq!(translate(MMIO), Some(NOWHERE));
        assert!(NOWHERE >= SIZE as u64);
    }

    #[test]
    fn tables_and_code_do_not_overlap() {
        let mut starts = [PML4, PDPT, PAGE_DIRECTORY, CODE];
        starts.sort_unstable();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= 4096));
        assert!(starts.iter().all(|start| start % 4096 == 0));
    }
}
