//! Password files: who may read them, and what a key may be.

use super::private::{self, first_line, from_hex};
use carp_common::auth::{KEY_LEN, Key};
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroize;

/// Longest password, in bytes. The buffer has 20, but every `ifconfig` and ucarp keep the last one
/// for a NUL (`carp-protocol` section 2.1).
pub const MAX_PASSWORD: usize = 19;

const HEX: &[u8] = b"hex:";

/// The shared secret of a virtual host. Wiped when dropped, blind in `Debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret(Key);

/// Why a password file gives no key. `Display` says it without a word of the content.
#[derive(Debug)]
pub enum Problem {
    /// The file itself.
    File(private::Problem),
    /// Its first line is empty.
    Empty(PathBuf),
    /// The first line has this many bytes.
    TooLong(PathBuf, usize),
    /// A zero byte, where other implementations would end the password.
    ZeroByte(PathBuf),
    /// `hex:` is followed by something else than 40 hexadecimal digits.
    BadHex(PathBuf),
}

impl Secret {
    /// Reads the first line of `path`: a password of 1..=19 bytes as they stand, or `hex:` and the
    /// 40 digits of a raw key. Forty zeros are what other implementations use without a password.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let content = private::read(path)?;
        Self::from_content(path, &content)
    }

    /// The key in a password file with this content; `path` is for the message only.
    ///
    /// # Errors
    /// [`Problem::Empty`], [`Problem::TooLong`], [`Problem::ZeroByte`], [`Problem::BadHex`].
    pub fn from_content(path: &Path, content: &[u8]) -> Result<Self, Problem> {
        let line = first_line(content);
        if let Some(digits) = line.strip_prefix(HEX) {
            return raw_key(digits).ok_or_else(|| Problem::BadHex(path.into()));
        }
        if line.is_empty() {
            return Err(Problem::Empty(path.into()));
        }
        if line.len() > MAX_PASSWORD {
            return Err(Problem::TooLong(path.into(), line.len()));
        }
        if line.contains(&0) {
            return Err(Problem::ZeroByte(path.into()));
        }
        let key = Key::from_password(line).ok_or_else(|| Problem::TooLong(path.into(), line.len()))?;
        Ok(Self(key))
    }

    /// The key, for whom must hash with it.
    pub fn key(&self) -> &Key {
        &self.0
    }
}

impl From<Key> for Secret {
    fn from(key: Key) -> Self {
        Self(key)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.0.zeroize();
    }
}

impl Problem {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::File(problem) => problem.help(|path| {
                let path = path.display();
                format!("write the password into it: (umask 077; cat > {path}), type it, Enter, Ctrl-D")
            }),
            Self::Empty(_) => format!(
                "write 1 to {MAX_PASSWORD} bytes; to run without a secret, as peers without a password do, \
                 write hex: and 40 zeros"
            ),
            Self::TooLong(..) => format!(
                "use at most {MAX_PASSWORD} bytes: peers cut the rest off or refuse; for a raw key of \
                 20 bytes write hex: and 40 hexadecimal digits"
            ),
            Self::ZeroByte(_) => "write a key with zero bytes as hex: and 40 hexadecimal digits".into(),
            Self::BadHex(_) => "write hex: and exactly 40 hexadecimal digits, the 20 bytes of the key".into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(problem) => f.write_str(&problem.text("password file")),
            Self::Empty(path) => write!(f, "password file {} is empty", path.display()),
            Self::TooLong(path, len) => {
                write!(f, "the password in {} has {len} bytes, more than {MAX_PASSWORD}", path.display())
            }
            Self::ZeroByte(path) => write!(f, "the password in {} contains a zero byte", path.display()),
            Self::BadHex(path) => write!(f, "the raw key in {} is not 40 hexadecimal digits", path.display()),
        }
    }
}

impl std::error::Error for Problem {}

impl From<private::Problem> for Problem {
    fn from(problem: private::Problem) -> Self {
        Self::File(problem)
    }
}

