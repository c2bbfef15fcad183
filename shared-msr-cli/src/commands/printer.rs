//! The text of what `report` measured: once at the end, or what happened in each interval.

use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::{
    cli::{FilterArguments, ReportArguments, ReportFormat},
    ledger::Ledger,
    notice::notice,
    probe::{hooks::Hooks, ladder::Refused, target::Target},
    report::{
        Report,
        by::{By, Choice},
        columns::Style,
        csv,
        filter::Filter,
        interval, json, jsonl, table,
    },
};

/// Turns ledgers into what was asked for.
pub(super) struct Printer<'a> {
    target: &'a Target,
    hooks: Hooks,
    refused: Vec<Refused>,
    format: ReportFormat,
    by_interval: bool,
    filter: Filter,
    choice: Choice,
    before: Option<Ledger>,
    printed: u64,
}

impl<'a> Printer<'a> {
    pub(super) fn new(arguments: &ReportArguments, target: &'a Target, (hooks, refused): (Hooks, Vec<Refused>)) -> Self {
        let choice = Choice {
            by: arguments.by.clone(),
            sort: arguments.sort,
            top: arguments.top.and_then(|top| usize::try_from(top).ok()),
        };
        Self {
            target,
            hooks,
            refused,
            format: arguments.format,
            by_interval: arguments.interval.is_some(),
            filter: filter(&arguments.filter),
            choice,
            before: None,
            printed: 0,
        }
    }

    /// What happened since the interval before.
    pub(super) fn interval(&mut self, ledger: &Ledger) -> anyhow::Result<String> {
        let at = ledger.duration;
        let since = self.before.as_ref().map_or_else(|| ledger.clone(), |before| ledger.since(before));
        self.before = Some(ledger.clone());
        let text = self.with(&since, at, |report| match self.format {
            ReportFormat::Table | ReportFormat::Markdown if self.has_lines() => {
                Ok(interval::line(report, at, self.printed.is_multiple_of(20)))
            }
            ReportFormat::Table => Ok(interval::block(report, at, Style::Plain)),
            ReportFormat::Markdown => Ok(interval::block(report, at, Style::Markdown)),
            _ => self.one(report, at),
        })?;
        self.printed += 1;
        Ok(text)
    }

    /// What is left at the end; the second fails if the books do not reconcile.
    pub(super) fn last(&mut self, ledger: &Ledger) -> anyhow::Result<(String, anyhow::Result<()>)> {
        let mut text;
        if self.by_interval {
            text = self.interval(ledger)?;
            if matches!(self.format, ReportFormat::Table | ReportFormat::Markdown) {
                text += &self.with(ledger, ledger.duration, |report| Ok(table::close(report)))?;
            }
        } else {
            text = self.with(ledger, ledger.duration, |report| self.one(report, ledger.duration))?;
        }
        if self.format == ReportFormat::Csv {
            // There is no place for it among the values.
            let warnings = self.with(ledger, ledger.duration, |report| Ok(table::warnings(report)))?;
            warnings.lines().for_each(|line| notice(format_args!("shared-msr: {line}")));
        }
        let sound = match (ledger.reconciled(), ledger.lost.hooks_were_silent()) {
            (true, _) => Ok(()),
            (false, true) => Err(anyhow!(
                "the books do not reconcile, because hooks did not fire all the time, see the report; measure again while \
                 nothing changes them"
            )),
            (false, false) => Err(anyhow!("the books do not reconcile, see the report; please report this")),
        };
        Ok((text, sound))
    }

    /// Whether an interval is one line: nothing is broken down.
    fn has_lines(&self) -> bool {
        matches!(self.choice.by.as_slice(), [By::Msr | By::Total])
    }

    fn one(&self, report: &Report<'_>, at: Duration) -> anyhow::Result<String> {
        let seconds = self.by_interval.then_some(at.as_secs_f64());
        Ok(match self.format {
            ReportFormat::Table => table::render(report, Style::Plain),
            ReportFormat::Markdown => table::render(report, Style::Markdown),
            ReportFormat::Json => json::render(report).context("cannot write JSON")?,
            ReportFormat::Jsonl => jsonl::render(report, at.as_secs_f64()),
            ReportFormat::Csv => {
                let header = if self.printed == 0 { csv::header(report, self.by_interval) } else { String::new() };
                header + &csv::rows(report, seconds)
            }
        })
    }

    fn with<T>(&self, ledger: &Ledger, at: Duration, show: impl FnOnce(&Report<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
        show(&Report {
            host: &self.target.host,
            vendor: self.target.vendor,
            hooks: &self.hooks,
            refused: &self.refused,
            list_known: self.target.tables.is_ok(),
            ledger,
            at,
            filter: &self.filter,
            choice: &self.choice,
        })
    }
}

/// What the command line says of rows.
pub(super) fn filter(arguments: &FilterArguments) -> Filter {
    let list = |list: &Option<crate::cli::CpuList>| list.as_ref().map(|list| list.0.clone()).unwrap_or_default();
    Filter { vms: arguments.vm.clone(), vcpus: list(&arguments.vcpu), cpus: list(&arguments.cpu), msrs: arguments.msr.clone() }
}
