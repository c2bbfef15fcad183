//! The symbols of the mechanism in /proc/kallsyms, in the names of all eras.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
};

use shared_msr_common::accounting::SetForm;

use super::{msr, tables::Slot};
use crate::obstacle::Obstacle;

/// The setter: from 5.10, and before (7e34fbd05c63, "Rename "shared_msrs" to "user_return_msrs"").
const SETTERS: [&str; 2] = ["kvm_set_user_return_msr", "kvm_set_shared_msr"];
/// The function that restores; the same name since 2.6.33.
pub const CLOSER: &str = "kvm_on_user_return";
/// What drops the notifier of a CPU that KVM gives up: from 6.12, and before (5381eca101fd, "Rename
/// kvm_arch_hardware_{en,dis}able()"). Both call the closer outside of any return to user mode.
const DROPPERS: [&str; 2] = ["kvm_arch_disable_virtualization_cpu", "kvm_arch_hardware_disable"];
/// The per-CPU structures: from 5.10, and before.
const STRUCTURES: [&str; 2] = ["user_return_msrs", "shared_msrs"];
/// The list and its length, since 5.13 (e5fda4bbadb0, "Move uret MSR slot management to common x86").
const LIST: &str = "kvm_uret_msrs_list";
const LIST_LENGTH: &str = "kvm_nr_uret_msrs";
/// `struct { int nr; u32 msrs[16]; }`: 5.10 to 5.12, and before.
const GLOBALS: [&str; 2] = ["user_return_msrs_global", "shared_msrs_global"];
/// virt/kvm/kvm_main.c: the vCPU that is loaded on a CPU, a per-CPU pointer (since 5.6, 7495e22bb165).
const RUNNING_VCPU: &str = "kvm_running_vcpu";
/// include/linux/tracepoint.h: what keeps the programs on a tracepoint from going away while it fires, since 7.0 (a46023d5616e, "Guard
/// __DECLARE_TRACE() use of __DO_TRACE_CALL() with SRCU-fast"), and what the kind of it that lets them be preempted comes with. Before,
/// it is fired with preemption off; up to 6.12 there is a guard of the first name for those of the idle task.
const TRACEPOINT_GUARD: [&str; 2] = ["tracepoint_srcu", "init_srcu_struct_fast"];
/// vmlinux, arch/x86/kernel/setup_percpu.c: where each CPU's copy of a per-CPU variable is.
const PER_CPU_OFFSET: &str = "__per_cpu_offset";
/// The same file: each CPU's own copy of that.
const OWN_OFFSET: &str = "this_cpu_off";
/// vmlinux's linker script: bounds of the per-CPU variables.
const PER_CPU_BOUNDS: [&str; 2] = ["__per_cpu_start", "__per_cpu_end"];
/// init/version.c, from 6.1 on also init/version-timestamp.c: "Linux version ", and the release.
const BANNER: &str = "linux_banner";

/// vmlinux's linker script: where its image ends.
const IMAGE_END: &str = "_end";
/// How the kernel tells a module's symbols from others of the same name (kernel/module/kallsyms.c, `module_kallsyms_lookup_name`).
const KVM: &str = "kvm:";

/// One symbol, as in a line of /proc/kallsyms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its address; 0 when the kernel hides addresses from this process.
    pub address: u64,
    /// Of type `a`, as in nm(1): a module's per-CPU variable (kernel/module/kallsyms.c, `elf_type`).
    pub is_absolute: bool,
    /// Not part of vmlinux.
    pub in_module: bool,
}

/// The symbols that matter here, by name.
#[derive(Clone, Debug, Default)]
pub struct Symbols(HashMap<&'static str, Symbol>);

/// Where the list of MSRs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListSymbols {
    /// `u32 kvm_uret_msrs_list[16]` and `u32 kvm_nr_uret_msrs`.
    Apart {
        /// Address of the list.
        list: u64,
        /// Address of the number of slots.
        length: u64,
    },
    /// `struct { int nr; u32 msrs[16]; }` at this address.
    Together(u64),
}

/// Where the per-CPU structures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StructureSymbol {
    /// A pointer to per-CPU memory stands at this address (up to 6.18).
    Pointer(u64),
    /// A static per-CPU variable: this is its offset in each CPU's memory (from 6.19).
    Static(u64),
}

impl Symbols {
    /// Reads /proc/kallsyms.
    pub fn read() -> Result<Self, Obstacle> {
        let unreadable = |error: io::Error| {
            Obstacle::new(
                format!("/proc/kallsyms cannot be read ({error})"),
                "use a kernel with CONFIG_KALLSYMS, and mount /proc",
            )
        };
        Self::parse(BufReader::with_capacity(1 << 20, File::open("/proc/kallsyms").map_err(unreadable)?)).map_err(unreadable)
    }

