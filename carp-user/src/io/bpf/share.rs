//! Who besides root may read the pins: members of group `carp`, the maps that say how things are.
//! (Links and ring buffers cannot be opened without being changed; keys are nobody's business.)

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::pins::BPFFS;
use crate::io::readers;

/// Lets the group into these folders and read these maps. The BPF file system itself is root's
/// alone as systemd mounts it: then the group may pass through, and nobody may list it.
///
/// # Errors
/// The kernel's, with the path.
pub(super) fn with_group(folders: &[&Path], maps: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
    let give = |path: &Path, mode| readers::give(path, mode).map_err(|error| (path.to_owned(), error));
    if is(ROOTS_ALONE, 0) {
        give(Path::new(BPFFS), PASSAGE)?;
    }
    folders.iter().try_for_each(|folder| give(folder, 0o750))?;
    maps.iter().try_for_each(|map| give(map, 0o640))
}

/// Takes the passage back when the last instance is gone.
pub(super) fn end() {
    if readers::gid().is_some_and(|gid| is(PASSAGE, gid)) {
        // Whoever may not do so has not opened it either.
        let _kept = chown(BPFFS, None, Some(0))
            .and_then(|()| fs::set_permissions(BPFFS, Permissions::from_mode(ROOTS_ALONE)));
    }
}

const ROOTS_ALONE: u32 = 0o700;
const PASSAGE: u32 = 0o710;

fn is(mode: u32, gid: u32) -> bool {
    fs::metadata(BPFFS).is_ok_and(|about| (about.mode() & 0o777, about.gid()) == (mode, gid))
}
