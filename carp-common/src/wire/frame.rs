//! An outgoing Ethernet frame in place, without allocation.

use core::fmt;

/// The longest frame that this crate sends: an IPv6 advertisement, 14 + 40 + 36 bytes.
pub const MAX_LEN: usize = 90;

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
        for part in parts {
            debug_assert!(frame.len + part.len() <= MAX_LEN, "a frame part does not fit");
            for (to, from) in frame.bytes.iter_mut().skip(frame.len).zip(part.iter()) {
                *to = *from;
            }
            frame.len = MAX_LEN.min(frame.len + part.len());
        }
        frame
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
