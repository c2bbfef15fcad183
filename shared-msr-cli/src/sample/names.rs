//! One name for each process, whatever its threads call themselves.

use std::collections::BTreeMap;

use shared_msr_common::owner::COMMAND_BYTES;

use super::vcpus::command;
use crate::kernel::process;

/// Names of processes by tgid. A name stays as it was first found, so that a process has one in everything that is printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<u32, String>);

impl Names {
    /// Keeps the name of a process of which a thread was seen, if it is not known yet: the process' own name while it is there, or
    /// else the thread's.
    pub fn learn(&mut self, tgid: u32, thread: &[u8; COMMAND_BYTES]) {
        self.learn_from(tgid, thread, process::command);
    }

    /// The same, with the process' own name from `read`, which is asked once.
    pub fn learn_from(&mut self, tgid: u32, thread: &[u8; COMMAND_BYTES], read: impl FnOnce(u32) -> Option<String>) {
        if tgid == 0 || self.0.contains_key(&tgid) {
            // 0 stands for those that are not known.
            return;
        }
        let name = read(tgid).unwrap_or_else(|| command(thread));
        if !name.is_empty() {
            self.0.insert(tgid, name);
        }
    }

    /// The name of a process.
    pub fn of(&self, tgid: u32) -> Option<&str> {
        self.0.get(&tgid).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST_VCPU: [u8; COMMAND_BYTES] = *b"guest-vcpu\0\0\0\0\0\0";

    #[test]
    fn the_name_of_the_process_goes_before_its_threads() {
        let mut names = Names::default();
        names.learn_from(178, &GUEST_VCPU, |_| Some("shared-msr".to_owned()));
        assert_eq!(names.of(178), Some("shared-msr"));
    }

    #[test]
    fn a_name_stays_as_it_was_first_found() {
        let mut names = Names::default();
        names.learn_from(178, &GUEST_VCPU, |_| None);
        names.learn_from(178, b"renamed\0\0\0\0\0\0\0\0\0", |_| Some("another one by now".to_owned()));
        assert_eq!(names.of(178), Some("guest-vcpu"));
    }

    #[test]
    fn what_has_no_number_or_no_name_has_none() {
        let mut names = Names::default();
        names.learn_from(0, &GUEST_VCPU, |_| None);
        names.learn_from(5, &[0; COMMAND_BYTES], |_| None);
        assert_eq!((names.of(0), names.of(5)), (None, None));
    }
}
