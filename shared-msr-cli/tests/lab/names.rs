//! A process has one name in everything that is printed, and names are read where /proc is the host's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;
use shared_msr::kernel::process::PidNamespace;

use crate::support::{
    Ended, Guest, Histogram, Report, Running, arguments, assert_verified, json, on_cpu, shared_msr, wait_until,
};

/// Exits that KVM handles between two returns to user space: few, because a guest pays for the other one only where it was in user mode
/// when its last turn ended.
const CPUIDS: u64 = 5;
/// How often guests have taken turns when there is enough to report.
const TURNS: u64 = 200;
/// The measured command ends when this file is there; a signal would not reach into a PID namespace.
const ENOUGH: &str = "/tmp/enough";

/// Two guests that preempt each other: each pays for the other's restores. A vCPU's thread renames itself.
struct Guests([Guest; 2]);

impl Guests {
    fn start() -> Self {
        on_cpu(0, || Self([0xabc, 0xdef].map(|value| Guest::endless(CPUIDS, value))))
    }

    fn pids(&self) -> [u32; 2] {
        self.0.each_ref().map(Guest::pid)
    }

    /// The threads that run vCPUs.
    fn vcpus(&self) -> [u32; 2] {
        self.pids().map(|pid| {
            let mut found = None;
            wait_until("the guest has a thread for its vCPU", || {
                let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
                found = tasks.flatten().map(|task| task.path()).find(|task| is_vcpu(task));
                found.is_some()
            });
            found.unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
        })
    }
}

fn is_vcpu(task: &Path) -> bool {
    fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "guest-vcpu")
}

/// Where `shared-msr` runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Host,
    /// In a PID namespace of its own with its own /proc.
    OwnProc,
    /// In a PID namespace of its own with the host's /proc.
    HostProc,
}

impl Place {
    /// A command there, of words without blanks.
    fn command(self, words: &str) -> Command {
        let unshare = match self {
            Self::Host => "",
            Self::OwnProc => "unshare -m -p -f --mount-proc",
            Self::HostProc => "unshare -p -f",
        };
        let words = arguments(&format!("{unshare} shared-msr {words}"));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    fn namespace(self) -> PidNamespace {
        if self == Self::Host { PidNamespace::Host } else { PidNamespace::Own }
    }

    fn has_names(self) -> bool {
        self != Self::OwnProc
    }

    /// What a guest is called: its process if that can be asked, else the thread that was seen.
    fn guest_s_name(self) -> &'static str {
        if self.has_names() { "shared-msr" } else { "guest-vcpu" }
    }
}

/// A report that ends when the kernel has seen the guests take turns often enough.
fn report(place: Place, words: &str, guests: &Guests) -> Ended {
    let enough = Enough::not_yet();
    let script = format!("echo >{ENOUGH}.begun; until [ -e {ENOUGH} ]; do usleep 50000; done");
    let mut command = place.command(&format!("report {words} -- sh -c"));
    let report = Running::start(command.arg(script));
    wait_until("it measures", || {
        assert!(Path::new("/proc").join(report.pid().to_string()).exists());
        enough.begun()
    });
    let [one, other] = guests.vcpus();
    let turns = Histogram::start("sched/sched_switch", &["prev_pid", "next_pid"], None);
    wait_until("the guests take turns", || {
        let turns = turns.read();
        let often = |from: u32, to: u32| turns.get(&vec![from.into(), to.into()]).is_some_and(|turns| *turns > TURNS);
        often(one, other) && often(other, one)
    });
    drop(enough);
    report.wait()
}

/// Whether the measured command may end. It may when this is dropped.
struct Enough;

impl Enough {
    fn not_yet() -> Self {
        for file in [ENOUGH.to_owned(), format!("{ENOUGH}.begun")] {
            if Path::new(&file).exists() {
                fs::remove_file(file).unwrap();
            }
        }
        Self
    }

    /// The measured command has begun: hooks are attached before it is started.
    fn begun(&self) -> bool {
        Path::new(&format!("{ENOUGH}.begun")).exists()
    }
}

impl Drop for Enough {
    fn drop(&mut self) {
        if let Err(error) = fs::write(ENOUGH, "") {
            eprintln!("cannot end the measured command: {error}");
        }
    }
}

#[test]
fn on_the_host_each_process_has_one_name_its_own() {
    assert_one_name_each(Place::Host);
}

#[test]
fn in_a_pid_namespace_with_its_own_proc_names_are_those_of_threads() {
    assert_one_name_each(Place::OwnProc);
}

#[test]
fn in_a_pid_namespace_with_the_host_s_proc_names_are_the_host_s() {
    assert_one_name_each(Place::HostProc);
}

fn assert_one_name_each(place: Place) {
    let guests = Guests::start();
    for_programs(place, &guests);
    for_people(place, &guests);
    doctor(place);
}

