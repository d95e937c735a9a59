//! Going on with what a killed daemon left.

use crate::place::{
    Instance, Leaving, Objects, at_tc, configure, index, ip, open, port, program_on, until, within,
};
use aya::programs::{SchedClassifier, TcAttachType, tc};
use carp_common::id::Vhid;
use carp_common::map::{Host, HostKey, VipKey, Window};
use carp_tests::lab::age_build;
use carp_tests::lab::kernel::has_tcx;
use carp_user::io::bpf::{Attached, EGRESS_PROGRAM, Mode, OBJECT, read_pinned};

const WINDOW: Window = Window { serve_until: 1 << 40, ..Window::CLOSED };

/// A datapath on `a0` with an open window, its daemon gone.
fn left_behind(instance: &Instance) -> Objects {
    let port = port("a0", Mode::Native);
    let (mut datapath, _rings) = open(instance, std::slice::from_ref(&port)).unwrap();
    configure(&mut datapath, port.link, 1, [10, 9, 0, 1].into()).unwrap();
    datapath.set_window(0, WINDOW).unwrap();
    Objects::on("a0")
}

#[test]
fn programs_of_the_same_build_are_gone_on_with_and_not_verified_again() {
    within(1, || {
        let instance = Instance::new();
        let before = left_behind(&instance);
        let (leaving, pins) = (Leaving::on("a0"), instance.pins());
        let port = port("a0", Mode::Auto);
        let (mut datapath, _rings) = open(&instance, std::slice::from_ref(&port)).unwrap();
        // Of a filter it is not known whether it is there still: then all is made anew.
        let is_as_before = (Objects::on("a0") == before, Leaving::on("a0") == leaving);
        assert_eq!(is_as_before, (has_tcx(), has_tcx()));
        assert_eq!(instance.pins(), pins);
        assert_eq!(datapath.mode_of(port.link), Some(Attached::Native));
        assert_eq!(datapath.windows().unwrap()[&0].window, WINDOW);
        datapath.set_window(0, Window::CLOSED).unwrap();
        assert_eq!(read_pinned(&instance.name).unwrap().windows[&0].window, Window::CLOSED);
        datapath.close().unwrap();
        assert_eq!(program_on("a0"), None);
        assert!(!Leaving::is_on("a0") && instance.pins().is_empty());
    });
}

#[test]
fn maps_and_links_of_a_killed_daemon_of_another_build_are_gone_on_with() {
    within(1, || {
        let instance = Instance::new();
        let before = left_behind(&instance);
        age_build(&instance.name).unwrap();
        let leaving_before = Leaving::on("a0");
        assert_eq!(Objects::on("a0"), before, "it outlives the daemon");
        let port = port("a0", Mode::Auto);
        let (mut datapath, rings) = open(&instance, std::slice::from_ref(&port)).unwrap();
        let after = Objects::on("a0");
        assert_eq!(after.links, before.links, "the same link");
        assert_ne!(after.program, before.program, "a new program in it");
        let leaving_after = Leaving::on("a0");
        assert_eq!(leaving_after.link, leaving_before.link, "the same link");
        assert_ne!(leaving_after.program, leaving_before.program, "a new program in it");
        assert_eq!(datapath.mode_of(port.link), Some(Attached::Native));
        assert_eq!(datapath.windows().unwrap()[&0].window, WINDOW);
        // The same host in the same slot keeps its window; another in that slot starts closed.
        configure(&mut datapath, port.link, 1, [10, 9, 0, 1].into()).unwrap();
        assert_eq!(datapath.windows().unwrap()[&0].window, WINDOW);
        configure(&mut datapath, port.link, 2, [10, 9, 0, 2].into()).unwrap();
        assert_eq!(datapath.windows().unwrap()[&0].window, Window::CLOSED);
        let vhid = Vhid::new(2).unwrap();
        let kept = (HostKey::new(port.link, vhid), VipKey::new(port.link, [10, 9, 0, 2].into()));
        datapath.set_window(0, WINDOW).unwrap();
        datapath.retain(&[kept.0].into(), &[kept.1]).unwrap();
        let pinned = read_pinned(&instance.name).unwrap();
        assert_eq!(pinned.hosts, [(kept.0, Host { slot: 0, link_mac: [2; 6], flags: 0 })]);
        assert_eq!(pinned.windows[&0].window, WINDOW, "the slot belongs to the host that stays");
        datapath.close().unwrap();
        drop(rings);
        until("the kernel has freed everything", || {
            before.are_gone() && after.are_gone() && leaving_before.is_gone() && leaving_after.is_gone()
        });
    });
}

