//! What is handed to nft, word by word; `lab_nat` has nft itself read the same texts.

use super::*;
use crate::config::{Source, parse};

/// A pair's configuration with these rules.
pub(super) fn config(rules: &str) -> Config {
    let text = format!(
        "[node]\nname = \"gw1\"\n[node.interfaces]\nlan = \"lan0\"\nwan = \"wan0\"\n\
         [sync]\ninterface = \"sync0\"\naddress = \"10.255.0.1\"\npeer = \"10.255.0.2\"\nkey_file = \"key\"\n\
         [[virtual_host]]\ninterface = \"lan\"\nvhid = 1\naddresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\npassword_file = \"pw\"\n\
         [[virtual_host]]\ninterface = \"wan\"\nvhid = 2\n\
         addresses = [\"192.0.2.1/24\", \"192.0.2.9\", \"2001:db8::1/64\"]\npassword_file = \"pw\"\n{rules}"
    );
    let read = |file: &std::path::Path| {
        let is_password = file.as_os_str() == "pw";
        Ok(if is_password { b"secret".to_vec() } else { "0a".repeat(32).into_bytes() }.into())
    };
    parse(Source { name: "carp.toml".into(), text }, None, read)
        .map_err(|found| found.render(false))
        .expect("right")
}

#[test]
fn without_rules_there_is_no_table() {
    assert_eq!(Ruleset::of(&config("[firewall]\nenabled = false\n")), None);
}

#[test]
fn each_kind_of_rule_is_written_as_nft_reads_it() {
    let rules = Ruleset::of(&config(include_str!("tests/every-kind.toml"))).expect("rules");
    assert_eq!(rules.text(), include_str!("tests/every-kind.nft"), "{}", rules.text());
}

#[test]
fn what_is_inside_and_the_short_way_are_written_as_nft_reads_it() {
    let rules = Ruleset::of(&config(include_str!("tests/inside.toml"))).expect("rules");
    assert_eq!(rules.text(), include_str!("tests/inside.nft"), "{}", rules.text());
}

#[test]
fn what_a_foreign_firewall_must_hold_is_written_by_chain() {
    let text = foreign(&config(include_str!("tests/every-kind.toml")));
    assert_eq!(text, include_str!("tests/foreign.nft"), "{text}");
}

#[test]
fn a_set_says_nothing_twice() {
    let of = |list: &[&str]| {
        let prefix = |text: &&str| {
            let (ip, len) = text.split_once('/').unwrap();
            Prefix::new(ip.parse().unwrap(), len.parse().unwrap()).unwrap()
        };
        prefixes(&list.iter().map(prefix).collect::<Vec<_>>())
    };
    assert_eq!(of(&["10.0.0.0/8"]), "10.0.0.0/8");
    assert_eq!(
        of(&["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12"]),
        "{ 10.0.0.0/8, 172.16.0.0/12 }"
    );
}

#[test]
fn no_comment_is_longer_than_nft_takes() {
    let long = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff";
    let source = Prefix::new(long.parse().expect("an address"), 128).expect("a prefix");
    let to = long.parse().expect("an address");
    let outbound = Outbound {
        device: "interface-of-15".into(),
        sources: vec![source; 9999],
        except: Vec::new(),
        protocol: None,
        to,
        ports: None,
        static_port: false,
    };
    let device = "interface-of-15".to_owned();
    let (protocol, ports, host) = (17, 50_000..=59_999, to);
    let forward =
        Forward { device: device.clone(), to, protocol, ports, host, host_port: None, hairpin: true };
    let pair = OneToOne { device, vip: to, host };
    let rules = [
        outbound_rules(Nat::MOST, &outbound).remove(0),
        forward_rule(Nat::MOST, &forward),
        hairpin_rule((Nat::MOST, &forward)),
        one_to_one_comment(Nat::MOST, &pair),
    ];
    for rule in rules {
        let comment = rule.rsplit('"').nth(1).expect("a comment");
        assert!(comment.len() < 128, "{comment}");
    }
}
