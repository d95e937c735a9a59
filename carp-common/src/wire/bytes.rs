//! Bytes wherever they are: a slice in user space, a frame in XDP. What reads through this trait is
//! the same code in both.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What can lie in a frame: any bytes at any place.
pub trait Wire: Copy + FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {}

impl<T: Copy + FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned> Wire for T {}

/// Something to read headers from: bytes in one piece.
pub trait Bytes {
    /// What lies at this offset; `None` when the piece ends before it does.
    fn load<T: Wire>(&self, at: usize) -> Option<&T>;

    /// How many bytes there are.
    fn size(&self) -> usize;
}

impl Bytes for [u8] {
    fn load<T: Wire>(&self, at: usize) -> Option<&T> {
        Some(T::ref_from_prefix(self.get(at..)?).ok()?.0)
    }

    fn size(&self) -> usize {
        self.len()
    }
}
