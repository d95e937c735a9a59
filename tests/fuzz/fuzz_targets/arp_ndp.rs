//! Any bytes as ARP and neighbour discovery: the questions read, the answers carry right checksums.
#![no_main]

use carp_common::id::Mac;
use carp_common::wire::arp::{Arp, REPLY, gratuitous};
use carp_common::wire::eth::Ethernet;
use carp_common::wire::ip::Ipv6;
use carp_common::wire::ndp::{Advertisement, OVERRIDE, SOLICITED, Solicitation, unsolicited};
use carp_common::wire::sum;
use libfuzzer_sys::fuzz_target;
use zerocopy::{FromBytes, IntoBytes};

fuzz_target!(|frame: &[u8]| {
    let Ok((ethernet, rest)) = Ethernet::ref_from_prefix(frame) else { return };
    let mac = Mac(ethernet.source);
    if let Ok((question, _)) = Arp::ref_from_prefix(rest) {
        let asker = (Mac(question.sender_mac), question.sender_ip);
        let answer = Arp::new(REPLY, (mac, question.target_ip), asker);
        assert!(answer.is_ipv4());
        assert_eq!(answer.as_bytes().len(), 28);
        assert_eq!(gratuitous(question.target_ip.into(), mac).bytes().len(), 42);
    }
    let Ok((ip, rest)) = Ipv6::ref_from_prefix(rest) else { return };
    let Ok((question, _)) = Solicitation::ref_from_prefix(rest) else { return };
    let answer = Advertisement::new(SOLICITED | OVERRIDE, question.target, mac, question.target, ip.source);
    // Over a message that contains its checksum the complement is zero.
    assert_eq!(sum::icmpv6(question.target, ip.source, answer.as_bytes()), 0);
    assert_eq!(unsolicited(question.target.into(), mac, true).bytes().len(), 86);
});
