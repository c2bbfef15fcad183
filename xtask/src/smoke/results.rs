//! What is known of the program that is built now: how its tests ended, on every host on which they were run.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::ErrorKind,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{plan::leads_to, run::Done};
use crate::{product::LabBuild, workspace};

/// How tests ended, by host and test.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Results {
    /// Which programs were run. What another build did is not known of this one.
    build: String,
    passed: BTreeMap<String, BTreeMap<String, bool>>,
}

impl Results {
    /// Those of this build so far.
    pub(super) fn load(build: &LabBuild) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        for program in [&build.shared_msr, &build.tests] {
            fs::read(program).with_context(|| format!("cannot read {}", program.display()))?.hash(&mut hasher);
        }
        let build = format!("{:016x}", hasher.finish());
        let nothing = Self { build, ..Self::default() };
        match fs::read(file()) {
            Ok(text) => {
                Ok(serde_json::from_slice(&text).ok().filter(|kept: &Self| kept.build == nothing.build).unwrap_or(nothing))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(nothing),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file().display())),
        }
    }

    /// Takes up what has been run just now, and keeps all.
    pub(super) fn keep(&mut self, done: &[Done]) -> Result<()> {
        for one in done {
            let place = self.passed.entry(one.job.boot.place_and_cpus()).or_default();
            place.extend(one.outcomes.iter().map(|outcome| (outcome.test.clone(), outcome.passed)));
        }
        fs::write(file(), serde_json::to_vec_pretty(self)?).with_context(|| format!("cannot write {}", file().display()))
    }

    /// The hosts of which there is something.
    pub(super) fn places(&self) -> impl Iterator<Item = &str> {
        self.passed.keys().map(String::as_str)
    }

    /// Whether all tests below these paths passed on a host; none if none of them was run there.
    pub(super) fn passed(&self, place: &str, paths: &[&str]) -> Option<bool> {
        let tests = self.passed.get(place)?;
        let mut below = tests.iter().filter(|(test, _)| paths.iter().any(|path| leads_to(path, test))).peekable();
        below.peek()?;
        Some(below.all(|(_, passed)| *passed))
    }
}

fn file() -> PathBuf {
    workspace::lab().join("results.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_passed_when_all_below_it_have() {
        let tests = [("a::b", true), ("a::c", false), ("d", true)].map(|(test, passed)| (test.to_owned(), passed));
        let results = Results { passed: [("amd 6.12".to_owned(), tests.into())].into(), ..Results::default() };
        assert_eq!(results.passed("amd 6.12", &["a::b", "d"]), Some(true));
        assert_eq!(results.passed("amd 6.12", &["a"]), Some(false));
        assert_eq!(results.passed("amd 6.12", &["e"]), None);
        assert_eq!(results.passed("amd 6.1", &["a"]), None);
    }
}
