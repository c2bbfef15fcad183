//! A program of somebody who is not root, and has but a few capabilities.

use std::{io, os::unix::process::CommandExt as _, process::Command};

/// Numbers of capabilities (include/uapi/linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    Syslog = 34,
    Perfmon = 38,
    Bpf = 39,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities each.
const VERSION: u32 = 0x2008_0522;
/// The user and the group `nobody`.
const NOBODY: u32 = 65534;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Makes a command run as `nobody` with these capabilities and no others.
pub(crate) fn as_nobody_with(command: &mut Command, capabilities: &[Capability]) {
    let bits = capabilities.iter().fold(0u64, |bits, capability| bits | 1 << *capability as u64);
    let numbers: Vec<libc::c_ulong> = capabilities.iter().map(|capability| *capability as libc::c_ulong).collect();
    let word = |shift: u32| {
        let bits = (bits >> shift) as u32;
        Words { effective: bits, permitted: bits, inheritable: bits }
    };
    let words = [word(0), word(32)];
    let become_nobody = move || {
        // SAFETY: takes numbers only.
        done(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
        // SAFETY: no groups are read.
        done(unsafe { libc::setgroups(0, std::ptr::null()) })?;
        // SAFETY: takes numbers only.
        done(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) })?;
        // SAFETY: takes numbers only.
        done(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) })?;
        let header = Header { version: VERSION, pid: 0 };
        // SAFETY: the structures are those of this version (include/uapi/linux/capability.h).
        let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) };
        done(libc::c_int::try_from(set).unwrap_or(-1))?;
        for number in &numbers {
            // SAFETY: takes numbers only.
            done(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, *number, 0, 0) })?;
        }
        Ok(())
    };
    // SAFETY: system calls only, which are allowed between fork and exec.
    unsafe { command.pre_exec(become_nobody) };
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
