//! Guests that come and go: no sum is wrong, no owner stays behind, and what finds no place is told.

use std::collections::BTreeSet;

use crate::support::{
    Histogram, KernelCounter, Measuring, Report, Running, assert_nothing_lost, assert_reconciled, assert_verified, close_windows,
    command, wait_until,
};

/// How many vCPUs the first run must have seen at least, to have shown anything.
const MANY: usize = 20;
/// The first guest's `TSC_AUX`; each next one has the next number.
const FIRST: u64 = 0xa00;

/// Guests that are started and killed in an order that looks random and is the same each time.
struct Churn {
    random: u64,
    places: Vec<Option<Running>>,
    started: u64,
    /// The processes that were killed.
    killed: BTreeSet<u32>,
    /// The kernel's count of loads, by value: who is in it has run.
    loads: Histogram,
}

impl Churn {
    /// No guest yet, and places for this many at once.
    fn of(places: usize) -> Self {
        Self {
            random: 4711,
            places: std::iter::repeat_with(|| None).take(places).collect(),
            started: 0,
            killed: BTreeSet::new(),
            loads: Histogram::start("msr/write_msr", &["val"], Some("msr == 0xc0000103 && val >= 8")),
        }
    }

    /// A number below this one. Knuth's generator (MMIX).
    fn random(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % below
    }

    /// Starts a guest at a free place, and waits until it has run.
    fn start_and_wait(&mut self, place: usize) {
        let value = self.start(place);
        wait_until("the guest's value is loaded", || self.loads.read().contains_key(&vec![value]));
    }

    /// Starts a guest at a free place. Says its value.
    fn start(&mut self, place: usize) -> u64 {
        let value = FIRST + self.started;
        self.started += 1;
        let guest = Running::start(&mut command(&format!("guest --outs 1000000000 --cpuids 3 --tsc-aux {value}")));
        assert!(self.places[place].replace(guest).is_none());
        value
    }

    /// Kills who is there. A window may stay open.
    fn kill(&mut self, place: usize) {
        if let Some(guest) = self.places[place].take() {
            self.killed.insert(guest.pid());
        }
    }

    /// Starts one where there is none, and kills it where there is one: perhaps before it has run.
    fn step(&mut self) {
        let place = self.random(self.places.len());
        if self.places[place].is_some() {
            self.kill(place);
        } else if self.random(4) == 0 {
            self.start(place);
        } else {
            self.start_and_wait(place);
        }
    }

    /// Kills all, and leaves no window open.
    fn end(&mut self) {
        (0..self.places.len()).for_each(|place| self.kill(place));
        close_windows();
    }

    fn running(&self) -> BTreeSet<u32> {
        self.places.iter().flatten().map(Running::pid).collect()
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn guests_that_come_and_go_leave_rows_but_no_space() {
    // Some are there before, and some still there after.
    let mut churn = Churn::of(8);
    (0..3).for_each(|place| churn.start_and_wait(place));
    churn.kill(0);
    churn.killed.clear();
    let mut report = Running::start(&mut command("report --verify --format json"));
    report.wait_until_attached();
    // BPF_MAP_DELETE_ELEM: the program gives space back. A vCPU has several entries, in several maps.
    let deleted = KernelCounter::start("syscalls/sys_enter_bpf", Some("cmd == 3"));
    let mut steps = 0;
    while churn.loads.read().len() <= MANY + 2 || deleted.count() < 10 {
        churn.step();
        steps += 1;
        assert!(steps < 1000, "no space is given back");
    }
    let killed = churn.killed.clone();
    if churn.running().is_empty() {
        churn.start_and_wait(0);
    }
    report.signal(libc::SIGINT);
    let ended = report.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    let report = ended.report();
    assert_verified(&report);
    assert_ended(&report, &killed);
    assert_map(&report);
    assert!(report.owners_compared, "the program has compared owners with CPUs");
    let running = churn.running();
    let row = report.vcpus.iter().find(|row| running.contains(&row.vm));
    assert!(row.is_some_and(|row| !row.ended), "who still runs has not ended: {row:?}");
}

#[test]
fn what_vcpus_without_a_place_do_is_nobody_s_and_told() {
    let mut churn = Churn::of(6);
    let measuring = Measuring::start("--max-vcpus 4");
    (0..6).for_each(|place| churn.start_and_wait(place));
    (0..20).for_each(|_| churn.step());
    churn.end();
    let measured = measuring.stop();
    measured.assert_right();
    let report = &measured.report;
    assert_ended(report, &churn.killed);
    assert!(report.lost.refused_vcpus > 0, "vCPUs without a place are told: {:?}", report.lost);
    let mut others = report.clone();
    others.lost.refused_vcpus = 0;
    assert_nothing_lost(&others);
    assert!(report.unattributed.exits > 0, "their exits are unattributed: {:?}", report.unattributed);
    assert!(report.vcpus.iter().any(|row| row.numbers.exits > 0), "the others' are not: {:?}", report.vcpus);
    assert_eq!(report.vcpu_map.most, 4, "the map holds no more than it was told");
    assert!((1..=4).contains(&report.vcpu_map.used), "{:?}", report.vcpu_map);
}

#[test]
fn the_table_begins_with_what_is_lost_and_what_helps() {
    let mut churn = Churn::of(3);
    let mut report = Running::start(&mut command("report --verify --max-vcpus 2"));
    report.wait_until_attached();
    (0..3).for_each(|place| churn.start_and_wait(place));
    churn.end();
    report.signal(libc::SIGINT);
    let ended = report.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    let second = ended.stdout.lines().nth(1).unwrap_or_default();
    assert!(second.starts_with("LOST: ") && second.contains("--max-vcpus") && second.contains("unattributed"), "{ended:?}");
}

/// No killed guest is taken for a running one.
fn assert_ended(report: &Report, killed: &BTreeSet<u32>) {
    let seen: Vec<_> = report.vcpus.iter().filter(|row| killed.contains(&row.vm)).collect();
    assert!(!seen.is_empty(), "of {killed:?} none was seen: {:?}", report.vcpus);
    for row in seen {
        assert!(row.ended, "it was killed: {row:?}");
    }
}

/// Who is not in the map any more still has a row.
fn assert_map(report: &Report) {
    assert_reconciled(report);
    let (map, rows) = (&report.vcpu_map, report.vcpus.len());
    assert!(rows >= MANY, "{rows} vCPUs");
    assert!(map.given_back > 0, "space in the map was given back: {map:?}");
    assert_eq!(map.used + map.given_back, rows as u64 + map.merged, "who is not in the map any more still has a row: {map:?}");
    let running = report.vcpus.iter().filter(|row| !row.ended).count() as u64;
    assert!(
        (running..rows as u64).contains(&map.used),
        "the map does not hold all that ever were: {map:?}, {running} of {rows} run"
    );
}