    /// Picks the symbols that matter out of text in the format of /proc/kallsyms.
    pub fn parse(mut kallsyms: impl BufRead) -> io::Result<Self> {
        let mut found = HashMap::new();
        let mut line = Vec::new();
        while kallsyms.read_until(b'\n', &mut line)? > 0 {
            if let Some((name, symbol)) = wanted_in(&line) {
                found.insert(name, symbol);
            }
            line.clear();
        }
        Ok(Self(found))
    }

    /// What [`Self::looked_up`] asks for: each name of KVM in its module and in vmlinux, the others in vmlinux.
    pub fn questions() -> Vec<String> {
        let in_module = of_kvm().map(|name| format!("{KVM}{name}"));
        in_module.chain(of_kvm().chain(of_vmlinux()).chain([IMAGE_END]).map(str::to_owned)).collect()
    }

    /// Picks the symbols that matter by their addresses, which `bpf_kallsyms_lookup_name` knows; none if it does not know where vmlinux
    /// ends.
    pub fn looked_up(address: impl Fn(&str) -> Option<u64>) -> Option<Self> {
        let image_end = address(IMAGE_END)?;
        let mut found = HashMap::new();
        for name in of_kvm() {
            if let Some(address) = address(&format!("{KVM}{name}")) {
                // Modules are loaded above vmlinux (arch/x86/include/asm/pgtable_64_types.h, MODULES_VADDR); their per-CPU variables
                // have a place in the per-CPU memory that vmlinux begins, at 0 or, from 6.15 on, inside of its image.
                found.insert(name, Symbol { address, is_absolute: address < image_end, in_module: true });
            }
        }
        // A name without a module may be that of any module.
        let is_module = !found.is_empty();
        for name in of_kvm().filter(|_| !is_module).chain(of_vmlinux()) {
            if let Some(address) = address(name).filter(|address| *address < image_end) {
                found.insert(name, Symbol { address, is_absolute: false, in_module: false });
            }
        }
        // Up to 6.14 it is 0, and a symbol of value 0 is not looked up.
        if found.contains_key(PER_CPU_BOUNDS[1]) {
            found.entry(PER_CPU_BOUNDS[0]).or_insert(Symbol { address: 0, is_absolute: false, in_module: false });
        }
        Some(Self(found))
    }

    fn first(&self, names: &[&'static str]) -> Option<(&'static str, Symbol)> {
        names.iter().find_map(|name| Some((*name, *self.0.get(name)?)))
    }

    /// The setter's name on this kernel.
    pub fn setter(&self) -> Result<&'static str, Obstacle> {
        let found = self.first(&SETTERS).map(|(name, _)| name);
        found.ok_or_else(|| missing_function(&SETTERS.join(" nor ")))
    }

    /// The restoring function's name and address.
    pub fn closer(&self) -> Result<Symbol, Obstacle> {
        self.first(&[CLOSER]).map(|(_, symbol)| symbol).ok_or_else(|| missing_function(CLOSER))
    }

