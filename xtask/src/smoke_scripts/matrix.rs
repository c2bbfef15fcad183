//! Every step of the ladder of hooks on one kernel: the same known guest, the same numbers, each checked against the
//! kernel's own record of WRMSRs.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Checks, Summary,
    sections::{Json, Sections},
};

/// What a host is known to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// Exits to user space and in-kernel exits before each, as the guest is told to make.
    pub(super) outs: u64,
    pub(super) cpuids: u64,
    pub(super) hlts: u64,
    /// Whether the guest can have a TSC_AUX: the CPU has RDTSCP.
    pub(super) tsc_aux: bool,
    /// MSRs of which this guest has a value of its own.
    pub(super) loaded: &'static [&'static str],
    /// MSRs that KVM would load, but of which guest and host have the same value.
    pub(super) skipped: &'static [&'static str],
    /// MSRs that are listed but never loaded.
    pub(super) never_loaded: &'static [&'static str],
    /// Whether the kernel has BTF of its modules, which fentry needs.
    pub(super) module_btf: bool,
}

/// How many exits two runs of the same guest may differ in: timer interrupts while it runs.
const INTERRUPTS: u64 = 60;

impl Expected {
    /// The guest's arguments.
    pub(super) fn guest(&self) -> Vec<String> {
        let numbers = [("--outs", self.outs), ("--cpuids", self.cpuids), ("--hlts", self.hlts)];
        let tsc_aux = self.tsc_aux.then_some(("--tsc-aux", 0xabc));
        numbers.into_iter().chain(tsc_aux).flat_map(|(option, number)| [option.to_owned(), number.to_string()]).collect()
    }
}

pub(super) fn check(checks: &mut Checks, sections: &Sections, expected: &Expected, kernel: &str) -> Result<Vec<Summary>> {
    kernel_is(checks, sections, kernel)?;
    checks.equal("doctor: exit status", sections.number("doctor.status")?, 0);
    let auto = sound(checks, sections, "auto", expected)?;
    let mut summaries = vec![summary("auto", &auto)?];
    let best = if expected.module_btf { "fentry:" } else { "kprobe:" };
    hook(checks, &auto, "auto", "set", best)?;
    hook(checks, &auto, "auto", "close", "fentry:")?;
    for step in ["fentry", "kprobe", "tracepoint"] {
        if step == "fentry" && !expected.module_btf {
            not_to_be_had(checks, sections, step)?;
            continue;
        }
        let report = sound(checks, sections, step, expected)?;
        let kind = if step == "tracepoint" { "raw_tracepoint:write_msr".to_owned() } else { format!("{step}:kvm_") };
        hook(checks, &report, step, "set", &kind)?;
        hook(checks, &report, step, "close", &kind)?;
        same(checks, &auto, &report, step)?;
        summaries.push(summary(step, &report)?);
    }
    reasons(checks, sections, expected)?;
    let table = sections.text("table.out")?;
    checks.equal("table: exit status", sections.number("table.status")?, 0);
    let listed = table.lines().find(|line| line.starts_with("Never loaded on this host")).unwrap_or_default();
    let named = expected.never_loaded.iter().all(|name| listed.contains(name));
    checks.check("table: MSRs that are never loaded are listed as such", named, listed);
    let verified = table.contains("verified by the kernel's record of WRMSRs");
    checks.check("table: it says that it is verified", verified, table.lines().last().unwrap_or_default());
    let inspect = sections.json("inspect.out")?;
    let names = column(inspect.at("/slots")?, "name");
    let known = expected.loaded.iter().chain(expected.never_loaded).all(|name| names.iter().any(|listed| listed == name));
    checks.check("inspect: the list has these MSRs", known, &names.join(" "));
    Ok(summaries)
}

fn kernel_is(checks: &mut Checks, sections: &Sections, kernel: &str) -> Result<()> {
    let release = sections.text("release")?;
    checks.check(&format!("the kernel is of the series {kernel}"), release.starts_with(&format!("{kernel}.")), release);
    Ok(())
}

