//! Bytes wherever they are: a slice in user space, a frame in XDP. What reads through this trait is
//! the same code in both.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Something to read headers from.
pub trait Bytes {
    /// What lies at this offset; `None` when the bytes end before it does.
    fn load<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self, at: usize) -> Option<&T>;

    /// How many bytes there are.
    fn size(&self) -> usize;
}

impl Bytes for [u8] {
    fn load<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self, at: usize) -> Option<&T> {
        Some(T::ref_from_prefix(self.get(at..)?).ok()?.0)
    }

    fn size(&self) -> usize {
        self.len()
    }
}
