//! A start over what another build or another version left: programs change in one step, and what
//! is known of the maps stays.

use crate::asking::{Answers, Asker};
use crate::place::{Instance, Leaving, Objects, configure, index, ip, open, port, until, within};
use aya::maps::{Array, MapData};
use carp_common::id::{Vhid, virtual_mac};
use carp_common::map::{ABI, Counter, Window};
use carp_user::io::bpf::{BUILD, Error, Mode, read_pinned};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::Path;

const VHID: u8 = 1;
const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const OPEN: Window = Window { serve_until: u64::MAX, ..Window::CLOSED };
/// How often a daemon is started while the neighbour asks.
const STARTS: u32 = 20;

/// Starts the loader over a datapath that serves, or not, as often as [`STARTS`], each time after
/// `before`, while a neighbour asks. The kernel of `a0` has the VIP too, and would answer.
fn restarts(instance: &Instance, window: Window, before: impl Fn(&Path)) -> Answers {
    let port = port("a0", Mode::Generic);
    let ports = std::slice::from_ref(&port);
    let (mut datapath, adverts) = open(instance, ports).unwrap();
    configure(&mut datapath, port.link, VHID, VIP.into()).unwrap();
    datapath.set_window(0, window).unwrap();
    drop((datapath, adverts));
    ip("address add 10.9.0.1/24 dev a0");
    let objects = (Objects::on("a0").links, Leaving::on("a0").link);
    let asker = Asker::start(index("b0"), VIP, virtual_mac(Vhid::new(VHID).unwrap()));
    for _ in 0..STARTS {
        before(&instance.folder());
        let fill = |datapath: &mut _| configure(datapath, port.link, VHID, VIP.into());
        let opened = carp_user::io::bpf::Datapath::open(&instance.name, ports, fill);
        drop(opened.unwrap());
        assert_eq!((Objects::on("a0").links, Leaving::on("a0").link), objects, "the same links");
    }
    asker.stop()
}

fn say(folder: &Path, name: &str, text: &str) {
    std::fs::remove_file(folder.join(name)).unwrap();
    symlink(text, folder.join(name)).unwrap();
}

fn said(instance: &Instance, name: &str) -> String {
    std::fs::read_link(instance.folder().join(name)).unwrap().into_os_string().into_string().unwrap()
}

#[test]
fn a_start_of_another_build_changes_the_programs_without_losing_a_frame() {
    within(1, || {
        let instance = Instance::new();
        let answers = restarts(&instance, OPEN, |folder| say(folder, "build", "0123456789ab"));
        println!("{answers:?}");
        assert!(answers.asked > STARTS);
        assert_eq!((answers.virtual_mac, answers.other_mac), (answers.asked, 0), "{answers:?}");
        assert_eq!((said(&instance, "abi"), said(&instance, "build")), (ABI.to_string(), BUILD.to_owned()));
        let pinned = read_pinned(&instance.name).unwrap();
        assert_eq!(pinned.windows[&0].window, OPEN);
        assert_eq!(pinned.counters[&0].get(Counter::ArpAnswered), u64::from(answers.asked), "counted on");
        assert_eq!(pinned.build, BUILD);
    });
}

#[test]
fn only_the_map_that_has_another_shape_is_begun_anew() {
    within(1, || {
        let instance = Instance::new();
        let answers = restarts(&instance, OPEN, |folder| {
            std::fs::remove_file(folder.join("COUNTERS")).unwrap();
            pin_another(&folder.join("COUNTERS"));
        });
        println!("{answers:?}");
        assert_eq!((answers.virtual_mac, answers.other_mac), (answers.asked, 0), "{answers:?}");
        let pinned = read_pinned(&instance.name).unwrap();
        assert_eq!(pinned.windows[&0].window, OPEN);
        assert!(pinned.counters[&0].get(Counter::ArpAnswered) < u64::from(answers.asked), "begun anew");
    });
}

#[test]
fn over_another_version_the_fence_has_no_gap_and_what_that_version_knew_is_forgotten() {
    within(1, || {
        let instance = Instance::new();
        for version in ["0", "4000000000", "none of ours"] {
            let answers = restarts(&instance, Window::CLOSED, |folder| say(folder, "abi", version));
            println!("{answers:?}");
            assert_eq!((answers.virtual_mac, answers.other_mac), (0, 0), "{answers:?}");
            ip("address del 10.9.0.1/24 dev a0");
        }
        let (datapath, _adverts) = open(&instance, &[port("a0", Mode::Generic)]).unwrap();
        datapath.close().unwrap();
    });
}

#[test]
fn the_maps_of_another_version_are_freed_and_its_own_pins_removed() {
    within(1, || {
        let instance = Instance::new();
        let port = port("a0", Mode::Generic);
        let ports = std::slice::from_ref(&port);
        let (mut datapath, adverts) = open(&instance, ports).unwrap();
        configure(&mut datapath, port.link, VHID, VIP.into()).unwrap();
        datapath.set_window(0, OPEN).unwrap();
        drop((datapath, adverts));
        let pins = instance.pins();
        let before = Objects::on("a0");
        say(&instance.folder(), "abi", "4000000000");
        pin_another(&instance.folder().join("LATER"));
        // What a start left that was killed half way.
        pin_another(&instance.folder().join("new-WINDOWS"));
        assert!(matches!(read_pinned(&instance.name).err(), Some(Error::OtherVersion { .. })));
        let (mut datapath, adverts) = open(&instance, ports).unwrap();
        let after = Objects::on("a0");
        assert_eq!(after.links, before.links);
        assert!(after.maps.is_disjoint(&before.maps), "no map is gone on with");
        assert_eq!(instance.pins(), pins);
        configure(&mut datapath, port.link, VHID, VIP.into()).unwrap();
        assert_eq!(datapath.windows().unwrap()[&0].window, Window::CLOSED);
        until("the old maps are freed", || {
            !aya::maps::loaded_maps().filter_map(Result::ok).any(|map| before.maps.contains(&map.id()))
        });
        drop(adverts);
        datapath.close().unwrap();
    });
}

#[test]
fn a_start_that_fails_leaves_an_earlier_daemons_datapath_as_it_was() {
    within(1, || {
        ip("link add d0 type bridge");
        let instance = Instance::new();
        let ports = [port("a0", Mode::Generic)];
        drop(open(&instance, &ports).unwrap());
        say(&instance.folder(), "abi", "0");
        let (pins, objects) = (instance.pins(), Objects::on("a0"));
        let more = [port("a0", Mode::Generic), port("d0", Mode::Native)];
        let error = open(&instance, &more).err().unwrap();
        assert!(matches!(error, Error::Attach { .. }), "{error}");
        assert_eq!((instance.pins(), Objects::on("a0")), (pins, objects));
        assert_eq!(said(&instance, "abi"), "0");
    });
}

/// A map that is none of ours in shape.
fn pin_another(path: &Path) {
    Array::<MapData, u32>::create(7, 0).unwrap().pin(path).unwrap();
}
