//! Processes by their numbers, as the kernel-side programs see them: BPF's numbers are those of the first PID namespace.

use std::fs;

use serde::{Deserialize, Serialize};

use super::vmm::printable;
use crate::obstacle::Obstacle;

/// The first PID namespace has a fixed number (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Which PID namespace shared-msr runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PidNamespace {
    /// The host's.
    Host,
    /// Another one, a container's mostly.
    Own,
}

/// Whose processes /proc shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processes {
    /// Where shared-msr runs.
    pub pid_namespace: PidNamespace,
    /// Whether /proc numbers processes as the kernel-side programs do, so that their names can be read there. In another /proc
    /// the same number is another process.
    pub names: bool,
}

impl Processes {
    /// On the host itself.
    pub const ON_THE_HOST: Self = Self { pid_namespace: PidNamespace::Host, names: true };

    /// Looks at /proc as it is mounted here.
    pub fn read() -> Self {
        let namespace = |process: &str| {
            let link = fs::read_link(format!("/proc/{process}/ns/pid")).ok()?;
            Some(link.to_string_lossy().into_owned())
        };
        let second = fs::read_to_string("/proc/2/stat").ok();
        Self::judge(namespace("self").as_deref(), namespace("1").as_deref(), second.as_deref())
    }

    /// From the namespaces of this process and of process 1, and what /proc says of process 2. The namespace of process 1 can be
    /// read only with the right to trace it. In the first namespace process 2 is kthreadd, and in no other one is there any
    /// kernel thread.
    fn judge(own: Option<&str>, first: Option<&str>, second: Option<&str>) -> Self {
        let is_host = |namespace: Option<&str>| namespace == Some(FIRST_NAMESPACE);
        // A kernel without PID namespaces has no such link.
        let pid_namespace = if own.is_none() || is_host(own) { PidNamespace::Host } else { PidNamespace::Own };
        // A /proc of another namespace does not show a process of the first one, so that this process is not in it.
        let names = is_host(own) || is_host(first) || second.is_some_and(is_kthreadd);
        Self { pid_namespace, names }
    }

    /// For `doctor`: what is there, or what stands in the way of names.
    pub fn described(self) -> Result<String, Obstacle> {
        match (self.pid_namespace, self.names) {
            (PidNamespace::Host, true) => Ok("names can be read; the host's PID namespace".to_owned()),
            (PidNamespace::Own, true) => Ok("names can be read; a PID namespace of its own, but the host's /proc".to_owned()),
            (_, false) => Err(Obstacle::new(
                "a PID namespace of its own, and /proc is not the host's: numbers of processes are the host's, their own names \
                 and those of VMs cannot be read",
                "run it in the host's PID namespace, or mount the host's /proc",
            )),
        }
    }
}

/// Whether a line of /proc/PID/stat is that of the thread that makes all kernel threads. Anybody may take its name, but not its
/// flags, the ninth field.
fn is_kthreadd(stat: &str) -> bool {
    // The second field, the name in brackets, may hold anything.
    let Some((front, rest)) = stat.rsplit_once(')') else { return false };
    let flags = rest.split_whitespace().nth(6).and_then(|flags| flags.parse::<u32>().ok());
    front.ends_with("(kthreadd") && flags.is_some_and(|flags| flags & KERNEL_THREAD != 0)
}

/// The name of process `tgid` itself, such as `qemu-system-x86` (the kernel keeps 15 characters); none when it is gone, or /proc is
/// not the one that the number belongs to.
pub fn command(tgid: u32) -> Option<String> {
    printable(&String::from_utf8_lossy(&file(tgid, "comm")?))
}

/// A file of process `tgid`; none when it is gone, or /proc is not the one that the number belongs to.
pub(super) fn file(tgid: u32, name: &str) -> Option<Vec<u8>> {
    // Each time: who mounts a /proc does so while others run.
    if !Processes::read().names {
        return None;
    }
    fs::read(format!("/proc/{tgid}/{name}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTAINER: Option<&str> = Some("pid:[4026532201]");
    const KTHREADD: &str = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 33 0 0\n";

    #[test]
    fn on_the_host_names_are_read() {
        let expected = Processes::ON_THE_HOST;
        assert_eq!(Processes::judge(Some(FIRST_NAMESPACE), Some(FIRST_NAMESPACE), Some(KTHREADD)), expected);
        assert_eq!(Processes::judge(Some(FIRST_NAMESPACE), None, None), expected, "without rights, /proc with hidepid=2");
        assert_eq!(Processes::judge(None, None, Some(KTHREADD)), expected, "a kernel without PID namespaces");
    }

    #[test]
    fn in_a_container_the_proc_that_is_mounted_decides() {
        let own = |names| Processes { pid_namespace: PidNamespace::Own, names };
        assert_eq!(Processes::judge(CONTAINER, Some(FIRST_NAMESPACE), None), own(true), "the host's, by process 1");
        assert_eq!(Processes::judge(CONTAINER, None, Some(KTHREADD)), own(true), "the host's, by process 2");
        assert_eq!(Processes::judge(CONTAINER, CONTAINER, None), own(false), "its own");
        assert!(own(true).described().is_ok() && own(false).described().unwrap_err().cure.contains("/proc"));
    }

    #[test]
    fn a_process_that_calls_itself_kthreadd_is_not_it() {
        assert!(is_kthreadd(KTHREADD));
        assert!(!is_kthreadd("2 (kthreadd) S 1 2 2 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 33 0 0"), "not a kernel thread");
        assert!(!is_kthreadd("2 (a) b (sh) S 0 0 0 0 -1 2129984 0 0"), "another name");
        assert!(!is_kthreadd("2 (x) S 0 0 0 0 -1 (kthreadd) S"), "cut off");
        assert!(!is_kthreadd(""), "nothing");
    }

    #[test]
    fn a_process_has_a_name_and_one_that_is_gone_has_none() {
        let own = command(std::process::id());
        if Processes::read() == Processes::ON_THE_HOST {
            assert!(own.as_ref().is_some_and(|name| !name.is_empty() && !name.contains('\n')), "{own:?}");
        }
        // Beyond any process number (PID_MAX_LIMIT is 2^22).
        assert_eq!(command(u32::MAX), None);
    }
}
