//! Files that are written for the user: what stands in one is replaced by what is whole, never by a part of it.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{self, Component, Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

/// So many symbolic links are followed, as the kernel does (`MAXSYMLINKS`, Linux include/linux/namei.h).
const MOST_LINKS: u32 = 40;

/// A place that a report is written to, in one go or bit by bit.
#[derive(Debug)]
pub struct OutputFile(State);

#[derive(Debug)]
enum State {
    /// A regular file that will be put in its place once the first part of it is written.
    Beside {
        target: PathBuf,
        /// Whose the file is that is there now.
        existing: Option<Existing>,
    },
    /// A regular file in a folder that takes no other one: it keeps its content until there is something to write.
    Over(File),
    /// Written to already; or a pipe or a device, which is as it is.
    Begun(File),
}

/// What a file keeps when another one takes its place.
#[derive(Clone, Copy, Debug)]
struct Existing {
    mode: u32,
    user: u32,
    group: u32,
}

impl Existing {
    fn of(file: &Metadata) -> Self {
        Self { mode: file.mode() & 0o777, user: file.uid(), group: file.gid() }
    }

    fn hand_on(self, to: &File) -> io::Result<()> {
        // Fails for a file of somebody else, which then becomes ours.
        let _ = fchown(to, Some(self.user), Some(self.group));
        to.set_permissions(Permissions::from_mode(self.mode))
    }
}

impl OutputFile {
    /// Finds out whether the file can be written, and changes nothing yet. Opening a FIFO waits for its reader.
    ///
    /// # Errors
    ///
    /// One sentence, when it cannot be written.
    pub fn open(path: &Path) -> Result<Self, String> {
        let refused = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let place = resolve(path).map_err(refused)?;
        let existing = match fs::metadata(&place.path) {
            Ok(existing) => Some(existing),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !place.is_descriptor => None,
            Err(error) => return Err(refused(error)),
        };
        // Nothing but a link of /proc is a link here any more, unless somebody has just put one there.
        let no_links = if place.is_descriptor { 0 } else { libc::O_NOFOLLOW };
        let open = |options: &mut OpenOptions| options.custom_flags(no_links).open(&place.path);
        if let Some(existing) = &existing {
            if place.is_descriptor || !existing.is_file() {
                return Ok(Self(State::Begun(open(OpenOptions::new().append(true)).map_err(refused)?)));
            }
            let over = open(OpenOptions::new().write(true)).map_err(refused)?;
            if beside(&place.path).is_err() {
                return Ok(Self(State::Over(over)));
            }
        } else {
            // Taken away at once: a measurement that is killed leaves nothing behind.
            drop(beside(&place.path).map_err(refused)?);
        }
        let existing = existing.as_ref().map(Existing::of);
        Ok(Self(State::Beside { target: place.path, existing }))
    }

    /// Writes a report, or another part of it. When the first part fails, the file is as it was.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        let file = match &mut self.0 {
            State::Begun(file) => return file.write_all(text.as_bytes()),
            State::Over(file) => over(file.try_clone()?, text)?,
            State::Beside { target, existing } => {
                let mut file = beside(target)?;
                file.write_all(text.as_bytes())?;
                if let Some(existing) = existing {
                    existing.hand_on(file.as_file())?;
                }
                match file.persist(&*target) {
                    Ok(file) => file,
                    // A file that is a mount point, in a container for example, cannot be replaced.
                    Err(_) if existing.is_some() => {
                        over(OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(target)?, text)?
                    }
                    Err(refused) => return Err(refused.error),
                }
            }
        };
        self.0 = State::Begun(file);
        Ok(())
    }
}

/// Writes a file that is not there yet.
///
/// # Errors
///
/// `AlreadyExists` when it is there; otherwise what the kernel says. It is then not there, not even in part.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = beside(path)?;
    file.write_all(text.as_bytes())?;
    file.persist_noclobber(path).map(drop).map_err(|refused| refused.error)
}

fn over(mut file: File, text: &str) -> io::Result<File> {
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// A file in the same folder, with the permissions that any new file has. It goes away with the value.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Builder::new().prefix(".shared-msr-").permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
}

/// Where a path leads to.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    /// A descriptor that is open already, such as /dev/stdout: the path of what it is open for says nothing.
    is_descriptor: bool,
}

