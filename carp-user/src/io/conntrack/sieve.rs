//! The socket filter of events: classic BPF that leaves out what is certain not to be wanted, so that it wakes nobody.
//!
//! It looks at what every event of a flow has from its beginning to its end and never changes: addresses, protocol, port.
//! What it cannot decide it lets pass; [`Filter::carries`] decides again. Attributes are found by the kernel
//! (`SKF_AD_NLATTR`, `SKF_AD_NLATTR_NEST` of `linux/filter.h`), wherever they stand.

use super::number::*;
use crate::proto::protocol::{CARP, GRE, TCP};
use crate::proto::sync::filter::Filter;
use crate::proto::sync::rule::{Prefix, Rule};
use rustix::net::AddressFamily;
use socket2::SockFilter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Sockets to be deaf to, at most; more are heard.
const MOST_PORTS: usize = 64;
/// Instructions that the kernel takes (`BPF_MAXINSNS`). Policy beyond: flows are not looked at here.
const MOST: usize = 4096;

// Instructions of `linux/bpf_common.h`: A is the accumulator, X the index, M the scratch memory.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD_AT_X: u16 = 0x40;
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_BYTE_AT_X: u16 = 0x50;
const LOAD_NUMBER: u16 = 0x00;
const LOAD_SCRATCH: u16 = 0x60;
const NUMBER_TO_X: u16 = 0x01;
const SCRATCH_TO_X: u16 = 0x61;
const A_TO_X: u16 = 0x07;
const STORE: u16 = 0x02;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const MORE: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// A becomes the place of the attribute of type X after place A, or 0: among those there, or in the one there.
const ATTRIBUTE: u32 = 0xffff_f000 + 12;
const ATTRIBUTE_IN: u32 = 0xffff_f000 + 16;

// Places in a message: `nlmsghdr`, then `nfgenmsg`, then attributes, which begin with four bytes.
const TYPE: u32 = 4;
const PORT: u32 = 12;
const FAMILY: u32 = 16;
const ATTRIBUTES: u32 = 20;
const VALUE: u32 = 4;

// Words of the scratch memory: places of the addresses, then values.
const SOURCE: u32 = 0;
const DESTINATION: u32 = 1;
const ANSWERS: u32 = 2;
const PROTOCOL: u32 = 3;
const DESTINATION_PORT: u32 = 4;
const ORIGINAL: u32 = 5;
const NEST: u32 = 6;
/// Of a flow that has no port.
const NO_PORT: u32 = 1 << 16;

const PASS: u32 = u32::MAX;
const DROP: u32 = 0;

/// Leaves out what the sockets with these ports cause, and flows that the filter never carries.
pub(super) fn program(deaf_to: &[u32], filter: Option<&Filter>) -> Vec<SockFilter> {
    let mut causes = Code::default();
    causes.drop_causes(deaf_to.get(..MOST_PORTS).unwrap_or(deaf_to));
    let mut code = causes.clone();
    if let Some(filter) = filter {
        code.drop_flows(filter);
    }
    if code.0.len() >= MOST {
        code = causes;
    }
    code.put(RETURN, PASS);
    code.0.iter().map(|one| SockFilter::new(one.code, one.if_true, one.if_false, one.k)).collect()
}

/// What a flow has to be like, as far as all of its events tell.
#[derive(Clone, Debug, Default)]
struct Test {
    protocol: Option<u8>,
    ports: Option<RangeInclusive<u16>>,
    /// One of these addresses is in this prefix.
    addresses: Vec<(&'static [u32], Prefix)>,
}

const BOTH_ENDS: &[u32] = &[SOURCE, ANSWERS];
const ALL: &[u32] = &[SOURCE, DESTINATION, ANSWERS];

impl Test {
    fn of(rule: &Rule) -> Self {
        let addresses = rule.prefix.map(|prefix| (ALL, prefix)).into_iter().collect();
        Self { protocol: rule.protocol, ports: rule.ports.clone(), addresses }
    }

    /// Who begins or answers is in there.
    fn end(address: impl Into<IpAddr>, len: u8) -> Option<Self> {
        let prefix = Prefix::new(address.into(), len)?;
        Some(Self { addresses: vec![(BOTH_ENDS, prefix)], ..Self::default() })
    }

