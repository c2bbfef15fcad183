//! The live view on a terminal of its own: what it shows of loads of known size, and how it leaves the terminal.
//!
//! Runs where time is a count of instructions, so that a load falls into the interval that it is meant for, however busy the
//! machine is that emulates.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use shared_msr::guest::GuestOutcome;

use crate::support::{
    KernelCounter, OnTerminal, Report, Terminal, is_attached, json, process_named, send, shared_msr, wait_until,
    wait_until_no_program_is_left,
};

/// Of the view with the loads.
const INTERVAL: Duration = Duration::from_secs(5);
/// By how much a sample may be late or early.
const LATE: f64 = 0.1;
/// Exits beyond those that a guest makes on purpose (timer interrupts, page faults), and restores that other tasks paid for.
const OTHERS: u64 = 500;

/// Waits until `shared-msr` measures, and gives its process.
fn measuring() -> u32 {
    let mut process = None;
    wait_until("the view measures", || {
        process = process_named("shared-msr");
        process.is_some_and(is_attached)
    });
    process.unwrap()
}

/// A view that is begun by a shell, as a person does it.
struct Session {
    terminal: Terminal,
    shell: OnTerminal,
    settings: (u32, u32, u32, u32, [u8; libc::NCCS]),
    process: u32,
}

impl Session {
    /// Starts it, and waits until it measures and shows it.
    fn begin(options: &str) -> Self {
        // In the shell's own words it says how often the view came back to it, and with which status.
        let script = format!("shared-msr top --export-dir /tmp {options}; echo $? >/tmp/top.status; exit 0");
        Self::begin_script(&script)
    }

    fn begin_script(script: &str) -> Self {
        for file in ["/tmp/top.status", "/tmp/top.stopped"] {
            let _ = fs::remove_file(file);
        }
        let terminal = Terminal::open();
        let settings = terminal.settings();
        // With job control, as shells have it on a terminal.
        let shell = terminal.run(Command::new("sh").args(["-m", "-c", script]));
        let process = measuring();
        let session = Self { terminal, shell, settings, process };
        session.terminal.wait_for("the view is there", |shown| shown.contains("1 Overview"));
        session
    }

    /// It ends well, and the terminal is as before.
    #[track_caller]
    fn assert_ends_well(mut self) {
        assert_eq!(self.shell.wait(), Some(0));
        assert_eq!(fs::read_to_string("/tmp/top.status").unwrap().trim(), "0", "the view's exit status");
        assert!(self.terminal.settings() == self.settings, "the terminal's settings are as before");
        wait_until("the picture is left and the cursor is back", || self.terminal.is_left());
        wait_until_no_program_is_left();
    }
}

/// What the terminal shows.
struct Screen(String);

impl Screen {
    /// The first line that begins with this word.
    #[track_caller]
    fn line(&self, label: &str) -> &str {
        let line = self.0.lines().find(|line| line.split_whitespace().next() == Some(label));
        line.unwrap_or_else(|| panic!("no line {label} in\n{}", self.0))
    }

    /// The numbers behind a label, up to the first word that is none.
    #[track_caller]
    fn row(&self, label: &str) -> Vec<f64> {
        let rest = self.line(label).split_once(label).unwrap().1;
        let row: Vec<f64> = rest.split_whitespace().map_while(|word| word.replace(',', "").parse().ok()).collect();
        assert!(!row.is_empty(), "no number behind {label} in\n{}", self.0);
        row
    }

    /// Of the rows below a heading, the first of the last `count` columns. What stands before them is a name, if it is known.
    fn last_columns(&self, heading: &str, count: usize) -> Vec<f64> {
        let below = self.0.lines().skip_while(|line| !line.starts_with(&format!("{heading} ")) || !line.contains('▼')).skip(1);
        let column = |line: &str| line.split_whitespace().rev().nth(count - 1)?.replace(',', "").parse().ok();
        below.map_while(column).collect()
    }
}

/// A load, and what the kernel counted of it.
struct Burst {
    exits: u64,
    performed: u64,
}

