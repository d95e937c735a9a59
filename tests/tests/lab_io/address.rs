use crate::namespace::{ip, proc_net, run, until, with_pair};
use carp_common::id::{IfIndex, Vhid, virtual_mac};
use carp_user::io::address::{Addresses, Held};
use carp_user::io::applier::{Applier, Kernel, Wanted};
use carp_user::io::clock::now;
use carp_user::io::fdb::VirtualMacs;
use carp_user::io::route::Routes;
use std::collections::BTreeSet;
use tokio::sync::watch;

fn index(name: &str) -> IfIndex {
    let list = proc_net("dev_mcast");
    let line = list.lines().find(|line| line.split_whitespace().nth(1) == Some(name)).unwrap();
    IfIndex(line.split_whitespace().next().unwrap().parse().unwrap())
}

fn held(vips: &[&str]) -> BTreeSet<Held> {
    let link = index("a0");
    vips.iter().map(|vip| Held { link, address: vip.parse().unwrap() }).collect()
}

/// Everything that a VIP could disturb: addresses, and the main routes of both families.
fn surroundings() -> String {
    ["-o address show", "route show", "-6 route show", "rule show"].map(ip).concat()
}

fn show() -> String {
    ip("-o address show dev a0")
}

#[test]
fn vips_come_and_go_without_a_route_and_nothing_else_changes() {
    with_pair(|| async {
        let before = surroundings();
        let routes = || ["route show", "-6 route show"].map(ip);
        let (routes_before, both) = (routes(), held(&["10.9.0.1", "fd09::1", "fe80::1"]));
        let mut addresses = Addresses::open(&both).unwrap();
        assert!(addresses.strangers().is_empty());
        for _idempotent in 0..2 {
            assert!(addresses.apply(&both).is_empty());
            let show = show();
            for vip in ["10.9.0.1/32 scope global noprefixroute", "fd09::1/128", "fe80::1/128"] {
                assert!(show.contains(vip), "{vip} in {show}");
            }
            assert_eq!(show.matches("noprefixroute").count(), 3, "{show}");
            assert_eq!(show.matches("deprecated").count(), 2, "{show}");
            assert!(!show.contains("tentative"), "{show}");
            assert_eq!(routes(), routes_before);
        }
        let fewer = held(&["fd09::1"]);
        assert!(addresses.apply(&fewer).is_empty());
        assert!(!show().contains("10.9.0.1/32") && show().contains("fd09::1/128"));
        assert!(addresses.apply(&BTreeSet::new()).is_empty());
        assert_eq!(surroundings(), before);
    });
}

#[test]
fn a_vip_is_not_chosen_as_source() {
    with_pair(|| async {
        let vips = held(&["10.9.0.1", "fd09::1"]);
        assert!(Addresses::open(&vips).unwrap().apply(&vips).is_empty());
        assert!(ip("route get 10.9.0.9").contains("src 10.9.0.2"));
        // Sixty-four more bits in common with this neighbour than the link's own address has.
        assert!(ip("route get fd09::3").contains("src fd09::2"));
    });
}

#[test]
fn what_a_killed_daemon_left_is_taken_over_and_what_others_put_there_is_kept() {
    with_pair(|| async {
        let before = surroundings();
        let vips = held(&["10.9.0.1", "fd09::1"]);
        let mut killed = Addresses::open(&vips).unwrap();
        assert!(killed.apply(&vips).is_empty());
        drop(killed);
        assert!(show().contains("10.9.0.1/32"), "a killed daemon's addresses stay");
        ip("address add 10.9.0.44/32 dev a0 noprefixroute");
        let mut next = Addresses::open(&vips).unwrap();
        assert!(next.apply(&BTreeSet::new()).is_empty());
        assert!(show().contains("10.9.0.44/32"));
        ip("address del 10.9.0.44/32 dev a0");
        assert_eq!(surroundings(), before);
    });
}

