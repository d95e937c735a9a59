//! A flow of every kind that is replicated goes on over the other gateway, and back: there the server speaks first, which
//! a firewall that lets in only answers passes if it knows the flow.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_common::wire::sum::checksum;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::flows;
use carp_tests::lab::kernel::has_udplite;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::fortify;
use carp_tests::lab::talk::Talk;
use carp_tests::lab::{Purpose, clock};
use carp_user::proto::flow::Tuple;
use carp_user::proto::protocol;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

const RULES: &str = "table inet gateway {
    chain forward {
        type filter hook forward priority filter; policy drop;
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        ct state invalid counter drop
        ct state established,related counter accept
        iifname lan0 ct state new counter accept
    }
    chain sources {
        type nat hook postrouting priority srcnat;
        oifname wan0 meta nfproto ipv4 counter snat ip to 10.77.2.1
        oifname wan0 meta nfproto ipv6 counter snat ip6 to fd77:2::1
    }
}
";

const CLIENT_PORT: u16 = 40_000;
const SERVER_PORT: u16 = 5_000;
/// More than a window of TCP's, each way.
const BYTES: usize = 400_000;

#[test]
fn each_kind_of_flow_goes_on_over_the_other_gateway_and_back() -> Result<()> {
    let (mut duo, mut flows) = begun(&Config::gateway().with_sync())?;
    let mut tcp = Talk::start(&duo.pair.client, &duo.pair.server, target(Domain::IPV6), 0)?;
    tcp.exchange(BYTES, PATIENCE.std())?;
    for flow in &flows {
        clock::wait_for(&format!("the backup to know {}", flow.name()), PATIENCE, || {
            is_replicated(&duo, flow).ok()?.then_some(())
        })?;
    }
    duo.gw1.stop()?;
    duo.wait_moved()?;
    go_on(&mut flows).context("over the other gateway")?;
    tcp.exchange(BYTES, PATIENCE.std()).context("TCP over the other gateway")?;
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    go_on(&mut flows).context("back")?;
    tcp.exchange(BYTES, PATIENCE.std()).context("TCP back")?;
    duo.never_two_masters()
}

#[test]
fn without_replication_none_of_them_does() -> Result<()> {
    let (mut duo, flows) = begun(&Config::gateway())?;
    duo.gw1.stop()?;
    duo.wait_moved()?;
    for flow in &flows {
        ensure!(!flow.server_speaks()?, "{} was passed on", flow.name());
    }
    Ok(())
}

fn begun(config: &Config) -> Result<(Duo, Vec<Flow>)> {
    let duo = Duo::elected_in(Pair::new(Purpose::Test)?, config)?;
    fortify(&duo.pair, RULES)?;
    for gateway in &duo.pair.gateways {
        // It takes the checksum of UDP-Lite for one of UDP, and each for wrong.
        gateway.sysctl("netfilter/nf_conntrack_checksum", "0")?;
    }
    let mut flows = Vec::new();
    for family in [Domain::IPV4, Domain::IPV6] {
        for kind in Kind::all() {
            let mut flow = Flow::open(&duo.pair, kind, family)?;
            clock::wait_for(&format!("{} to begin", flow.name()), PATIENCE, || flow.begin().ok())?;
            flows.push(flow);
        }
    }
    Ok((duo, flows))
}

/// The server speaks first, then the client.
fn go_on(flows: &mut [Flow]) -> Result<()> {
    for flow in flows {
        let heard = (0..3).any(|_| flow.server_speaks().unwrap_or(false));
        ensure!(heard, "{}: the client does not hear the server", flow.name());
        let heard = (0..3).any(|_| flow.client_speaks().unwrap_or(false));
        ensure!(heard, "{}: the server does not hear the client", flow.name());
    }
    Ok(())
}

