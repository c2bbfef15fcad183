//! Kernel memory, read by the best of the ways that this kernel has: KVM's list of MSRs, its structures, the CPUs' offsets.
//!
//! Each way is tried for real before it is taken, at a place of which the content is known from elsewhere.

mod answer;
mod fault;
mod kcore;
mod on_demand;
mod page;

use super::refuse;
use crate::{kernel::tables::Memory, obstacle::Obstacle};

/// A way to read kernel memory.
struct Step {
    /// By what, for people.
    name: &'static str,
    /// In [`refuse::VARIABLE`].
    refused_as: &'static str,
    open: fn(&Known) -> Result<Way, Obstacle>,
}

type Way = Box<dyn Memory + Send>;

/// All of them, best first.
const STEPS: [Step; 3] = [
    Step { name: "a program run on demand", refused_as: refuse::RUN_ON_DEMAND, open: on_demand::open },
    Step { name: "a program on page faults of this thread", refused_as: refuse::PAGE_FAULT, open: fault::open },
    Step { name: "/proc/kcore", refused_as: refuse::KCORE, open: kcore::open },
];

/// A place of kernel memory of which the content is known from elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Where it is.
    pub(super) address: u64,
    /// What stands there, as far as it is known.
    pub(super) content: Vec<u8>,
}

/// A way that could not be had.
#[derive(Clone, Debug)]
pub struct RefusedReader {
    /// By what.
    pub name: &'static str,
    /// Why not.
    pub why: Obstacle,
}

/// Reads kernel memory.
pub struct Reader {
    /// By what.
    pub name: &'static str,
    /// Better ways, best first.
    pub refused: Vec<RefusedReader>,
    way: Way,
}

impl Known {
    /// The kernel's version as a text (init/version.c): /proc/sys/kernel/osrelease has the release that it begins with.
    pub(super) fn banner(address: u64, release: &str) -> Self {
        Self { address, content: format!("Linux version {release} ").into_bytes() }
    }

    /// Reads the place, and holds what comes against what is known.
    fn try_with(&self, memory: &dyn Memory) -> Result<(), Obstacle> {
        let read = memory.read(self.address, self.content.len())?;
        if read == self.content {
            return Ok(());
        }
        let (known, read) = (self.content.escape_ascii(), read.escape_ascii());
        Err(Obstacle::new(
            format!("{:#x} should hold \"{known}\", but what is read there is \"{read}\"", self.address),
            WRONG_ADDRESS,
        ))
    }
}

impl Reader {
    /// Takes the best way that reads what is known.
    pub(super) fn find(known: &Known) -> Result<Self, Obstacle> {
        Self::among(&STEPS, known)
    }

    fn among(steps: &[Step], known: &Known) -> Result<Self, Obstacle> {
        let mut refused: Vec<RefusedReader> = Vec::new();
        for Step { name, refused_as, open } in steps {
            let opened = refuse::check(refused_as).and_then(|()| open(known));
            match opened.and_then(|way| known.try_with(way.as_ref()).map(|()| way)) {
                Ok(way) => return Ok(Self { name, refused, way }),
                Err(why) => refused.push(RefusedReader { name, why }),
            }
        }
        let each: Vec<String> = refused.iter().map(|refused| format!("{} ({})", refused.name, refused.why.problem)).collect();
        let cure = refused.first().map_or_else(String::new, |best| best.why.cure.clone());
        Err(Obstacle { problem: format!("kernel memory cannot be read by {}", each.join(", nor by ")), cure })
    }
}

impl Memory for Reader {
    fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
        self.way.read(address, length)
    }
}

/// The kernel says where its variables are; what it says is wrong, or not of the kernel that runs.
const WRONG_ADDRESS: &str = "see that /proc/kallsyms is this kernel's own and nothing is mounted over it; if it is, report this kernel \
                             to the authors of shared-msr";

/// The obstacle for a read that failed.
fn unread((address, length): (u64, usize), why: &str, cure: &str) -> Obstacle {
    Obstacle::new(format!("{length} bytes of kernel memory at {address:#x} cannot be read ({why})"), cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that holds the same text everywhere.
    struct Text(&'static str);

    impl Memory for Text {
        fn read(&self, _address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
            Ok(self.0.bytes().chain(std::iter::repeat(0)).take(length).collect())
        }
    }

    const LYING: Step = Step { name: "lies", refused_as: "lies", open: |_| Ok(Box::new(Text(""))) };
    const LACKING: Step = Step { name: "nothing", refused_as: "nothing", open: |_| Err(Obstacle::new("not there", "get it")) };
    const RIGHT: Step = Step { name: "right", refused_as: "right", open: |_| Ok(Box::new(Text("Linux version 5.9.1 (by us)"))) };

    #[test]
    fn a_way_is_taken_only_if_it_reads_what_is_known() {
        let known = Known::banner(0x1000, "5.9.1");
        let reader = Reader::among(&[LYING, LACKING, RIGHT], &known).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(reader.name, "right");
        let refused: Vec<&str> = reader.refused.iter().map(|refused| refused.name).collect();
        assert_eq!(refused, ["lies", "nothing"]);
        assert!(reader.refused[0].why.problem.contains("0x1000 should hold \"Linux version 5.9.1 \""), "{:?}", reader.refused);
        let of_another = Known::banner(0x1000, "5.9.10");
        assert!(Reader::among(&[RIGHT], &of_another).is_err());
    }

    #[test]
    fn where_there_is_no_way_each_is_named_with_its_reason() {
        let why = Reader::among(&[LACKING, LYING], &Known::banner(0x1000, "5.9.1")).err().unwrap();
        assert!(why.problem.contains("by nothing (not there), nor by lies (0x1000 should hold"), "{why}");
        assert_eq!(why.cure, "get it");
    }
}
