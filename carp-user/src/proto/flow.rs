//! A connection as the kernel tracks it, as far as another kernel can take it over. The names are those of
//! `linux/netfilter/nfnetlink_conntrack.h`.

mod words;

use super::protocol::{ICMP, ICMPV6};
use std::net::IpAddr;

/// Bytes of the longest helper's name (`NF_CT_HELPER_NAME_LEN`), zero-padded.
pub const HELPER_LEN: usize = 16;
/// Bytes of the longest name of an expectation's function, zero-padded; the kernel has `nat-follow-master`.
pub const FUNCTION_LEN: usize = 32;
/// Bytes of a flow's labels (`NF_CT_LABELS_MAX_SIZE`).
pub const LABELS_LEN: usize = 16;

/// Bits of [`Flow::status`].
pub mod status {
    /// Announced by another connection.
    pub const EXPECTED: u32 = 1 << 0;
    /// Packets came in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// Not to be dropped when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// In the table.
    pub const CONFIRMED: u32 = 1 << 3;
    /// Its source is translated.
    pub const SOURCE_NAT: u32 = 1 << 4;
    /// Its destination is translated.
    pub const DESTINATION_NAT: u32 = 1 << 5;
    /// Its sequence numbers are shifted.
    pub const SHIFTED: u32 = 1 << 6;
    /// Packets do not prolong its life.
    pub const FIXED_TIMEOUT: u32 = 1 << 10;
    /// A rule chose its helper.
    pub const HELPER: u32 = 1 << 13;
    /// What another kernel can be told in so many words.
    pub const TOLD: u32 = SEEN_REPLY | ASSURED | FIXED_TIMEOUT | HELPER;
    /// What it makes of the rest that it is told.
    pub const FOLLOWS: u32 = EXPECTED | CONFIRMED | SOURCE_NAT | DESTINATION_NAT | SHIFTED;
}

/// Bits of [`Tcp::flags`].
pub mod tcp_flag {
    /// It scales its window.
    pub const WINDOW_SCALE: u8 = 0x01;
    /// It knows selective acknowledgements.
    pub const SACK: u8 = 0x02;
    /// It was the first to close.
    pub const CLOSE_INIT: u8 = 0x04;
    /// Its packets are in the window whatever the tracker thinks.
    pub const LIBERAL: u8 = 0x08;
    /// The tracker knows the highest number that was acknowledged.
    pub const MAXACK_SET: u8 = 0x20;
    /// What is true on every node. The rest describes windows that only one kernel has seen.
    pub const TOLD: u8 = WINDOW_SCALE | SACK | CLOSE_INIT;
}

/// One tracked connection.
///
/// What is `None` or [`ProtocolState::None`] was not told: an event has only what changed. [`Flow::learn`]
/// keeps the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What tells it from all others.
    pub key: Key,
    /// Packets of the other direction, as they come in: with the translation, if there is one.
    pub reply: Tuple,
    /// Conntrack zone of the other direction. The kernel has the same number in both, or 0 in one.
    pub reply_zone: u16,
    /// `IPS_*`, from `linux/netfilter/nf_conntrack_common.h`.
    pub status: u32,
    /// Seconds that it lives on without a packet.
    pub timeout: u32,
    /// The packet mark that it keeps; 0 is none.
    pub mark: u32,
    /// What the protocol's tracker knows.
    pub state: ProtocolState,
    /// Its labels, when it has any.
    pub labels: Option<[u8; LABELS_LEN]>,
    /// Name of the helper that watches it, zero-padded.
    pub helper: Option<[u8; HELPER_LEN]>,
    /// What NAT with a helper adds to sequence numbers, of the original and the reply direction.
    pub sequence: [Option<SequenceShift>; 2],
    /// The connection that announced this one (`IPS_EXPECTED`): its original direction.
    pub master: Option<Tuple>,
}

/// What tells a flow from all others of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Conntrack zone of this direction.
    pub zone: u16,
    /// Packets of the one who began, as they come in.
    pub original: Tuple,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// Whence.
    pub source: IpAddr,
    /// Whither; of the same family.
    pub destination: IpAddr,
    /// Protocol of IP.
    pub protocol: u8,
    /// What the protocol tells connections apart by.
    pub ids: Ids,
}

/// What a protocol tells connections between two addresses apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ids {
    /// Nothing: a protocol that the kernel has no tracker for.
    None,
    /// Ports of TCP, UDP, UDP-Lite, SCTP and DCCP; keys of GRE.
    Ports {
        /// Of the sender.
        source: u16,
        /// Of the receiver.
        destination: u16,
    },
    /// An ICMP or ICMPv6 query.
    Icmp {
        /// Type of the message.
        kind: u8,
        /// Its code.
        code: u8,
        /// Its identifier.
        id: u16,
    },
}