/// Follows symbolic links, but none that anybody could have put there.
fn resolve(path: &Path) -> io::Result<Place> {
    let mut rest = parts(&path::absolute(path)?);
    let mut path = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            path.pop();
            continue;
        }
        let next = path.join(&part);
        let is_link = match fs::symlink_metadata(&next) {
            Ok(found) => found.is_symlink(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && rest.is_empty() => false,
            Err(error) => return Err(error),
        };
        if !is_link {
            path = next;
            continue;
        }
        let folder = fs::metadata(&path)?;
        if folder.mode() & 0o002 != 0 {
            return Err(io::Error::other(format!(
                "{} is a symbolic link in a folder that everybody may write to, so it is not followed; name the file itself",
                next.display()
            )));
        }
        if rest.is_empty() && fs::metadata("/proc").is_ok_and(|proc| proc.dev() == folder.dev()) {
            return Ok(Place { path: next, is_descriptor: true });
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            path = PathBuf::from("/");
        }
        let mut ahead = parts(&target);
        ahead.append(&mut rest);
        rest = ahead;
    }
    Ok(Place { path, is_descriptor: false })
}

/// The parts of a path below the root.
fn parts(path: &Path) -> VecDeque<OsString> {
    let wanted = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    wanted.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_file_comes_when_its_first_part_is_written_with_the_usual_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        let mut file = OutputFile::open(&path).unwrap();
        assert!(names(folder.path()).is_empty(), "nothing is left by a measurement that is killed");
        file.write("one\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
        file.write("two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(names(folder.path()), ["report"]);
        File::create(folder.path().join("usual")).unwrap();
        assert_eq!(mode(&path), mode(&folder.path().join("usual")));
    }

    #[test]
    fn an_existing_file_is_replaced_as_a_whole_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        fs::write(&path, "what was there, and longer").unwrap();
        set_mode(&path, 0o604);
        let reader = fs::read_to_string(&path).unwrap();
        let before = File::open(&path).unwrap();
        let mut file = OutputFile::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), reader, "opening changes nothing");
        file.write("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(mode(&path), 0o604);
        assert_eq!(io::read_to_string(before).unwrap(), reader, "who reads the old one reads all of it");
        assert_eq!(names(folder.path()), ["report"]);
    }

    #[test]
    fn a_link_is_followed_but_not_in_a_folder_that_everybody_may_write_to() {
        let folder = tempfile::tempdir().unwrap();
        let (open, own) = (folder.path().join("open"), folder.path().join("own"));
        for path in [&open, &own] {
            fs::create_dir(path).unwrap();
        }
        set_mode(&open, 0o1777);
        fs::write(own.join("kept"), "kept").unwrap();
        symlink("kept", own.join("link")).unwrap();
        symlink(own.join("link"), own.join("second")).unwrap();
        OutputFile::open(&own.join("second")).unwrap().write("through").unwrap();
        assert_eq!(fs::read_to_string(own.join("kept")).unwrap(), "through");
        assert!(fs::symlink_metadata(own.join("link")).unwrap().is_symlink(), "the link is still one");
        // Dangling in a folder of one's own: what it names is made.
        symlink("made", own.join("dangling")).unwrap();
        OutputFile::open(&own.join("dangling")).unwrap().write("made").unwrap();
        assert_eq!(fs::read_to_string(own.join("made")).unwrap(), "made");

        symlink(own.join("kept"), open.join("trap")).unwrap();
        symlink(&own, open.join("folder")).unwrap();
        // Also behind a link that may be followed.
        symlink(open.join("trap"), own.join("to-trap")).unwrap();
        for path in [open.join("trap"), open.join("folder/kept"), own.join("to-trap"), own.join("../open/trap")] {
            let why = OutputFile::open(&path).unwrap_err();
            assert!(why.contains("everybody may write to") && why.lines().count() == 1, "{why}");
        }
        assert_eq!(fs::read_to_string(own.join("kept")).unwrap(), "through");
        // The folder itself is no harm.
        OutputFile::open(&open.join("plain")).unwrap().write("plain").unwrap();
        assert_eq!(fs::read_to_string(open.join("plain")).unwrap(), "plain");
    }

    #[test]
    fn links_in_a_circle_have_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("circle");
        symlink("circle", &path).unwrap();
        assert!(OutputFile::open(&path).unwrap_err().contains("symbolic links"));
    }

    #[test]
    fn a_device_and_an_open_descriptor_are_taken_as_they_are() {
        let mut full = OutputFile::open(Path::new("/dev/full")).unwrap();
        assert_eq!(full.write("text").unwrap_err().kind(), io::ErrorKind::StorageFull);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open");
        fs::write(&path, "before\n").unwrap();
        let held = File::open(&path).unwrap();
        let descriptor = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
        OutputFile::open(Path::new(&descriptor)).unwrap().write("after\n").unwrap();
        assert_eq!(io::read_to_string(held).unwrap(), "before\nafter\n", "not another file in its place");
    }

    #[test]
    fn what_cannot_be_written_is_refused_before_anything_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("no/such"), PathBuf::from("/proc/self/fd/999")] {
            let why = OutputFile::open(&path).unwrap_err();
            assert!(why.starts_with(&format!("cannot write {}: ", path.display())), "{why}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_not_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export");
        write_new(&path, "first").unwrap();
        assert_eq!(write_new(&path, "second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(folder.path()), ["export"]);
    }
}
