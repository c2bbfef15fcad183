//! The CPUs that Bochs can be.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::BOCHS;
use crate::lab::options::CpuModel;
use crate::process;

/// Refuses a model that Bochs does not have: it would call the whole line of its configuration malformed.
pub(super) fn check(model: &CpuModel) -> Result<()> {
    let mut command = Command::new(BOCHS);
    let output = command.args(["--help", "cpu"]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| process::not_started(&command, error))?;
    // On standard error, as all that Bochs says.
    let help = String::from_utf8_lossy(&output.stderr);
    let known = known(&help);
    // None at all: another version says it in other words, and will complain itself.
    if !known.is_empty() && !known.contains(&model.name()) {
        bail!("Bochs has no CPU {}, only {}", model.name(), known.join(", "));
    }
    Ok(())
}

/// The names in Bochs' list, one on each line up to an empty one.
fn known(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| !line.starts_with("Supported CPU models:")).skip(1);
    lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_models_is_found_between_other_messages() {
        let help = "00i[ ] x\nSupported CPU models:\n\nbx_generic\ncorei7_haswell_4770\n\n00i[SIM ] quit\n====\n";
        assert_eq!(known(help), ["bx_generic", "corei7_haswell_4770"]);
        assert!(known("Usage: bochs\n").is_empty());
    }
}
