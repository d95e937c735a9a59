//! Where adverts come from: the datapath's ring buffer where XDP stands, packet sockets elsewhere.

use super::advert::Receiver;
use super::bpf::{Adverts, Samples};
use super::raw::Ready;
use carp_common::id::IfIndex;
use carp_common::map::{CAPTURE_LEN, Captured};
use carp_common::time::Instant;
use carp_common::wire::Refusal;
use std::collections::BTreeSet;
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

/// A frame that the datapath refused.
#[derive(Clone, Debug)]
pub struct RefusedFrame {
    /// Why.
    pub refusal: Refusal,
    /// The frame.
    pub heard: HeardFrame,
}

/// What the datapath shows of what it refused, where there is one.
#[derive(Debug)]
pub struct RefusedEar {
    ring: Option<(Ready, Samples)>,
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
        Ok(Self { ring: ring.map(watched).transpose()?, sockets: Receiver::open(links)? })
    }

    /// Listens with a packet socket on one more link.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen(&mut self, link: IfIndex) -> Result<(), super::error::Error> {
        self.sockets.listen(link)
    }

    /// Listens with packet sockets on no other links any more.
    pub fn keep(&mut self, links: &BTreeSet<IfIndex>) {
        self.sockets.keep(links);
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

impl RefusedEar {
    /// Listens to the datapath's samples if there is a datapath.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(ring: Option<Samples>) -> Result<Self, super::error::Error> {
        Ok(Self { ring: ring.map(watched).transpose()? })
    }

    /// Waits for the next one; without a datapath for ever. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn refused(&mut self) -> io::Result<RefusedFrame> {
        let Some((ready, ring)) = &mut self.ring else { return std::future::pending().await };
        loop {
            let sample = ready.read(|_| ring.next().ok_or_else(|| io::ErrorKind::WouldBlock.into())).await?;
            let refusal = usize::try_from(sample.refusal).ok().and_then(|index| Refusal::ALL.get(index));
            if let Some(refusal) = refusal {
                return Ok(RefusedFrame { refusal: *refusal, heard: sample.captured.into() });
            }
        }
    }
}

/// With something that wakes whoever waits for it.
fn watched<T: AsFd>(ring: T) -> Result<(Ready, T), super::error::Error> {
    let ready = ring.as_fd().try_clone_to_owned().and_then(Ready::new);
    let failed = |source| super::error::Error::Kernel { doing: "watching a ring buffer".to_owned(), source };
    Ok((ready.map_err(failed)?, ring))
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
