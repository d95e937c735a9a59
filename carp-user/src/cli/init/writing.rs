//! New files, each whole or not there.

use super::plan::NewFile;
use anyhow::{Context, Result};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes all of them into the folder, which is made where it is not there. Without `force` none that is there is
/// replaced; when one cannot be written, those before it go again.
///
/// # Errors
/// What the file system says.
pub(in crate::cli) fn write(folder: &Path, files: &[NewFile], force: bool) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut made: Vec<PathBuf> = Vec::new();
    for file in files {
        let path = folder.join(&file.name);
        if let Err(error) = place(folder, &path, file, force) {
            // With `force` what they replaced is gone already: then they are all there is.
            for path in made.iter().filter(|_| !force) {
                let _ = fs::remove_file(path);
            }
            return Err(error).with_context(|| format!("writing {}", path.display()));
        }
        made.push(path);
    }
    Ok(())
}

/// Under another name first, so that nobody ever reads a part of it.
fn place(folder: &Path, path: &Path, file: &NewFile, force: bool) -> io::Result<()> {
    let new = folder.join(format!(".{}.new", file.name));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mode = if file.is_secret() { 0o600 } else { 0o644 };
    let mut open = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    let written = open.write_all(file.text.as_bytes()).and_then(|()| open.sync_all());
    // A link is refused where something is, a renaming replaces it.
    let placed =
        written.and_then(|()| if force { fs::rename(&new, path) } else { fs::hard_link(&new, path) });
    let _ = fs::remove_file(&new);
    placed
}
