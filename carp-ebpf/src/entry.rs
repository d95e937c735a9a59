//! Where the kernel enters: a frame, the stages, and the verdict as the kernel's number for it.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use carp_common::verdict::Fate;
use carp_ebpf::{egress, ingress};

use crate::maps::Pinned;
use crate::parse::{Buffer, Skb};

/// The XDP program, by this name in the object and in `bpftool prog`: for Linux 5.18 and newer, which
/// know frames of more than one buffer. So links with a large MTU take it in the driver.
#[xdp(frags)]
#[inline(always)]
pub fn carp(context: XdpContext) -> u32 {
    comes_in(Buffer::<true>::new(&context))
}

/// The same for older kernels.
#[xdp]
#[inline(always)]
pub fn carp_one_buffer(context: XdpContext) -> u32 {
    comes_in(Buffer::<false>::new(&context))
}

#[inline(always)]
fn comes_in<const MORE: bool>(mut frame: Buffer<MORE>) -> u32 {
    match ingress::decide(&mut frame, &Pinned) {
        Fate::Passes => XDP_PASS,
        Fate::GoesBack => XDP_TX,
        Fate::Ends => XDP_DROP,
    }
}

/// The same stages at tc, for links whose XDP slot is somebody else's.
#[classifier]
#[inline(always)]
pub fn carp_ingress(context: TcContext) -> i32 {
    let mut frame = Skb::new(context);
    match ingress::decide(&mut frame, &Pinned) {
        Fate::Passes => TC_ACT_UNSPEC,
        Fate::GoesBack => frame.sent_back(),
        Fate::Ends => TC_ACT_SHOT,
    }
}

/// The program for what leaves. What it lets pass, other programs and filters of the link see next.
#[classifier]
#[inline(always)]
pub fn carp_egress(context: TcContext) -> i32 {
    match egress::decide(&mut Skb::new(context), &Pinned) {
        Fate::Passes | Fate::GoesBack => TC_ACT_UNSPEC,
        Fate::Ends => TC_ACT_SHOT,
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: the verifier would refuse the loop.
    loop {}
}
