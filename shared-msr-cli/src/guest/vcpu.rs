//! The vCPU's thread: sets up, runs the guest, reads back.

use std::thread;
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuExit;

use super::exits::{Exit, Exits, Wrong};
use super::link::{Link, Stage};
use super::machine::Machine;
use super::msrs::MsrsReadBack;
use super::options::{GuestOptions, TscAux};
use super::signals::{Interrupt, Kick};
use super::{GuestError, code, cpu, msrs};
use crate::kernel::affinity;

/// How long the thread sleeps between set-up and first `KVM_RUN`. On a host with one CPU, the watching thread then has time
/// to go to sleep: if it had to finish that while the guest runs, it would make KVM restore the host's values once more.
pub(super) const SETTLE: Duration = Duration::from_millis(10);

/// What happened.
pub(super) struct Ran {
    /// The exits to user space.
    pub(super) exits: Exits,
    /// The CPUIDs the guest made.
    pub(super) cpuids: u64,
    /// The CPU it was pinned to.
    pub(super) cpu: Option<usize>,
    /// The `TSC_AUX` the guest was given.
    pub(super) tsc_aux_asked: Option<u32>,
    /// The host's on that CPU, if it can be read, and if the thread is pinned: otherwise it changes under way.
    pub(super) tsc_aux_host: Option<u32>,
    /// `KVM_SET_MSRS` calls.
    pub(super) set_msrs_calls: u64,
    /// What the MSRs held at the end.
    pub(super) read_back: MsrsReadBack,
    /// From before the first `KVM_RUN` until after the last.
    pub(super) duration: Duration,
}

/// Says that the thread will not run the guest any more, however it comes to that.
struct FinishOnDrop<'a>(&'a Link);

impl Drop for FinishOnDrop<'_> {
    fn drop(&mut self) {
        self.0.enter(Stage::Finished);
    }
}

/// The whole life of the vCPU's thread.
pub(super) fn run(options: &GuestOptions, link: &Link, kick: Kick) -> Result<Ran, GuestError> {
    let finish = FinishOnDrop(link);
    kick.unblock().map_err(GuestError::Signals)?;

    // Pinned before anything else, so that all of it happens on one CPU: the restore after KVM_SET_MSRS, too.
    let pinned = match (options.cpu, options.tsc_aux) {
        (None, Some(TscAux::Host)) => Some(affinity::current().map_err(GuestError::CurrentCpu)?),
        (cpu, _) => cpu,
    };
    if let Some(cpu) = pinned {
        cpu::pin(cpu)?;
    }
    let tsc_aux_host = pinned.and_then(|_| cpu::tsc_aux());
    let tsc_aux_asked = match options.tsc_aux {
        None => None,
        Some(TscAux::Value(value)) => Some(value),
        Some(TscAux::Host) => Some(tsc_aux_host.ok_or(GuestError::HostTscAuxUnknown)?),
    };

    let mut machine = Machine::new(options)?;
    if tsc_aux_asked.is_some() && !machine.features.tsc_aux {
        return Err(GuestError::NoTscAux);
    }
    msrs::set(&machine.vcpu, tsc_aux_asked)?;
    let mut exits = Exits::new(options, tsc_aux_asked, machine.features.rdtscp);
    let interrupt = Interrupt::block().map_err(GuestError::Interrupt)?;
    if options.interrupts > 0 {
        machine.set_signal_mask(interrupt.mask_in_guest().map_err(GuestError::Interrupt)?)?;
    }

    link.enter(Stage::Running);
    thread::sleep(SETTLE);

    let start = Instant::now();
    let result = run_guest(&mut machine, &mut exits, options.spin.is_some(), link)
        .and_then(|()| interrupt_guest(&mut machine, &mut exits, interrupt, link));
    let mut duration = start.elapsed();
    if !exits.shutdown_due() {
        // No kicks from here on: what follows is none of their business.
        finish.0.enter(Stage::Finished);
    }
    result?;

    // Before a shutdown: after it, kvm_amd resets the vCPU.
    let regs = machine.vcpu.get_regs().map_err(GuestError::ioctl("KVM_GET_REGS"))?;
    let cpuids = code::cpuids_made(&regs);
    check_cpuids(options, &exits, cpuids)?;
    let read_back = msrs::read_back(&machine.vcpu, tsc_aux_asked)?;
    if exits.shutdown_due() {
        while exits.shutdown_due() && !link.stop_wanted() {
            let result = machine.vcpu.run();
            let exit = Exit::of(&result);
            let counted = exits.count(exit);
            let described = describe(&result);
            check(counted, described, &machine, &exits)?;
        }
        duration = start.elapsed();
    }
    drop(finish);
    Ok(Ran { exits, cpuids, cpu: pinned, tsc_aux_asked, tsc_aux_host, set_msrs_calls: 1, read_back, duration })
}

