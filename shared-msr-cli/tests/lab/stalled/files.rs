//! Files that are replaced as a whole, or not at all.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use crate::support::{Running, command};

#[test]
fn a_report_that_does_not_fit_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    fs::write(&kept, "what was there").unwrap();
    // No file may be longer than 0 bytes.
    let script = "ulimit -f 0; trap '' XFSZ; shared-msr report --output \"$0\" -- sh -c 'exit 7' >/dev/null 2>/dev/null";
    let ended = Running::start(Command::new("sh").args(["-c", script]).arg(&kept)).wait();
    assert_eq!(ended.status, 7, "the command's status: {ended:?}");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "what was there");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside");
}

#[test]
fn a_report_that_fits_takes_the_place_and_the_mode_of_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    fs::write(&kept, "what was there").unwrap();
    fs::set_permissions(&kept, Permissions::from_mode(0o604)).unwrap();
    let ended = Running::start(command("report --output").arg(&kept).args(["--", "true"])).wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(fs::read_to_string(&kept).unwrap().starts_with("In "));
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o7777, 0o604);
}

#[test]
fn a_link_in_a_folder_of_one_s_own_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::write(&target, "target").unwrap();
    symlink(&target, &link).unwrap();
    let ended = Running::start(command("report --format csv --output").arg(&link).args(["--", "true"])).wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(fs::read_to_string(&target).unwrap().starts_with("msr"));
}

#[test]
fn a_link_in_a_folder_of_everybody_s_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (target, was_run) = (folder.path().join("target"), folder.path().join("was-run"));
    fs::write(&target, "target").unwrap();
    let link = Link::new("/tmp/trap", &target);
    assert_eq!(fs::metadata("/tmp").unwrap().permissions().mode() & 0o7777, 0o1777, "everybody may write to /tmp");
    let ended = Running::start(command("report --output").arg(link.0).args(["--", "touch"]).arg(&was_run)).wait();
    ended.assert_one_sentence(1, "everybody may write to");
    assert!(!was_run.exists(), "the command was not started");
    assert_eq!(fs::read_to_string(&target).unwrap(), "target", "what it names is as it was");
}

/// A link that goes when it is dropped.
struct Link(&'static str);

impl Link {
    fn new(path: &'static str, target: &Path) -> Self {
        symlink(target, path).unwrap();
        Self(path)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}
