//! Debian's newest Rust compiler, with its BPF target and clippy, unpacked into the private cache: the system's
//! own compiler stays what it is, and nobody has to be root. rustc finds its sysroot beside itself.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{apt, linker};
use crate::command::{cache_dir, capture, is_root, run, which};

/// The compiler; it is complete when it has its name, for it is renamed into place.
pub struct Debian {
    root: PathBuf,
}

/// rustc-web is the compiler that Debian keeps current for its browsers, whatever the release's own one is.
const COMPILER: &str = "rustc-web";
/// What goes with it; their dependencies follow, the compiler's would bring all of gcc.
const WITH_DEPENDENCIES: [&str; 3] = ["libstd-rust-web-dev", "libstd-rust-web-dev-bpf", "rust-web-clippy"];

impl Debian {
    /// What an earlier run unpacked, if its bitcode is one that our linker can read.
    pub fn find() -> Result<Option<Self>> {
        let Ok(entries) = fs::read_dir(cache_dir()?) else { return Ok(None) };
        let mut found: Vec<Self> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("debian-")))
            .map(|root| Self { root })
            .filter(|debian| debian.llvm().is_some_and(|llvm| linker::LLVM.contains(&llvm)))
            .collect();
        found.sort_by(|one, other| one.root.cmp(&other.root));
        Ok(found.pop())
    }

    /// As `find`, and otherwise fetches it: the flag says which.
    pub fn find_or_fetch() -> Result<(Self, bool)> {
        if let Some(present) = Self::find()? {
            return Ok((present, false));
        }
        if which("apt-get").is_none() || which("dpkg").is_none() {
            bail!("{}", crate::bpf::BOTH_WAYS);
        }
        let _lock = lock()?;
        if let Some(present) = Self::find()? {
            return Ok((present, false));
        }
        eprintln!("fetching Debian's {COMPILER} with its BPF target (about 120 MB) ...");
        fetch().context(crate::bpf::BOTH_WAYS).map(|debian| (debian, true))
    }

    /// The folder that holds it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// rustc, in a wrapper that gives it its shared libraries.
    pub fn rustc(&self) -> PathBuf {
        self.root.join("bin/rustc")
    }

    /// The clippy of that same compiler.
    pub fn clippy_driver(&self) -> PathBuf {
        self.root.join("bin/clippy-driver")
    }

    /// An LLVM prefix in the sense of bpf-linker's build: `lib/libLLVM.so` and no more.
    pub fn llvm_prefix(&self) -> PathBuf {
        self.root.join("llvm")
    }

    /// The major version of its LLVM: `libLLVM.so.22.1` is of 22.
    fn llvm(&self) -> Option<u32> {
        let libraries = fs::read_dir(self.llvm_prefix().join("lib")).ok()?;
        libraries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find_map(|name| name.strip_prefix("libLLVM.so.")?.split('.').next()?.parse().ok())
    }
}

/// Two runs at once must not fetch twice, nor remove each other's work.
pub fn lock() -> Result<File> {
    let cache = cache_dir()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let file = File::create(cache.join("lock"))?;
    file.lock().context("cannot lock the cache")?;
    Ok(file)
}

/// An empty folder below this one in which packages are unpacked, with `debs` and `root` in it.
pub fn workplace(cache: &Path) -> Result<(PathBuf, PathBuf, PathBuf)> {
    let work = cache.join("unpacking");
    if work.exists() {
        fs::remove_dir_all(&work)?; // from a run that was cut short: we hold the lock
    }
    let (debs, root) = (work.join("debs"), work.join("root"));
    fs::create_dir_all(&debs)?;
    fs::create_dir_all(&root)?;
    Ok((work, debs, root))
}