fn raw_key(digits: &[u8]) -> Option<Secret> {
    let mut secret = Secret(Key([0; KEY_LEN]));
    from_hex(digits, &mut secret.0.0).map(|()| secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key(content: &[u8]) -> Result<Vec<u8>, String> {
        match Secret::from_content(Path::new("pw"), content) {
            Ok(secret) => Ok(secret.key().0.to_vec()),
            Err(problem) => Err(format!("{problem}; {}", problem.help())),
        }
    }

    #[test]
    fn the_first_line_is_the_password_without_its_end_but_with_its_spaces() {
        for content in [&b" se cret "[..], b" se cret \n", b" se cret \r\n", b" se cret \nmore\n"] {
            assert_eq!(key(content).expect("fits")[..10], *b" se cret \0");
        }
    }

    #[test]
    fn item_26_nineteen_bytes_and_utf8_work_and_are_padded_with_zeros() {
        assert_eq!(key(b"0123456789abcdefghi").expect("fits"), b"0123456789abcdefghi\0");
        assert_eq!(key("päss w0rd!".as_bytes()).expect("fits")[..12], *b"p\xc3\xa4ss w0rd!\0");
    }

    #[test]
    fn item_27_a_longer_password_is_refused_and_a_raw_key_goes_in_as_hex() {
        let refused = key(b"abcdefghijklmnopqrstuvwxy\n").expect_err("25 bytes");
        assert!(
            refused.starts_with("the password in pw has 25 bytes, more than 19; use at most 19"),
            "{refused}"
        );
        assert!(refused.contains("hex:") && !refused.contains("abc"), "{refused}");
        assert!(key(b"0123456789abcdefghij").is_err(), "20 bytes");
        let raw: Vec<u8> = (1..=20).collect();
        assert_eq!(key(b"hex:0102030405060708090a0b0c0d0e0f1011121314\n").expect("40 digits"), raw);
        assert_eq!(key(b"hex:0102030405060708090A0B0C0D0E0F1011121314").expect("40 digits"), raw);
        for wrong in [&b"hex:"[..], b"hex:00", b"hex:+102030405060708090a0b0c0d0e0f1011121314", b"hex:\xff"] {
            assert!(key(wrong).expect_err("no key").starts_with("the raw key in pw is not 40"), "{wrong:?}");
        }
    }

    #[test]
    fn item_28_no_password_is_refused_unless_the_zero_key_is_written_out() {
        for empty in [&b""[..], b"\n", b"\r\n", b"\nsecret\n"] {
            assert!(key(empty).expect_err("empty").starts_with("password file pw is empty; write 1 to 19"));
        }
        let zeros = format!("hex:{}", "0".repeat(40));
        assert_eq!(key(zeros.as_bytes()).expect("explicit"), [0; 20]);
        assert!(key(b"a\0b").expect_err("zero byte").contains("zero byte"));
    }

    #[test]
    fn a_password_file_open_to_others_is_refused_with_the_command_that_closes_it() {
        let path = std::env::temp_dir().join(format!("carp-password-{}", std::process::id()));
        std::fs::write(&path, "secret\n").expect("the temporary directory is writable");
        let with_mode = |mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("it is ours");
            Secret::read(&path).map_err(|problem| format!("{problem}; {}", problem.help()))
        };
        let name = path.display();
        for (mode, digits) in [(0o644, "0644"), (0o640, "0640"), (0o602, "0602")] {
            let expected =
                format!("password file {name} is open to others (mode {digits}); chmod 0600 {name}");
            assert_eq!(with_mode(mode).expect_err("too open"), expected);
        }
        assert_eq!(with_mode(0o600).expect("closed").key().0[..6], *b"secret");
        assert!(with_mode(0o400).is_ok());
        std::fs::remove_file(&path).expect("it was there");
        let gone = with_mode_of_missing(&path);
        assert!(gone.contains("cannot read password file") && gone.contains("umask 077"), "{gone}");
        let directory = Secret::read(&std::env::temp_dir()).expect_err("a directory").to_string();
        assert!(directory.ends_with("is not a regular file"), "{directory}");
    }

    fn with_mode_of_missing(path: &Path) -> String {
        let problem = Secret::read(path).expect_err("it was removed");
        format!("{problem}; {}", problem.help())
    }

    #[test]
    fn a_secret_is_blind_in_debug() {
        let secret = Secret::from_content(Path::new("pw"), b"hunter2").expect("fits");
        assert_eq!(format!("{secret:?}"), "Secret(Key(…))");
    }
}
