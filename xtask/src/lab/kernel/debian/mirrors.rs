//! Which of the machine's apt sources are mirrors of Debian, and what else is asked of them.

use super::sources::Source;

/// Where kernels of other releases are, beside the machine's own suites. Each is asked for by its name, because the likes of
/// "stable" mean another one each year. A mirror need not have them all.
const SUITES: [&str; 6] = [
    // 5.10, the oldest that has what shared-msr needs. The image in the release itself may be older or gone.
    "bullseye",
    "bullseye-security",
    // 6.1, and 6.12 for those who stay on the release.
    "bookworm",
    "bookworm-security",
    // 6.12.
    "trixie-security",
    // All later ones up to the newest: backports keep each series for as long as the mirror has room.
    "trixie-backports",
];

/// Names of Debian's suites that do not contain the name of a release.
const ALIASES: [&str; 6] = ["oldoldstable", "oldstable", "stable", "testing", "unstable", "sid"];

/// Where Debian puts the kernels.
const COMPONENT: &str = "main";

/// The Debian mirrors among the sources, with their own suites and all others that they might have. A machine that runs
/// Debian has its release's name in `own_release`. In `keyring` are the keys of all releases, if they are installed: a
/// mirror may be tied to those of its own release.
pub(super) fn with_all_suites(sources: &[Source], own_release: Option<&str>, keyring: Option<&str>) -> Vec<Source> {
    let mut mirrors: Vec<Source> = Vec::new();
    for source in sources.iter().filter(|source| is_debian(source, own_release)) {
        for uri in source.uris.iter().filter(|uri| !uri.starts_with("cdrom:")) {
            let position = mirrors.iter().position(|mirror| mirror.uris[0] == *uri).unwrap_or_else(|| {
                let (uris, components) = (vec![uri.clone()], vec![COMPONENT.to_owned()]);
                mirrors.push(Source { uris, components, suites: Vec::new(), trust: trust(source, keyring) });
                mirrors.len() - 1
            });
            let mirror = &mut mirrors[position];
            let others =
                SUITES.into_iter().filter(|suite| source.suites.iter().any(|own| is_security(own) == is_security(suite)));
            for suite in source.suites.iter().map(String::as_str).chain(others) {
                if !mirror.suites.iter().any(|known| known == suite) {
                    mirror.suites.push(suite.to_owned());
                }
            }
        }
    }
    mirrors
}

/// Whether the source has a Debian release, by the names of its suites: who mirrors something else has none of these.
fn is_debian(source: &Source, own_release: Option<&str>) -> bool {
    let release = |suite: &str| suite.split(['-', '/']).next().unwrap_or_default().to_owned();
    let known =
        |name: &str| ALIASES.contains(&name) || own_release == Some(name) || SUITES.iter().any(|suite| release(suite) == name);
    source.components.iter().any(|component| component == COMPONENT) && source.suites.iter().any(|suite| known(&release(suite)))
}

/// Security updates have mirrors of their own.
fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

/// The source's options about trust. Where they name files with keys, Debian's keys of all releases are added.
fn trust(source: &Source, keyring: Option<&str>) -> Vec<(String, String)> {
    let mut trust = source.trust.clone();
    for (name, value) in &mut trust {
        if let Some(keyring) = keyring.filter(|_| name == "signed-by" && value.starts_with('/'))
            && !value.split([',', ' ']).any(|file| file == keyring)
        {
            *value = format!("{value},{keyring}");
        }
    }
    trust
}

/// Whether apt's complaint is about this suite.
pub(super) fn is_about(complaint: &str, suite: &str) -> bool {
    [format!("/dists/{suite}/"), format!(" {suite} ")].iter().any(|sign| complaint.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(line: &str) -> Source {
        Source::from_lines(line).remove(0)
    }

    #[test]
    fn a_mirror_is_asked_for_its_own_suites_and_the_others_of_its_kind() {
        let sources = [
            source("deb http://a/debian bookworm main contrib"),
            source("deb http://a/debian bookworm-updates main"),
            source("deb http://a/security bookworm-security main"),
        ];
        let mirrors = with_all_suites(&sources, None, None);
        assert_eq!(mirrors.len(), 2);
        assert_eq!(mirrors[0].suites, ["bookworm", "bullseye", "trixie-backports", "bookworm-updates"]);
        assert_eq!(mirrors[0].components, ["main"]);
        assert_eq!(mirrors[1].suites, ["bookworm-security", "bullseye-security", "trixie-security"]);
    }

    #[test]
    fn what_is_not_debian_is_no_mirror() {
        let sources = [
            source("deb http://a/ubuntu noble main"),
            source("deb http://a/docker bookworm stable"),
            source("deb http://a/node nodistro main"),
            source("deb cdrom:[Debian]/ bookworm main"),
        ];
        assert!(with_all_suites(&sources, None, None).is_empty());
        assert_eq!(with_all_suites(&[source("deb http://a/debian duke main")], Some("duke"), None).len(), 1);
        assert_eq!(with_all_suites(&[source("deb http://a/debian testing main")], None, None).len(), 1);
    }

    #[test]
    fn a_mirror_tied_to_the_keys_of_its_release_gets_those_of_all() {
        let signed = |line: &str, keyring| with_all_suites(&[source(line)], None, keyring)[0].trust.clone();
        let pair = |value: &str| vec![("signed-by".to_owned(), value.to_owned())];
        let line = "deb [signed-by=/one.gpg] http://a bookworm main";
        assert_eq!(signed(line, Some("/all.gpg")), pair("/one.gpg,/all.gpg"));
        assert_eq!(signed(line, Some("/one.gpg")), pair("/one.gpg"));
        assert_eq!(signed(line, None), pair("/one.gpg"));
        assert!(signed("deb http://a bookworm main", Some("/all.gpg")).is_empty());
    }

    #[test]
    fn a_complaint_is_told_by_the_suite_it_names() {
        let complaint = "E: The repository 'http://a/debian bullseye Release' does not have a Release file.";
        assert!(is_about(complaint, "bullseye") && !is_about(complaint, "bullseye-security"));
        assert!(is_about("W: Failed to fetch http://a/dists/sid/InRelease  Could not resolve 'a'", "sid"));
    }
}