fn fetch() -> Result<Debian> {
    let (work, debs, root) = workplace(&cache_dir()?)?;
    // Old lists know an older compiler, which may be one that the linker cannot read.
    if is_root()
        && let Err(error) = apt::update_lists()
    {
        eprintln!("going on with the package lists that are here: {error:#}");
    }
    let names = match closure() {
        Ok(names) => names,
        Err(_) => apt::update_lists().and_then(|()| closure())?,
    };
    capture(apt::apt_get().current_dir(&debs).arg("download").args(&names))
        .context("if the package lists are old: sudo apt-get update")?;
    let mut version = None;
    for entry in fs::read_dir(&debs)? {
        let deb = entry?.path();
        run(Command::new("dpkg").arg("-x").arg(&deb).arg(&root))?;
        let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((COMPILER, rest)) = name.split_once('_') {
            version = rest.split('_').next().map(ToOwned::to_owned);
        }
    }
    let version = version.with_context(|| format!("apt downloaded no {COMPILER}"))?;
    arrange(&root)?;
    let llvm = Debian { root: root.clone() }.llvm().context("the unpacked compiler has no LLVM")?;
    if !linker::LLVM.contains(&llvm) {
        let (from, to) = (linker::LLVM.start(), linker::LLVM.end());
        bail!(
            "{COMPILER} {version} has LLVM {llvm}, and the BPF linker reads {from} to {to}: fetch newer package lists \
             (sudo apt-get update), then run this again"
        );
    }
    capture(Command::new(root.join("bin/rustc")).arg("-vV")).context("the unpacked rustc does not run")?;
    let place = cache_dir()?.join(format!("debian-{version}"));
    fs::rename(&root, &place).with_context(|| format!("cannot make {}", place.display()))?;
    fs::remove_dir_all(&work)?;
    Ok(Debian { root: place })
}

/// The packages to unpack: the compiler's own, and of what they need that which the system does not have.
fn closure() -> Result<Vec<String>> {
    let listed = capture(
        Command::new("apt-cache")
            .args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"])
            .args(["--no-breaks", "--no-replaces", "--no-enhances"])
            .args(WITH_DEPENDENCIES),
    )?;
    let installed =
        capture(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status} ${Package}\n"]))?;
    let is_ours = |name: &str| name.contains("rust-web") || name.starts_with("libllvm");
    let is_installed =
        |name: &str| installed.lines().any(|line| line.strip_prefix("installed ") == Some(name));
    // A line without indent names a package; `<name>` is a virtual one.
    let mut names: Vec<String> = listed
        .lines()
        .filter(|line| !line.starts_with([' ', '|', '<']) && !line.contains(':'))
        .filter(|name| is_ours(name) || !is_installed(name))
        .map(ToOwned::to_owned)
        .collect();
    names.push(COMPILER.to_owned());
    names.sort();
    names.dedup();
    if !names.iter().any(|name| name.starts_with("libllvm")) {
        bail!("apt knows no {}", WITH_DEPENDENCIES.join(", "));
    }
    Ok(names)
}

/// Wrappers for the programs, and the LLVM prefix that bpf-linker is built against.
fn arrange(root: &Path) -> Result<()> {
    let libraries = library_dirs(root)?;
    let bin = root.join("bin");
    fs::create_dir_all(&bin)?;
    for program in ["rustc", "clippy-driver"] {
        let wrapper = bin.join(program);
        fs::write(&wrapper, script(program, &libraries))?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    }
    let (dir, llvm) = find_llvm(root, &libraries)?;
    let prefix = root.join("llvm/lib");
    fs::create_dir_all(&prefix)?;
    for link in ["libLLVM.so", &llvm] {
        symlink(Path::new("../..").join(&dir).join(&llvm), prefix.join(link))?;
    }
    Ok(())
}

/// Folders with shared libraries, relative to `root`: `usr/lib/TRIPLET` and, for a few packages, `lib/TRIPLET`.
fn library_dirs(root: &Path) -> Result<Vec<String>> {
    let mut dirs = Vec::new();
    for base in ["usr/lib", "lib"] {
        let Ok(entries) = fs::read_dir(root.join(base)) else { continue };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.contains("-linux-gnu") {
                dirs.push(format!("{base}/{name}"));
            }
        }
    }
    Ok(dirs)
}

fn find_llvm(root: &Path, dirs: &[String]) -> Result<(String, String)> {
    for dir in dirs {
        for entry in fs::read_dir(root.join(dir))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("libLLVM.so.") {
                return Ok((dir.clone(), name));
            }
        }
    }
    bail!("libLLVM.so.* is not in the unpacked packages")
}

fn script(program: &str, libraries: &[String]) -> String {
    let path: Vec<String> = libraries.iter().map(|dir| format!("$root/{dir}")).collect();
    format!(
        "#!/bin/sh\n\
         # Written by `cargo xtask setup`. These libraries are for this program alone.\n\
         root=$(dirname \"$(dirname \"$0\")\")\n\
         LD_LIBRARY_PATH=\"{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\" exec \"$root/usr/bin/{program}\" \"$@\"\n",
        path.join(":")
    )
}
