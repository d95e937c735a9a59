use crate::namespace::{ip, set_sysctl, soon, with_pair};
use carp_common::id::IfIndex;
use carp_tests::lab::kernel::renames_live;
use carp_user::io::clock::now;
use carp_user::io::error::Error;
use carp_user::io::link::{LinkFacts, Links};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

fn open(vips: &[&str]) -> Links {
    Links::open(&["a0".to_owned()], set(vips)).unwrap()
}

fn set(ips: &[&str]) -> BTreeSet<IpAddr> {
    ips.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn facts(links: &Links) -> LinkFacts {
    links.snapshot().next().unwrap().1
}

/// Waits until the facts are so, and says how long it took since the words were given to `ip`.
async fn told(links: &mut Links, words: &str, so: impl Fn(&LinkFacts) -> bool) -> LinkFacts {
    let start = now();
    if !words.is_empty() {
        ip(words);
    }
    let ran = now();
    loop {
        let (_, facts) = soon(links.changed()).await.unwrap();
        if so(&facts) {
            println!("`ip {words}` ran for {}, told {} after", ran.since(start), now().since(ran));
            return facts;
        }
    }
}

#[test]
fn an_unknown_interface_is_told_with_those_that_exist() {
    with_pair(|| async {
        let error = Links::open(&["eth7".to_owned()], BTreeSet::new()).unwrap_err();
        assert!(matches!(&error, Error::NoSuchLink { names, existing }
            if names == "eth7" && ["lo", "a0", "b0"].iter().all(|name| existing.iter().any(|other| other == name))));
        let error = Links::open(&["lo".to_owned()], BTreeSet::new()).unwrap_err();
        assert!(matches!(&error, Error::NotEthernet { .. }), "the loopback has a MAC of six zeros: {error}");
    });
}

#[test]
fn the_first_look_gives_mac_state_and_sources_that_are_no_vips() {
    with_pair(|| async {
        ip("address add 10.9.0.1/32 dev a0");
        let facts = facts(&open(&["10.9.0.1"]));
        assert!(facts.up && !facts.router && facts.successor.is_none());
        assert_eq!(facts.mac.to_string(), "02:00:00:00:00:0a");
        assert_eq!(facts.source_v4, Some([10, 9, 0, 2].into()));
        assert_eq!(facts.source_v6, Some("fe80::ff:fe00:a".parse().unwrap()));
        let shadowed = open(&["10.9.0.2", "fe80::ff:fe00:a"]).snapshot().next().unwrap().1;
        assert_eq!(shadowed.source_v4, Some([10, 9, 0, 1].into()));
        assert_eq!(shadowed.source_v6, Some("fd09::2".parse().unwrap()));
    });
}

#[test]
fn carrier_loss_and_switching_off_are_told_and_so_is_the_return() {
    with_pair(|| async {
        let mut links = open(&[]);
        told(&mut links, "link set b0 down", |facts| !facts.up).await;
        told(&mut links, "link set b0 up", |facts| facts.up).await;
        told(&mut links, "link set a0 down", |facts| !facts.up).await;
        let back = told(&mut links, "link set a0 up", |facts| facts.up && facts.source_v6.is_some()).await;
        assert_eq!(back.source_v4, Some([10, 9, 0, 2].into()));
    });
}

#[test]
fn losing_and_gaining_addresses_is_told() {
    with_pair(|| async {
        let mut links = open(&[]);
        told(&mut links, "address del 10.9.0.2/24 dev a0", |facts| facts.source_v4.is_none()).await;
        told(&mut links, "address add 10.9.0.7/24 dev a0", |facts| {
            facts.source_v4 == Some([10, 9, 0, 7].into())
        })
        .await;
        told(&mut links, "address del fe80::ff:fe00:a/64 dev a0", |facts| {
            facts.source_v6 == Some("fd09::2".parse().unwrap())
        })
        .await;
        told(&mut links, "address del fd09::2/64 dev a0", |facts| facts.source_v6.is_none()).await;
    });
}

#[test]
fn an_address_is_no_source_before_duplicate_detection_has_passed_it() {
    with_pair(|| async {
        ip("address flush dev a0 scope link");
        ip("address del fd09::2/64 dev a0");
        set_sysctl("ipv6/conf/a0/accept_dad", "1");
        let mut links = open(&[]);
        ip("address add fd09::5/64 dev a0");
        assert!(ip("-6 address show dev a0").contains("tentative"));
        told(&mut links, "", |facts| facts.source_v6 == Some("fd09::5".parse().unwrap())).await;
        assert!(!ip("-6 address show dev a0").contains("tentative"));
    });
}

#[test]
fn switching_forwarding_is_told() {
    with_pair(|| async {
        let mut links = open(&[]);
        set_sysctl("ipv6/conf/a0/forwarding", "1");
        told(&mut links, "", |facts| facts.router).await;
        set_sysctl("ipv6/conf/all/forwarding", "0");
        told(&mut links, "", |facts| !facts.router).await;
        set_sysctl("ipv6/conf/all/forwarding", "1");
        told(&mut links, "", |facts| facts.router).await;
        assert!(facts(&open(&[])).router);
    });
}

#[test]
fn a_link_that_leaves_a_bridge_is_not_taken_for_gone() {
    with_pair(|| async {
        let mut links = open(&[]);
        ip("link add br0 type bridge");
        ip("link set a0 master br0");
        ip("link set a0 nomaster");
        ip("address del 10.9.0.2/24 dev a0");
        loop {
            let (_, facts) = soon(links.changed()).await.unwrap();
            assert_eq!(facts.mac.to_string(), "02:00:00:00:00:0a");
            assert!(facts.successor.is_none());
            if facts.source_v4.is_none() {
                assert!(facts.up);
                break;
            }
        }
    });
}

#[test]
fn a_removed_link_is_down_and_its_namesake_is_reported_as_successor() {
    with_pair(|| async {
        let mut links = open(&[]);
        let old = links.index("a0").unwrap();
        told(&mut links, "link del a0", |facts| !facts.up && facts.source_v4.is_none()).await;
        let words = "link add a0 up type veth peer name b0";
        let after = told(&mut links, words, |facts| facts.successor.is_some()).await;
        assert!(!after.up && after.successor != Some(old));
        assert_eq!(after.mac.to_string(), "02:00:00:00:00:0a");
    });
}

#[test]
fn a_renamed_link_is_down_until_it_has_its_name_back() {
    with_pair(|| async {
        let mut links = open(&[]);
        rename("a0", "a1");
        told(&mut links, "", |facts| !facts.up).await;
        rename("a1", "a0");
        told(&mut links, "", |facts| facts.up).await;
    });
}

/// Before Linux 6.2 a link has to be down for that.
fn rename(from: &str, to: &str) {
    if !renames_live() {
        ip(&format!("link set {from} down"));
    }
    ip(&format!("link set {from} name {to}"));
    ip(&format!("link set {to} up"));
}

#[test]
fn more_events_than_there_is_room_for_lose_no_change() {
    with_pair(|| async {
        let mut links = open(&[]);
        let mut batch = String::new();
        for host in 0..8_000 {
            writeln!(batch, "address add 10.{}.{}.1/32 dev b0", 64 + host / 256, host % 256).unwrap();
        }
        batch += "address del 10.9.0.2/24 dev a0\n";
        for host in 0..8_000 {
            writeln!(batch, "address del 10.{}.{}.1/32 dev b0", 64 + host / 256, host % 256).unwrap();
        }
        let file = std::env::temp_dir().join(format!("carp-lab-io-{}", std::process::id()));
        std::fs::write(&file, batch).unwrap();
        ip(&format!("-batch {}", file.display()));
        std::fs::remove_file(file).unwrap();
        told(&mut links, "", |facts| facts.source_v4.is_none()).await;
        told(&mut links, "address add 10.9.0.3/24 dev a0", |facts| facts.source_v4.is_some()).await;
    });
}

#[test]
fn a_vip_of_a_family_that_the_link_does_not_have_is_refused() {
    with_pair(|| async {
        let vips = ["10.9.0.1", "fd09::1"].map(|vip| vip.parse::<IpAddr>().unwrap());
        let link = open(&[]).index("a0").unwrap();
        let refusals =
            || vips.map(|vip| open(&["10.9.0.1"]).admits(link, vip).map_err(|error| error.to_string()));
        assert_eq!(refusals(), [Ok(()), Ok(())]);
        set_sysctl("ipv6/conf/a0/disable_ipv6", "1");
        ip("address flush dev a0");
        let [v4, v6] = refusals();
        assert!(v4.unwrap_err().contains("no IPv4 address"));
        assert!(v6.unwrap_err().contains("net.ipv6.conf.a0.disable_ipv6"));
        ip("link set a0 down");
        assert_eq!(refusals()[0], Ok(()), "a link that is down may still get one");
        assert_eq!(open(&[]).name(IfIndex(9_999)), None);
    });
}
