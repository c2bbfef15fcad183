//! Keeps Bochs away from the machine's network.
//!
//! Debian's Bochs has no display that shows nothing to nobody. One of its displays is a VNC server, which is never in the way
//! if nobody can reach it.

use std::io;

/// Gives the process a network of its own in which there is nobody else. To be called between fork and exec: it makes system
/// calls only and touches no memory.
pub(super) fn leave() -> io::Result<()> {
    // Without root the kernel wants a user namespace with it. Files stay accessible as they were.
    unshare(libc::CLONE_NEWNET).or_else(|_| unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET))
}

fn unshare(what: i32) -> io::Result<()> {
    // SAFETY: this call takes a number only and touches no memory.
    if unsafe { libc::unshare(what) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