/// What the tracker of a protocol knows of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProtocolState {
    /// Nothing.
    #[default]
    None,
    /// TCP.
    Tcp(Tcp),
    /// SCTP.
    Sctp(Sctp),
}

/// What is known of a TCP connection. Windows are not: no kernel tells or takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// `TCP_CONNTRACK_*`.
    pub state: u8,
    /// Window scale, of the original and the reply direction.
    pub scale: [u8; 2],
    /// `IP_CT_TCP_FLAG_*`, likewise.
    pub flags: [u8; 2],
}

/// What is known of an SCTP association.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sctp {
    /// `SCTP_CONNTRACK_*`.
    pub state: u8,
    /// Verification tags, of the original and the reply direction.
    pub tags: [u32; 2],
}

/// What NAT adds to the sequence numbers of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceShift {
    /// Sequence number of the last packet that was changed in length.
    pub position: u32,
    /// What is added before it.
    pub before: i32,
    /// What is added after it.
    pub after: i32,
}

/// A connection that one is announced by, and has not come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The original direction of the one that announced it. The kernel takes its zone and does not tell it: 0 then.
    pub master: Key,
    /// What it will look like, where the mask has ones.
    pub tuple: Tuple,
    /// Which bits of it count.
    pub mask: Tuple,
    /// Seconds that it is waited for.
    pub timeout: u32,
    /// `NF_CT_EXPECT_*`.
    pub flags: u32,
    /// Number of the helper's kind of expectation.
    pub class: u32,
    /// Name of the helper, zero-padded.
    pub helper: [u8; HELPER_LEN],
    /// Name of the function that the kernel calls when it comes (`CTA_EXPECT_FN`), zero-padded.
    pub function: Option<[u8; FUNCTION_LEN]>,
    /// How its address will be translated, and in which direction (`CTA_EXPECT_NAT_DIR`).
    pub nat: Option<(Tuple, u32)>,
}

impl Flow {
    /// As its first packet makes it where nothing translates it; none for a packet that nothing answers.
    pub fn untranslated(original: Tuple) -> Option<Self> {
        Some(Self {
            key: Key { zone: 0, original },
            reply: original.inverse()?,
            reply_zone: 0,
            status: status::CONFIRMED,
            timeout: 30,
            mark: 0,
            state: ProtocolState::None,
            labels: None,
            helper: None,
            sequence: [None; 2],
            master: None,
        })
    }

    /// Who the replies go to, if the source is translated.
    pub fn source_translation(&self) -> Option<(IpAddr, Ids)> {
        let original = &self.key.original;
        let expected = (original.source, original.ids.source());
        let found = (self.reply.destination, self.reply.ids.destination());
        (expected != found).then_some((self.reply.destination, self.reply.ids))
    }

    /// Where the packets go in truth, if the destination is translated. The identifier of a query is the
    /// sender's: only the address tells.
    pub fn destination_translation(&self) -> Option<(IpAddr, Ids)> {
        let original = &self.key.original;
        let has_other_port = match original.ids {
            Ids::None | Ids::Icmp { .. } => false,
            Ids::Ports { destination, .. } => destination != self.reply.ids.source(),
        };
        let is_translated = has_other_port || original.destination != self.reply.source;
        is_translated.then_some((self.reply.source, self.reply.ids))
    }

    /// Takes over what a later telling of the same flow says, and keeps what that leaves out.
    pub fn learn(&mut self, newer: &Self) {
        let older = *self;
        *self = *newer;
        if newer.state == ProtocolState::None {
            self.state = older.state;
        }
        self.labels = newer.labels.or(older.labels);
        self.helper = newer.helper.or(older.helper);
        self.master = newer.master.or(older.master);
        for (mine, old) in self.sequence.iter_mut().zip(older.sequence) {
            *mine = mine.or(old);
        }
    }

    /// As another kernel holds it once it has been told: without what only one kernel can know.
    #[must_use]
    pub fn carried(mut self) -> Self {
        self.status &= status::TOLD | status::FOLLOWS;
        if self.helper.is_some() {
            // Told with a helper, a kernel does not look for one itself.
            self.status |= status::HELPER;
        }
        if let ProtocolState::Tcp(tcp) = &mut self.state {
            tcp.flags = tcp.flags.map(|flags| flags & tcp_flag::TOLD);
        }
        self
    }
}

impl Tuple {
    /// The packets that answer these when nothing is translated; none for a message of ICMP that asks nothing.
    pub fn inverse(&self) -> Option<Self> {
        let ids = match self.ids {
            Ids::None => Ids::None,
            Ids::Ports { source, destination } => Ids::Ports { source: destination, destination: source },
            Ids::Icmp { kind, code, id } => Ids::Icmp { kind: opposite(self.protocol, kind)?, code, id },
        };
        Some(Self { source: self.destination, destination: self.source, protocol: self.protocol, ids })
    }

