//! The log of decisions: off, on until a moment, full. That each answer and each drop is in it, and
//! nothing else, every row of the tables shows.

use crate::frames::*;
use crate::harness::{DROP, Kernel, LINK};
use crate::windows::{set_up, windows};
use carp_common::id::IfIndex;
use carp_common::map::{Counter, DECISIONS_BYTES, Decision};
use carp_common::time::{Instant, Span};
use carp_user::io::clock;

#[test]
fn the_log_is_off_until_it_is_switched_on_and_goes_off_by_itself() {
    let mut kernel = fenced();
    for until in [Instant::ZERO, clock::now() - Span::millis(1), Instant::from_nanos(1)] {
        kernel.trace_until(until);
        assert_eq!(kernel.run(&arp_request(VIP4)).action, DROP);
        assert_eq!(kernel.decisions(), []);
    }
    assert_eq!(kernel.untold(), 0);
}

#[test]
fn a_decision_is_told_with_its_time_its_virtual_host_its_reason_and_the_frame() {
    let mut kernel = fenced();
    kernel.trace_until(Instant::MAX);
    let before = clock::now().nanos();
    let frame = udp4(virtual_mac(VHID), CLIENT4);
    kernel.run(&frame);
    let told = kernel.decisions();
    let [Decision { at, ifindex, slot, frame_len, frame: head, .. }] = told[..] else { panic!("{told:?}") };
    assert!((before..clock::now().nanos()).contains(&at));
    assert_eq!((IfIndex(ifindex), slot, told[0].counter()), (LINK, 0, Some(Counter::VirtualMacFenced)));
    assert_eq!(frame_len, u32::try_from(frame.len()).unwrap());
    let seen = frame.len().min(head.len());
    assert_eq!(head[..seen], frame[..seen]);
    assert!(head[seen..].iter().all(|byte| *byte == 0));
}

#[test]
fn of_a_flood_as_many_are_told_as_there_is_room_for_and_the_others_counted() {
    const FLOOD: u32 = 10_000;
    let mut kernel = fenced();
    kernel.trace_until(Instant::MAX);
    kernel.nanos(&arp_request(VIP4), FLOOD);
    let told = kernel.told();
    assert!((500..=DECISIONS_BYTES / 96).contains(&told), "{told} decisions");
    assert_eq!(kernel.untold(), u64::from(FLOOD - told));
    // There is room again.
    kernel.nanos(&arp_request(VIP4), 1);
    assert_eq!(kernel.told(), 1);
}

#[test]
fn what_the_log_costs_is_printed() {
    let mut kernel = fenced();
    println!("verified instructions: {:?}", kernel.verified_instructions());
    for (name, until) in [("off", Instant::ZERO), ("gone off", Instant::from_nanos(1)), ("on", Instant::MAX)]
    {
        kernel.trace_until(until);
        let nanos = kernel.nanos(&udp4(virtual_mac(VHID), CLIENT4), 500);
        println!("a fenced frame, log {name:8} {nanos:4} ns");
        kernel.told();
    }
    kernel.trace_until(Instant::MAX);
    println!(
        "a fenced frame, log full     {:4} ns",
        kernel.nanos(&udp4(virtual_mac(VHID), CLIENT4), 100_000)
    );
}

/// A virtual host that is not served.
fn fenced() -> Kernel {
    let mut kernel = Kernel::new();
    set_up(&mut kernel, 0);
    kernel.set_window(0, windows().closed[0].1);
    kernel
}
