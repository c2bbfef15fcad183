//! What runs the lab's host: an emulator, or KVM on this machine's own CPU.
//!
//! The lab's host runs guests itself, so that KVM must nest here, and its vendor is the CPU's. Where that cannot be had, or
//! what is asked for needs an emulator, the host is emulated as on any machine.

mod machine;

pub(crate) use machine::Machine;

use super::Host;

/// What the command line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AccelChoice {
    /// KVM where this machine has it with nesting, else an emulator.
    Auto,
    /// KVM on this machine's CPU, or nothing.
    Kvm,
    /// An emulator, on any machine: QEMU's TCG for an AMD host, Bochs for an Intel host.
    #[default]
    Tcg,
}

/// What a host runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    /// QEMU with KVM and this machine's CPU.
    Kvm,
    /// QEMU's TCG, or Bochs.
    Emulator,
}

/// What somebody asks for, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) accel: AccelChoice,
    /// None: whichever the machine is, AMD where the host is emulated.
    pub(crate) host: Option<Host>,
    /// Virtual time as an instruction count.
    pub(crate) icount: bool,
    /// A CPU by the name that an emulator has for it.
    pub(crate) cpu_model: bool,
}

/// What is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) host: Host,
    pub(crate) accel: Accel,
    /// In one sentence what was taken and why; none where nothing was left to choose.
    pub(crate) why: Option<String>,
}

/// Chooses, or says why what is wanted cannot be had.
pub(crate) fn choose(wanted: &Wanted, machine: &Machine) -> Result<Taken, String> {
    let emulated = wanted.host.unwrap_or(Host::Amd);
    let under_kvm = if wanted.accel == AccelChoice::Tcg { Err(String::new()) } else { host_under_kvm(wanted, machine) };
    match (wanted.accel, under_kvm) {
        (AccelChoice::Tcg, _) => Ok(Taken { host: emulated, accel: Accel::Emulator, why: None }),
        (AccelChoice::Kvm, Ok(host)) => Ok(Taken { host, accel: Accel::Kvm, why: None }),
        (AccelChoice::Kvm, Err(why)) => Err(format!("--accel kvm cannot be had, because {why}; --accel tcg emulates the host")),
        (AccelChoice::Auto, Ok(host)) => {
            let why = format!(
                "the lab's host runs under KVM on this machine's {} CPU, because KVM nests here (--accel tcg emulates one)",
                host.vendor()
            );
            Ok(Taken { host, accel: Accel::Kvm, why: Some(why) })
        }
        (AccelChoice::Auto, Err(why)) => {
            let why = format!("the lab's {} host is emulated ({}), because {why}", emulated.vendor(), emulated.emulator());
            Ok(Taken { host: emulated, accel: Accel::Emulator, why: Some(why) })
        }
    }
}

/// The host that this machine's KVM would run, or why it cannot: an end of a sentence.
fn host_under_kvm(wanted: &Wanted, machine: &Machine) -> Result<Host, String> {
    if wanted.icount {
        return Err("--icount counts instructions, which only an emulator does".to_owned());
    }
    if wanted.cpu_model {
        return Err("--cpu-model names an emulator's CPU, while a host under KVM has this machine's".to_owned());
    }
    let own = machine.cpu()?;
    // First, because loading a module would not help.
    if let Some(host) = wanted.host.filter(|host| *host != own) {
        return Err(format!("this machine's CPU is {}'s, not {}'s", own.vendor(), host.vendor()));
    }
    machine.nests(own).map(|()| own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Wanted = Wanted { accel: AccelChoice::Auto, host: None, icount: false, cpu_model: false };

    fn taken(wanted: &Wanted, machine: &Machine) -> (Host, Accel, String) {
        let Taken { host, accel, why } = choose(wanted, machine).unwrap();
        (host, accel, why.unwrap_or_default())
    }

    #[test]
    fn a_machine_that_nests_runs_a_host_of_its_own_vendor() {
        for host in [Host::Amd, Host::Intel] {
            let (own, accel, why) = taken(&ANY, &Machine::that_nests(host));
            assert_eq!((own, accel), (host, Accel::Kvm));
            assert!(why.contains("under KVM") && why.contains(host.vendor()) && !why.contains('\n'), "{why}");
            let kvm = Wanted { accel: AccelChoice::Kvm, ..ANY };
            assert_eq!(taken(&kvm, &Machine::that_nests(host)), (host, Accel::Kvm, String::new()), "nothing was left to choose");
        }
    }

    #[test]
    fn a_host_of_the_other_vendor_is_emulated_or_refused() {
        for (own, other) in [(Host::Amd, Host::Intel), (Host::Intel, Host::Amd)] {
            let wanted = Wanted { host: Some(other), ..ANY };
            let (host, accel, why) = taken(&wanted, &Machine::that_nests(own));
            assert_eq!((host, accel), (other, Accel::Emulator));
            assert!(why.contains(&format!("because this machine's CPU is {}'s", own.vendor())), "{why}");
            let without_module = Machine { nested: None, ..Machine::that_nests(own) };
            for machine in [Machine::that_nests(own), without_module] {
                let refused = choose(&Wanted { accel: AccelChoice::Kvm, ..wanted }, &machine).unwrap_err();
                assert!(refused.contains("--accel kvm cannot be had, because this machine's CPU is"), "{refused}");
            }
        }
    }

    #[test]
    fn a_machine_that_lacks_something_emulates_and_says_what_it_lacks() {
        let whole = Machine::that_nests(Host::Amd);
        for (lacking, word) in [
            (Machine { cpu: None, ..whole.clone() }, "neither"),
            (Machine { nested: None, ..whole.clone() }, "kvm_amd is not loaded"),
            (Machine { nested: Some("0".to_owned()), ..whole.clone() }, "nested=1"),
            (Machine { device: Err("there is no /dev/kvm".to_owned()), ..whole }, "there is no /dev/kvm"),
        ] {
            let (host, accel, why) = taken(&ANY, &lacking);
            assert_eq!((host, accel), (Host::Amd, Accel::Emulator));
            assert!(why.starts_with("the lab's AMD host is emulated (QEMU's TCG), because ") && why.contains(word), "{why}");
            let refused = choose(&Wanted { accel: AccelChoice::Kvm, ..ANY }, &lacking).unwrap_err();
            assert!(refused.contains(word) && refused.ends_with("--accel tcg emulates the host"), "{refused}");
        }
    }

    #[test]
    fn what_only_an_emulator_does_is_emulated_or_refused() {
        let icount = Wanted { icount: true, ..ANY };
        let model = Wanted { cpu_model: true, ..ANY };
        for (wanted, option) in [(icount, "--icount"), (model, "--cpu-model")] {
            let (host, accel, why) = taken(&wanted, &Machine::that_nests(Host::Intel));
            assert_eq!((host, accel), (Host::Amd, Accel::Emulator), "{why}");
            let refused = choose(&Wanted { accel: AccelChoice::Kvm, ..wanted }, &Machine::that_nests(Host::Intel)).unwrap_err();
            assert!(why.contains(option) && refused.contains(option), "{why} {refused}");
        }
    }

    #[test]
    fn an_emulator_that_was_asked_for_is_taken_without_a_word() {
        let tcg = Wanted { accel: AccelChoice::Tcg, ..ANY };
        assert_eq!(taken(&tcg, &Machine::that_nests(Host::Intel)), (Host::Amd, Accel::Emulator, String::new()));
        let intel = Wanted { host: Some(Host::Intel), ..tcg };
        assert_eq!(taken(&intel, &Machine::that_nests(Host::Intel)), (Host::Intel, Accel::Emulator, String::new()));
    }
}