/// The exits that the guest makes on purpose, by the numbers of the kernel's headers.
fn reasons(checks: &mut Checks, sections: &Sections, expected: &Expected) -> Result<()> {
    let report = sections.json("reason.report")?;
    checks.equal("by reason: exit status", sections.number("reason.status")?, 0);
    checks.check("by reason: reconciled", report.is_true("/reconciled")?, &report.at("/violations")?.to_string());
    checks.check("by reason: nothing lost", report.all_zero("/lost")?, &report.at("/lost")?.to_string());
    let kind = if expected.module_btf { "raw_tracepoint:kvm_exit" } else { "tracepoint:kvm:kvm_exit" };
    hook(checks, &report, "by reason", "exit", kind)?;
    let rows = report.at("/reasons")?.as_array().context("reasons is not an array")?;
    let exits = |reason: u64| rows.iter().find(|row| row["reason"] == reason).and_then(|row| row["exits"].as_u64()).unwrap_or(0);
    let total: u64 = rows.iter().filter_map(|row| row["exits"].as_u64()).sum();
    checks.equal("by reason: the sum is all exits", total, report.number("/totals/exits")?);
    // arch/x86/include/uapi/asm/vmx.h and svm.h: CPUID, IO, HLT.
    let [cpuid, io, hlt] = if rows.iter().any(|row| row["isa"] == "vmx") { [10, 30, 12] } else { [0x72, 0x7b, 0x78] };
    checks.equal("by reason: CPUID exits", exits(cpuid), expected.outs * expected.cpuids);
    checks.equal("by reason: IO exits", exits(io), expected.outs);
    checks.equal("by reason: HLT exits", exits(hlt), expected.hlts);
    Ok(())
}

/// A host whose vendor module does not use the mechanism.
pub(super) fn check_unused(checks: &mut Checks, sections: &Sections, kernel: &str) -> Result<Vec<Summary>> {
    kernel_is(checks, sections, kernel)?;
    let table = sections.text("table.out")?;
    let says_so = table.contains("this kernel's kvm_amd does not use user-return MSRs");
    checks.check("the report says so", says_so, table.lines().next().unwrap_or_default());
    let mut summaries = Vec::new();
    for step in ["auto", "kprobe", "tracepoint"] {
        let report = sections.json(&format!("{step}.report"))?;
        checks.equal(&format!("{step}: exit status"), sections.number(&format!("{step}.status"))?, 0);
        for counter in ["windows_opened", "windows_closed", "performed", "set_written"] {
            checks.equal(&format!("{step}: no {counter}"), report.number(&format!("/totals/{counter}"))?, 0);
        }
        let exits = report.number("/totals/exits")?;
        checks.check(&format!("{step}: exits are counted"), exits >= 2000, &exits.to_string());
        summaries.push(summary(step, &report)?);
    }
    not_to_be_had(checks, sections, "fentry")?;
    Ok(summaries)
}

/// What must hold of a report, whichever hooks it used.
fn sound(checks: &mut Checks, sections: &Sections, step: &str, expected: &Expected) -> Result<Json> {
    checks.equal(&format!("{step}: exit status"), sections.number(&format!("{step}.status"))?, 0);
    let report = sections
        .json(&format!("{step}.report"))
        .with_context(|| sections.text(&format!("{step}.err")).map_or_else(|_| String::new(), str::to_owned))?;
    checks.check(&format!("{step}: reconciled"), report.is_true("/reconciled")?, &report.at("/violations")?.to_string());
    checks.check(&format!("{step}: verified"), report.is_true("/verified")?, &report.at("/host/hooks")?.to_string());
    checks.check(&format!("{step}: nothing lost"), report.all_zero("/lost")?, &report.at("/lost")?.to_string());
    checks.equal(&format!("{step}: no set failed"), report.number("/totals/set_failed")?, 0);
    let guest = sections.json(&format!("{step}.out"))?;
    let runs = guest.number("/kvm_runs")?;
    checks.equal(&format!("{step}: KVM_RUN calls = OUT + HLT"), runs, expected.outs + expected.hlts);
    for name in expected.loaded {
        let row = row(&report, name)?;
        let (performed, written) = (row.number("/performed")?, row.number("/set_written")?);
        checks.equal(&format!("{step}, {name}: performed = KVM_RUN calls + 1"), performed, runs + 1);
        checks.equal(&format!("{step}, {name}: written = performed"), written, performed);
        checks.equal(&format!("{step}, {name}: WRMSRs by the kernel's own record"), row.number("/wrmsrs")?, written + performed);
        let (deferred, least) = (row.number("/deferred")?, expected.outs * (expected.cpuids + 1));
        checks.check(&format!("{step}, {name}: deferred at least {least}"), deferred >= least, &deferred.to_string());
    }
    for name in expected.skipped {
        let row = row(&report, name)?;
        checks.equal(&format!("{step}, {name}: no set_written"), row.number("/set_written")?, 0);
        // Where only WRMSRs are watched, a set that was skipped leaves no trace.
        let skipped = row.at("/set_skipped")?;
        let seen = skipped.as_u64().is_none_or(|skipped| skipped >= runs);
        checks.check(&format!("{step}, {name}: skipped at every load"), seen, &skipped.to_string());
    }
    for name in expected.never_loaded {
        let row = row(&report, name)?;
        for counter in ["set_written", "deferred", "performed", "wrmsrs"] {
            checks.equal(&format!("{step}, {name}: no {counter}"), row.number(&format!("/{counter}"))?, 0);
        }
        let loaded = row.at("/loaded")?;
        checks.check(&format!("{step}, {name}: not loaded"), *loaded != Value::Bool(true), &loaded.to_string());
    }
    let (opened, closed) = (report.number("/totals/windows_opened")?, report.number("/totals/windows_closed")?);
    checks.equal(&format!("{step}: windows opened = KVM_RUN calls + 1"), opened, runs + 1);
    checks.equal(&format!("{step}: windows closed = windows opened"), closed, opened);
    Ok(report)
}