/// Whether the backup's kernel knows it.
fn is_replicated(duo: &Duo, flow: &Flow) -> Result<bool> {
    Ok(flows::all(duo.pair.gw2())?.iter().any(|known| {
        let Tuple { destination, protocol, .. } = known.key.original;
        destination == flow.target() && protocol == flow.protocol()
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Udp,
    UdpLite,
    Sctp,
    Gre,
    /// ICMP or ICMPv6.
    Echo,
    /// Nobody knows this protocol: 253 is for experiments (RFC 3692).
    Unknown,
}

/// A client and a server, and what the server knows of where the client is.
struct Flow {
    kind: Kind,
    family: Domain,
    client: UdpSocket,
    server: UdpSocket,
    outside: Option<SocketAddr>,
    /// What the server heard last, without the header of IP.
    heard: Vec<u8>,
}

impl Flow {
    fn open(pair: &Pair, kind: Kind, family: Domain) -> Result<Self> {
        let flow = |client, server| Self { kind, family, client, server, outside: None, heard: Vec::new() };
        let open = |at: IpAddr, is_server: bool| {
            let (how, port) = if kind.is_datagram() { (Type::DGRAM, SERVER_PORT) } else { (Type::RAW, 0) };
            let protocol = i32::from(kind.protocol(family));
            let socket = Socket::new(family, how, Some(Protocol::from(protocol)))?;
            socket.set_read_timeout(Some(Span::millis(300).std()))?;
            let address = SocketAddr::new(at, port).into();
            if is_server {
                socket.bind(&address)?;
            } else {
                socket.connect(&address)?;
            }
            Ok(UdpSocket::from(socket))
        };
        let target = target(family);
        Ok(flow(pair.client.enter(|| open(target, false))?, pair.server.enter(|| open(target, true))?))
    }

    fn name(&self) -> String {
        format!("{:?} over {:?}", self.kind, self.target())
    }

    fn protocol(&self) -> u8 {
        self.kind.protocol(self.family)
    }

    fn target(&self) -> IpAddr {
        target(self.family)
    }

    /// A word each way; SCTP asks before.
    fn begin(&mut self) -> Result<()> {
        if self.kind == Kind::Sctp {
            ensure!(self.client_says(sctp::init)?, "INIT");
            ensure!(self.server_says(sctp::init_ack)?, "INIT ACK");
            ensure!(self.client_says(sctp::cookie_echo)?, "COOKIE ECHO");
            ensure!(self.server_says(sctp::cookie_ack)?, "COOKIE ACK");
        }
        ensure!(self.client_speaks()?, "the server hears nothing");
        ensure!(self.server_speaks()?, "the client hears nothing");
        Ok(())
    }

    /// Whether the server hears it.
    fn client_speaks(&mut self) -> Result<bool> {
        let (kind, family) = (self.kind, self.family);
        self.client_says(|word| kind.request(family, word))
    }

    /// Whether the client hears it.
    fn server_speaks(&self) -> Result<bool> {
        let (kind, family) = (self.kind, self.family);
        self.server_says(|heard, word| kind.answer(family, heard, word))
    }

    fn client_says(&mut self, packet: impl Fn([u8; 8]) -> Vec<u8>) -> Result<bool> {
        let word = word();
        // What an ICMP error said of an earlier one is told here.
        let _told = self.client.send(&packet(word));
        let Some((heard, from)) = self.hear(&self.server, word) else { return Ok(false) };
        (self.heard, self.outside) = (heard, Some(from));
        Ok(true)
    }

    fn server_says(&self, packet: impl Fn(&[u8], [u8; 8]) -> Option<Vec<u8>>) -> Result<bool> {
        let (word, outside) = (word(), self.outside.context("the client has said nothing yet")?);
        let packet = packet(&self.heard, word).context("what the client said is too short")?;
        let _told = self.server.send_to(&packet, outside);
        Ok(self.hear(&self.client, word).is_some())
    }

    /// What ends in this word.
    fn hear(&self, socket: &UdpSocket, word: [u8; 8]) -> Option<(Vec<u8>, SocketAddr)> {
        let until = clock::now() + Span::secs(1);
        let mut packet = [0; 256];
        while clock::now() < until {
            let Ok((len, from)) = socket.recv_from(&mut packet) else { continue };
            // Of IPv4 a raw socket shows the header, too.
            let is_raw_v4 = self.family == Domain::IPV4 && !self.kind.is_datagram();
            let heard = packet.get(if is_raw_v4 { 20 } else { 0 }..len)?;
            if heard.ends_with(&word) {
                return Some((heard.to_vec(), from));
            }
        }
        None
    }
}

impl Kind {
    const IDENTIFIER: u16 = 0x1234;

    fn all() -> Vec<Self> {
        let all = [Self::Udp, Self::UdpLite, Self::Sctp, Self::Gre, Self::Echo, Self::Unknown];
        all.into_iter().filter(|kind| *kind != Self::UdpLite || has_udplite()).collect()
    }

    fn protocol(self, family: Domain) -> u8 {
        match self {
            Self::Udp => protocol::UDP,
            Self::UdpLite => protocol::UDPLITE,
            Self::Sctp => protocol::SCTP,
            Self::Gre => protocol::GRE,
            Self::Echo if family == Domain::IPV4 => protocol::ICMP,
            Self::Echo => protocol::ICMPV6,
            Self::Unknown => 253,
        }
    }

    fn is_datagram(self) -> bool {
        matches!(self, Self::Udp | Self::UdpLite)
    }

    fn request(self, family: Domain, word: [u8; 8]) -> Vec<u8> {
        match self {
            Self::Udp | Self::UdpLite | Self::Unknown => word.to_vec(),
            Self::Sctp => sctp::data(word),
            Self::Gre => gre(word),
            Self::Echo => echo(if family == Domain::IPV4 { 8 } else { 128 }, Self::IDENTIFIER, word),
        }
    }

    /// To what was heard.
    fn answer(self, family: Domain, heard: &[u8], word: [u8; 8]) -> Option<Vec<u8>> {
        Some(match self {
            Self::Udp | Self::UdpLite | Self::Unknown => word.to_vec(),
            Self::Sctp => sctp::data_back(heard, word)?,
            Self::Gre => gre(word),
            Self::Echo => {
                let identifier = u16::from_be_bytes(*heard.get(4..)?.first_chunk()?);
                echo(if family == Domain::IPV4 { 0 } else { 129 }, identifier, word)
            }
        })
    }
}

fn target(family: Domain) -> IpAddr {
    if family == Domain::IPV4 {
        Ipv4Addr::new(10, 77, 2, 10).into()
    } else {
        Ipv6Addr::new(0xfd77, 2, 0, 0, 0, 0, 0, 0x10).into()
    }
}

/// One that was never said before.
fn word() -> [u8; 8] {
    clock::now().nanos().to_be_bytes()
}

/// Version 0, without a key, around an Ethernet frame (RFC 2784).
fn gre(word: [u8; 8]) -> Vec<u8> {
    [&[0, 0, 0x65, 0x58], &word[..]].concat()
}

/// The kernel puts the checksum of ICMPv6 right.
fn echo(kind: u8, identifier: u16, word: [u8; 8]) -> Vec<u8> {
    let [high, low] = identifier.to_be_bytes();
    let mut message = [&[kind, 0, 0, 0, high, low, 0, 1], &word[..]].concat();
    let sum = checksum(&message).to_be_bytes();
    message.splice(2..4, sum);
    message
}

/// As much of SCTP (RFC 9260) as a firewall looks at.
mod sctp {
    use super::{CLIENT_PORT, SERVER_PORT};

    const CLIENT_TAG: u32 = 0x0c11_e417;
    const SERVER_TAG: u32 = 0x05e4_7e41;

    pub fn init(word: [u8; 8]) -> Vec<u8> {
        to_server(0, &[&beginning(1, CLIENT_TAG, word)])
    }

    pub fn init_ack(heard: &[u8], word: [u8; 8]) -> Option<Vec<u8>> {
        to_client(heard, &[&beginning(2, SERVER_TAG, word)])
    }

    pub fn cookie_echo(word: [u8; 8]) -> Vec<u8> {
        to_server(SERVER_TAG, &[&chunk(10, 0, b"cook"), &payload(word)])
    }

    pub fn cookie_ack(heard: &[u8], word: [u8; 8]) -> Option<Vec<u8>> {
        to_client(heard, &[&chunk(11, 0, &[]), &payload(word)])
    }

    pub fn data(word: [u8; 8]) -> Vec<u8> {
        to_server(SERVER_TAG, &[&payload(word)])
    }

    pub fn data_back(heard: &[u8], word: [u8; 8]) -> Option<Vec<u8>> {
        to_client(heard, &[&payload(word)])
    }

    fn to_server(tag: u32, chunks: &[&[u8]]) -> Vec<u8> {
        packet(CLIENT_PORT, SERVER_PORT, tag, chunks)
    }

    fn to_client(heard: &[u8], chunks: &[&[u8]]) -> Option<Vec<u8>> {
        Some(packet(SERVER_PORT, u16::from_be_bytes(*heard.first_chunk()?), CLIENT_TAG, chunks))
    }

    fn packet(from: u16, to: u16, tag: u32, chunks: &[&[u8]]) -> Vec<u8> {
        let mut packet = [&from.to_be_bytes(), &to.to_be_bytes(), &tag.to_be_bytes()[..], &[0; 4]].concat();
        chunks.iter().for_each(|chunk| packet.extend_from_slice(chunk));
        let sum = crc32c(&packet).to_le_bytes();
        packet.splice(8..12, sum);
        packet
    }

    /// INIT or INIT ACK: tag, window, streams out and in, first number; and a parameter that may be passed over.
    fn beginning(kind: u8, tag: u32, word: [u8; 8]) -> Vec<u8> {
        let fixed = [&tag.to_be_bytes()[..], &[0, 1, 0, 0], &[0, 1, 0, 1], &[0, 0, 0, 1]].concat();
        chunk(kind, 0, &[&fixed[..], &[0x80, 0x77, 0, 12], &word].concat())
    }

    /// DATA, whole: number, stream, place in it, protocol, content.
    fn payload(word: [u8; 8]) -> Vec<u8> {
        chunk(0, 3, &[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &word[..]].concat())
    }

    fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
        let len = u8::try_from(4 + value.len()).unwrap_or(u8::MAX);
        [&[kind, flags, 0, len], value].concat()
    }

    /// Appendix A.
    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum, byte| {
            (0..8).fold(
                sum ^ u32::from(*byte),
                |sum, _| {
                    if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0x82f6_3b78 }
                },
            )
        })
    }
}
