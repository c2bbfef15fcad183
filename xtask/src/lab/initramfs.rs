//! Writes an initramfs: a small tree of files in cpio's "newc" format.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc::{self, Builder, ModeFileType};

/// One thing in the tree.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// A folder.
    Folder,
    /// A file with its content and its permissions.
    File(Vec<u8>, u32),
    /// A symbolic link to this path.
    Link(String),
    /// A character device with its major and minor number.
    Device(u32, u32),
}

/// The tree. Sorted by path, so that a folder comes before what is in it, as the kernel wants it.
#[derive(Debug, Default)]
pub(super) struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

impl Initramfs {
    /// Adds a folder and those above it.
    pub(super) fn folder(&mut self, path: &str) {
        self.add(path, Entry::Folder);
    }

    /// Adds a file that everyone can read, and run if `executable`.
    pub(super) fn file(&mut self, path: &str, content: impl Into<Vec<u8>>, executable: bool) {
        let permissions = if executable { 0o755 } else { 0o644 };
        self.add(path, Entry::File(content.into(), permissions));
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, to: &str) {
        self.add(path, Entry::Link(to.to_owned()));
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.add(path, Entry::Device(major, minor));
    }

    /// Adds an entry, and the folders above it unless something (a link to a folder, say) is there already.
    fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].to_owned()).or_insert(Entry::Folder);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Writes the tree to a file. Not compressed: the emulated CPU is slow, the memory is not.
    pub(super) fn write(&self, to: &Path) -> Result<()> {
        self.pack(File::create(to).map(BufWriter::new).with_context(|| format!("cannot create {}", to.display()))?)
            .with_context(|| format!("cannot write {}", to.display()))
    }

    fn pack(&self, mut to: impl Write) -> Result<()> {
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            let builder = Builder::new(path).ino(number);
            let (builder, content) = match entry {
                Entry::Folder => (builder.mode(0o755).set_mode_file_type(ModeFileType::Directory), &[][..]),
                Entry::File(content, permissions) => {
                    (builder.mode(*permissions).set_mode_file_type(ModeFileType::Regular), &content[..])
                }
                Entry::Link(target) => (builder.mode(0o777).set_mode_file_type(ModeFileType::Symlink), target.as_bytes()),
                Entry::Device(major, minor) => {
                    (builder.mode(0o600).set_mode_file_type(ModeFileType::Char).rdev_major(*major).rdev_minor(*minor), &[][..])
                }
            };
            let size = u32::try_from(content.len()).with_context(|| format!("/{path} is too large for the lab"))?;
            let mut writer = builder.write(&mut to, size);
            writer.write_all(content)?;
            writer.finish()?;
        }
        newc::trailer(&mut to)?.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode and content of each entry, read back.
    fn unpacked(tree: &Initramfs) -> Vec<(String, u32, Vec<u8>)> {
        let mut archive = Vec::new();
        tree.pack(&mut archive).unwrap();
        let mut rest = &archive[..];
        let mut found = Vec::new();
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return found;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = Vec::new();
            std::io::copy(&mut reader, &mut content).unwrap();
            found.push((name, mode, content));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut tree = Initramfs::default();
        tree.file("/usr/lib/x/y", "hello", false);
        tree.file("/init", "", true);
        let names: Vec<_> = unpacked(&tree).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["init", "usr", "usr/lib", "usr/lib/x", "usr/lib/x/y"]);
    }

    #[test]
    fn kinds_permissions_and_contents_are_kept() {
        let mut tree = Initramfs::default();
        tree.file("/a", "text", false);
        tree.file("/b", "#!", true);
        tree.link("/c", "a");
        tree.device("/d", 5, 1);
        let expected = [("a", 0o100_644, "text"), ("b", 0o100_755, "#!"), ("c", 0o120_777, "a"), ("d", 0o020_600, "")];
        let expected = expected.map(|(name, mode, content)| (name.to_owned(), mode, content.as_bytes().to_vec()));
        assert_eq!(unpacked(&tree), expected);
    }

    #[test]
    fn a_file_below_a_link_leaves_the_link_alone() {
        let mut tree = Initramfs::default();
        tree.link("/usr/bin", "../bin");
        tree.file("/usr/bin/x", "", true);
        assert_eq!(tree.entries["usr/bin"], Entry::Link("../bin".to_owned()));
    }
}