impl Burst {
    fn run(outs: u64, cpuids: u64, kernel: [&KernelCounter; 2]) -> Self {
        let before = kernel.map(KernelCounter::count);
        let words = format!("guest --format json --tsc-aux 0xabc --outs {outs} --cpuids {cpuids}");
        let guest: GuestOutcome = json(&shared_msr(&words).stdout).unwrap();
        assert_eq!(guest.outs, outs);
        let after = kernel.map(KernelCounter::count);
        let burst = Self { exits: after[0] - before[0], performed: after[1] - before[1] };
        // Each KVM_RUN, and the call that sets the guest's MSR; more where another task came in between.
        for (number, least) in [(burst.exits, outs * (cpuids + 1)), (burst.performed, outs + 1)] {
            assert!(
                (least..=least + OTHERS).contains(&number),
                "the kernel counts the known load, {least}, and few others: {number}"
            );
        }
        burst
    }
}

#[test]
fn rates_are_those_of_an_interval_and_totals_are_the_kernel_s() {
    let exits = KernelCounter::start("kvm/kvm_exit", None);
    let performed = KernelCounter::start("msr/write_msr", Some("msr == 0xc0000103 && val < 8"));
    let written = KernelCounter::start("msr/write_msr", Some("msr == 0xc0000103 && val >= 8"));
    let mut session = Session::begin("--interval 5s --by-reason");
    let begin = Instant::now();
    // A quarter of an interval after its begin there is time enough for a load, and for the sample before it to be on the screen.
    let wait_for_interval = |number: u32| {
        let at = INTERVAL * number + INTERVAL / 4;
        thread::sleep(at.saturating_sub(begin.elapsed()));
    };
    // Each is shown in the next interval.
    let loads = [(300, 20), (100, 40), (10, 500)];
    let mut bursts = Vec::new();
    let mut shown = Vec::new();
    for (number, (outs, cpuids)) in (1..).zip(loads) {
        wait_for_interval(number);
        shown.push(Screen(session.terminal.shown()));
        bursts.push(Burst::run(outs, cpuids, [&exits, &performed]));
        assert!(begin.elapsed() < INTERVAL * (number + 1), "the load does not fit into its interval");
    }
    for number in [4, 5] {
        wait_for_interval(number);
        shown.push(Screen(session.terminal.shown()));
    }
    for (burst, screen) in bursts.iter().zip(&shown[1..]) {
        let rate = |what: &str| screen.row(what)[0];
        for (what, counted) in [("exits/s", burst.exits), ("performed/s", burst.performed)] {
            let exact = counted as f64 / INTERVAL.as_secs_f64();
            let near = exact * (1.0 - LATE)..=exact * (1.0 + LATE);
            assert!(rate(what) > 0.0 && near.contains(&rate(what)), "{what}: {} for {exact}\n{}", rate(what), screen.0);
        }
        let all = rate("exits/s");
        assert!((all * 0.95..=all).contains(&rate("deferred/s")), "almost every exit put a restore off\n{}", screen.0);
    }
    for what in ["exits/s", "deferred/s", "performed/s"] {
        assert_eq!(shown[4].row(what)[0], 0.0, "nothing happened in this interval");
    }

    let counted = [&exits, &performed, &written].map(KernelCounter::count);
    let mut press = |keys: &str, what: &str, is_there: &dyn Fn(&str) -> bool| {
        session.terminal.press(keys);
        Screen(session.terminal.wait_for(what, is_there))
    };
    let has_word = |shown: &str, word: &str| shown.lines().any(|line| line.split_whitespace().next() == Some(word));
    let overview = press("t", "totals", &|shown| shown.lines().next().is_some_and(|line| line.trim_end().ends_with("totals")));
    assert_eq!(overview.row("TSC_AUX")[1], counted[1] as f64, "performed\n{}", overview.0);
    assert_eq!(overview.row("TSC_AUX")[3], counted[2] as f64, "written\n{}", overview.0);
    let vms = press("2", "VMs", &|shown| has_word(shown, "VM"));
    let of_vms = vms.last_columns("VM", 9);
    assert_eq!(of_vms.len(), loads.len(), "one for each load\n{}", vms.0);
    assert_eq!(of_vms.iter().sum::<f64>(), counted[0] as f64, "exits\n{}", vms.0);
    let vcpus = press("\r", "the vCPUs of the first VM", &|shown| has_word(shown, "VCPU"));
    assert_eq!(vcpus.last_columns("VCPU", 8), of_vms[..1], "{}", vcpus.0);
    let reasons = press("4", "Exits", &|shown| has_word(shown, "io"));
    let outs: u64 = loads.iter().map(|(outs, _)| outs).sum();
    assert_eq!(reasons.row("io")[0], outs as f64, "{}", reasons.0);
    assert!(reasons.line("io").contains("100.0%"), "all OUTs ended in user space\n{}", reasons.0);
    assert!(reasons.line("cpuid").contains(" 0.0%"), "no CPUID did\n{}", reasons.0);
    let exported = press("e", "where the export is", &|shown| shown.contains("wrote /tmp/shared-msr-"));
    let word = exported.0.split_whitespace().find(|word| word.starts_with("/tmp/shared-msr-")).unwrap();
    let export: Report = json(&fs::read_to_string(word.trim_end_matches([',', '.'])).unwrap()).unwrap();
    assert_eq!(export.totals.events.exits, counted[0]);
    assert_eq!(export.totals.counts.performed, Some(counted[1]));
    session.terminal.press("q");
    session.assert_ends_well();
}