/// Whatever stands under a process' number is one name.
fn for_programs(place: Place, guests: &Guests) {
    let ended = report(place, "--verify --by cause,payer --format json", guests);
    assert_eq!(ended.status, 0, "{ended:?}");
    let report = ended.report();
    assert_verified(&report);
    assert!(report.host.pid_namespace == place.namespace() && report.host.names == place.has_names(), "{:?}", report.host);
    let pids = guests.pids();
    let is_guest = |tgid: Option<u32>| tgid.is_some_and(|tgid| pids.contains(&tgid));
    let foreign = report.causes.iter().filter(|row| row.cause == "foreign");
    let paid = foreign.filter(|row| row.payer.as_ref().is_some_and(|payer| is_guest(payer.tgid))).count();
    assert_eq!(paid, 2, "each guest paid for the other, in one row each: {:?}", report.causes);
    let names = names(&report);
    assert!(names.values().all(|names| names.len() == 1), "each process has one name: {names:?}");
    for pid in pids {
        let expected = BTreeSet::from([place.guest_s_name().to_owned()]);
        assert_eq!(names.get(&u64::from(pid)), Some(&expected), "guest {pid}: {names:?}");
    }
}

/// All names of each process.
fn names(report: &Report) -> BTreeMap<u64, BTreeSet<String>> {
    let mut names: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let mut add = |tgid: u64, name: Option<&str>| {
        names.entry(tgid).or_default().insert(name.unwrap_or_default().to_owned());
    };
    for vm in &report.vms {
        add(vm.vm.into(), vm.command.as_deref());
    }
    for payer in report.causes.iter().filter_map(|row| row.payer.as_ref()) {
        if let Some(tgid) = payer.tgid {
            add(tgid.into(), payer.command.as_deref());
        }
    }
    let rows = report.rows.as_ref().unwrap();
    assert!(rows.iter().any(|row| row["payer"]["tgid"].is_u64()), "rows have payers: {rows:?}");
    for payer in rows.iter().map(|row| &row["payer"]) {
        if let Some(tgid) = payer["tgid"].as_u64() {
            add(tgid, payer["command"].as_str());
        }
    }
    names
}

fn for_people(place: Place, guests: &Guests) {
    let ended = report(place, "--by payer", guests);
    assert_eq!(ended.status, 0, "{ended:?}");
    for pid in guests.pids() {
        let rows: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with(&format!("{pid} "))).collect();
        assert_eq!(rows.len(), 1, "one row for each payer: {}", ended.stdout);
        assert!(rows[0].starts_with(&format!("{pid} {} ", place.guest_s_name())), "by that name: {rows:?}");
    }
    let said: Vec<&str> = ended.stdout.lines().filter(|line| line.contains("PID namespace")).collect();
    let whose = match place {
        Place::Host => None,
        Place::OwnProc => Some("and /proc is not the host's"),
        Place::HostProc => Some("but /proc is the host's"),
    };
    assert_eq!(said.len(), usize::from(whose.is_some()), "lines about the PID namespace: {said:?}");
    assert!(whose.is_none_or(|whose| said[0].contains(whose)), "it says whose /proc it is: {said:?}");
}

fn doctor(place: Place) {
    let doctor = Running::start(&mut place.command("doctor")).wait();
    assert_eq!(doctor.status, 0, "{doctor:?}");
    let line = doctor.stdout.lines().find(|line| line.contains(" processes ")).unwrap_or_default();
    let verdict = if place.has_names() { "ok " } else { "no " };
    let namespace = if place == Place::Host { "the host's PID" } else { "of its own" };
    assert!(line.starts_with(verdict) && line.contains(namespace), "{}", doctor.stdout);
}

#[test]
fn rows_of_vcpus_have_the_process_s_name_too() {
    let guests = Guests::start();
    let rows = report(Place::Host, "--by vcpu", &guests).stdout;
    for pid in guests.pids() {
        assert!(rows.lines().any(|line| line.starts_with(&format!("{pid} shared-msr: 0 (thread "))), "{pid}: {rows}");
    }
}

#[test]
fn events_name_payers_as_rows_do() {
    let guests = Guests::start();
    let trace = shared_msr("trace --limit 400 --format jsonl");
    assert_eq!(trace.status, 0, "{trace:?}");
    let events = trace.stdout.lines().map(|line| json::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    let closes = events.filter(|event| event["event"] == "close");
    let payers = closes.map(|event| event["payer"].clone());
    let of_guests = payers.filter(|payer| guests.pids().iter().any(|pid| payer["tgid"] == *pid));
    let names: BTreeSet<String> = of_guests.map(|payer| payer["command"].to_string()).collect();
    assert_eq!(names, BTreeSet::from(["\"shared-msr\"".to_owned()]));
}
