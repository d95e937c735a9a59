//! Opening and closing.

use crate::place::{Instance, Leaving, Objects, configure, ip, port, program_on, until, within};
use aya::programs::{Xdp, XdpMode};
use carp_common::map::{Counter, Window};
use carp_common::time::Instant;
use carp_user::io::bpf::{Attached, Counters, Datapath, Error, Mode, OBJECT, PROGRAM, Standing, read_pinned};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

#[test]
fn opening_pins_and_attaches_and_closing_leaves_nothing() {
    within(2, || {
        let instance = Instance::new();
        let ports = [port("a0", Mode::Native), port("a1", Mode::Generic)];
        let (mut datapath, mut rings) = Datapath::open(&instance.name, &ports).unwrap();
        let maps = ["ADVERTS", "AUTH", "COUNTERS", "HEARD", "HOSTS", "VIPS", "WINDOWS", "abi"];
        let links = ["egress-a0", "egress-a1", "link-a0", "link-a1"];
        assert_eq!(instance.pins(), [&maps[..], &links].concat());
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
fn auto_takes_the_driver_where_it_can_and_native_says_why_it_cannot() {
    within(1, || {
        ip("link add d0 type bridge");
        ip("link set d0 up");
        let instance = Instance::new();
        let error = Datapath::open(&instance.name, &[port("d0", Mode::Native)]).err().unwrap().to_string();
        println!("{error}");
        assert!(
            error.contains("d0 takes no native XDP program")
                && error.contains("xdp = \"generic\" or \"off\"")
        );
        // A bridge has no native XDP, and a veth's does not rewrite well; a tap's driver has it.
        let mut expected = vec![("d0", Attached::Generic), ("a0", Attached::Generic)];
        if std::path::Path::new("/dev/net/tun").exists() {
            ip("tuntap add dev t0 mode tap");
            expected.push(("t0", Attached::Native));
        }
        let ports: Vec<_> = expected.iter().map(|(name, _)| port(name, Mode::Auto)).collect();
        let (datapath, _rings) = Datapath::open(&instance.name, &ports).unwrap();
        for (port, (name, attached)) in ports.iter().zip(expected) {
            assert_eq!(datapath.mode_of(port.link), Some(attached), "{name}");
        }
        datapath.close().unwrap();
    });
}

#[test]
fn an_error_half_way_leaves_everything_as_it_was() {
    within(1, || {
        ip("link add d0 type bridge");
        let instance = Instance::new();
        let ports = [port("a0", Mode::Native), port("d0", Mode::Native)];
        let error = Datapath::open(&instance.name, &ports).err().unwrap();
        assert!(matches!(error, Error::Attach { .. }), "{error}");
        assert_eq!(program_on("a0"), None);
        assert!(!Leaving::is_on("a0"));
        assert!(!instance.folder().exists());
    });
}

#[test]
fn a_foreign_program_is_refused_by_its_name_and_left_alone() {
    within(2, || {
        let mut foreign = aya::Ebpf::load(OBJECT).unwrap();
        let xdp: &mut Xdp = foreign.program_mut(PROGRAM).unwrap().try_into().unwrap();
        xdp.load().unwrap();
        for mode in [XdpMode::Driver, XdpMode::Skb] {
            let link = xdp.attach("a1", mode).unwrap();
            let id = program_on("a1").unwrap();
            let instance = Instance::new();
            let ports = [port("a0", Mode::Auto), port("a1", Mode::Auto)];
            let error = Datapath::open(&instance.name, &ports).err().unwrap().to_string();
            println!("{error}");
            assert!(error.starts_with(&format!("a1 already has XDP program carp (id {id})")), "{error}");
            assert_eq!((program_on("a0"), program_on("a1")), (None, Some(id)));
            assert!(!instance.folder().exists());
            xdp.detach(link).unwrap();
            until("the foreign program is off", || program_on("a1").is_none());
        }
    });
}

#[test]
fn two_instances_live_side_by_side_and_do_not_share_an_interface() {
    within(2, || {
        let (one, two) = (Instance::new(), Instance::new());
        let (first, _rings) = Datapath::open(&one.name, &[port("a0", Mode::Auto)]).unwrap();
        let error = Datapath::open(&two.name, &[port("a0", Mode::Auto)]).err().unwrap();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        let (second, _rings) = Datapath::open(&two.name, &[port("a1", Mode::Auto)]).unwrap();
        first.close().unwrap();
        assert_eq!(two.pins().len(), 10);
        assert!(program_on("a1").is_some());
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
        let error = Datapath::open(&instance.name, &[port]).err().unwrap().to_string();
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
        let (datapath, _rings) = Datapath::open(&instance.name, std::slice::from_ref(&port)).unwrap();
        datapath.close().unwrap();
        let mut sets = capabilities(None).unwrap();
        sets.effective = CapabilitySet::NET_ADMIN | CapabilitySet::BPF | CapabilitySet::PERFMON;
        set_capabilities(None, sets).unwrap();
        let (datapath, _rings) = Datapath::open(&instance.name, &[port]).unwrap();
        datapath.close().unwrap();
    });
}

#[test]
fn a_name_that_is_no_instance_is_refused() {
    for name in ["", "..", "a/b", "GW1", &"x".repeat(33)] {
        assert!(matches!(Datapath::open(name, &[]).err(), Some(Error::Instance { .. })), "{name:?}");
        assert!(matches!(read_pinned(name).err(), Some(Error::Instance { .. })), "{name:?}");
    }
}

#[test]
fn the_pinned_state_is_readable_without_a_daemon() {
    within(1, || {
        let instance = Instance::new();
        assert!(matches!(read_pinned(&instance.name).err(), Some(Error::NotPinned { .. })));
        let port = port("a0", Mode::Auto);
        let (mut datapath, _rings) = Datapath::open(&instance.name, std::slice::from_ref(&port)).unwrap();
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
