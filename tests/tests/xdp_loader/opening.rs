//! Opening and closing.

use crate::place::{Instance, Leaving, Objects, configure, ip, open, port, program_on, until, within};
use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};
use carp_common::map::{Counter, Window};
use carp_common::time::Instant;
use carp_tests::lab::kernel::has_tcx;
use carp_user::io::bpf::{
    Attached, Counters, Datapath, Error, Mode, OBJECT, Standing, program_of_this_kernel, read_pinned,
};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Those that carpd keeps, as far as they are about programs.
const CARPD: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::BPF).union(CapabilitySet::PERFMON);

#[test]
fn opening_pins_and_attaches_and_closing_leaves_nothing() {
    within(2, || {
        let instance = Instance::new();
        let ports = [port("a0", Mode::Native), port("a1", Mode::Generic)];
        let (mut datapath, mut rings) = open(&instance, &ports).unwrap();
        let maps = [
            "ADVERTS",
            "AUTH",
            "CHALLENGES",
            "COUNTERS",
            "DECISIONS",
            "GROUP_PROBES",
            "HEARD",
            "HOSTS",
            "LINKS",
            "PROBED",
            "PROBE_KEYS",
            "PULSE",
            "REFUSED",
            "SENDERS",
            "TRACE",
            "VIPS",
            "VIP_INDEX",
            "WINDOWS",
            "abi",
            "build",
        ];
        let leaving = if has_tcx() { ["egress-a0", "egress-a1"] } else { ["clsact-a0", "clsact-a1"] };
        let links = [&leaving[..], &["link-a0", "link-a1"]].concat();
        assert_eq!(instance.pins(), [&maps[..], &links[..]].concat());
        let leaving = Leaving::on("a0");
        assert_eq!(leaving.program, Leaving::on("a1").program);
        assert_eq!(datapath.mode_of(ports[0].link), Some(Attached::Native));
        assert_eq!(datapath.mode_of(ports[1].link), Some(Attached::Generic));
        configure(&mut datapath, ports[0].link, 1, [10, 9, 0, 1].into()).unwrap();
        assert_eq!(Counters::sum(datapath.counters().unwrap().values()), Counters::default());
        assert!(rings.adverts.next().is_none() && rings.samples.next().is_none());
        let objects = Objects::on("a0");
        assert_eq!(objects.links.len(), 2);
        drop(rings);
        datapath.close().unwrap();
        assert_eq!((program_on("a0"), program_on("a1")), (None, None), "detached at once");
        assert!(!Leaving::is_on("a0") && !Leaving::is_on("a1"), "detached at once");
        assert!(!instance.folder().exists());
        until("the kernel has freed everything", || objects.are_gone() && leaving.is_gone());
    });
}

#[test]
fn auto_takes_the_driver_where_it_can_and_else_tc_and_native_says_why_it_cannot() {
    within(1, || {
        ip("link add d0 type bridge");
        ip("link set d0 up");
        let instance = Instance::new();
        let error = open(&instance, &[port("d0", Mode::Native)]).err().unwrap().to_string();
        println!("{error}");
        assert!(
            error.contains("d0 takes no native XDP program")
                && error.contains("xdp = \"generic\", \"tcx\" or \"off\"")
        );
        // A bridge has no native XDP, and a veth's does not rewrite well; a tap's driver has it.
        let mut expected = vec![("d0", Attached::Tcx), ("a0", Attached::Tcx)];
        if std::path::Path::new("/dev/net/tun").exists() {
            ip("tuntap add dev t0 mode tap");
            expected.push(("t0", Attached::Native));
        }
        let ports: Vec<_> = expected.iter().map(|(name, _)| port(name, Mode::Auto)).collect();
        let (datapath, _rings) = open(&instance, &ports).unwrap();
        for (port, (name, attached)) in ports.iter().zip(&expected) {
            assert_eq!(datapath.mode_of(port.link), Some(*attached), "{name}");
        }
        // Where it was refused once it is not tried again.
        let pins = instance.pins();
        drop(datapath);
        let (datapath, _rings) = open(&instance, &ports).unwrap();
        assert_eq!(instance.pins(), pins);
        assert!(ports.iter().zip(expected).all(|(port, (_, at))| datapath.mode_of(port.link) == Some(at)));
        datapath.close().unwrap();
        assert!(instance.pins().is_empty() && !Leaving::is_on("d0"));
    });
}

