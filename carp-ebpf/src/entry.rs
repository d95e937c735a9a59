//! Where the kernel enters: parse, choose a stage, turn the verdict into an XDP action.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use carp_common::map::Counter;
use carp_common::verdict::Verdict;
use carp_common::wire::eth::{self, Ethernet};

use crate::parse::Packet;
use crate::{advert, arp, maps, ndp, vip};

/// What a stage makes of a frame, and whose it is: the slot of a virtual host.
pub struct Judged {
    pub slot: u32,
    pub verdict: Verdict,
}

/// The program, by this name in the object and in `bpftool prog`.
#[xdp]
pub fn carp(context: XdpContext) -> u32 {
    decide(&mut Packet::new(&context)).unwrap_or(XDP_PASS)
}

/// Counts a verdict, and says what the kernel is to do.
#[inline(always)]
fn act(Judged { slot, verdict }: Judged) -> u32 {
    let (action, counter): (_, Counter) = match verdict {
        Verdict::Pass => return XDP_PASS,
        Verdict::Serve(counter) | Verdict::Rewrite(counter) => (XDP_PASS, counter),
        Verdict::Answer(counter) => (XDP_TX, counter),
        Verdict::Drop(counter) => (XDP_DROP, counter),
    };
    maps::count(slot, counter);
    action
}

/// The stages in order. Adverts go first, so that one sent to a virtual MAC is heard; a question
/// about a VIP goes before the virtual MAC that it may be addressed to.
///
/// A VLAN-tagged frame belongs to the VLAN's link, another segment with its own vhids, and passes
/// here even when its destination is one of our virtual MACs: that link has a program of its own.
/// (A NIC that strips tags in hardware hides them from native XDP: switch `rxvlan` off there.)
///
/// Each stage is acted on where it is called: of several stages' results in one place the compiler
/// makes words that are half undefined, and the verifier refuses them.
#[inline(always)]
fn decide(packet: &mut Packet) -> Option<u32> {
    let ethertype = packet.load::<Ethernet>(0)?.ethertype.get();
    // Both families in one place: judging is most of the program.
    let heard = match ethertype {
        eth::IPV4 | eth::IPV6 => advert::heard(packet).map(act),
        eth::VLAN | eth::SERVICE_VLAN => return None,
        _ => None,
    };
    let decided = heard.or_else(|| match ethertype {
        eth::IPV6 => ndp::solicited(packet).map(act),
        eth::ARP => arp::asked(packet).map(act),
        _ => None,
    });
    decided.or_else(|| vip::virtual_mac(packet).map(act)).or_else(|| vip::packet(packet).map(act))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: the verifier would refuse the loop.
    loop {}
}
