//! Where adverts come from: the datapath's ring buffer where XDP stands, packet sockets elsewhere.

use super::advert::Receiver;
use super::bpf::Adverts;
use super::raw::Ready;
use carp_common::id::IfIndex;
use carp_common::map::{CAPTURE_LEN, Captured};
use carp_common::time::Instant;
use std::io;
use std::os::fd::AsFd;

/// A frame of IP protocol 112.
#[derive(Clone, Debug)]
pub struct HeardFrame {
    /// Link that it came in by.
    pub link: IfIndex,
    /// When the kernel got it; when it was read, where XDP is off.
    pub at: Instant,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// All sources of one daemon.
#[derive(Debug)]
pub struct Ear {
    ring: Option<(Ready, Adverts)>,
    sockets: Receiver,
}

impl Ear {
    /// Listens to the datapath's ring if there is one, and to packet sockets on `links`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(ring: Option<Adverts>, links: &[IfIndex]) -> Result<Self, super::error::Error> {
        let ready = |ring: Adverts| Ok((Ready::new(ring.as_fd().try_clone_to_owned()?)?, ring));
        let failed = |source: io::Error| super::error::Error::Kernel {
            doing: "watching the ring of adverts".to_owned(),
            source,
        };
        Ok(Self { ring: ring.map(ready).transpose().map_err(failed)?, sockets: Receiver::open(links)? })
    }

    /// Waits for the next one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn heard(&mut self) -> io::Result<HeardFrame> {
        let Some((ready, ring)) = &mut self.ring else { return Ok(self.sockets.received().await?.into()) };
        let next = ready.read(|_| ring.next().ok_or_else(|| io::ErrorKind::WouldBlock.into()));
        tokio::select! {
            captured = next => captured.map(HeardFrame::from),
            received = self.sockets.received() => Ok(received?.into()),
        }
    }

    /// The next one that has arrived already, if any: to look before speaking.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn waiting(&mut self) -> io::Result<Option<HeardFrame>> {
        if let Some(captured) = self.ring.as_mut().and_then(|(_, ring)| ring.next()) {
            return Ok(Some(captured.into()));
        }
        Ok(self.sockets.waiting()?.map(HeardFrame::from))
    }
}

impl From<Captured> for HeardFrame {
    fn from(captured: Captured) -> Self {
        let len = usize::try_from(captured.frame_len).unwrap_or(CAPTURE_LEN).min(CAPTURE_LEN);
        Self {
            link: IfIndex(captured.ifindex),
            at: Instant::from_nanos(captured.at),
            bytes: captured.frame.iter().take(len).copied().collect(),
        }
    }
}

impl From<super::advert::Received<'_>> for HeardFrame {
    fn from(received: super::advert::Received<'_>) -> Self {
        Self { link: received.link, at: received.at, bytes: received.frame.to_vec() }
    }
}
