//! Starting other programs, and the folders that they work in.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs `command` with its output shown; anything but success is an error that names the command line.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs `command` and returns what it printed; its error output becomes part of our error.
pub fn capture(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({})\n{}", line(command), output.status, said.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no UTF-8", line(command)))
}

/// The cargo that started us, in the workspace root, without the variables that describe xtask itself.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// `command` as one would type it.
pub fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// The root of the workspace: where cargo says that we are, else the nearest `Cargo.lock` above.
pub fn root() -> PathBuf {
    if let Some(manifest) = env::var_os("CARGO_MANIFEST_DIR")
        && let Some(root) = Path::new(&manifest).parent()
    {
        return root.to_path_buf();
    }
    let here = env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    here.ancestors().find(|dir| dir.join("Cargo.lock").is_file()).unwrap_or(&here).to_path_buf()
}

/// Where cargo puts host builds.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The private folder for what `setup` fetches; nothing outside of it is replaced.
pub fn cache_dir() -> Result<PathBuf> {
    let from = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("CARP_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|dir| dir.join("carp")))
        .or_else(|| from("HOME").map(|dir| dir.join(".cache/carp")))
        .context("no cache folder: set CARP_CACHE, XDG_CACHE_HOME or HOME")
}

/// The program `name` on the search path; the administrator's folders count even when PATH lacks them.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Whether we may install packages and make namespaces.
pub fn is_root() -> bool {
    // The owner of our own /proc entry is our effective user.
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Runs `work` and says how long it took.
pub fn stopwatch<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    // The ban is for the product; here somebody waits and wants to know for what.
    #[expect(clippy::disallowed_methods, reason = "a build tool measures itself")]
    let now = Instant::now;
    let start = now();
    (work(), start.elapsed())
}