    /// Whether both addresses are of one family.
    pub const fn is_of_one_family(&self) -> bool {
        self.source.is_ipv4() == self.destination.is_ipv4()
    }
}

/// The type of the answer to a question, or of the question to an answer.
const fn opposite(protocol: u8, kind: u8) -> Option<u8> {
    match (protocol, kind) {
        // Echo.
        (ICMP, 8) => Some(0),
        (ICMP, 0) => Some(8),
        // Timestamp, information, address mask: the answer's number is the next.
        (ICMP, 13 | 15 | 17) => Some(kind + 1),
        (ICMP, 14 | 16 | 18) => Some(kind - 1),
        // Echo and node information.
        (ICMPV6, 128 | 139) => Some(kind + 1),
        (ICMPV6, 129 | 140) => Some(kind - 1),
        _ => None,
    }
}

impl Ids {
    /// The sender's part. A query's identifier is both sides' and is the sender's here.
    pub const fn source(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Ports { source, .. } => source,
            Self::Icmp { id, .. } => id,
        }
    }

    /// The receiver's part.
    pub const fn destination(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Ports { destination, .. } => destination,
            Self::Icmp { id, .. } => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(protocol: u8, ids: Ids) -> Tuple {
        Tuple { source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into(), protocol, ids }
    }

    fn flow(original: Tuple) -> Flow {
        Flow::untranslated(original).unwrap()
    }

    fn ports(source: u16, destination: u16) -> Ids {
        Ids::Ports { source, destination }
    }

    #[test]
    fn the_inverse_of_an_inverse_is_the_question_and_what_asks_nothing_has_none() {
        let echo = |protocol, kind| tuple(protocol, Ids::Icmp { kind, code: 0, id: 7 });
        for (protocol, question, answer) in [
            (ICMP, 8, 0),
            (ICMP, 13, 14),
            (ICMP, 15, 16),
            (ICMP, 17, 18),
            (ICMPV6, 128, 129),
            (ICMPV6, 139, 140),
        ] {
            let inverse = echo(protocol, question).inverse().unwrap();
            assert_eq!(inverse.ids, Ids::Icmp { kind: answer, code: 0, id: 7 });
            assert_eq!(inverse.inverse(), Some(echo(protocol, question)));
        }
        assert_eq!(echo(ICMP, 3).inverse(), None);
        assert_eq!(echo(ICMPV6, 8).inverse(), None);
        let tcp = tuple(6, ports(1, 2)).inverse().unwrap();
        assert_eq!((tcp.source, tcp.ids), (IpAddr::from([10, 0, 0, 2]), ports(2, 1)));
    }

    #[test]
    fn each_side_is_translated_by_its_address_or_its_port() {
        let plain = flow(tuple(6, ports(1000, 80)));
        assert_eq!((plain.source_translation(), plain.destination_translation()), (None, None));
        let mut other_port = plain;
        other_port.reply.ids = ports(80, 2000);
        assert!(other_port.source_translation().is_some() && other_port.destination_translation().is_none());
        other_port.reply.ids = ports(8080, 1000);
        assert!(other_port.source_translation().is_none() && other_port.destination_translation().is_some());
        let mut other_address = plain;
        other_address.reply.source = [10, 0, 0, 9].into();
        assert!(other_address.destination_translation().is_some());
    }

    #[test]
    fn an_identifier_that_was_changed_is_the_senders() {
        let mut echo = flow(tuple(ICMP, Ids::Icmp { kind: 8, code: 0, id: 7 }));
        assert_eq!((echo.source_translation(), echo.destination_translation()), (None, None));
        echo.reply.ids = Ids::Icmp { kind: 0, code: 0, id: 9 };
        assert!(echo.source_translation().is_some() && echo.destination_translation().is_none());
        echo.reply.source = [10, 0, 0, 9].into();
        assert!(echo.destination_translation().is_some());
    }

    #[test]
    fn what_an_event_leaves_out_stays_known() {
        let mut known = flow(tuple(6, ports(1, 2)));
        known.state = ProtocolState::Tcp(Tcp { state: 3, ..Tcp::default() });
        known.labels = Some([1; LABELS_LEN]);
        known.master = Some(known.reply);
        let mut later = flow(tuple(6, ports(1, 2)));
        (later.mark, later.timeout) = (9, 300);
        later.sequence = [Some(SequenceShift::default()), None];
        known.learn(&later);
        assert_eq!((known.mark, known.timeout), (9, 300));
        assert!(known.labels.is_some() && known.master.is_some() && known.sequence[0].is_some());
        assert!(matches!(known.state, ProtocolState::Tcp(Tcp { state: 3, .. })));
    }
}
