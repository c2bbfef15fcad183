//! Looks at the host step by step, and keeps what each step found: `doctor` shows all of it, the other commands stop at
//! the first obstacle.

use std::{thread, time::Duration};

use super::peek::Peek;
use crate::{
    kernel::{
        host::{self, Host, Vendor},
        kprobes,
        layout::{KnownLayout, Layout},
        rights,
        structure::Structure,
        symbols::{CLOSER, ListSymbols, Symbols},
        tables::{self, Slot},
    },
    obstacle::Obstacle,
};

/// What one step found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was looked at, in a word.
    pub topic: &'static str,
    /// What is there, or what stands in the way.
    pub outcome: Result<String, Obstacle>,
}

/// Everything a measurement has to know about the kernel.
pub struct Target {
    /// The machine.
    pub host: Host,
    /// Which part of KVM runs guests.
    pub vendor: Vendor,
    /// The setter's name.
    pub setter: &'static str,
    /// KVM's list of MSRs.
    pub list: Vec<Slot>,
    /// Layout of the per-CPU structures.
    pub layout: KnownLayout,
    /// Where the structures are, in the order of `host.possible_cpus`.
    pub structures: Vec<u64>,
    /// Reads kernel memory.
    pub peek: Peek,
}

/// The findings, and what they add up to.
pub struct Survey {
    /// In the order they were made.
    pub findings: Vec<Finding>,
    /// The setter's name, when KVM has one.
    pub setter: Option<&'static str>,
    /// KVM is there, and this process may attach programs to it.
    pub hooks_can_be_tried: bool,
    /// None when something stands in the way.
    pub target: Option<Target>,
}

impl Target {
    /// Everything a measurement needs, or the first thing in its way.
    pub fn find() -> Result<Self, Obstacle> {
        let survey = Survey::make();
        match survey.target {
            Some(target) => Ok(target),
            None => Err(survey
                .findings
                .into_iter()
                .find_map(|finding| finding.outcome.err())
                .unwrap_or_else(|| Obstacle::new("the survey of this host found no target", "report this as a defect"))),
        }
    }

    /// The structure at `address`.
    pub fn read_structure(&self, address: u64) -> Result<Structure, Obstacle> {
        tables::read_structure(&self.peek, address, self.layout.layout)
    }
}

impl Survey {
    /// Looks at everything, as far as each obstacle allows.
    pub fn make() -> Self {
        let mut survey = Self { findings: Vec::new(), setter: None, hooks_can_be_tried: false, target: None };
        survey.target = survey.look();
        survey
    }

    /// Keeps the outcome of a step; hands on its value.
    fn keep<T>(&mut self, topic: &'static str, result: Result<T, Obstacle>, text: impl FnOnce(&T) -> String) -> Option<T> {
        let (outcome, value) = match result {
            Ok(value) => (Ok(text(&value)), Some(value)),
            Err(obstacle) => (Err(obstacle), None),
        };
        self.findings.push(Finding { topic, outcome });
        value
    }

    fn look(&mut self) -> Option<Target> {
        // Steps that do not depend on each other are all made before the first `?`, so that doctor can name every obstacle.
        let rights = self.keep("rights", rights::check(), Clone::clone);
        let host = self.keep("host", Host::read(), |host| {
            format!("Linux {}, {} of {} CPUs online", host.kernel, host.online_cpus.len(), host.possible_cpus.len())
        });
        let vendor = self.keep("kvm", host::vendor(), |vendor| vendor.module().to_owned());
        self.hooks_can_be_tried = rights.is_some() && vendor.is_some();
        let symbols = self.keep("symbols", Symbols::read(), |_| "/proc/kallsyms".to_owned())?;
        // Without KVM, the lack of its symbols is no news.
        let vendor = vendor?;
        self.setter = self.keep("setter", symbols.setter(), |name| (*name).to_owned());
        let closer = self.keep("closer", symbols.closer(), |_| CLOSER.to_owned());
        let kprobes = self.keep("kprobes", kprobes::check(), Clone::clone);
        let variables = || Ok((symbols.list()?, symbols.structures()?, symbols.per_cpu_offsets()?));
        let variables = self.keep("variables", variables(), |_| "the list of MSRs and the per-CPU structures".to_owned());
        let (host, setter, closer) = (host?, self.setter?, closer?);
        let (list, structures, offsets) = variables?;
        rights?;
        kprobes?;

        let peek = self.keep("memory", Peek::load(), |_| "kernel memory can be read by a BPF program".to_owned())?;
        let list = self.keep("list", read_list(&peek, list, vendor), |list| describe_list(list))?;
        let layout = KnownLayout::read(symbols.kvm_is_module());
        let addresses = tables::structure_addresses(&peek, structures, offsets, &host.possible_cpus);
        let checked = addresses.and_then(|addresses| {
            for (cpu, address) in host.possible_cpus.iter().zip(&addresses) {
                check_structure(&peek, *address, layout.layout, list.len(), closer.address)
                    .map_err(|why| implausible(*cpu, &why, &layout))?;
            }
            Ok(addresses)
        });
        let structures = self.keep("layout", checked, |_| describe_layout(&layout))?;
        Some(Target { host, vendor, setter, list, layout, structures, peek })
    }
}

fn read_list(peek: &Peek, symbols: ListSymbols, vendor: Vendor) -> Result<Vec<Slot>, Obstacle> {
    let list = tables::read_list(peek, symbols)?;
    if list.is_empty() {
        return Err(Obstacle::new(
            format!("this kernel's {} does not use user-return MSRs: KVM's list of them is empty", vendor.module()),
            "there is nothing to measure here; kvm_amd uses them from Linux 5.13, and only on CPUs with RDTSCP or RDPID",
        ));
    }
    Ok(list)
}

fn describe_list(list: &[Slot]) -> String {
    let names: Vec<&str> = list.iter().map(|slot| slot.name.as_str()).collect();
    format!("{} ({})", if list.len() == 1 { "1 slot".to_owned() } else { format!("{} slots", list.len()) }, names.join(", "))
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

/// Reads a structure and checks it. A close that is just running has taken back `registered` but not yet all values, so
/// a contradiction must stand for a while before it is believed.
fn check_structure(peek: &Peek, address: u64, layout: Layout, slots: usize, closer: u64) -> Result<(), String> {
    let mut verdict = Ok(());
    for _ in 0..10 {
        let structure = tables::read_structure(peek, address, layout).map_err(|obstacle| obstacle.problem)?;
        verdict = structure.check(slots, closer);
        if verdict.is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    verdict
}