/// What does not need the time of an instruction count: also where the emulator has none.
mod on_any_host {
    use super::*;

    #[test]
    fn exits_of_a_vm_are_the_kernel_s_and_a_key_ends_the_view() {
        let kernel = KernelCounter::start("kvm/kvm_exit", None);
        let mut session = Session::begin("--interval 1s");
        let guest: GuestOutcome = json(&shared_msr("guest --format json --outs 50 --cpuids 10 --tsc-aux 0xabc").stdout).unwrap();
        assert_eq!(guest.outs, 50);
        let counted = kernel.count();
        assert!(counted >= 50 * 11, "the kernel counts the known load: {counted}");
        // Totals, of VMs.
        session.terminal.press("t2");
        session
            .terminal
            .wait_for("the VM with its exits", |shown| Screen(shown.to_owned()).last_columns("VM", 9) == [counted as f64]);
        session.terminal.press("q");
        session.assert_ends_well();
    }
}

#[test]
fn a_signal_ends_the_view_and_leaves_the_terminal_as_it_was() {
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGINT] {
        let session = Session::begin("");
        send(session.process, signal);
        session.assert_ends_well();
    }
}

#[test]
fn ctrl_z_stops_the_view_and_fg_brings_it_back() {
    let script =
        "shared-msr top; echo $? >/tmp/top.stopped; read -r _ </dev/tty; fg >/dev/null; echo $? >/tmp/top.status; exit 0";
    let mut session = Session::begin_script(script);
    session.terminal.press("\x1a");
    wait_until("the shell has it back", || fs::read_to_string("/tmp/top.stopped").is_ok_and(|text| text.ends_with('\n')));
    // 128 and the signal's number.
    assert_eq!(fs::read_to_string("/tmp/top.stopped").unwrap().trim(), "148");
    let state = fs::read_to_string(format!("/proc/{}/stat", session.process)).unwrap();
    assert!(state.contains(") T "), "the process is stopped: {state}");
    assert!(session.terminal.settings() == session.settings, "meanwhile the settings are as before");
    wait_until("the picture is left", || session.terminal.is_left());
    session.terminal.press("\n");
    session.terminal.wait_for("the view is back", |shown| shown.contains("1 Overview") && shown.lines().count() > 10);
    session.terminal.press("q");
    session.assert_ends_well();
}

/// Standard error goes with the terminal. With the signal that says so; with it ignored, as nohup does; and without it, as a view
/// in another session has it, which draws next in an hour.
#[test]
fn a_terminal_that_hangs_up_ends_the_view_without_a_panic() {
    for script in [
        "exec shared-msr top --interval 200ms",
        "trap '' HUP; exec shared-msr top --interval 200ms",
        "trap '' HUP; setsid shared-msr top --interval 1h; exit $?",
    ] {
        let terminal = Terminal::open();
        let mut shell = terminal.run(Command::new("sh").args(["-c", script]));
        measuring();
        terminal.wait_for("the view is there", |shown| shown.contains("1 Overview"));
        terminal.hang_up();
        // 101 would be a panic.
        assert_eq!(shell.wait(), Some(1), "{script}");
        wait_until_no_program_is_left();
    }
}