#[test]
fn a_missing_pin_is_made_anew_and_the_others_are_gone_on_with() {
    within(1, || {
        let instance = Instance::new();
        left_behind(&instance);
        let pins = instance.pins();
        std::fs::remove_file(instance.folder().join("VIPS")).unwrap();
        let (datapath, _rings) = open(&instance, &[port("a0", Mode::Auto)]).unwrap();
        assert_eq!(instance.pins(), pins);
        assert_eq!(datapath.windows().unwrap()[&0].window, WINDOW);
        assert!(read_pinned(&instance.name).unwrap().vips.is_empty());
        datapath.close().unwrap();
    });
}

#[test]
fn an_interface_that_is_no_longer_configured_is_let_go() {
    within(2, || {
        let instance = Instance::new();
        left_behind(&instance);
        let (datapath, _rings) = open(&instance, &[port("a1", Mode::Generic)]).unwrap();
        assert_eq!(program_on("a0"), None);
        assert!(!Leaving::is_on("a0") && Leaving::is_on("a1"));
        assert!(instance.pins().contains(&"link-a1".to_owned()));
        assert!(!instance.pins().contains(&"link-a0".to_owned()));
        datapath.close().unwrap();
    });
}

#[test]
fn an_interface_that_was_made_anew_is_attached_anew() {
    within(1, || {
        let instance = Instance::new();
        left_behind(&instance);
        let old = index("a0");
        ip("link del a0");
        ip("link add a0 index 77 type veth peer name b0");
        assert_ne!(index("a0"), old);
        let (datapath, _rings) = open(&instance, &[port("a0", Mode::Generic)]).unwrap();
        assert!(program_on("a0").is_some() && Leaving::is_on("a0"));
        datapath.close().unwrap();
    });
}

#[test]
fn another_mode_means_another_link() {
    within(1, || {
        let instance = Instance::new();
        let before = left_behind(&instance);
        let port = port("a0", Mode::Generic);
        let (datapath, _rings) = open(&instance, std::slice::from_ref(&port)).unwrap();
        assert_eq!(datapath.mode_of(port.link), Some(Attached::Generic));
        assert_ne!(Objects::on("a0").links, before.links);
        assert_eq!(datapath.windows().unwrap()[&0].window, WINDOW);
        datapath.close().unwrap();
    });
}

#[test]
fn the_fence_for_what_leaves_comes_before_other_programs_and_leaves_them_alone() {
    within(1, || {
        let mut foreign = aya::Ebpf::load(OBJECT).unwrap();
        let theirs: &mut SchedClassifier = foreign.program_mut(EGRESS_PROGRAM).unwrap().try_into().unwrap();
        theirs.load().unwrap();
        let id = theirs.info().unwrap().id();
        if !has_tcx() {
            tc::qdisc_add_clsact("a0").unwrap();
        }
        theirs.attach("a0", TcAttachType::Egress).unwrap();
        let programs = || at_tc("a0", TcAttachType::Egress);
        let instance = Instance::new();
        let (datapath, _rings) = open(&instance, &[port("a0", Mode::Auto)]).unwrap();
        assert_eq!(programs().len(), 2);
        assert_eq!(programs()[1], id);
        datapath.close().unwrap();
        assert_eq!(programs(), [id]);
    });
}