    /// Whether flows of this family can match.
    fn is_of(&self, is_v4: bool) -> bool {
        self.addresses.iter().all(|(_, prefix)| prefix.address().is_ipv4() == is_v4)
    }
}

/// What is never carried: any of these.
fn unwanted(filter: &Filter) -> Vec<Test> {
    let mut tests = vec![Test { protocol: Some(CARP), ..Test::default() }];
    tests.extend(Test::end(Ipv4Addr::new(224, 0, 0, 0), 4));
    tests.extend(Test::end(Ipv4Addr::BROADCAST, 32));
    tests.extend(Test::end(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8));
    // Whoever asks for some of it gets to see all of it, and decides.
    let asks = |rule: &Rule| rule.prefix.is_some_and(Prefix::is_loopback);
    if !filter.rules.include.iter().any(asks) {
        tests.extend(Test::end(Ipv4Addr::new(127, 0, 0, 0), 8));
        tests.extend(Test::end(Ipv6Addr::LOCALHOST, 128));
    }
    for to in filter.session.iter().flatten() {
        for from in filter.session.iter().flatten() {
            let ends: [(&'static [u32], _); 2] = [(&[SOURCE], from.ip()), (&[DESTINATION], to.ip())];
            let addresses = ends.map(|(place, address)| (place, Prefix::of(address))).to_vec();
            tests.push(Test { protocol: Some(TCP), ports: Some(to.port()..=to.port()), addresses });
        }
    }
    // A mark can be another in the next event.
    tests.extend(filter.rules.exclude.iter().filter(|rule| rule.mark.is_none()).map(Test::of));
    tests
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

#[derive(Clone, Debug, Default)]
struct Code(Vec<Instruction>);

impl Code {
    fn put(&mut self, code: u16, k: u32) {
        self.branch(code, k, 0, 0);
    }

    fn branch(&mut self, code: u16, k: u32, if_true: u8, if_false: u8) {
        self.0.push(Instruction { code, if_true, if_false, k });
    }

    /// A is tested against each; one instruction drops for all of them.
    fn drop_causes(&mut self, ports: &[u32]) {
        let Ok(count) = u8::try_from(ports.len()) else { return };
        self.put(LOAD_WORD, PORT);
        for (port, to_the_drop) in ports.iter().zip((1..=count).rev()) {
            // It loads as if the bytes were in the network's order.
            self.branch(EQUAL, port.to_be(), to_the_drop, 0);
        }
        self.put(JUMP, 1);
        self.put(RETURN, DROP);
    }

    fn drop_flows(&mut self, filter: &Filter) {
        self.put(LOAD_HALF, TYPE);
        let [new, lost] = [IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_DELETE].map(|kind| (FLOWS | kind).to_be().into());
        self.branch(EQUAL, new, 2, 0);
        self.branch(EQUAL, lost, 1, 0);
        self.put(RETURN, PASS);
        let unwanted = unwanted(filter);
        let wanted: Vec<Test> = filter.rules.include.iter().map(Test::of).collect();
        for (is_v4, family, source) in
            [(true, AddressFamily::INET, CTA_IP_V4_SRC), (false, AddressFamily::INET6, CTA_IP_V6_SRC)]
        {
            let mut section = Self::default();
            section.load_flow(source);
            unwanted.iter().filter(|test| test.is_of(is_v4)).for_each(|test| section.decide(test, DROP));
            wanted.iter().filter(|test| test.is_of(is_v4)).for_each(|test| section.decide(test, PASS));
            section.put(RETURN, if wanted.is_empty() { PASS } else { DROP });
            self.put(LOAD_BYTE, FAMILY);
            self.branch(EQUAL, family.as_raw().into(), 1, 0);
            self.put(JUMP, u32::try_from(section.0.len()).unwrap_or(0));
            self.0.append(&mut section.0);
        }
    }

    /// What is in the message comes into the scratch memory. The destination's number follows that of the source.
    fn load_flow(&mut self, source: u16) {
        self.put(LOAD_NUMBER, ATTRIBUTES);
        self.find(ATTRIBUTE, CTA_TUPLE_ORIG);
        self.put(STORE, ORIGINAL);
        self.find(ATTRIBUTE_IN, CTA_TUPLE_IP);
        self.put(STORE, NEST);
        self.find(ATTRIBUTE_IN, source);
        self.put(STORE, SOURCE);
        self.put(LOAD_SCRATCH, NEST);
        self.find(ATTRIBUTE_IN, source + 1);
        self.put(STORE, DESTINATION);
        self.put(LOAD_SCRATCH, ORIGINAL);
        self.find(ATTRIBUTE_IN, CTA_TUPLE_PROTO);
        self.put(STORE, NEST);
        self.find(ATTRIBUTE_IN, CTA_PROTO_NUM);
        self.put(A_TO_X, 0);
        self.put(LOAD_BYTE_AT_X, VALUE);
        self.put(STORE, PROTOCOL);
        self.load_port();
        self.put(LOAD_NUMBER, ATTRIBUTES);
        self.find(ATTRIBUTE, CTA_TUPLE_REPLY);
        self.find(ATTRIBUTE_IN, CTA_TUPLE_IP);
        self.find(ATTRIBUTE_IN, source);
        self.put(STORE, ANSWERS);
    }

    /// The protocol is in A.
    fn load_port(&mut self) {
        self.branch(EQUAL, GRE.into(), 7, 0);
        self.put(LOAD_SCRATCH, NEST);
        self.put(NUMBER_TO_X, CTA_PROTO_DST_PORT.into());
        self.put(LOAD_WORD, ATTRIBUTE_IN);
        self.branch(EQUAL, 0, 3, 0);
        self.put(A_TO_X, 0);
        self.put(LOAD_HALF_AT_X, VALUE);
        self.put(JUMP, 1);
        self.put(LOAD_NUMBER, NO_PORT);
        self.put(STORE, DESTINATION_PORT);
    }

    /// The place of an attribute; what lacks it passes.
    fn find(&mut self, how: u32, kind: u16) {
        self.put(NUMBER_TO_X, kind.into());
        self.put(LOAD_WORD, how);
        self.branch(EQUAL, 0, 0, 1);
        self.put(RETURN, PASS);
    }

    /// What matches gets this verdict; with what does not it goes on.
    fn decide(&mut self, test: &Test, verdict: u32) {
        let mut parts = Self::default();
        let mut misses = Vec::new();
        if let Some(protocol) = test.protocol {
            parts.put(LOAD_SCRATCH, PROTOCOL);
            misses.push(parts.miss_unless(EQUAL, protocol.into()));
        }
        if let Some(ports) = &test.ports {
            parts.put(LOAD_SCRATCH, DESTINATION_PORT);
            misses.push(parts.miss_unless(AT_LEAST, (*ports.start()).into()));
            misses.push(parts.miss_if(MORE, (*ports.end()).into()));
        }
        for (places, prefix) in &test.addresses {
            misses.extend(parts.one_is_in(places, *prefix));
        }
        parts.put(RETURN, verdict);
        let end = parts.0.len();
        parts.land(&misses, end);
        self.0.append(&mut parts.0);
    }

    /// Goes on if one of the addresses is in the prefix; else it misses, at one place at most.
    fn one_is_in(&mut self, places: &[u32], prefix: Prefix) -> Option<usize> {
        let mut hits = Vec::new();
        for place in places {
            let mut misses = Vec::new();
            self.put(SCRATCH_TO_X, *place);
            for (offset, word, mask) in words(prefix) {
                self.put(LOAD_WORD_AT_X, VALUE + offset);
                if mask != u32::MAX {
                    self.put(AND, mask);
                }
                misses.push(self.miss_unless(EQUAL, word));
            }
            // Always: A was not equal to, or is, itself; only such a jump is patched.
            hits.push(self.miss_if(AT_LEAST, 0));
            let next = self.0.len();
            self.land(&misses, next);
        }
        let miss = self.miss_if(AT_LEAST, 0);
        let on = self.0.len();
        self.land(&hits, on);
        Some(miss)
    }

    /// Goes on if it is so; else where [`Code::land`] says.
    fn miss_unless(&mut self, how: u16, k: u32) -> usize {
        self.branch(how, k, 0, u8::MAX);
        self.0.len() - 1
    }

    /// The other way round.
    fn miss_if(&mut self, how: u16, k: u32) -> usize {
        self.branch(how, k, u8::MAX, 0);
        self.0.len() - 1
    }

    /// Where these jumps go: a test has a few dozen instructions.
    fn land(&mut self, jumps: &[usize], target: usize) {
        for at in jumps {
            let distance = u8::try_from(target - at - 1).unwrap_or(0);
            let Some(jump) = self.0.get_mut(*at) else { continue };
            let side = if jump.if_true == u8::MAX { &mut jump.if_true } else { &mut jump.if_false };
            *side = distance;
        }
    }
}

/// The words of an address that a prefix is about: where, what, and which bits of it.
fn words(prefix: Prefix) -> impl Iterator<Item = (u32, u32, u32)> {
    let bits = match prefix.address() {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let mask = !u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
    [0u32, 4, 8, 12].into_iter().filter_map(move |offset| {
        let word = |bits: u128| u32::try_from(bits >> (96 - offset * 8) & u128::from(u32::MAX)).ok();
        let (word, mask) = (word(bits)?, word(mask)?);
        (mask != 0).then_some((offset, word, mask))
    })
}
