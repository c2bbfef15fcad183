//! Whose numbers and names of processes the rows have, where that is not plain.

use crate::kernel::process::{PidNamespace, Processes};

/// One line in a PID namespace of its own; nothing on the host.
pub(super) fn line(processes: Processes) -> &'static str {
    match (processes.pid_namespace, processes.names) {
        (PidNamespace::Host, true) => "",
        (PidNamespace::Own, true) => {
            "shared-msr runs in a PID namespace of its own, but /proc is the host's: numbers and names of processes are the host's.\n"
        }
        (_, false) => {
            "shared-msr runs in a PID namespace of its own, and /proc is not the host's: numbers of processes are the host's, names \
             those of their threads.\n"
        }
    }
}
