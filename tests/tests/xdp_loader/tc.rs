//! At tc, beside somebody else's XDP program.

use crate::place::{Instance, Leaving, at_tc, configure, open, port, program_on, within};
use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode, loaded_links, tc};
use carp_common::map::Window;
use carp_tests::lab::age_build;
use carp_tests::lab::kernel::has_tcx;
use carp_user::io::bpf::{Attached, INGRESS_PROGRAM, Mode, OBJECT, program_of_this_kernel, read_pinned};
use std::process::Command;

const WINDOW: Window = Window { serve_until: 1 << 40, ..Window::CLOSED };

/// Programs at the ingress hook of an interface, first one first, and the links that hold them: none do before Linux 6.6.
fn at_ingress(name: &str) -> Vec<(u32, Option<u32>)> {
    let links: Vec<_> = loaded_links().filter_map(Result::ok).collect();
    let link_of = |program| links.iter().find(|link| link.program_id() == program).map(|link| link.id());
    at_tc(name, TcAttachType::Ingress).into_iter().map(|program| (program, link_of(program))).collect()
}

#[test]
fn tcx_leaves_the_xdp_slot_to_another_and_is_gone_on_with_like_xdp() {
    within(1, || {
        let mut foreign = aya::Ebpf::load(OBJECT).unwrap();
        let xdp: &mut Xdp = foreign.program_mut(program_of_this_kernel()).unwrap().try_into().unwrap();
        xdp.load().unwrap();
        xdp.attach("a0", XdpMode::Driver).unwrap();
        let theirs = program_on("a0");
        let instance = Instance::new();
        let refused = open(&instance, &[port("a0", Mode::Auto)]).err().unwrap().to_string();
        assert!(refused.contains("xdp = \"tcx\""), "{refused}");
        let port = port("a0", Mode::Tcx);
        let (mut datapath, adverts) = open(&instance, std::slice::from_ref(&port)).unwrap();
        configure(&mut datapath, port.link, 1, [10, 9, 0, 1].into()).unwrap();
        datapath.set_window(0, WINDOW).unwrap();
        assert_eq!(datapath.mode_of(port.link), Some(Attached::Tcx));
        let pins = instance.pins();
        let made = if has_tcx() { ["ingress-a0", "egress-a0"] } else { ["clsact_in-a0", "clsact-a0"] };
        assert!(made.iter().all(|name| pins.iter().any(|pin| pin == name)), "{pins:?}");
        assert!(!pins.contains(&"link-a0".to_owned()), "{pins:?}");
        assert_eq!(read_pinned(&instance.name).unwrap().link_name(port.link.0), "a0");
        let before = at_ingress("a0");
        drop((datapath, adverts));
        age_build(&instance.name).unwrap();
        assert_eq!(at_ingress("a0"), before, "it outlives the daemon");
        let (datapath, _adverts) = open(&instance, std::slice::from_ref(&port)).unwrap();
        let after = at_ingress("a0");
        assert_eq!((after.len(), after[0].1), (1, before[0].1), "the same link");
        assert_ne!(after[0].0, before[0].0, "a new program in it");
        assert_eq!(datapath.windows().unwrap()[&0].window, WINDOW);
        datapath.close().unwrap();
        assert_eq!(at_ingress("a0"), []);
        assert_eq!(program_on("a0"), theirs);
        assert!(!instance.folder().exists());
    });
}

#[test]
fn from_xdp_to_tcx_and_back_the_windows_stay() {
    within(1, || {
        let instance = Instance::new();
        let (mut datapath, adverts) = open(&instance, &[port("a0", Mode::Generic)]).unwrap();
        configure(&mut datapath, port("a0", Mode::Auto).link, 1, [10, 9, 0, 1].into()).unwrap();
        datapath.set_window(0, WINDOW).unwrap();
        drop((datapath, adverts));
        for (mode, at_xdp, at_tc) in [(Mode::Tcx, false, 1), (Mode::Generic, true, 0), (Mode::Tcx, false, 1)]
        {
            let (datapath, _adverts) = open(&instance, &[port("a0", mode)]).unwrap();
            assert_eq!((program_on("a0").is_some(), at_ingress("a0").len()), (at_xdp, at_tc), "{mode:?}");
            assert_eq!(datapath.windows().unwrap()[&0].window, WINDOW);
        }
        carp_user::io::bpf::remove_pinned(&instance.name).unwrap();
        assert_eq!(at_ingress("a0"), []);
    });
}

