//! This machine's mirrors of Debian, and how one file is had from them.
//!
//! A file needs only its path on the mirror and no list of packages. So a package can be had for as long as it is in the pool,
//! also when its suite's list has gone on to a newer one.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::lock::{Kernel, Package};
use crate::process;

/// One of apt's programs. It speaks English, because its messages are read here.
pub(super) fn apt(program: &str) -> Command {
    let mut command = Command::new(program);
    // Without the option apt complains that its own user cannot write to our folders.
    command.args(["-q", "-o", "APT::Sandbox::User=root"]).env("LC_ALL", "C").env_remove("LANGUAGE");
    command
}

/// apt's program for single files, which is in no folder of the PATH.
pub(super) const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// The mirrors, each the place that has `dists` and `pool`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mirrors {
    /// Those of Debian's archive.
    pub(super) archive: Vec<String>,
    /// Those of its security archive.
    pub(super) security: Vec<String>,
}

impl Mirrors {
    /// Those among the machine's apt sources. apt itself reads these, in each of its formats, and downloads nothing.
    pub(super) fn of_this_machine() -> Result<Self> {
        let mirrors = Self::parse(&process::stdout(apt("apt-get").args(["update", "--print-uris"]))?);
        if mirrors.archive.is_empty() || mirrors.security.is_empty() {
            bail!("this machine's apt sources do not have both a mirror of Debian's archive and one of its security archive");
        }
        Ok(mirrors)
    }

    /// The mirrors in lines such as `'http://mirror/debian/dists/bookworm/main/binary-amd64/Packages.xz' file size`.
    fn parse(lines: &str) -> Self {
        let mut found = Self::default();
        for line in lines.lines() {
            let Some((start, _)) = line.trim_start_matches('\'').split_once("/main/binary-") else { continue };
            let Some((mirror, suite)) = start.rsplit_once("/dists/").filter(|(_, suite)| is_debian(suite)) else { continue };
            let mirrors = if is_security(suite) { &mut found.security } else { &mut found.archive };
            if !mirror.starts_with("cdrom:") && !mirrors.iter().any(|known| known == mirror) {
                mirrors.push(mirror.to_owned());
            }
        }
        found
    }

    /// Downloads a package's file from the first mirror that has it. Only what has the package's SHA256 gets there.
    pub(super) fn download(&self, kernel: &Kernel, package: &Package, to: &Path) -> Result<()> {
        let Package { name, sha256, path } = package;
        let mut why = None;
        for mirror in if is_security(&kernel.suite) { &self.security } else { &self.archive } {
            let mut command = apt(APT_HELPER);
            command.args(["download-file", &format!("{mirror}/{path}")]).arg(to).arg(format!("SHA256:{sha256}"));
            let output = command.stdin(Stdio::null()).output().map_err(|error| process::not_started(&command, error))?;
            if output.status.success() {
                return Ok(());
            }
            why.get_or_insert(reason(&String::from_utf8_lossy(&output.stderr)));
        }
        bail!("{name} {} {}", kernel.version, why.unwrap_or_default())
    }
}

/// What apt's messages say of a file that could not be had.
fn reason(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("E: ")).unwrap_or("apt does not say why").trim();
    if [" 404 ", " 410 ", " File not found "].iter().any(|sign| line.contains(sign)) {
        "is gone from the pool of this machine's Debian mirror".to_owned()
    } else if line.contains("Hash Sum mismatch") {
        "is refused, its SHA256 is not the one it should have".to_owned()
    } else {
        format!("could not be downloaded ({line})")
    }
}

/// Whether the suite is one of Debian's own. Others who have packages for Debian call theirs the like of "bookworm-pgdg".
fn is_debian(suite: &str) -> bool {
    let (release, part) = suite.find(['-', '/']).map_or((suite, ""), |at| suite.split_at(at));
    let releases = "bullseye bookworm trixie forky duke oldoldstable oldstable stable testing unstable sid";
    releases.split(' ').any(|name| name == release)
        && matches!(part, "" | "-updates" | "-proposed-updates" | "-backports" | "-security" | "/updates")
}

/// Security updates have mirrors of their own.
fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_mirrors_are_told_from_others_and_named_once() {
        let lines = "'http://a/debian/dists/bookworm/InRelease' a 0 \n\
                     'http://a/debian/dists/bookworm/main/binary-amd64/Packages.xz' a 0 \n\
                     'http://a/debian/dists/bookworm-updates/main/binary-all/Packages.xz' a 0 \n\
                     'http://a/security/dists/bookworm-security/main/binary-amd64/Packages.xz' a 0 \n\
                     'http://c/docker/dists/bookworm/stable/binary-amd64/Packages.bz2' a 0 \n\
                     'http://d/apt/dists/bookworm-pgdg/main/binary-amd64/Packages.xz' a 0 \n\
                     'http://e/ubuntu/dists/noble/main/binary-amd64/Packages.xz' a 0 \n\
                     'cdrom:[Debian]/dists/bookworm/main/binary-amd64/Packages.xz' a 0 \n";
        let [archive, security] = ["http://a/debian", "http://a/security"].map(|mirror| vec![mirror.to_owned()]);
        assert_eq!(Mirrors::parse(lines), Mirrors { archive, security });
    }

    #[test]
    fn what_is_gone_is_told_from_what_is_another_file_and_from_all_else() {
        let gone = "E: Failed to fetch http://a/x.deb  404  Not Found [IP: 192.0.2.1 80]\nE: Download Failed\n";
        assert!(reason(gone).starts_with("is gone"));
        let other = "W: x\nE: Failed to fetch http://a/x.deb  Hash Sum mismatch\n   Hashes of expected file:\n";
        assert!(reason(other).starts_with("is refused"));
        assert_eq!(reason("E: Could not resolve 'a'\n"), "could not be downloaded (Could not resolve 'a')");
    }
}
