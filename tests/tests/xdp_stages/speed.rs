//! For information: how long the program takes per stage, and what the verifier made of it.

use crate::adverts::{auth, good, signed};
use crate::frames::*;
use crate::harness::{Hook, Kernel, LINK_MAC};
use crate::windows::{set_up, windows};
use carp_common::admission::Auth;
use carp_common::pace::Pace;
use carp_common::wire::Envelope;

#[test]
fn nanoseconds_per_frame_are_printed() {
    for hook in [Hook::Xdp, Hook::Tc] {
        println!("{hook:?}");
        measure(Kernel::at(hook));
    }
}

fn measure(mut kernel: Kernel) {
    set_up(&mut kernel, 0);
    println!("verified instructions: {:?}", kernel.verified_instructions());
    let windows = windows();
    // Runs of one measurement go over the same frame: only what does not change it is repeatable.
    let repeatable = [
        ("a stranger", ethernet(LINK_MAC, 0x88cc, &[0; 60])),
        ("a packet to nobody", udp4(LINK_MAC, OTHER4)),
        ("an IPv4 packet to the VIP", udp4(LINK_MAC, VIP4)),
        ("an IPv6 packet to the VIP", udp6(LINK_MAC, VIP6)),
        ("an ARP request for another", arp_request(OTHER4)),
        ("an advert, the ring full", advert4(VHID)),
    ];
    for (name, frame) in repeatable {
        kernel.set_window(0, windows.open[0].1);
        let open = kernel.nanos(&frame, 100_000);
        println!("{name:28} {open:4} ns");
    }
    let dropped = [
        ("a fenced virtual MAC", udp4(virtual_mac(VHID), CLIENT4)),
        ("a silent ARP", arp_request(VIP4)),
        ("a silent solicitation", solicitation(CLIENT6, VIP6, &source_option())),
    ];
    kernel.set_window(0, windows.closed[0].1);
    for (name, frame) in dropped {
        println!("{name:28} {:4} ns", kernel.nanos(&frame, 100_000));
    }
    kernel.set_auth(0, &auth());
    let authentic = good(CLIENT4.into());
    let forged = Envelope::to_group(CLIENT4.into(), 0).seal(&signed(b"wrong", Pace { base: 1, skew: 0 }, 1));
    let judged = [("an authentic advert, ring full", &authentic[..]), ("a forged advert", forged.bytes())];
    for (name, frame) in judged {
        println!("{name:30} {:4} ns", kernel.nanos(frame, 100_000));
    }
    kernel.set_auth(0, &Auth::NONE);
    // Changed frames: the median of single runs, each with the kernel's own overhead.
    let changed = [
        ("a served virtual MAC", udp4(virtual_mac(VHID), CLIENT4)),
        ("an ARP answer", arp_request(VIP4)),
        ("a solicitation's answer", solicitation(CLIENT6, VIP6, &source_option())),
        ("an advert into the ring", advert4(VHID)),
    ];
    kernel.set_window(0, windows.open[0].1);
    for (name, frame) in changed {
        let mut runs: Vec<u128> = (0..101).map(|_| kernel.nanos(&frame, 1)).collect();
        runs.sort_unstable();
        println!("{name:28} {:4} ns (single runs)", runs[50]);
    }
}
