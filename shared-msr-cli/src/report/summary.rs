//! What stands below the rows: who paid, for how long values stayed, what it saved, and how all that was observed.

use std::{collections::BTreeMap, time::Duration};

use shared_msr_common::accounting::Watched;

use super::{
    Report, labels,
    number::{counted, grouped, grouped_signed, known},
};
use crate::{
    ledger::{Ledger, distribution},
    probe::probes::Sight,
};

/// Causes, distributions and savings, in a few lines; nothing where nothing of it can be told.
pub(super) fn who(report: &Report<'_>) -> String {
    let ledger = report.ledger;
    if !matches!(ledger.sight, Sight::Split(_)) || ledger.events.windows_closed == Some(0) {
        return owners(report);
    }
    causes(report) + &distributions(ledger) + &savings(ledger) + &owners(report)
}

fn causes(report: &Report<'_>) -> String {
    let mut kinds: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
    for row in report.ledger.causes(|_| true) {
        let (sum, parts) = kinds.entry(labels::cause(row.cause.0)).or_default();
        *sum += row.measures.closes;
        let payer = || row.payer.as_ref().map(|payer| labels::payer_cell(payer, &report.ledger.owners.vms));
        let what = labels::cause_reason(row.cause).or_else(payer);
        parts.push(format!("{} {}", grouped(row.measures.closes), what.unwrap_or_default()));
    }
    let kind = |(kind, (sum, parts)): (&str, (u64, Vec<String>))| {
        let shown = parts.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
        let more = if parts.len() > 4 { ", ..." } else { "" };
        format!("{} {kind} ({shown}{more})", grouped(sum))
    };
    let mut kinds: Vec<(&str, (u64, Vec<String>))> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, (sum, _))| std::cmp::Reverse(*sum));
    format!("Windows closed by: {}.\n", kinds.into_iter().map(kind).collect::<Vec<_>>().join("; "))
}

fn distributions(ledger: &Ledger) -> String {
    let windows = ledger.windows();
    let at = |counts: &[u64], percent, show: &dyn Fn(u64) -> String| {
        distribution::percentile(counts, percent)
            .map_or_else(|| "?".to_owned(), |bucket| bucket.to.map_or_else(|| format!("{} or more", show(bucket.from)), show))
    };
    let line = |counts: &[u64], show: &dyn Fn(u64) -> String| {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| at(counts, percent, show));
        format!("at most {p50} in half of them, {p90} in 90 %, {p99} in 99 %")
    };
    if distribution::total(&windows.age) == 0 {
        return String::new();
    }
    let time = |nanoseconds: u64| format!("{:.1?}", Duration::from_nanos(nanoseconds));
    let mut text = format!(
        "Exits in a window: {}. Time it was open: {}.\n",
        line(&windows.exits_per_window, &grouped),
        line(&windows.age, &time)
    );
    if ledger.timed && distribution::total(&windows.restore_cost) > 0 {
        text += &format!("Cost of a restored MSR: {}.\n", line(&windows.restore_cost, &time));
    }
    text
}

fn savings(ledger: &Ledger) -> String {
    let Some(savings) = ledger.savings() else { return String::new() };
    let saving = |saving: crate::ledger::savings::Saving| {
        let time = |nanoseconds: i64| format!(" ({:.3} ms)", nanoseconds as f64 / 1e6);
        let plural = if saving.wrmsrs == 1 { "" } else { "s" };
        format!("{} WRMSR{plural}{}", grouped_signed(saving.wrmsrs), saving.nanoseconds.map(time).unwrap_or_default())
    };
    let preemption = savings.preemption.map(|preemption| {
        format!(
            "; with one that switches whenever a vCPU leaves its CPU, as before Linux 2.6.33 (preemption): {}",
            saving(preemption)
        )
    });
    format!(
        "Saved, compared with a KVM that restores at every exit and loads at every entry (eager, an upper bound): {}{}.\n",
        saving(savings.eager),
        preemption.unwrap_or_default()
    )
}

fn owners(report: &Report<'_>) -> String {
    let ledger = report.ledger;
    let usage = ledger.owners.usage;
    let vms = ledger.vms();
    let ran = vms.iter().filter(|vm| vm.vcpus > 0);
    let compared = if ledger.compared { "" } else { "; not held against the CPUs, because vCPUs changed places too fast" };
    format!(
        "{} of {}; map of vCPUs: {} of {} places used, {} given back{compared}\n",
        counted(ran.clone().map(|vm| vm.vcpus).sum(), "vCPU"),
        counted(ran.count() as u64, "VM"),
        grouped(usage.used),
        grouped(usage.most),
        grouped(usage.given_back),
    )
}

/// A vCPU that comes back to its VMM has made an exit before, but for a call or two that was interrupted at once.
pub(super) fn untraced_exits(report: &Report<'_>) -> String {
    let events = &report.ledger.events;
    if events.userspace_exits <= events.exits + report.host.possible_cpus.len() as u64 {
        return String::new();
    }
    format!(
        "{} to the VMM, but only {}: {} does not report its exits here, or runs guests without any.\n",
        counted(events.userspace_exits, "return"),
        counted(events.exits, "exit"),
        report.vendor.module(),
    )
}

/// What was counted beside the rows, and by which hooks.
pub(super) fn observed(report: &Report<'_>) -> String {
    let ledger = report.ledger;
    let events = &ledger.events;
    let hooks = report.hooks;
    let windows = match (events.windows_opened, events.windows_closed, events.clean_closes) {
        (Some(opened), Some(closed), Some(clean)) => {
            let open = match (events.windows_open_at_start, events.windows_open_at_end) {
                (Some(0), Some(0)) => String::new(),
                (start, end) => format!(" ({} open at start, {} at the end)", known(start), known(end)),
            };
            format!("{} opened, {} closed, {} of them clean{open}", counted(opened, "window"), grouped(closed), grouped(clean))
        }
        _ => "windows unknown".to_owned(),
    };
    let check = match (ledger.reconciled(), ledger.sight) {
        (true, Sight::Split(Watched::Writes)) if ledger.verified() => {
            "reconciled, counted from the kernel's record of WRMSRs twice"
        }
        (true, Sight::Split(_)) if ledger.verified() => "reconciled, verified by the kernel's record of WRMSRs",
        (true, Sight::Split(_)) => "reconciled",
        (true, Sight::WritesOnly) => "nothing to reconcile",
        (false, _) => "NOT RECONCILED",
    };
    let lost = if ledger.lost.is_nothing() { "nothing lost" } else { "with losses" };
    // Those that are the same everywhere are in the JSON.
    let told = hooks.named().into_iter().filter(|(event, _)| !matches!(*event, "thread end" | "exec" | "vCPU made"));
    let seen: Vec<String> = told.filter_map(|(event, hook)| hook.map(|hook| format!("{event} {hook}"))).collect();
    let reloads = match ledger.reloads {
        0 => String::new(),
        times => format!("{} was loaded anew meanwhile ({})\n", report.vendor.module(), counted(times, "time")),
    };
    format!(
        "{}, {} to the VMM; {windows}\n\
         Linux {} on {} ({}); {}; {lost}, {check}\n{reloads}",
        counted(events.exits, "exit"),
        counted(events.userspace_exits, "return"),
        report.host.kernel,
        counted(report.host.online_cpus.len() as u64, "CPU"),
        report.vendor.module(),
        seen.join(", "),
    )
}
