//! A cpio archive of the kind that the kernel unpacks into its first file system ("newc"). Written by hand, it
//! may hold device nodes without anybody being root. See Documentation/driver-api/early-userspace/buffer-format.rst.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive that grows. What is added first under a path stays; folders come by themselves.
#[derive(Clone, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    paths: BTreeSet<String>,
}

impl Cpio {
    /// Adds an empty folder.
    ///
    /// # Errors
    /// More than 4 GiB, here and below.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(path, FOLDER, &[], (0, 0))
    }

    /// Adds a file with these permissions.
    pub fn file(&mut self, path: &str, permissions: u32, bytes: &[u8]) -> Result<()> {
        self.entry(path, FILE | permissions, bytes, (0, 0))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, to: &str) -> Result<()> {
        self.entry(path, LINK, to.as_bytes(), (0, 0))
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.entry(path, CHARACTER_DEVICE, &[], (major, minor))
    }

    /// Whether there is something under this path.
    pub fn contains(&self, path: &str) -> bool {
        self.paths.contains(path.trim_matches('/'))
    }

    /// The archive as bytes.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.record("TRAILER!!!", 0, 0, &[], (0, 0))?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8], device: (u32, u32)) -> Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.paths.insert(path.to_owned()) {
            return Ok(());
        }
        if let Some(above) = Path::new(path).parent().and_then(Path::to_str) {
            self.folder(above)?; // the kernel makes none by itself, and reads downward
        }
        let inode = u32::try_from(self.paths.len())?;
        self.record(path, inode, mode, content, device)
    }

    fn record(
        &mut self,
        path: &str,
        inode: u32,
        mode: u32,
        content: &[u8],
        device: (u32, u32),
    ) -> Result<()> {
        let size = u32::try_from(content.len()).with_context(|| format!("{path} is too large"))?;
        let name_size = u32::try_from(path.len() + 1)?;
        let (major, minor) = device;
        // Inode, mode, owner, group, links, time, size, device, device node, length of the name, no checksum.
        let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        let header = fields.iter().fold("070701".to_owned(), |text, field| format!("{text}{field:08X}"));
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_after_its_folders_and_every_part_is_aligned() {
        let mut cpio = Cpio::default();
        cpio.file("/a/b", 0o755, b"hello").unwrap();
        cpio.file("a/b", 0o755, b"never").unwrap();
        assert!(cpio.contains("/a/b") && cpio.contains("a") && !cpio.contains("b"));
        let bytes = cpio.finish().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let at = |what: &str| text.find(what).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&text[..22], "07070100000002000041ED");
        assert_eq!(&text[110..112], "a\0");
        assert_eq!(&text[112..134], "07070100000002000081ED");
        assert_eq!(at("a/b\0"), 112 + 110);
        assert_eq!(at("hello") % 4, 0);
        assert!(!text.contains("never") && text.contains("TRAILER!!!"));
    }
}