/// The step's numbers are those that the best hooks gave.
fn same(checks: &mut Checks, auto: &Json, report: &Json, step: &str) -> Result<()> {
    for counter in ["performed", "set_written", "windows_opened", "windows_closed", "clean_closes"] {
        let path = format!("/totals/{counter}");
        checks.equal(&format!("{step}: {counter} as with auto"), report.number(&path)?, auto.number(&path)?);
    }
    let (exits, auto) = (report.number("/totals/exits")?, auto.number("/totals/exits")?);
    checks.check(
        &format!("{step}: exits as with auto, but for interrupts"),
        exits.abs_diff(auto) <= INTERRUPTS,
        &format!("{exits} and {auto}"),
    );
    Ok(())
}

fn hook(checks: &mut Checks, report: &Json, step: &str, event: &str, kind: &str) -> Result<()> {
    let hook = report.at(&format!("/host/hooks/{event}"))?.as_str().unwrap_or("none");
    checks.check(&format!("{step}: {event} by {kind}"), hook.starts_with(kind), hook);
    Ok(())
}

/// A step that this kernel does not offer: one sentence, and no report.
fn not_to_be_had(checks: &mut Checks, sections: &Sections, step: &str) -> Result<()> {
    checks.equal(&format!("{step}: exit status without it"), sections.number(&format!("{step}.status"))?, 1);
    let error = sections.text(&format!("{step}.err"))?;
    let clear = error.lines().count() == 1 && error.starts_with(&format!("shared-msr: each set cannot be observed by {step}:"));
    checks.check(&format!("{step}: it is named as not to be had"), clear, error);
    let doctor = sections.text("doctor.out")?;
    let named = doctor.lines().find(|line| line.contains(&format!("not by {step}:"))).unwrap_or_default();
    checks.check(&format!("{step}: doctor says why not"), !named.is_empty(), named);
    Ok(())
}

fn row(report: &Json, name: &str) -> Result<Json> {
    let rows = report.at("/msrs")?.as_array().context("msrs is not an array")?;
    let row = rows.iter().find(|row| row["name"] == name).with_context(|| format!("no row of {name} in {}", report.0))?;
    Ok(Json(row.clone()))
}

fn column(rows: &Value, key: &str) -> Vec<String> {
    rows.as_array().into_iter().flatten().map(|row| row[key].as_str().unwrap_or("?").to_owned()).collect()
}

fn summary(step: &str, report: &Json) -> Result<Summary> {
    let hooks = report.at("/host/hooks")?;
    let text = |event: &str| hooks[event].as_str().unwrap_or("none").to_owned();
    let hooks = if hooks["set"] == hooks["close"] { text("set") } else { format!("{} {}", text("set"), text("close")) };
    let total = |counter: &str| Ok::<_, anyhow::Error>(report.at(&format!("/totals/{counter}"))?.to_string());
    let numbers = format!(
        "{} exits, {} written, {} deferred, {} performed, {} windows",
        total("exits")?,
        total("set_written")?,
        total("deferred")?,
        total("performed")?,
        total("windows_closed")?
    );
    Ok(Summary { what: format!("ladder {step}"), hooks, numbers })
}
