//! Looks at the host step by step, and keeps what each step found: `doctor` shows all of it, the other commands stop at
//! the first thing without which nothing can be measured.

use std::{thread, time::Duration};

use super::{
    lookup,
    reader::{Known, Reader},
    target::{Tables, Target},
};
use crate::{
    kernel::{
        btf::KernelBtf,
        host::{self, Host, Vendor},
        kprobes,
        layout::{KnownLayout, Layout},
        plausible,
        process::Processes,
        rights,
        symbols::{CLOSER, Symbols},
        tables::{self, Slot},
    },
    obstacle::Obstacle,
};

/// What an obstacle means for a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Nothing can be measured.
    Fatal,
    /// Something else is done instead, or less is told.
    Limit,
}

/// What one step found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was looked at, in a word.
    pub topic: &'static str,
    /// What is there, or what stands in the way.
    pub outcome: Result<String, Obstacle>,
    /// What it means if something stands in the way.
    pub weight: Weight,
}

/// The findings, and what they add up to.
pub struct Survey {
    /// In the order they were made.
    pub findings: Vec<Finding>,
    /// None when nothing can be measured.
    pub target: Option<Target>,
}

impl Target {
    /// What is known about this kernel, or the first thing without which nothing can be measured.
    pub fn find() -> Result<Self, Obstacle> {
        let survey = Survey::make();
        if let Some(target) = survey.target {
            return Ok(target);
        }
        let mut obstacles = survey
            .findings
            .into_iter()
            .filter(|finding| finding.weight == Weight::Fatal)
            .filter_map(|finding| finding.outcome.err());
        Err(obstacles
            .next()
            .unwrap_or_else(|| Obstacle::new("the survey of this host found no target", "report this as a defect")))
    }
}

impl Survey {
    /// Looks at everything, as far as each obstacle allows.
    pub fn make() -> Self {
        let mut survey = Self { findings: Vec::new(), target: None };
        survey.target = survey.look();
        survey
    }

    /// Keeps the outcome of a step, and hands it on.
    fn keep<T>(
        &mut self,
        topic: &'static str,
        weight: Weight,
        result: Result<T, Obstacle>,
        text: impl FnOnce(&T) -> String,
    ) -> Result<T, Obstacle> {
        let outcome = result.as_ref().map(text).map_err(Clone::clone);
        self.findings.push(Finding { topic, outcome, weight });
        result
    }

    fn look(&mut self) -> Option<Target> {
        // Every step is made before the first `?`, so that doctor can name every obstacle.
        let rights = self.keep("rights", Weight::Fatal, rights::check(), Clone::clone);
        let host = self.keep("host", Weight::Fatal, Host::read(), |host| {
            format!("Linux {}, {} of {} CPUs online", host.kernel, host.online_cpus.len(), host.possible_cpus.len())
        });
        let _ = self.keep("processes", Weight::Limit, Processes::read().described(), Clone::clone);
        let vendor = self.keep("kvm", Weight::Fatal, host::vendor(), |vendor| vendor.module().to_owned());
        // Without KVM, the lack of its symbols is no news.
        let (host, vendor) = (host.ok()?, vendor.ok()?);
        let btf = KernelBtf::read(host::kvm_is_module());
        let symbols = self.symbols(&btf).unwrap_or_default();
        let setter = self.keep("setter", Weight::Limit, symbols.setter(), |name| (*name).to_owned());
        let closer = self.keep("closer", Weight::Limit, symbols.closer(), |_| CLOSER.to_owned());
        let dropper = symbols.dropper();
        let _ = self.keep("kprobes", Weight::Limit, kprobes::check(), Clone::clone);
        let described = btf.kvm().map(|_| ()).map_err(|why| {
            Obstacle::new(why, "fentry needs CONFIG_DEBUG_INFO_BTF and CONFIG_DEBUG_INFO_BTF_MODULES; kprobes do without")
        });
        let _ = self.keep("btf", Weight::Limit, described, |()| "of vmlinux and KVM".to_owned());
        rights.ok()?;
        let tables = self.tables(&symbols, (&host, vendor), &btf);
        let tracepoints_are_preemptible = symbols.tracepoints_are_preemptible();
        Some(Target { host, vendor, setter, closer, dropper, tracepoints_are_preemptible, tables, btf })
    }

    /// Asks the kernel for the symbols where that is quick, or else reads its list.
    fn symbols(&mut self, btf: &KernelBtf) -> Result<Symbols, Obstacle> {
        match lookup::symbols(btf) {
            Ok(symbols) => self.keep("symbols", Weight::Limit, Ok(symbols), |_| "looked up by name".to_owned()),
            Err(why) => {
                self.keep("symbols", Weight::Limit, Symbols::read(), |_| format!("/proc/kallsyms, because {}", why.problem))
            }
        }
    }

