//! A connection as the kernel tracks it, as far as another kernel can take it over. The names are those of
//! `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::IpAddr;

/// Bytes of the longest helper's name (`NF_CT_HELPER_NAME_LEN`), zero-padded.
pub const HELPER_LEN: usize = 16;
/// Bytes of a flow's labels (`NF_CT_LABELS_MAX_SIZE`).
pub const LABELS_LEN: usize = 16;

/// One tracked connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What tells it from all others.
    pub key: Key,
    /// Packets of the other direction, as they come in: with the translation, if there is one.
    pub reply: Tuple,
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
    /// Conntrack zone.
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
    /// The original direction of the one that announced it.
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
    pub function: Option<[u8; HELPER_LEN]>,
    /// How its address will be translated, and in which direction (`CTA_EXPECT_NAT_DIR`).
    pub nat: Option<(Tuple, u32)>,
}

impl Flow {
    /// Who the reply goes to in truth, if the source is translated.
    pub fn source_translation(&self) -> Option<(IpAddr, Ids)> {
        let original = &self.key.original;
        let expected = (original.source, original.ids.source());
        let found = (self.reply.destination, self.reply.ids.destination());
        (expected != found).then_some((self.reply.destination, self.reply.ids))
    }

    /// Where the packets go in truth, if the destination is translated.
    pub fn destination_translation(&self) -> Option<(IpAddr, Ids)> {
        let original = &self.key.original;
        let expected = (original.destination, original.ids.destination());
        let found = (self.reply.source, self.reply.ids.source());
        (expected != found).then_some((self.reply.source, self.reply.ids))
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