#[test]
fn the_stages_at_tc_come_before_other_programs_and_leave_them_alone() {
    within(1, || {
        let mut foreign = aya::Ebpf::load(OBJECT).unwrap();
        let theirs: &mut SchedClassifier = foreign.program_mut(INGRESS_PROGRAM).unwrap().try_into().unwrap();
        theirs.load().unwrap();
        let id = theirs.info().unwrap().id();
        if !has_tcx() {
            tc::qdisc_add_clsact("a0").unwrap();
        }
        theirs.attach("a0", TcAttachType::Ingress).unwrap();
        let instance = Instance::new();
        let (datapath, _adverts) = open(&instance, &[port("a0", Mode::Tcx)]).unwrap();
        let there = at_ingress("a0");
        assert_eq!((there.len(), there[1].0), (2, id));
        datapath.close().unwrap();
        assert_eq!(at_ingress("a0").len(), 1);
    });
}

/// Whether a qdisc for filters is there.
fn has_clsact(name: &str) -> bool {
    let output = Command::new("tc").args(["qdisc", "show", "dev", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().contains("clsact")
}

#[test]
fn what_somebody_took_off_at_tc_is_there_again_after_the_next_start() {
    within(1, || {
        let instance = Instance::new();
        let port = port("a0", Mode::Tcx);
        let (mut datapath, rings) = open(&instance, std::slice::from_ref(&port)).unwrap();
        configure(&mut datapath, port.link, 1, [10, 9, 0, 1].into()).unwrap();
        datapath.set_window(0, WINDOW).unwrap();
        drop((datapath, rings));
        let take_off: Vec<Command> = if has_tcx() {
            let detach = |name: &str| {
                let mut bpftool = Command::new("bpftool");
                bpftool.args(["link", "detach", "pinned"]).arg(instance.folder().join(name));
                bpftool
            };
            ["ingress-a0", "egress-a0"].map(detach).into()
        } else {
            let mut tc = Command::new("tc");
            tc.args(["qdisc", "del", "dev", "a0", "clsact"]);
            vec![tc]
        };
        assert!(take_off.into_iter().all(|mut command| command.status().unwrap().success()));
        assert!(at_ingress("a0").is_empty() && !Leaving::is_on("a0"));
        let (datapath, _rings) = open(&instance, &[port]).unwrap();
        assert!(at_ingress("a0").len() == 1 && Leaving::is_on("a0"));
        assert_eq!(datapath.windows().unwrap()[&0].window, WINDOW);
        datapath.close().unwrap();
        assert!(at_ingress("a0").is_empty() && !Leaving::is_on("a0") && !has_clsact("a0"));
    });
}

#[test]
fn a_program_that_somebody_puts_behind_ours_stays_when_ours_go() {
    within(1, || {
        let mut foreign = aya::Ebpf::load(OBJECT).unwrap();
        let theirs: &mut SchedClassifier = foreign.program_mut(INGRESS_PROGRAM).unwrap().try_into().unwrap();
        theirs.load().unwrap();
        let id = theirs.info().unwrap().id();
        let instance = Instance::new();
        let (datapath, _rings) = open(&instance, &[port("a0", Mode::Tcx)]).unwrap();
        // Before Linux 6.6 into our qdisc.
        theirs.attach("a0", TcAttachType::Ingress).unwrap();
        assert_eq!(at_tc("a0", TcAttachType::Ingress).len(), 2);
        datapath.close().unwrap();
        assert_eq!(at_tc("a0", TcAttachType::Ingress), [id]);
        assert!(!Leaving::is_on("a0"));
    });
}
