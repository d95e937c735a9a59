//! Group `carp`: its members may read the status without being root, from the daemon or, when that
//! is dead, from the pinned maps.

use rustix::fs::Gid;
use rustix::thread::set_thread_groups;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

/// Its name. Where there is no such group, all this is root's alone.
pub const GROUP: &str = "carp";

/// Makes the calling thread a member, so that it may later give files to the group without
/// `CAP_CHOWN`. For a start as root; whoever lacks `CAP_SETGID` is a member already or it does not
/// matter (systemd: `SupplementaryGroups=carp`).
pub(super) fn join() {
    let Some(gid) = gid() else { return };
    let mut groups = rustix::process::getgroups().unwrap_or_default();
    let gid = Gid::from_raw(gid);
    if !groups.contains(&gid) {
        groups.push(gid);
        let _no_member = set_thread_groups(&groups);
    }
}

/// Gives a file of ours to the group, with these permissions. Without a group nothing happens.
///
/// # Errors
/// The file system's.
pub(super) fn give(path: &Path, mode: u32) -> io::Result<()> {
    let Some(gid) = gid() else { return Ok(()) };
    chown(path, None, Some(gid))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Its number, if there is such a group.
pub(super) fn gid() -> Option<u32> {
    gid_of(GROUP, &std::fs::read_to_string("/etc/group").unwrap_or_default())
}

/// From the text of `/etc/group`: `name:password:gid:members`, see group(5).
fn gid_of(group: &str, text: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(group) {
            return None;
        }
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_by_its_whole_name() {
        let text = "root:x:0:\ncarpenters:x:7:a\ncarp:x:977:alice,bob\nbroken\n";
        assert_eq!(gid_of("carp", text), Some(977));
        assert_eq!(gid_of("carpe", text), None);
        assert_eq!(gid_of("carp", "carp:x:many:\ncarp\n"), None);
    }
}
