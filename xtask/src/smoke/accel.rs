//! What each host of the tests runs on.

use anyhow::{Result, bail};

use super::run::Job;
use crate::lab::{self, AccelChoice, Machine, Wanted};

/// Gives each job what its host runs on. Those that cannot have what is asked for are left out, and named.
pub(super) fn choose(jobs: Vec<Job>, accel: AccelChoice, machine: &Machine) -> Result<Vec<Job>> {
    let (mut chosen, mut refused) = (Vec::new(), Vec::new());
    for mut job in jobs {
        let boot = &mut job.boot;
        let wanted = Wanted { accel, host: Some(boot.host), icount: boot.icount, cpu_model: boot.cpu_model.is_some() };
        match lab::choose(&wanted, machine) {
            Ok(taken) => {
                boot.accel = taken.accel;
                chosen.push(job);
            }
            Err(why) => refused.push((boot.place(), why)),
        }
    }
    if chosen.is_empty()
        && let Some((_, why)) = refused.first()
    {
        bail!("{why}");
    }
    for (place, why) in refused {
        println!("left out: {place}: {why}");
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{Accel, Host},
        smoke::plan,
    };

    fn jobs() -> Vec<Job> {
        let mut boots = plan::boots();
        boots.retain(|boot| boot.host == Host::Amd && boot.cpu_model.is_none() && !boot.icount);
        let amd = boots.swap_remove(0);
        let model = plan::Boot { cpu_model: Some("EPYC-Rome"), ..amd.clone() };
        let intel = plan::Boot { host: Host::Intel, ..amd.clone() };
        [amd, model, intel].into_iter().map(|boot| Job { boot, tests: Vec::new() }).collect()
    }

    fn chosen(accel: AccelChoice, machine: &Machine) -> Vec<(Host, bool, Accel)> {
        let jobs = choose(jobs(), accel, machine).unwrap();
        jobs.iter().map(|Job { boot, .. }| (boot.host, boot.cpu_model.is_some(), boot.accel)).collect()
    }

    #[test]
    fn under_kvm_hosts_that_the_machine_cannot_be_are_left_out() {
        let machine = Machine::that_nests(Host::Amd);
        assert_eq!(chosen(AccelChoice::Kvm, &machine), [(Host::Amd, false, Accel::Kvm)]);
    }

    #[test]
    fn with_auto_they_are_emulated_and_without_a_wish_all_are() {
        let machine = Machine::that_nests(Host::Amd);
        let emulated = [(Host::Amd, true, Accel::Emulator), (Host::Intel, false, Accel::Emulator)];
        let auto = [&[(Host::Amd, false, Accel::Kvm)], &emulated[..]].concat();
        assert_eq!(chosen(AccelChoice::Auto, &machine), auto);
        let all = [&[(Host::Amd, false, Accel::Emulator)], &emulated[..]].concat();
        assert_eq!(chosen(AccelChoice::default(), &machine), all);
    }

    #[test]
    fn a_set_of_which_nothing_could_run_fails() {
        let mut jobs = jobs();
        jobs.drain(..2);
        let error = choose(jobs, AccelChoice::Kvm, &Machine::that_nests(Host::Amd)).unwrap_err();
        assert!(error.to_string().contains("--accel kvm cannot be had"), "{error}");
    }
}
