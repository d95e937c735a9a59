//! The code: 80 random bits, as a person can read them out.

use crate::config::SyncKey;
use crate::io::clock;
use crate::io::error::Error;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroize;

/// Random bytes of a code.
const BYTES: usize = 10;
/// Letters for them, and for the check behind them.
const LETTERS: usize = 16;
const CHECK: usize = 2;
/// Crockford's: without I, L, O and U, so that none looks like another.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A code. Wiped when dropped, blind in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; BYTES]);

/// What is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is no code, or has a slip in it: it has 18 letters and digits, as `carpctl pair` printed them")]
pub struct NoCode;

impl Code {
    /// A new one.
    ///
    /// # Errors
    /// The kernel's, when it has no randomness.
    pub fn new() -> Result<Self, Error> {
        let mut code = Self([0; BYTES]);
        clock::draw(&mut code.0)?;
        Ok(code)
    }

    /// What both ends of the handshake have.
    pub fn key(&self) -> SyncKey {
        let digest = Sha256::new().chain_update(b"carp pairing 1").chain_update(self.0).finalize();
        SyncKey::from(<[u8; 32]>::from(digest))
    }

    /// Of a slip of a finger it tells all but one in a thousand, before a try is spent.
    fn check(&self) -> u64 {
        let digest = Sha256::new().chain_update(b"carp pairing check").chain_update(self.0).finalize();
        digest.iter().take(2).fold(0, |number, byte| number << 8 | u64::from(*byte)) & 0x3ff
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

/// In groups of four.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, low) = self.0.split_at(BYTES / 2);
        let numbers = [(high, LETTERS / 2), (low, LETTERS / 2)].map(|(bytes, letters)| {
            (bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)), letters)
        });
        let letters = numbers.into_iter().chain([(self.check(), CHECK)]).flat_map(|(number, count)| {
            (0..count).rev().map(move |at| usize::try_from(number >> (5 * at) & 31).unwrap_or(0))
        });
        letters.enumerate().try_for_each(|(at, letter)| {
            let gap = if at > 0 && at % 4 == 0 { "-" } else { "" };
            write!(f, "{gap}{}", char::from(ALPHABET[letter]))
        })
    }
}

/// As a person types it: in any case, with or without dashes and blanks, O for 0, I and L for 1.
impl FromStr for Code {
    type Err = NoCode;

    fn from_str(text: &str) -> Result<Self, NoCode> {
        let mut digits = Vec::with_capacity(LETTERS + CHECK);
        for letter in text.bytes().filter(|byte| !b"- ".contains(byte)) {
            let letter = match letter.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            let digit = ALPHABET.iter().position(|known| *known == letter).ok_or(NoCode)?;
            digits.push(u64::try_from(digit).map_err(|_| NoCode)?);
        }
        if digits.len() != LETTERS + CHECK {
            return Err(NoCode);
        }
        let number = |digits: &[u64]| digits.iter().fold(0_u64, |number, digit| number << 5 | digit);
        let (letters, check) = digits.split_at(LETTERS);
        let (high, low) = letters.split_at(LETTERS / 2);
        let mut code = Self([0; BYTES]);
        for (half, number) in code.0.chunks_exact_mut(BYTES / 2).zip([number(high), number(low)]) {
            half.copy_from_slice(&number.to_be_bytes()[8 - BYTES / 2..]);
        }
        if number(check) == code.check() { Ok(code) } else { Err(NoCode) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_typed_as_it_is_read_and_a_slip_is_told() {
        let code = Code([0, 1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfc, 0xfb]);
        let text = code.to_string();
        assert_eq!((text.len(), text.matches('-').count()), (22, 4), "{text}");
        assert_eq!(text.parse(), Ok(code.clone()));
        assert_eq!(
            text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l").parse(),
            Ok(code)
        );
        let swapped = format!("{}{}{}", &text[1..2], &text[..1], &text[2..]);
        for wrong in ["", "ABCD", &text[1..], &format!("{text}0"), &text.replace(&text[21..], "U")] {
            assert_eq!(wrong.parse::<Code>(), Err(NoCode), "{wrong}");
        }
        assert!(swapped == text || swapped.parse::<Code>().is_err());
        assert_eq!(format!("{:?}", Code::new().expect("drawn")), "Code(…)");
    }

    #[test]
    fn codes_differ_and_so_do_their_keys() {
        let [one, other] = [Code::new().expect("drawn"), Code::new().expect("drawn")];
        assert!(one != other && one.key() != other.key());
    }
}
