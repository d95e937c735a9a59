//! Users of this machine, from `/etc/passwd`: those that are there before any network is.

/// A user, with the group that is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group's.
    pub gid: u32,
}

impl User {
    /// The user of this name, or of this number, then also one that is not listed, in the group of the same number.
    pub fn find(name: &str) -> Option<Self> {
        let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::of(name, &text)
    }

    /// Whether that is who this process runs as.
    pub fn is_this_process(self) -> bool {
        rustix::process::geteuid().as_raw() == self.uid
    }

    /// From the text: `name:password:uid:gid:...`, see passwd(5).
    fn of(name: &str, text: &str) -> Option<Self> {
        let number: Option<u32> = name.parse().ok();
        let listed = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let called = fields.next()?;
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (called == name || number == Some(uid)).then_some(Self { uid, gid })
        });
        listed.or_else(|| number.filter(|uid| *uid != u32::MAX).map(|uid| Self { uid, gid: uid }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name_or_its_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\nnobodyelse:x:7:7\nnobody:x:65534:65533:n:/:/no\n";
        let nobody = Some(User { uid: 65534, gid: 65533 });
        assert_eq!(User::of("nobody", text), nobody);
        assert_eq!(User::of("65534", text), nobody);
        assert_eq!(User::of("0", text), Some(User { uid: 0, gid: 0 }));
        assert_eq!(User::of("1234", text), Some(User { uid: 1234, gid: 1234 }));
        for unknown in ["nobod", "", "-1", "4294967295", "4294967296"] {
            assert_eq!(User::of(unknown, text), None, "{unknown}");
        }
    }
}
