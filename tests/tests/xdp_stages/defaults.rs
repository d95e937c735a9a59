//! The default is to pass: what an entry that is absent or zero means, map by map. Of windows the zero one
//! is closed, for it is of a virtual host that is there: then the fence is what was asked for.

use crate::frames::*;
use crate::harness::{Hook, Kernel, LINK, LINK_MAC, Outcome, PASS};
use crate::table::Row;
use crate::windows::{open, set_up};
use crate::{incoming, leaving};
use carp_common::map::{Host, LINK_STEPS, MAX_HOSTS, VIP_STEPS, Vip};
use carp_user::io::bpf::Standing;

const NO_HOST: Host = Host { slot: 0, link_mac: [0; 6], flags: 0 };
const NO_VIP: Vip = Vip { slot: 0, vhid: 0, flags: 0 };
/// Beyond every array: it has neither window nor counters.
const NO_SLOT: [u32; 2] = [MAX_HOSTS, u32::MAX];

/// Every frame of the tables at every hook passes as if there were no program.
fn passes_everything(set_up: impl Fn(&mut Kernel)) {
    for hook in [Hook::Xdp, Hook::OneBuffer, Hook::Tc, Hook::Egress] {
        let mut kernel = Kernel::at(hook);
        set_up(&mut kernel);
        for window in [open(), Standing::default()] {
            kernel.set_window(0, window);
            let rows = if hook == Hook::Egress { leaving::rows() } else { incoming::rows() };
            for Row { name, frame, .. } in rows {
                let untouched = Outcome { action: PASS, frame: frame.clone(), counted: Vec::new() };
                assert_eq!(kernel.run(&frame), untouched, "{name} at {hook:?}");
            }
        }
    }
}

#[test]
fn without_entries_everything_passes() {
    passes_everything(|_| ());
}

#[test]
fn zero_entries_are_as_good_as_none() {
    passes_everything(|kernel| {
        kernel.set_host_entry(LINK, VHID, NO_HOST);
        VIPS.into_iter().for_each(|vip| kernel.set_vip(vip, NO_VIP));
    });
}

#[test]
fn entries_of_a_slot_that_has_no_window_are_as_good_as_none() {
    for slot in NO_SLOT {
        passes_everything(|kernel| {
            kernel.set_host(LINK, VHID, slot);
            let vhid = u16::from(VHID);
            VIPS.into_iter()
                .for_each(|vip| kernel.set_vip(vip, Vip { slot, vhid, flags: Host::ANSWER_PING }));
        });
    }
}

#[test]
fn a_zero_window_of_a_virtual_host_that_is_there_is_closed() {
    let mut kernel = Kernel::new();
    set_up(&mut kernel, 0);
    for frame in [arp_request(VIP4), udp4(virtual_mac(VHID), CLIENT4), udp4(LINK_MAC, VIP4)] {
        assert_ne!(kernel.run(&frame).action, PASS);
    }
}

/// Addresses that are hashed alike lie one behind the other.
#[test]
fn a_vip_is_found_behind_as_many_others_as_there_can_be_and_none_of_them_is_taken_for_it() {
    let vip = Vip { slot: 0, vhid: u16::from(VHID), flags: 0 };
    for hook in [Hook::Xdp, Hook::OneBuffer, Hook::Tc, Hook::Egress] {
        let mut kernel = Kernel::at(hook);
        set_up(&mut kernel, 0);
        let frame = if hook == Hook::Egress { leaving::packet4(VIP4, 17) } else { udp4(LINK_MAC, VIP4) };
        for others in 0..VIP_STEPS as usize {
            kernel.crowd(VIP4.into(), others);
            assert_eq!(kernel.run(&frame).action, PASS, "{others} others at {hook:?}");
            kernel.set_vip(VIP4.into(), vip);
            assert_ne!(kernel.run(&frame).action, PASS, "behind {others} at {hook:?}");
            kernel.remove_vip(VIP4.into());
            assert_eq!(kernel.run(&frame).action, PASS, "removed behind {others} at {hook:?}");
        }
        kernel.crowd(VIP4.into(), VIP_STEPS as usize);
        assert_eq!(kernel.run(&frame).action, PASS, "all places are taken at {hook:?}");
    }
}

/// Links that are hashed alike, too.
#[test]
fn a_virtual_host_is_found_behind_as_many_other_links_as_there_can_be_and_none_of_theirs_is_taken_for_it() {
    for hook in [Hook::Xdp, Hook::OneBuffer, Hook::Tc, Hook::Egress] {
        let mut kernel = Kernel::at(hook);
        set_up(&mut kernel, 0);
        let mac = virtual_mac(VHID);
        let frame =
            if hook == Hook::Egress { from(mac, leaving::packet4(CLIENT4, 17)) } else { udp4(mac, CLIENT4) };
        for others in 0..LINK_STEPS as usize {
            kernel.crowd_link(others);
            assert_eq!(kernel.run(&frame).action, PASS, "{others} others at {hook:?}");
            kernel.set_host(LINK, VHID, 0);
            assert_ne!(kernel.run(&frame).action, PASS, "behind {others} at {hook:?}");
            kernel.remove_host(VHID);
            assert_eq!(kernel.run(&frame).action, PASS, "removed behind {others} at {hook:?}");
        }
        kernel.crowd_link(LINK_STEPS as usize);
        assert_eq!(kernel.run(&frame).action, PASS, "all places are taken at {hook:?}");
    }
}
