//! Announcements on their way. Those of a thousand VIPs take longer than their roles take to move, so they go out a few at a
//! time, and whatever comes in meanwhile is seen to first.

use super::Daemon;
use crate::io::clock;
use crate::proto::event::HostId;
use carp_common::id::IfIndex;
use carp_common::wire::Frame;
use std::collections::VecDeque;

/// Sent before the next look at everything else.
const AT_ONCE: usize = 16;
/// Announcements that may wait: four rounds of a thousand VIPs and more. The oldest goes out early when there is no room.
const ROOM: usize = 8192;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Announcing(VecDeque<(HostId, IfIndex, Frame)>);

impl Announcing {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Daemon {
    /// This goes out after all that waits already.
    pub(super) fn announce_later(&mut self, host: HostId, link: IfIndex, frame: Frame) {
        self.announcing.0.push_back((host, link, frame));
        if self.announcing.0.len() > ROOM {
            self.send_first(1);
        }
    }

    /// Sends what comes next.
    pub(super) fn announce(&mut self) {
        if self.announcing.is_empty() {
            return;
        }
        self.send_first(AT_ONCE);
        self.note_announced();
    }

    /// Take-overs whose announcements are out have announced themselves.
    pub(super) fn note_announced(&mut self) {
        if self.announcing.is_empty() {
            self.take_overs.announced(&self.serving, clock::now());
            self.note_addresses();
        }
    }

    /// Those of virtual hosts that are not served any more are dropped.
    fn send_first(&mut self, count: usize) {
        let count = count.min(self.announcing.0.len());
        for (host, link, frame) in self.announcing.0.drain(..count) {
            if self.serving.contains(&host)
                && let Err(error) = self.shells.sender.send(link, &frame)
            {
                tracing::debug!(%error, "an announcement was not sent");
            }
        }
    }
}