/// Runs the guest until its program has made its exits, or, if it spins, until it is stopped.
///
/// No system call but `KVM_RUN` in here, nothing printed, nothing allocated.
fn run_guest(machine: &mut Machine, exits: &mut Exits, spins: bool, link: &Link) -> Result<(), GuestError> {
    while (spins || !exits.program_done()) && !link.stop_wanted() {
        let result = machine.vcpu.run();
        let exit = Exit::of(&result);
        let Err(wrong) = exits.count(exit) else { continue };
        let exit = describe(&result);
        check(Err(wrong), exit, machine, exits)?;
    }
    Ok(())
}

/// Makes the `KVM_RUN` calls that a signal ends: it is sent before the call, and taken back after it.
fn interrupt_guest(machine: &mut Machine, exits: &mut Exits, interrupt: Interrupt, link: &Link) -> Result<(), GuestError> {
    while exits.interrupt_due() && !link.stop_wanted() {
        interrupt.send().map_err(GuestError::Interrupt)?;
        let result = machine.vcpu.run();
        let counted = exits.count_interrupt(Exit::of(&result));
        let exit = describe(&result);
        interrupt.take().map_err(GuestError::Interrupt)?;
        check(counted, exit, machine, exits)?;
    }
    Ok(())
}

/// An exit as the kernel reported it.
fn describe(result: &Result<VcpuExit<'_>, kvm_ioctls::Error>) -> String {
    match result {
        Ok(exit) => format!("{exit:?}"),
        Err(error) => error.to_string(),
    }
}

/// Says what was wrong with an exit, if something was.
fn check(counted: Result<(), Wrong>, exit: String, machine: &Machine, exits: &Exits) -> Result<(), GuestError> {
    let Err(wrong) = counted else { return Ok(()) };
    Err(match wrong {
        Wrong::TscAux { expected, saw } => GuestError::TscAuxSeen { out: exits.outs, expected, saw },
        Wrong::NotDue => {
            let rip = machine.vcpu.get_regs().map_err(GuestError::ioctl("KVM_GET_REGS"))?.rip;
            GuestError::UnexpectedExit { run: exits.runs, rip, exit, due: exits.due() }
        }
    })
}

/// The guest's own count must be what it was asked for, as far as it came. While it spins with CPUID, there is no number to
/// compare with.
fn check_cpuids(options: &GuestOptions, exits: &Exits, counted: u64) -> Result<(), GuestError> {
    let made = exits.outs.saturating_mul(options.cpuids);
    // An unfinished round can have any number of them.
    let open = if exits.program_done() { 0 } else { options.cpuids };
    let wrong = match options.spin {
        Some(super::Spin::Cpuid) if exits.program_done() => counted < made,
        _ => counted < made || counted - made > open,
    };
    if wrong { Err(GuestError::Cpuids { asked: made, counted }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::Spin;
    use super::*;

    fn check(spin: Option<Spin>, outs_made: u64, counted: u64) -> bool {
        let options = GuestOptions { outs: 2, cpuids: 10, spin, ..GuestOptions::default() };
        let mut exits = Exits::new(&options, None, false);
        for _ in 0..outs_made {
            exits.count(Exit::Out(0)).unwrap();
        }
        check_cpuids(&options, &exits, counted).is_ok()
    }

    #[test]
    fn a_finished_guest_has_made_its_cpuids_exactly() {
        for spin in [None, Some(Spin::Quiet)] {
            assert_eq!([19, 20, 21].map(|counted| check(spin, 2, counted)), [false, true, false]);
        }
    }

    #[test]
    fn a_guest_before_its_shutdown_has_made_its_cpuids_exactly() {
        let options = GuestOptions { outs: 1, cpuids: 10, shutdown: true, ..GuestOptions::default() };
        let mut exits = Exits::new(&options, None, false);
        exits.count(Exit::Out(0)).unwrap();
        assert!(exits.shutdown_due());
        assert_eq!([9, 10, 11].map(|counted| check_cpuids(&options, &exits, counted).is_ok()), [false, true, false]);
    }

    #[test]
    fn an_unfinished_guest_is_within_a_round() {
        assert_eq!([9, 10, 20, 21].map(|counted| check(None, 1, counted)), [false, true, true, false]);
        assert_eq!([9, 10, 20, 21].map(|counted| check(Some(Spin::Cpuid), 1, counted)), [false, true, true, false]);
    }

    #[test]
    fn a_guest_that_spins_with_cpuid_may_have_made_any_number_more() {
        assert_eq!([19, 20, 1 << 40].map(|counted| check(Some(Spin::Cpuid), 2, counted)), [false, true, true]);
    }
}