#[test]
fn a_vip_that_somebody_configured_is_a_stranger_and_stays() {
    with_pair(|| async {
        ip("address add 10.9.0.1/24 dev a0");
        ip("address add fd09::1/64 dev a0 nodad");
        let before = surroundings();
        let vips = held(&["10.9.0.1", "fd09::1"]);
        let mut addresses = Addresses::open(&vips).unwrap();
        assert_eq!(addresses.strangers(), &vips);
        assert!(addresses.apply(&vips).is_empty());
        assert!(addresses.apply(&BTreeSet::new()).is_empty());
        assert_eq!(surroundings(), before);
    });
}

#[test]
fn an_address_that_cannot_be_added_is_told_and_tried_again() {
    with_pair(|| async {
        let gone = Held { link: IfIndex(9_999), address: "10.9.0.1".parse().unwrap() };
        let mut addresses = Addresses::open(&BTreeSet::new()).unwrap();
        let wanted = [gone].into_iter().chain(held(&["10.9.0.1"])).collect();
        for _again in 0..2 {
            let failures = addresses.apply(&wanted);
            assert_eq!(failures.len(), 1);
            assert!(failures[0].held == gone && failures[0].wanted);
            assert!(failures[0].error.to_string().contains("No such device"), "{}", failures[0].error);
        }
        assert!(show().contains("10.9.0.1/32"));
    });
}

#[test]
fn the_applier_follows_the_level_repairs_it_and_removes_all_at_its_end() {
    with_pair(|| async {
        let before = surroundings();
        let vips = held(&["10.9.0.1", "fd09::1"]);
        let (publish, wanted) = watch::channel(Wanted::default());
        let routes = Routes::open([index("a0")].into()).unwrap();
        let kernel = Kernel { addresses: Addresses::open(&vips).unwrap(), routes };
        let applier = Applier::start(kernel, wanted).unwrap();
        let start = now();
        publish.send(Wanted { addresses: vips, ..Wanted::default() }).unwrap();
        until(|| show().contains("fd09::1/128")).await;
        println!("two VIPs were there {} after they were wanted", now().since(start));
        ip("address del 10.9.0.1/32 dev a0");
        until(|| show().contains("10.9.0.1/32")).await;
        assert!(applier.failures.borrow().is_empty());
        drop(publish);
        assert!(applier.finish().is_empty());
        assert_eq!(surroundings(), before);
    });
}

#[test]
fn a_virtual_mac_is_an_entry_of_the_link_until_it_is_taken_back() {
    with_pair(|| async {
        let fdb = || run("bridge", "fdb show dev a0");
        let (before, link) = (fdb(), index("a0"));
        let macs = [1, 255].map(|vhid| virtual_mac(Vhid::new(vhid).unwrap()));
        let mut entries = VirtualMacs::open().unwrap();
        for mac in macs {
            entries.add(link, "a0", mac).unwrap();
        }
        assert!(fdb().contains("00:00:5e:00:01:01 self permanent"), "{}", fdb());
        drop(entries);
        assert!(fdb().contains("00:00:5e:00:01:ff self permanent"), "a killed daemon's entries stay");

        let mut next = VirtualMacs::open().unwrap();
        for mac in macs {
            next.add(link, "a0", mac).unwrap();
        }
        next.remove(link, macs[0]).unwrap();
        next.remove(link, macs[0]).unwrap();
        run("bridge", "fdb del 00:00:5e:00:01:ff dev a0 self");
        assert!(next.close().is_empty(), "an entry that is gone already is fine");
        assert_eq!(fdb(), before);
    });
}

#[test]
fn a_link_that_went_away_makes_no_trouble_at_the_end() {
    with_pair(|| async {
        let vips = held(&["10.9.0.1"]);
        let (mut entries, mut addresses) = (VirtualMacs::open().unwrap(), Addresses::open(&vips).unwrap());
        entries.add(index("a0"), "a0", virtual_mac(Vhid::new(1).unwrap())).unwrap();
        assert!(addresses.apply(&vips).is_empty());
        ip("link del a0");
        assert!(entries.close().is_empty());
        assert!(addresses.apply(&BTreeSet::new()).is_empty());
    });
}
