//! The exits to user space: which one is due, and how many there were.

use kvm_ioctls::VcpuExit;

use super::options::GuestOptions;
use super::{code, layout};

/// Counts the exits and knows which must come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exits {
    /// `KVM_RUN` calls.
    pub(super) runs: u64,
    /// Those that ended in an OUT.
    pub(super) outs: u64,
    /// Those that ended in a HLT.
    pub(super) hlts: u64,
    /// Those that ended in an MMIO write.
    pub(super) mmios: u64,
    /// Those that a signal ended which was sent for that.
    pub(super) interrupts: u64,
    /// Those that ended in a triple fault.
    pub(super) shutdowns: u64,
    /// Those that any other signal ended.
    pub(super) interrupted: u64,
    /// The `TSC_AUX` the guest read, from its first OUT on. None if it cannot read it.
    pub(super) tsc_aux_seen: Option<u32>,
    outs_asked: u64,
    hlts_asked: u64,
    mmios_asked: u64,
    interrupts_asked: u64,
    shutdowns_asked: u64,
    reads_tsc_aux: bool,
    tsc_aux_expected: Option<u32>,
}

/// What a `KVM_RUN` call ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// An OUT of the program, with this value.
    Out(u32),
    /// A HLT.
    Hlt,
    /// An MMIO write of the program.
    Mmio,
    /// A triple fault.
    Shutdown,
    /// A signal.
    Interrupted,
    /// Anything else.
    Other,
}

/// What was wrong with an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Another one was due.
    NotDue,
    /// The guest read another `TSC_AUX` than this.
    TscAux { expected: u32, saw: u32 },
}

impl Exit {
    /// Sorts what kvm-ioctls returned.
    pub(super) fn of(result: &Result<VcpuExit<'_>, kvm_ioctls::Error>) -> Self {
        match result {
            Ok(VcpuExit::IoOut(code::PORT, data)) => {
                // The program's OUT has 4 bytes; another width is not its.
                <[u8; 4]>::try_from(&**data).map_or(Self::Other, |data| Self::Out(u32::from_le_bytes(data)))
            }
            Ok(VcpuExit::Hlt) => Self::Hlt,
            // As with the OUT: the program writes 4 bytes.
            Ok(VcpuExit::MmioWrite(layout::NOWHERE, data)) if data.len() == 4 => Self::Mmio,
            Ok(VcpuExit::Shutdown) => Self::Shutdown,
            Ok(VcpuExit::Intr) => Self::Interrupted,
            Err(error) if error.errno() == libc::EINTR => Self::Interrupted,
            _ => Self::Other,
        }
    }
}

impl Exits {
    /// None so far.
    ///
    /// `tsc_aux` is the value the guest was given. Without one, it only must not change from one OUT to the next.
    pub(super) fn new(options: &GuestOptions, tsc_aux: Option<u32>, reads_tsc_aux: bool) -> Self {
        Self {
            runs: 0,
            outs: 0,
            hlts: 0,
            mmios: 0,
            interrupts: 0,
            shutdowns: 0,
            interrupted: 0,
            tsc_aux_seen: None,
            outs_asked: options.outs,
            hlts_asked: options.hlts,
            mmios_asked: options.mmios,
            interrupts_asked: options.interrupts,
            shutdowns_asked: u64::from(options.shutdown),
            reads_tsc_aux,
            tsc_aux_expected: tsc_aux,
        }
    }

    /// Whether all were made that were asked for.
    pub(super) fn all_made(&self) -> bool {
        self.program_done() && self.interrupts == self.interrupts_asked && self.shutdowns == self.shutdowns_asked
    }

    /// Whether the program has made all exits that it makes while it runs.
    pub(super) fn program_done(&self) -> bool {
        self.outs == self.outs_asked && self.hlts == self.hlts_asked && self.mmios == self.mmios_asked
    }

    /// Whether the next `KVM_RUN` is to be ended by a signal.
    pub(super) fn interrupt_due(&self) -> bool {
        self.program_done() && self.interrupts < self.interrupts_asked
    }

    /// Whether all but the triple fault were made, and that is due.
    pub(super) fn shutdown_due(&self) -> bool {
        self.program_done() && self.interrupts == self.interrupts_asked && self.shutdowns < self.shutdowns_asked
    }

    /// Counts the end of a `KVM_RUN` call.
    pub(super) fn count(&mut self, exit: Exit) -> Result<(), Wrong> {
        self.runs += 1;
        match exit {
            Exit::Out(value) if self.outs < self.outs_asked => {
                self.outs += 1;
                self.check_tsc_aux(value)
            }
            Exit::Hlt if self.outs == self.outs_asked && self.hlts < self.hlts_asked => {
                self.hlts += 1;
                Ok(())
            }
            Exit::Mmio if self.outs == self.outs_asked && self.hlts == self.hlts_asked && self.mmios < self.mmios_asked => {
                self.mmios += 1;
                Ok(())
            }
            Exit::Shutdown if self.shutdown_due() => {
                self.shutdowns += 1;
                Ok(())
            }
            Exit::Interrupted => {
                self.interrupted += 1;
                Ok(())
            }
            _ => Err(Wrong::NotDue),
        }
    }

    /// Counts the end of a `KVM_RUN` call before which a signal was sent to end it.
    pub(super) fn count_interrupt(&mut self, exit: Exit) -> Result<(), Wrong> {
        self.runs += 1;
        if exit != Exit::Interrupted {
            return Err(Wrong::NotDue);
        }
        self.interrupts += 1;
        Ok(())
    }

