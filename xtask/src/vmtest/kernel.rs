//! A kernel of Debian's in the cache: fetched, unpacked, and the kernel itself taken out of the file from which
//! it would unpack itself, which takes an emulated processor seconds.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::Series;
use super::archive::{Archive, Package};
use crate::command::{cache_dir, capture};
use crate::setup;

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What was asked for.
    pub series: Series,
    /// The package's version: `6.1.192-2`.
    pub version: String,
    /// The unpacked packages, and `vmlinux`.
    pub tree: PathBuf,
    /// It was not in the cache before.
    pub is_new: bool,
}

/// Of a kept kernel: the name of the link to it.
const LINK: &str = "series-";
const TREE: &str = "linux-image-";

impl Kernel {
    /// The newest of a series; the one in the cache when the archive cannot be asked. The caller holds the cache's
    /// lock.
    ///
    /// # Errors
    /// Neither the archive nor the cache has one.
    pub fn fetch(archive: &Result<Archive>, series: &Series) -> Result<Self> {
        let fetched = match archive {
            Ok(archive) => Self::from_archive(archive, series),
            Err(error) => Err(anyhow!("{error:#}")),
        };
        fetched.or_else(|error| {
            let Ok(tree) = fs::canonicalize(link(series)?) else { return Err(error) };
            eprintln!("kernel {series} comes from the cache: {error:#}");
            Self::at(tree, series)
        })
    }

    /// The uncompressed kernel, which QEMU boots through its PVH note.
    pub fn image(&self) -> PathBuf {
        self.tree.join("vmlinux")
    }

    fn from_archive(archive: &Archive, series: &Series) -> Result<Self> {
        let packages =
            archive.select(series).with_context(|| format!("Debian has no kernel {series} now"))?;
        let image = packages.first().context("a kernel of no packages")?;
        let tree = cache()?.join(format!("{}_{}", image.name, image.version));
        let is_new = !tree.exists();
        if is_new {
            eprintln!("fetching {} {} ...", image.name, image.version);
            unpack(archive, &packages, &tree)?;
        }
        let link = link(series)?;
        fs::remove_file(&link).ok(); // not there the first time
        symlink(tree.file_name().unwrap_or_default(), &link)?;
        forget_superseded()?;
        Ok(Self { is_new, ..Self::at(tree, series)? })
    }

    fn at(tree: PathBuf, series: &Series) -> Result<Self> {
        let name = tree.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let (_, version) = name.split_once('_').with_context(|| format!("{name} has no version"))?;
        Ok(Self { series: series.clone(), version: version.to_owned(), tree, is_new: false })
    }
}

/// Every file below a folder; links are not followed.
///
/// # Errors
/// When it cannot be listed.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// What `tool -dc` makes of a file. Its status says nothing: gzip would want the size that `kernel_in` cuts off.
///
/// # Errors
/// When it cannot be started, or gives anything but an ELF file.
pub fn decompressed(tool: &str, file: &Path) -> Result<Vec<u8>> {
    let mut command = Command::new(tool);
    command.args(["-q", "-dc"]).stdin(File::open(file)?).stderr(Stdio::null());
    let output = command.output().with_context(|| format!("cannot start {tool}"))?;
    ensure!(output.stdout.starts_with(b"\x7fELF"), "{tool} makes no ELF file of {}", file.display());
    Ok(output.stdout)
}

fn cache() -> Result<PathBuf> {
    Ok(cache_dir()?.join("kernels"))
}

fn link(series: &Series) -> Result<PathBuf> {
    Ok(cache()?.join(format!("{LINK}{series}")))
}

/// Makes `tree`; it is complete when it has its name.
fn unpack(archive: &Archive, packages: &[Package], tree: &Path) -> Result<()> {
    let (work, debs, root) = setup::workplace(&cache()?)?;
    archive.download(packages, &debs)?;
    for deb in files_below(&debs)? {
        capture(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(&root))?;
    }
    let files = files_below(&root)?;
    let is_image =
        |file: &&PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    let image = files.iter().find(is_image).context("no vmlinuz in the packages")?;
    fs::write(root.join("vmlinux"), kernel_in(image, &work)?)?;
    fs::remove_file(image)?;
    fs::rename(&root, tree)?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// The kernel in a bzImage: its header says where the compressed part lies (Documentation/arch/x86/boot.rst,
/// `setup_sects`, `payload_offset`, `payload_length`).
fn kernel_in(image: &Path, work: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(image)?;
    let word = |at: usize| -> Option<usize> {
        let word: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(word)).ok()
    };
    let sectors = match bytes.get(0x1f1) {
        Some(0) | None => 4,
        Some(sectors) => usize::from(*sectors),
    };
    let part = || {
        let begin = (sectors + 1) * 512 + word(0x248)?;
        bytes.get(begin..begin + word(0x24c)?.checked_sub(4)?) // behind it is its size
    };
    let part = part().with_context(|| format!("{} is no bzImage", image.display()))?;
    let tool = match part {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [0x1f, 0x8b, ..] => "gzip",
        _ => bail!("{} is compressed in an unknown way", image.display()),
    };
    let file = work.join("payload");
    fs::write(&file, part)?;
    decompressed(tool, &file)
}

/// Removes kernels that no series means any more: a new one of the newest series comes every week.
fn forget_superseded() -> Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(cache()?)? {
        entries.push(entry?.path());
    }
    let is_called = |path: &Path, prefix: &str| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    let links = entries.iter().filter(|path| is_called(path, LINK));
    let meant: Vec<PathBuf> = links.filter_map(|link| fs::canonicalize(link).ok()).collect();
    for tree in entries.iter().filter(|path| is_called(path, TREE)) {
        if !meant.contains(&fs::canonicalize(tree)?) {
            fs::remove_dir_all(tree)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_folder_s_name() {
        let tree = PathBuf::from("kernels/linux-image-6.1.0-56-cloud-amd64_6.1.192-2");
        let kernel = Kernel::at(tree, &Series::Newest).unwrap();
        assert_eq!(kernel.version, "6.1.192-2");
        assert!(Kernel::at(PathBuf::from("kernels/apt"), &Series::Newest).is_err());
    }
}
