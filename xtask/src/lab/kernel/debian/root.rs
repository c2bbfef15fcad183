//! An apt root of our own: the machine's Debian mirrors with the suites of other releases, and our own lists of packages.
//! Nothing of the system's apt is changed, and no rights of root are needed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::apt::Apt;
use super::mirrors;
use super::sources::Source;
use crate::workspace;

/// Debian's keys of all releases, as the package debian-archive-keyring has them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The root.
#[derive(Debug)]
pub(super) struct Root {
    /// apt with this root.
    pub(super) apt: Apt,
    /// All suites that the mirrors are asked for.
    suites: Vec<String>,
}

impl Root {
    /// Makes the root, or brings it up to date with the machine's sources; the lists that are there stay.
    pub(super) fn open() -> Result<Self> {
        let keyring = Some(KEYRING).filter(|keyring| Path::new(keyring).exists());
        let mirrors = mirrors::with_all_suites(&machine_sources()?, own_release().as_deref(), keyring);
        if mirrors.is_empty() {
            bail!("none of this machine's apt sources is a mirror of Debian");
        }
        let folder = workspace::lab().join("apt");
        Self::write(&folder, &mirrors).with_context(|| format!("cannot write apt's files in {}", folder.display()))?;
        let mut suites: Vec<String> = mirrors.into_iter().flat_map(|mirror| mirror.suites).collect();
        suites.sort();
        suites.dedup();
        Ok(Self { apt: Apt::with(vec!["-c".into(), folder.join("apt.conf").into()]), suites })
    }

    fn write(folder: &Path, mirrors: &[Source]) -> Result<()> {
        for place in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(place))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("debian.sources"), mirrors.iter().map(Source::stanza).collect::<String>())?;
        fs::write(folder.join("apt.conf"), configuration(folder))?;
        Ok(())
    }

    /// Fetches the lists of packages. Returns why suites could not be had, a text each.
    pub(super) fn update(&self) -> Result<Vec<String>> {
        let complaints = self.apt.update()?;
        let here = self.apt.suites()?;
        let missing = self.suites.iter().filter(|suite| !here.contains(*suite));
        let reason = |suite: &str| {
            let complaint = complaints.iter().find(|complaint| mirrors::is_about(complaint, suite)).or(complaints.first());
            // After "E: " or "W: ".
            complaint.map_or("apt does not say why", |line| line.split_once(": ").map_or(&line[..], |(_, text)| text)).to_owned()
        };
        Ok(missing.map(|suite| format!("{suite} ({})", reason(suite))).collect())
    }

    /// The suites whose lists are here.
    pub(super) fn suites(&self) -> Result<Vec<String>> {
        Ok(self.apt.suites()?.into_iter().collect())
    }
}

/// What differs from the machine's own configuration of apt. Proxies, passwords and trusted keys stay the machine's.
fn configuration(folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let [sources, lists, status, cache] = ["debian.sources", "lists", "status", "cache"].map(path);
    format!(
        r#"Dir::Etc::sourcelist "{sources}";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "{lists}";
Dir::State::status "{status}";
Dir::Cache "{cache}";
// Tens of MB, to save a second.
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
// Meant for the machine's own suites.
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Default-Release "";
// What the machine does after its own update, such as to tidy up its cache.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
// "stable" becomes "oldstable" one day. The release's own name must stay.
Acquire::AllowReleaseInfoChange::Suite "true";
"#
    )
}

/// The machine's apt sources, as far as we may read them.
fn machine_sources() -> Result<Vec<Source>> {
    let [file, folder] = Apt::source_files()?;
    let mut files: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.insert(0, PathBuf::from(file));
    let sources = files.iter().flat_map(|file| {
        let text = |file| fs::read_to_string(file).unwrap_or_default();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => Source::from_lines(&text(file)),
            Some("sources") => Source::from_stanzas(&text(file)),
            _ => Vec::new(),
        }
    });
    Ok(sources.collect())
}

/// The name of the release of Debian that this machine runs, if it does.
fn own_release() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(|value| value.trim_matches('"'))
    };
    (value("ID") == Some("debian")).then(|| value("VERSION_CODENAME").map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_keeps_everything_of_its_own_below_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let line = "deb [trusted=yes] http://a/debian bookworm main";
        let mirrors = mirrors::with_all_suites(&Source::from_lines(line), None, None);
        Root::write(folder.path(), &mirrors).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("debian.sources").starts_with("Types: deb\nURIs: http://a/debian\nSuites: bookworm bullseye "));
        assert!(read("debian.sources").contains("\ntrusted: yes\n"));
        let lists = format!("Dir::State::lists \"{}\";", folder.path().join("lists").display());
        assert!(read("apt.conf").contains(&lists));
    }
}
