//! An outgoing Ethernet frame in place, without allocation.

use core::fmt;

/// The longest frame that this crate sends: an IPv6 advertisement with an annex, 14 + 40 + 36 + 32 bytes.
pub const MAX_LEN: usize = 122;

/// A whole Ethernet frame, ready for a packet socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    len: usize,
    bytes: [u8; MAX_LEN],
}

impl Frame {
    /// The parts one after the other. Parts beyond [`MAX_LEN`] bytes are a mistake of ours: the
    /// frame is cut, and a debug build asserts.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut frame = Self { len: 0, bytes: [0; MAX_LEN] };
        parts.iter().for_each(|part| frame.push(part));
        frame
    }

    /// One more part; see [`Frame::of`].
    pub fn push(&mut self, part: &[u8]) {
        debug_assert!(self.len + part.len() <= MAX_LEN, "a frame part does not fit");
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(part) {
            *to = *from;
        }
        self.len = MAX_LEN.min(self.len + part.len());
    }

    /// The frame's bytes, from the Ethernet header on.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
