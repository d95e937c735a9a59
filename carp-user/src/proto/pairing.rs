//! What a code of `carpctl pair` is still good for.

use carp_common::time::{Instant, Span};

/// How long a code is good.
pub const VALID: Span = Span::secs(600);
/// Wrong codes, after which the right one is void.
pub const TRIES: u32 = 3;

/// A code that was printed. What it is for is elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    until: Instant,
    left: u32,
}

/// Why a code is good for nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// Its time is over.
    #[error("nobody came within ten minutes: the code is void; say `carpctl pair` again")]
    Late,
    /// Too many were wrong.
    #[error(
        "{TRIES} wrong codes: this one is void now. If it was not you, somebody is on the sync link; say `carpctl pair` again"
    )]
    Guessed,
}

impl Validity {
    /// Of a code that is printed now.
    pub fn new(now: Instant) -> Self {
        Self { until: now + VALID, left: TRIES }
    }

    /// For how long it is good yet.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, now: Instant) -> Result<Span, Void> {
        if self.left == 0 {
            Err(Void::Guessed)
        } else if now >= self.until {
            Err(Void::Late)
        } else {
            Ok(self.until.since(now))
        }
    }

    /// Somebody had another one; how many more may be wrong.
    ///
    /// # Errors
    /// None may.
    pub fn guessed(&mut self) -> Result<u32, Void> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 { Err(Void::Guessed) } else { Ok(self.left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: Instant = Instant::from_nanos(7_000_000_000);

    #[test]
    fn a_code_is_good_for_ten_minutes_and_not_a_nanosecond_longer() {
        let code = Validity::new(PRINTED);
        assert_eq!(code.check(PRINTED), Ok(Span::secs(600)));
        assert_eq!(code.check(PRINTED + Span::secs(599)), Ok(Span::secs(1)));
        assert_eq!(code.check(PRINTED + VALID - Span::nanos(1)), Ok(Span::nanos(1)));
        assert_eq!(code.check(PRINTED + VALID), Err(Void::Late));
        assert_eq!(code.check(PRINTED + Span::secs(86_400)), Err(Void::Late));
    }

    #[test]
    fn the_third_wrong_one_makes_it_void_whatever_time_is_left() {
        let mut code = Validity::new(PRINTED);
        assert_eq!([code.guessed(), code.guessed()], [Ok(2), Ok(1)]);
        assert_eq!(code.check(PRINTED), Ok(VALID), "it is still good");
        assert_eq!(code.guessed(), Err(Void::Guessed));
        assert_eq!(code.check(PRINTED), Err(Void::Guessed));
        assert_eq!(code.guessed(), Err(Void::Guessed), "and stays so");
    }
}
