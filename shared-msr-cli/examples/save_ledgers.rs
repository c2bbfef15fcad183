//! Measures this host and writes a ledger every so often, one JSON document a line: the ledgers under `tests/data/`, on which the
//! live view is tested, come from here, by `cargo xtask save-data --only ledgers`.
//!
//!     save_ledgers SECONDS NUMBER FILE

use std::{
    env, fs,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use shared_msr::{
    ledger::{Ledger, saved::Saved},
    probe::{probes::Options, target::Target},
    sample::measurement::Measurement,
};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [seconds, number, file] = arguments.as_slice() else { anyhow::bail!("usage: save_ledgers SECONDS NUMBER FILE") };
    let (period, number) = (Duration::try_from_secs_f64(seconds.parse()?)?, number.parse::<u32>()?);
    let target = Target::find()?;
    let options = Options { by_reason: true, timing: true, max_vcpus: 256, ..Options::default() };
    let mut measurement = Measurement::start(&target, options)?;
    let mut file = fs::File::create(file).context("cannot create the file")?;
    let start = Instant::now();
    for round in 1..=number {
        thread::sleep((start + period * round).saturating_duration_since(Instant::now()));
        let ledger = Ledger::settle(&measurement.look(&target)?, &target.msrs());
        writeln!(file, "{}", serde_json::to_string(&Saved::from(&ledger))?)?;
    }
    Ok(())
}
