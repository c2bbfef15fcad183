//! `shared-msr top`

use std::{
    env,
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use anyhow::{anyhow, bail};

use crate::{
    cli::TopArguments,
    probe::probes::Options,
    tui::{
        live::Live,
        name_filter::NameFilter,
        run::{self, Settings},
        theme::{Colours, Theme},
        update::{LONGEST, SHORTEST},
    },
};

/// Shows the host live.
pub(super) fn run(arguments: &TopArguments) -> anyhow::Result<ExitCode> {
    if !io::stdout().is_terminal() {
        bail!("top draws on a terminal, and standard output is none; use `shared-msr report`");
    }
    let filter = arguments.filter.as_deref().map(NameFilter::parse).transpose();
    let filter = filter.map_err(|why| anyhow!("--filter is {}", why.lines().last().unwrap_or_default()))?;
    let options = Options {
        choice: arguments.probe,
        by_reason: arguments.by_reason,
        timing: arguments.timing,
        max_vcpus: arguments.max_vcpus,
        ..Options::default()
    };
    let variable = |name: &str| env::var(name).ok();
    let settings = Settings {
        interval: arguments.interval.clamp(SHORTEST, LONGEST),
        filter,
        theme: Theme { colours: Colours::detect(variable), ascii: arguments.ascii },
        export_dir: arguments.export_dir.clone(),
    };
    run::run(move || Live::start(options), settings)?;
    Ok(ExitCode::SUCCESS)
}
