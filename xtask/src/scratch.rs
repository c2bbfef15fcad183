//! Temporary folders inside `target/` that go away even if their maker was killed.

use std::fs;
use std::path::Path;
use std::process;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A new folder in `parent`, removed when the value is dropped. Its name begins with our process id: what an earlier
/// process could not remove because it was killed is removed now.
pub(crate) fn folder(parent: &Path) -> Result<TempDir> {
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    for entry in fs::read_dir(parent)?.flatten() {
        if entry.file_name().to_str().and_then(maker).is_some_and(is_gone) {
            // Someone else may be doing the same; and what stays is only wasted space.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new()
        .prefix(&format!("tmp-{}-", process::id()))
        .tempdir_in(parent)
        .with_context(|| format!("cannot create a folder in {}", parent.display()))
}

/// The process id in the name of a folder made by [`folder`].
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix("tmp-")?.split('-').next()?.parse().ok()
}

/// Whether there is no such process any more.
fn is_gone(process: u32) -> bool {
    !Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_folder_tells_its_maker() {
        assert_eq!(maker("tmp-4711-aX3"), Some(4711));
        assert_eq!(maker("6.12"), None);
        assert_eq!(maker("tmp-x-y"), None);
    }

    #[test]
    fn a_folder_of_a_dead_process_is_removed_and_ours_stays() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join(format!("tmp-{}-abc", u32::MAX));
        fs::create_dir(&dead).unwrap();
        let ours = folder(parent.path()).unwrap();
        let second = folder(parent.path()).unwrap();
        assert!(!dead.exists());
        assert!(ours.path().exists() && second.path().exists());
    }
}
