//! What the live view itself costs on a large host: a made-up ledger of 256 CPUs and 1,000 vCPUs grows by an interval, is taken,
//! and drawn on a terminal in memory. Numbers are in docs/overhead.md.
//!
//!     top_cost FILE     (FILE: ledgers of examples/save_ledgers.rs; the last one is multiplied)

use std::{env, fs, mem::zeroed, sync::Arc, time::Duration};

use anyhow::Context as _;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use shared_msr::{
    kernel::{
        host::{Host, Vendor},
        process::Processes,
    },
    ledger::{CpuRow, Ledger, saved::Saved},
    probe::hooks::Hooks,
    sample::{
        owners::Vm,
        vcpus::{VcpuId, VmId},
    },
    tui::{
        event::Event,
        source::{Cost, Facts, Sample},
        state::State,
        theme::{Colours, Theme},
        update::update,
        view::view,
    },
};

const CPUS: u32 = 256;
const VCPUS: u32 = 1_000;
const VCPUS_OF_A_VM: u32 = 8;
const ROUNDS: u32 = 100;

fn main() -> anyhow::Result<()> {
    let file = env::args().nth(1).context("usage: top_cost FILE")?;
    let text = fs::read_to_string(&file)?;
    let mut ledgers = Vec::new();
    for line in text.lines() {
        ledgers.push(Ledger::from(serde_json::from_str::<Saved>(line)?));
    }
    let model = ledgers.last().context("the file is empty")?;
    let mut state = State::new(facts(), Theme { colours: Colours::True, ascii: false }, (200, 60), Duration::from_secs(1));
    let mut terminal = Terminal::new(TestBackend::new(200, 60))?;
    for view in '1'..='6' {
        state = update(state, Event::Key(KeyEvent::new(KeyCode::Char(view), KeyModifiers::NONE))).0;
        let (mut taking, mut drawing) = (Duration::ZERO, Duration::ZERO);
        for round in 1..=ROUNDS {
            let number = (u32::from(view as u8) - u32::from(b'0')) * ROUNDS + round;
            let ledger = large(model, u64::from(number));
            let sample = Arc::new(Sample { ledger: Arc::new(ledger), cpus: Vec::new(), cost: Cost::default() });
            let start = cpu_time();
            state = update(state, Event::Sample(sample)).0;
            taking += cpu_time() - start;
            let start = cpu_time();
            terminal.draw(|frame| view_of(&state, frame))?;
            drawing += cpu_time() - start;
        }
        println!("view {view}: take a sample {:.2?}, draw {:.2?}", taking / ROUNDS, drawing / ROUNDS);
    }
    let status = fs::read_to_string("/proc/self/status")?;
    status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    Ok(())
}

/// CPU time of this process: what else the machine does is not in it.
fn cpu_time() -> Duration {
    // SAFETY: all zeros is a valid `timespec`.
    let mut time: libc::timespec = unsafe { zeroed() };
    // SAFETY: `time` is a place for one.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

fn view_of(state: &State, frame: &mut ratatui::Frame<'_>) {
    view(state, frame);
}

fn facts() -> Facts {
    let hook = |name: &str| Some(name.to_owned());
    Facts {
        host: Host {
            kernel: "made up".to_owned(),
            online_cpus: (0..CPUS).collect(),
            possible_cpus: (0..CPUS).collect(),
            processes: Processes::ON_THE_HOST,
        },
        vendor: Vendor::Amd,
        hooks: Hooks {
            set: hook("fentry:kvm_set_user_return_msr"),
            close: hook("fentry:kvm_on_user_return"),
            exit: "raw_tracepoint:kvm_exit".to_owned(),
            userspace_exit: "raw_tracepoint:kvm_userspace_exit".to_owned(),
            check: None,
            drop: None,
            restored: None,
            thread_end: "raw_tracepoint:sched_process_exit".to_owned(),
            exec: "raw_tracepoint:sched_process_exec".to_owned(),
            vcpu_made: hook("raw_tracepoint:kvm_write_tsc_offset"),
            check_exit: None,
        },
        refused: Vec::new(),
        list_known: true,
    }
}

/// The model, with as many CPUs and vCPUs, after so many intervals of one and the same load.
fn large(model: &Ledger, round: u64) -> Ledger {
    let mut ledger = model.clone();
    ledger.duration = Duration::from_secs(round);
    let owners = &mut ledger.owners;
    let Some((old, vcpu)) = model.owners.vcpus.iter().next() else { return ledger };
    let tally = model.owners.of(*old);
    owners.vcpus.clear();
    owners.tallies.clear();
    owners.vms.clear();
    owners.banks = None;
    for number in 0..VCPUS {
        let vm = 10_000 + number / VCPUS_OF_A_VM * 20;
        let task = u64::from(vm) << 32 | u64::from(vm + 1 + number % VCPUS_OF_A_VM);
        let mut tally = tally;
        tally.exits = round * u64::from(number + 1);
        tally.slots[0].deferred = tally.exits;
        tally.slots[0].performed = tally.exits / 3;
        let mut vcpu = *vcpu;
        vcpu.task = task;
        vcpu.vm = VmId { process: vm, number: Some(1) };
        vcpu.id = VcpuId::Number(u64::from(number % VCPUS_OF_A_VM));
        vcpu.ended = false;
        owners.vcpus.insert(task, vcpu);
        owners.vms.insert(vm, Vm { name: Some(format!("web{vm}")), command: None });
        owners.tallies.insert(shared_msr_common::TallyKey { owner: task, cpu: u64::MAX }, tally);
    }
    ledger.events.exits = round * u64::from(VCPUS) * u64::from(VCPUS + 1) / 2;
    let first = model.cpus[0].clone();
    let row = |cpu: u32| {
        let mut row = CpuRow { cpu, ..first.clone() };
        row.events.exits = round * 1_000;
        row.counts.performed = Some(round * u64::from(cpu));
        row
    };
    ledger.cpus = (0..CPUS).map(row).collect();
    ledger
}