    /// Finds a way to read kernel memory, and keeps why there is no better one.
    fn reader(&mut self, known: &Known) -> Result<Reader, Obstacle> {
        let reader = Reader::find(known);
        for better in reader.iter().flat_map(|reader| &reader.refused) {
            let mut why = better.why.clone();
            why.problem = format!("not by {}: {}", better.name, why.problem);
            self.findings.push(Finding { topic: "memory", outcome: Err(why), weight: Weight::Limit });
        }
        self.keep("memory", Weight::Limit, reader, |reader| format!("by {}", reader.name))
    }

    fn tables(&mut self, symbols: &Symbols, (host, vendor): (&Host, Vendor), btf: &KernelBtf) -> Result<Tables, Obstacle> {
        let addresses = || {
            let known = Known::banner(symbols.banner()?, &host.kernel);
            Ok((symbols.list()?, symbols.structures()?, symbols.per_cpu_offsets()?, known))
        };
        let addresses =
            self.keep("variables", Weight::Limit, addresses(), |_| "the list of MSRs and the per-CPU structures".to_owned());
        let (list_symbols, symbol, offsets, known) = addresses?;
        let reader = self.reader(&known)?;
        let certain = plausible::certain(vendor, list_symbols).map(|index| (index, vendor));
        let read = tables::read_list(&reader, list_symbols).and_then(|list| plausible::list(&list, certain).map(|()| list));
        let list = self.keep("list", Weight::Limit, read, |list| describe_list(list))?;
        let layout = KnownLayout::find(btf);
        let closer = symbols.closer().map_or(0, |closer| closer.address);
        let checked = tables::per_cpu_offsets(&reader, offsets, &host.possible_cpus).and_then(|offsets| {
            if let Some(own) = symbols.own_offset() {
                plausible::offsets(&reader, own, &host.possible_cpus, &offsets)?;
            }
            let base = tables::structure_base(&reader, symbol)?;
            let structures: Vec<u64> = offsets.iter().map(|offset| base.wrapping_add(*offset)).collect();
            for (cpu, address) in host.possible_cpus.iter().zip(&structures) {
                let verdict = check_structure(&reader, *address, layout.layout, list.len(), closer);
                let verdict = verdict.map_err(|why| why.of(format!("the per-CPU structure of CPU {cpu}")))?;
                verdict.map_err(|why| implausible(*cpu, &why, &layout))?;
            }
            Ok((base, offsets, structures))
        });
        let (base, per_cpu_offsets, structures) = self.keep("layout", Weight::Limit, checked, |_| describe_layout(&layout))?;
        let form = symbols.set_form(&list);
        let running_vcpu = symbols.running_vcpu();
        Ok(Tables { list, form, layout, structures, base, per_cpu_offsets, symbol, list_symbols, running_vcpu, reader })
    }
}

fn describe_list(list: &[Slot]) -> String {
    let names: Vec<&str> = list.iter().map(|slot| slot.name.as_str()).collect();
    match list.len() {
        0 => "empty: this vendor's module does not use user-return MSRs".to_owned(),
        1 => format!("1 slot ({})", names[0]),
        slots => format!("{slots} slots ({})", names.join(", ")),
    }
}

fn describe_layout(layout: &KnownLayout) -> String {
    match &layout.without_btf {
        None => "from KVM's BTF, and the structures agree with it".to_owned(),
        Some(why) => format!("the documented one, because {why}; the structures agree with it"),
    }
}

fn implausible(cpu: u32, why: &str, layout: &KnownLayout) -> Obstacle {
    let source = if layout.without_btf.is_some() { "the documented layout (there is no BTF)" } else { "the layout from BTF" };
    Obstacle::new(
        format!("the per-CPU structure of CPU {cpu} does not look like {source}: {why}"),
        "use a kernel with CONFIG_DEBUG_INFO_BTF and CONFIG_DEBUG_INFO_BTF_MODULES, and report this one to the authors of shared-msr",
    )
}

/// Reads a structure and checks it; says what contradicts it. A close that is just running has taken back `registered` but not yet
/// all values, so a contradiction must stand for a while before it is believed.
fn check_structure(
    reader: &Reader,
    address: u64,
    layout: Layout,
    slots: usize,
    closer: u64,
) -> Result<Result<(), String>, Obstacle> {
    let mut verdict = Ok(());
    for _ in 0..10 {
        verdict = tables::read_structure(reader, address, layout)?.check(slots, closer);
        if verdict.is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(verdict)
}