#[test]
fn an_error_half_way_leaves_everything_as_it_was() {
    within(1, || {
        ip("link add d0 type bridge");
        let instance = Instance::new();
        let ports = [port("a0", Mode::Native), port("d0", Mode::Native)];
        let error = open(&instance, &ports).err().unwrap();
        assert!(matches!(error, Error::Attach { .. }), "{error}");
        assert_eq!(program_on("a0"), None);
        assert!(!Leaving::is_on("a0"));
        assert!(!instance.folder().exists());
    });
}

#[test]
fn a_foreign_program_is_named_with_who_holds_it_and_left_alone() {
    within(2, || {
        let (program, mut foreign) = (program_of_this_kernel(), aya::Ebpf::load(OBJECT).unwrap());
        let xdp: &mut Xdp = foreign.program_mut(program).unwrap().try_into().unwrap();
        xdp.load().unwrap();
        let ours = format!("held by process {} (", std::process::id());
        for (mode, name) in [(XdpMode::Driver, "native"), (XdpMode::Skb, "generic")] {
            let link = xdp.attach("a1", mode).unwrap();
            let id = program_on("a1").unwrap();
            let error = refused(id);
            assert!(
                error.starts_with(&format!("a1 already has a {name} XDP program, {program} (id {id})")),
                "{error}"
            );
            assert!(error.contains(&format!(", its link {ours}")), "{error}");
            assert!(error.contains(&format!("(kill {})", std::process::id())), "{error}");
            xdp.detach(link).unwrap();
            until("the foreign program is off", || program_on("a1").is_none());
        }
        // Put there by hand, from a pinned program.
        let place = Instance::new();
        std::fs::create_dir_all(place.folder()).unwrap();
        let pin = place.folder().join("foreign");
        xdp.pin(&pin).unwrap();
        ip(&format!("link set a1 xdpgeneric pinned {}", pin.display()));
        let error = refused(program_on("a1").unwrap());
        assert!(error.contains(&format!(", pinned as {}, {ours}", pin.display())), "{error}");
        assert!(error.contains("(ip link set a1 xdp off)"), "{error}");
    });
}

#[test]
fn a_foreign_program_is_named_with_the_capabilities_that_carpd_keeps() {
    within(2, || {
        let place = Instance::new();
        std::fs::create_dir_all(place.folder()).unwrap();
        let pin = place.folder().join("foreign");
        let (program, mut foreign) = (program_of_this_kernel(), aya::Ebpf::load(OBJECT).unwrap());
        let xdp: &mut Xdp = foreign.program_mut(program).unwrap().try_into().unwrap();
        xdp.load().unwrap();
        let link = xdp.attach("a1", XdpMode::Skb).and_then(|link| xdp.take_link(link)).unwrap();
        drop(FdLink::try_from(link).unwrap().pin(&pin).unwrap());
        drop(foreign);
        let id = program_on("a1").unwrap();
        let mut sets = capabilities(None).unwrap();
        sets.effective = CARPD;
        set_capabilities(None, sets).unwrap();
        let error = refused(id);
        assert!(
            error.contains(&format!("{program} (id {id}), its link pinned as {}: ", pin.display())),
            "{error}"
        );
        assert!(error.contains(&format!("(rm {})", pin.display())), "{error}");
        std::fs::remove_file(&pin).unwrap();
        until("the foreign program is off", || program_on("a1").is_none());
    });
}

