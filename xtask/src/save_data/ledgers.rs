//! What shared-msr measures of guests in the lab, one ledger a line: `shared-msr-cli/tests/data/ledgers-*.jsonl`.
//!
//! The guests run while they are measured, so that each time the numbers are others, but not what is there: the same guests
//! and CPUs, MSRs, causes and reasons.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Files, run};
use crate::lab::{Host, KernelChoice, LabFile, LabOptions};
use crate::product;

const SCRIPT: &str = include_str!("ledgers.sh");
/// What measures and writes: an example of `shared-msr-cli`.
const PROGRAM: &str = "save_ledgers";
/// How many ledgers are kept.
const NUMBER: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(600);

/// The ledgers of one host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saved {
    pub(super) name: &'static str,
    host: Host,
    kernel: &'static str,
    smp: u32,
    /// Seconds from one ledger to the next.
    period: &'static str,
    /// Options of the guests.
    guests: &'static [&'static str],
}

/// A guest that mostly stays in the kernel, one that always does, and one that never does.
const MOSTLY: &str = "--outs 1000000000 --cpuids 10 --tsc-aux 0xabc --cpu 0";

pub(super) const SAVED: [Saved; 2] = [
    Saved {
        name: "amd",
        host: Host::Amd,
        kernel: "6.12",
        smp: 2,
        period: "2",
        // Two on one CPU: each pays for the other.
        guests: &[MOSTLY, "--spin --cpuids 1 --tsc-aux 0xdef --cpu 1", "--outs 0 --hlts 1000000000 --tsc-aux 0x123 --cpu 1"],
    },
    Saved {
        name: "intel",
        host: Host::Intel,
        kernel: "6.1",
        smp: 1,
        // Of a clock that counts instructions.
        period: "0.5",
        guests: &[MOSTLY, "--outs 0 --hlts 1000000000 --tsc-aux 0x123 --cpu 0"],
    },
];

/// Runs the guests and returns the file.
pub(super) fn save(saved: &Saved) -> Result<Files> {
    let number = NUMBER.to_string();
    let arguments = ["sh", "-c", SCRIPT, "ledgers.sh", saved.period, &number];
    let (shared_msr, source) = product::build_static_and_example(PROGRAM)?;
    let program = LabFile { source, destination: format!("/bin/{PROGRAM}") };
    let options = LabOptions {
        host: saved.host,
        kernel: KernelChoice::Series(saved.kernel.to_owned()),
        smp: saved.smp,
        timeout: TIMEOUT,
        files: vec![program],
        shared_msr: Some(shared_msr),
        ..LabOptions::new(arguments.into_iter().chain(saved.guests.iter().copied()))
    };
    let ledgers = run(&options)?;
    check(&ledgers)?;
    Ok(Files::from([(format!("ledgers-{}.jsonl", saved.name), ledgers)]))
}

/// Refuses what a test could not stand on: half a file, losses, books that do not reconcile.
fn check(ledgers: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(ledgers).context("the ledgers are not text")?;
    let count = text.lines().count();
    if count != NUMBER {
        bail!("there are {count} ledgers in place of {NUMBER}");
    }
    for line in text.lines() {
        let ledger: serde_json::Value = serde_json::from_str(line).context("a ledger is not JSON")?;
        if ledger["violations"].as_array().is_none_or(|violations| !violations.is_empty()) {
            bail!("a ledger does not reconcile: {}", ledger["violations"]);
        }
        let lost = ledger["lost"].as_object().context("a ledger does not say what was lost")?;
        if let Some((what, number)) = lost.iter().find(|(_, number)| number.as_u64() != Some(0)) {
            bail!("{number} of {what} were lost");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_file_losses_and_violations_are_refused() {
        let good = "{\"violations\":[],\"lost\":{\"sets\":0}}\n";
        assert!(check(good.repeat(NUMBER).as_bytes()).is_ok());
        assert!(check(good.as_bytes()).unwrap_err().to_string().contains("1 ledgers"));
        let lossy = good.replace(":0", ":3").repeat(NUMBER);
        assert!(check(lossy.as_bytes()).unwrap_err().to_string().contains("3 of sets were lost"));
        let wrong = good.replace("[]", "[\"1 is not 2\"]").repeat(NUMBER);
        assert!(check(wrong.as_bytes()).unwrap_err().to_string().contains("1 is not 2"));
    }
}