    /// What is due, in words.
    pub(super) fn due(&self) -> &'static str {
        if self.outs < self.outs_asked {
            "an OUT"
        } else if self.hlts < self.hlts_asked {
            "a HLT"
        } else if self.mmios < self.mmios_asked {
            "an MMIO write"
        } else if self.interrupt_due() {
            "an interrupt by a signal"
        } else if self.shutdown_due() {
            "a shutdown"
        } else {
            "no exit to user space"
        }
    }

    fn check_tsc_aux(&mut self, saw: u32) -> Result<(), Wrong> {
        if !self.reads_tsc_aux {
            return Ok(());
        }
        let expected = self.tsc_aux_expected.or(self.tsc_aux_seen).unwrap_or(saw);
        self.tsc_aux_seen = Some(saw);
        if saw == expected { Ok(()) } else { Err(Wrong::TscAux { expected, saw }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exits(outs: u64, hlts: u64, tsc_aux: Option<u32>) -> Exits {
        Exits::new(&GuestOptions { outs, hlts, ..GuestOptions::default() }, tsc_aux, true)
    }

    #[test]
    fn outs_then_hlts_then_nothing() {
        let mut exits = exits(2, 1, Some(5));
        for exit in [Exit::Out(5), Exit::Interrupted, Exit::Out(5)] {
            assert!(!exits.all_made());
            assert_eq!(exits.count(exit), Ok(()));
        }
        assert_eq!(exits.due(), "a HLT");
        assert_eq!(exits.count(Exit::Hlt), Ok(()));
        assert!(exits.all_made());
        assert_eq!((exits.runs, exits.outs, exits.hlts, exits.interrupted), (4, 2, 1, 1));
        assert_eq!(exits.tsc_aux_seen, Some(5));
        assert_eq!(exits.due(), "no exit to user space");
        for exit in [Exit::Out(5), Exit::Hlt, Exit::Other] {
            assert_eq!(exits.count(exit), Err(Wrong::NotDue));
        }
    }

    #[test]
    fn mmio_writes_interrupts_and_the_shutdown_come_in_this_order() {
        let options = GuestOptions { outs: 0, mmios: 1, interrupts: 1, shutdown: true, ..GuestOptions::default() };
        let mut exits = Exits::new(&options, None, true);
        assert_eq!((exits.clone().count(Exit::Shutdown), exits.due()), (Err(Wrong::NotDue), "an MMIO write"));
        assert_eq!(exits.count(Exit::Mmio), Ok(()));
        assert!(exits.interrupt_due() && !exits.shutdown_due());
        assert_eq!(exits.clone().count_interrupt(Exit::Hlt), Err(Wrong::NotDue));
        assert_eq!(exits.count_interrupt(Exit::Interrupted), Ok(()));
        assert!(exits.shutdown_due() && !exits.all_made());
        assert_eq!(exits.count(Exit::Shutdown), Ok(()));
        assert_eq!((exits.all_made(), exits.runs, exits.interrupted), (true, 3, 0));
    }

    #[test]
    fn a_hlt_before_the_last_out_is_wrong() {
        let mut exits = exits(2, 1, None);
        assert_eq!(exits.count(Exit::Out(0)), Ok(()));
        assert_eq!(exits.count(Exit::Hlt), Err(Wrong::NotDue));
        assert_eq!((exits.runs, exits.due()), (2, "an OUT"));
    }

    #[test]
    fn another_tsc_aux_than_asked_for_is_wrong() {
        assert_eq!(exits(1, 0, Some(5)).count(Exit::Out(6)), Err(Wrong::TscAux { expected: 5, saw: 6 }));
    }

    #[test]
    fn a_tsc_aux_nobody_set_must_stay_the_same() {
        let mut exits = exits(3, 0, None);
        assert_eq!(exits.count(Exit::Out(1)), Ok(()));
        assert_eq!(exits.count(Exit::Out(1)), Ok(()));
        assert_eq!(exits.count(Exit::Out(2)), Err(Wrong::TscAux { expected: 1, saw: 2 }));
    }

    #[test]
    fn without_rdtscp_nothing_was_seen() {
        let mut exits = Exits::new(&GuestOptions { outs: 1, ..GuestOptions::default() }, Some(5), false);
        assert_eq!(exits.count(Exit::Out(0)), Ok(()));
        assert_eq!(exits.tsc_aux_seen, None);
    }

    #[test]
    fn results_of_kvm_run_are_sorted() {
        assert_eq!(Exit::of(&Ok(VcpuExit::IoOut(code::PORT, &[1, 2, 0, 0]))), Exit::Out(0x201));
        assert_eq!(Exit::of(&Ok(VcpuExit::IoOut(code::PORT, &[1]))), Exit::Other);
        assert_eq!(Exit::of(&Ok(VcpuExit::IoOut(code::PORT + 1, &[1, 2, 0, 0]))), Exit::Other);
        assert_eq!(Exit::of(&Ok(VcpuExit::Hlt)), Exit::Hlt);
        assert_eq!(Exit::of(&Ok(VcpuExit::Shutdown)), Exit::Shutdown);
        assert_eq!(Exit::of(&Ok(VcpuExit::MmioWrite(layout::NOWHERE, &[0; 4]))), Exit::Mmio);
        assert_eq!(Exit::of(&Ok(VcpuExit::MmioWrite(layout::NOWHERE + 4, &[0; 4]))), Exit::Other);
        assert_eq!(Exit::of(&Ok(VcpuExit::MmioWrite(layout::NOWHERE, &[0; 8]))), Exit::Other);
        assert_eq!(Exit::of(&Err(kvm_ioctls::Error::new(libc::EINTR))), Exit::Interrupted);
        assert_eq!(Exit::of(&Err(kvm_ioctls::Error::new(libc::EFAULT))), Exit::Other);
    }
}
