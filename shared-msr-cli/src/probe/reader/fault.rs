//! By a program on a perf event that counts the page faults of one thread (`PERF_COUNT_SW_PAGE_FAULTS`; programs on perf events are
//! there since Linux 4.9, 0515e5999a46). The thread makes such a fault when it wants an answer; question and answer go through maps.

use std::{
    cell::{Cell, RefCell},
    thread::{self, ThreadId},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData},
    programs::{
        PerfEvent,
        perf_event::{PerfEventConfig, PerfEventLink, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
};
use shared_msr_common::{PeekBuffer, PeekQuestion};

use super::{Known, Way, answer::answer, page::Page};
use crate::{
    kernel::{rights, tables::Memory},
    obstacle::Obstacle,
    probe::{object, on_demand},
};

const PROGRAM: &str = "shared_msr_peek_fault";

/// The kernel passes over a program that comes while the CPU is in another one (kernel/events/core.c, `bpf_overflow_handler`), and
/// over an event that comes too often until its next tick (`__perf_event_account_interrupt`).
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);

struct Fault {
    bpf: RefCell<Ebpf>,
    buffer: Array<MapData, PeekBuffer>,
    question: RefCell<Array<MapData, PeekQuestion>>,
    page: Page,
    runs: Cell<u64>,
    /// The event, and the thread whose faults it counts. No two threads of a process ever have the same [`ThreadId`].
    event: RefCell<Option<(ThreadId, PerfEventLink)>>,
}

/// Loads the program.
pub(super) fn open(_known: &Known) -> Result<Way, Obstacle> {
    rights::check_perf_events()?;
    let mut bpf = EbpfLoader::new()
        .load(on_demand::OBJECT)
        .map_err(|error| object::refused("the maps of a program that reads kernel memory", &error))?;
    let mut map = |name: &str| bpf.take_map(name).ok_or_else(|| object::missing(&format!("map {name}")));
    let (buffer, question) = (map("PEEK")?, map("PEEK_QUESTION")?);
    let buffer = Array::try_from(buffer).map_err(|error| object::refused("the map PEEK", &error))?;
    let question = Array::try_from(question).map_err(|error| object::refused("the map PEEK_QUESTION", &error))?;
    program(&mut bpf)?.load().map_err(|error| object::refused("a program that reads kernel memory", &error))?;
    let page = Page::new().map_err(|error| object::refused("a page to make faults with", &error))?;
    let (bpf, question) = (RefCell::new(bpf), RefCell::new(question));
    Ok(Box::new(Fault { bpf, buffer, question, page, runs: Cell::new(0), event: RefCell::new(None) }))
}

fn program(bpf: &mut Ebpf) -> Result<&mut PerfEvent, Obstacle> {
    let program = bpf.program_mut(PROGRAM).ok_or_else(|| object::missing(PROGRAM))?;
    program.try_into().map_err(|error| object::refused(PROGRAM, &error))
}

impl Fault {
    /// Lets the program run at faults of the calling thread, and of no other.
    fn hear_this_thread(&self) -> Result<(), Obstacle> {
        let this = thread::current().id();
        let mut event = self.event.borrow_mut();
        if event.as_ref().is_some_and(|(thread, _)| *thread == this) {
            return Ok(());
        }
        let mut bpf = self.bpf.borrow_mut();
        let program = program(&mut bpf)?;
        // "Calling process" is aya's word for pid 0 of perf_event_open(2): the calling thread alone, as threads do not inherit it.
        let scope = PerfEventScope::CallingProcess { cpu: None };
        let faults = PerfEventConfig::Software(SoftwareEvent::PageFaults);
        let link = program
            .attach(faults, scope, SamplePolicy::Period(1), false)
            .and_then(|link| program.take_link(link))
            .map_err(|error| object::refused("a program on page faults", &error))?;
        *event = Some((this, link));
        Ok(())
    }
}

impl Memory for Fault {
    fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
        self.hear_this_thread()?;
        // From 1 on: the maps begin with zeros.
        let run = self.runs.get() + 1;
        self.runs.set(run);
        let question = PeekQuestion { run, address, length: length as u64 };
        self.question.borrow_mut().set(0, question, 0).map_err(|error| object::refused("to ask for kernel memory", &error))?;
        let mut attempt = 1;
        loop {
            self.page.fault().map_err(|error| object::refused("to make a page fault", &error))?;
            let buffer = self.buffer.get(&0, 0).map_err(|error| object::refused("to read the map PEEK", &error))?;
            if buffer.run == run || attempt == ATTEMPTS {
                return answer(&buffer, (address, length), run);
            }
            attempt += 1;
            thread::sleep(PAUSE);
        }
    }
}