    /// Name of the function that drops a CPU's notifier.
    pub fn dropper(&self) -> Result<&'static str, Obstacle> {
        let found = self.first(&DROPPERS).map(|(name, _)| name);
        found.ok_or_else(|| missing_function(&DROPPERS.join(" nor ")))
    }

    /// How the setter treats masked bits. What changed it (de1fca5d6e01, 5.5) came together with TSX_CTRL in KVM's list
    /// (c11f83e0626b), also into stable kernels; and the setter's new name is younger than both.
    pub fn set_form(&self, list: &[Slot]) -> SetForm {
        let renamed = self.0.contains_key(SETTERS[0]);
        if renamed || list.is_empty() || list.iter().any(|slot| slot.index == msr::TSX_CTRL) {
            SetForm::Merged
        } else {
            SetForm::Whole
        }
    }

    /// Whether KVM is a module here, rather than part of vmlinux.
    pub fn kvm_is_module(&self) -> bool {
        let functions = SETTERS.iter().chain(&[CLOSER]);
        functions.filter_map(|name| self.0.get(name)).any(|symbol| symbol.in_module)
    }

    /// Where the list of MSRs is.
    pub fn list(&self) -> Result<ListSymbols, Obstacle> {
        if let (Some(list), Some(length)) = (self.0.get(LIST), self.0.get(LIST_LENGTH)) {
            return Ok(ListSymbols::Apart { list: visible(*list)?, length: visible(*length)? });
        }
        match self.first(&GLOBALS) {
            Some((_, symbol)) => Ok(ListSymbols::Together(visible(symbol)?)),
            None => Err(missing_data(LIST)),
        }
    }

    /// Where the per-CPU structures are.
    pub fn structures(&self) -> Result<StructureSymbol, Obstacle> {
        let (_, symbol) = self.first(&STRUCTURES).ok_or_else(|| missing_data(STRUCTURES[0]))?;
        if self.is_per_cpu(symbol) {
            return Ok(StructureSymbol::Static(symbol.address));
        }
        Ok(StructureSymbol::Pointer(visible(symbol)?))
    }

    /// Whether it is a static per-CPU variable. A module's is listed as absolute ('a') with its offset. In vmlinux it lies between
    /// the bounds of the per-CPU section, wherever the linker put that.
    fn is_per_cpu(&self, symbol: Symbol) -> bool {
        let bounds = PER_CPU_BOUNDS.map(|name| self.0.get(name).map(|symbol| symbol.address));
        let in_section = matches!(bounds, [Some(start), Some(end)] if (start..end).contains(&symbol.address));
        symbol.is_absolute || (in_section && !symbol.in_module)
    }

    /// Where each CPU keeps the vCPU that is loaded on it, as the offset in its memory; none where that is not known.
    pub fn running_vcpu(&self) -> Option<u64> {
        let (_, symbol) = self.first(&[RUNNING_VCPU])?;
        Some(symbol.address).filter(|address| *address != 0 && self.is_per_cpu(symbol))
    }

    /// Whether a program on a tracepoint's arguments can be preempted in the middle, where who fires it can be. One on a tracepoint's
    /// record never is (`perf_trace_*` in include/trace/perf.h turns preemption off itself).
    pub fn tracepoints_are_preemptible(&self) -> bool {
        TRACEPOINT_GUARD.iter().all(|name| self.0.contains_key(name))
    }

    /// Where vmlinux keeps the offset of each CPU's memory.
    pub fn per_cpu_offsets(&self) -> Result<u64, Obstacle> {
        visible(*self.0.get(PER_CPU_OFFSET).ok_or_else(|| missing_data(PER_CPU_OFFSET))?)
    }

    /// Where the kernel's version stands as text.
    pub fn banner(&self) -> Result<u64, Obstacle> {
        visible(*self.0.get(BANNER).ok_or_else(|| missing_data(BANNER))?)
    }

    /// Where a CPU keeps its own offset, before that is added; none where it is not listed.
    pub fn own_offset(&self) -> Option<u64> {
        let symbol = self.0.get(OWN_OFFSET).filter(|symbol| !symbol.in_module)?;
        (symbol.address != 0).then_some(symbol.address)
    }
}

/// The names of KVM's own symbols.
fn of_kvm() -> impl Iterator<Item = &'static str> {
    let of_eras = SETTERS.into_iter().chain(DROPPERS).chain(STRUCTURES).chain(GLOBALS);
    of_eras.chain([CLOSER, LIST, LIST_LENGTH, RUNNING_VCPU])
}

/// The names of vmlinux's.
fn of_vmlinux() -> impl Iterator<Item = &'static str> {
    PER_CPU_BOUNDS.into_iter().chain([PER_CPU_OFFSET, OWN_OFFSET, BANNER]).chain(TRACEPOINT_GUARD)
}

fn wanted(name: &str) -> Option<&'static str> {
    of_kvm().chain(of_vmlinux()).find(|wanted| *wanted == name)
}

/// The symbol of a line, if it is one of those that matter: almost none is, so the name is looked at first.
fn wanted_in(line: &[u8]) -> Option<(&'static str, Symbol)> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let (address, kind, name) = (fields.next()?, fields.next()?, fields.next()?);
    let name = wanted(str::from_utf8(name).ok()?)?;
    let address = u64::from_str_radix(str::from_utf8(address).ok()?, 16).ok()?;
    let module = fields.next();
    // Another module may have a variable of the same name.
    let is_ours = module.is_none_or(|module| module == b"[kvm]");
    is_ours.then_some((name, Symbol { address, is_absolute: kind.eq_ignore_ascii_case(b"a"), in_module: module.is_some() }))
}

/// The address, if the kernel shows addresses to this process.
fn visible(symbol: Symbol) -> Result<u64, Obstacle> {
    if symbol.address == 0 {
        return Err(Obstacle::new(
            "the kernel hides the addresses in /proc/kallsyms from this process",
            "run it as root (or with CAP_SYSLOG), and set the sysctl kernel.kptr_restrict to 0 or 1",
        ));
    }
    Ok(symbol.address)
}

fn missing_function(names: &str) -> Obstacle {
    Obstacle::new(
        format!("this kernel's KVM has no function {names}, so its MSR restores cannot be observed"),
        "use a kernel from 4.4 to 7.3 whose KVM is built for x86-64, and not a build that inlines this function",
    )
}

fn missing_data(name: &str) -> Obstacle {
    Obstacle::new(
        format!("/proc/kallsyms does not list the variable {name}"),
        "use a kernel built with CONFIG_KALLSYMS_ALL (Debian's, Ubuntu's and Fedora's are)",
    )
}

#[cfg(test)]
mod tests;