/// What is said when `a1` is occupied by this program.
fn refused(program: u32) -> String {
    let instance = Instance::new();
    let ports = [port("a0", Mode::Auto), port("a1", Mode::Auto)];
    let error = open(&instance, &ports).err().unwrap().to_string();
    println!("{error}");
    assert_eq!((program_on("a0"), program_on("a1")), (None, Some(program)));
    assert!(!instance.folder().exists());
    error
}

#[test]
fn two_instances_live_side_by_side_and_do_not_share_an_interface() {
    within(2, || {
        let (one, two) = (Instance::new(), Instance::new());
        let (first, _rings) = open(&one, &[port("a0", Mode::Generic)]).unwrap();
        let error = open(&two, &[port("a0", Mode::Auto)]).err().unwrap();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        first.close().unwrap();
        let (first, _rings) = open(&one, &[port("a0", Mode::Auto)]).unwrap();
        for mode in [Mode::Auto, Mode::Tcx, Mode::Generic] {
            let error = open(&two, &[port("a0", mode)]).err().unwrap();
            assert!(matches!(&error, Error::Rival { instance, .. } if *instance == one.name), "{error}");
            assert!(two.pins().is_empty());
        }
        let (second, _rings) = open(&two, &[port("a1", Mode::Auto)]).unwrap();
        first.close().unwrap();
        assert_eq!(two.pins().len(), 22);
        assert!(Leaving::is_on("a1"));
        second.close().unwrap();
        assert!(!two.folder().exists());
    });
}

#[test]
fn a_missing_capability_is_named() {
    within(1, || {
        let instance = Instance::new();
        let mut sets = capabilities(None).unwrap();
        sets.effective = CapabilitySet::CHOWN;
        let port = port("a0", Mode::Auto);
        set_capabilities(None, sets).unwrap();
        let error = open(&instance, &[port]).err().unwrap().to_string();
        println!("{error}");
        assert!(error.contains("CAP_BPF CAP_PERFMON CAP_NET_ADMIN is missing"), "{error}");
    });
}

#[test]
fn these_three_capabilities_are_enough() {
    within(1, || {
        // Once as root: mounting the BPF file system, if need be, takes more.
        let instance = Instance::new();
        let port = port("a0", Mode::Auto);
        let (datapath, _rings) = open(&instance, std::slice::from_ref(&port)).unwrap();
        datapath.close().unwrap();
        let mut sets = capabilities(None).unwrap();
        sets.effective = CARPD;
        set_capabilities(None, sets).unwrap();
        let (datapath, _rings) = open(&instance, &[port]).unwrap();
        datapath.close().unwrap();
    });
}

#[test]
fn a_name_that_is_no_instance_is_refused() {
    for name in ["", "..", "a/b", "GW1", &"x".repeat(33)] {
        assert!(
            matches!(Datapath::open(name, &[], |_| Ok(())).err(), Some(Error::Instance { .. })),
            "{name:?}"
        );
        assert!(matches!(read_pinned(name).err(), Some(Error::Instance { .. })), "{name:?}");
    }
}

#[test]
fn the_pinned_state_is_readable_without_a_daemon() {
    within(1, || {
        let instance = Instance::new();
        assert!(matches!(read_pinned(&instance.name).err(), Some(Error::NotPinned { .. })));
        let port = port("a0", Mode::Auto);
        let (mut datapath, _rings) = open(&instance, std::slice::from_ref(&port)).unwrap();
        configure(&mut datapath, port.link, 3, [10, 9, 0, 1].into()).unwrap();
        let window = Window { serve_until: 77, ..Window::CLOSED };
        datapath.set_window(0, window).unwrap();
        drop(datapath);
        let pinned = read_pinned(&instance.name).unwrap();
        assert_eq!(
            pinned.windows.into_iter().collect::<Vec<_>>(),
            [(0, Standing { window, heard: Instant::ZERO })]
        );
        assert_eq!((pinned.hosts[0].0.vhid, pinned.hosts[0].1.slot), (3, 0));
        assert_eq!(pinned.counters[&0].get(Counter::Advert), 0);
        assert!(pinned.interfaces.values().eq(["a0"]));
    });
}
