//! What is right, and every mistake in words.

use super::super::{Config, Mistakes, Source, parse};
use super::*;

/// Lines before the rules of NAT.
const HEAD: &str = "[node]\nname = \"gw1\"\n[node.interfaces]\nlan = \"lan0\"\nwan = \"wan0\"\n\
    [sync]\ninterface = \"sync0\"\naddress = \"10.255.0.1\"\npeer = \"10.255.0.2\"\nkey_file = \"key\"\n\
    [[virtual_host]]\ninterface = \"lan\"\nvhid = 1\naddresses = [\"10.0.0.1/24\", \"fd00::1/64\", \"fe80::1/64\"]\npassword_file = \"pw\"\n\
    [[virtual_host]]\ninterface = \"wan\"\nvhid = 2\n\
    addresses = [\"192.0.2.1/24\", \"192.0.2.9\", \"2001:db8::1/64\"]\npassword_file = \"pw\"\n";

fn read(head: &str, rules: &str) -> Result<Config, Mistakes> {
    let source = Source { name: "carp.toml".into(), text: format!("{head}{rules}") };
    parse(source, None, |file| {
        let is_password = file.as_os_str() == "pw";
        Ok(if is_password { b"secret".to_vec() } else { "0a".repeat(32).into_bytes() }.into())
    })
}

fn nat(rules: &str) -> Nat {
    read(HEAD, rules).map_err(|found| found.render(false)).expect("right").nat
}

fn listed(found: &Mistakes) -> Vec<String> {
    let line = |mistake: &Mistake| {
        let help = mistake.help.as_deref().unwrap_or("-");
        format!("{} | {} | {help}", mistake.what, mistake.expected)
    };
    found.list().iter().map(line).collect()
}

/// The only mistake in a good rule of this kind with these lines instead of its own.
fn only(kind: &str, lines: &str) -> String {
    let good = match kind {
        "outbound" => "source = [\"10.0.0.0/24\"]\ninterface = \"wan\"\nto = \"192.0.2.1\"",
        "forward" => "to = \"192.0.2.1\"\nport = 443\nhost = \"10.0.0.5\"",
        "prefix" => "interface = \"wan\"\ninside = \"fd00:7::/64\"\noutside = \"2001:db8:7::/64\"",
        _ => "vip = \"192.0.2.9\"\nhost = \"10.0.0.9\"",
    };
    let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let given: Vec<String> = lines.lines().map(key).collect();
    let rest: Vec<&str> = good.lines().filter(|line| !given.contains(&key(line))).collect();
    let found = read(HEAD, &format!("[[nat.{kind}]]\n{}\n{lines}\n", rest.join("\n"))).expect_err(lines);
    let mut lines = listed(&found);
    assert_eq!(lines.len(), 1, "{}", found.render(false));
    lines.remove(0)
}

#[test]
fn rules_are_read_with_their_devices_and_defaults() {
    let read = nat(
        "[[nat.outbound]]\nsource = [\"10.0.0.0/24\", \"10.9.0.0/16\"]\ninterface = \"wan\"\nto = \"192.0.2.1\"\n\
         except = [\"10.0.0.0/8\"]\nprotocol = \"udp\"\nports = \"1024-2047\"\n\
         [[nat.forward]]\nto = \"2001:db8::1\"\nport = \"80-89\"\nhost = \"fd00::5\"\nprotocol = \"udp\"\n\
         [[nat.forward]]\nto = \"192.0.2.1\"\nport = 443\nhost = \"10.0.0.5\"\nhost_port = 8443\nhairpin = true\n\
         [[nat.one_to_one]]\nvip = \"192.0.2.9\"\nhost = \"10.0.0.9\"\n",
    );
    let prefix = |text| rules::prefix(text).expect("a prefix");
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let device = || "wan0".to_owned();
    assert_eq!(
        read.outbound,
        [Outbound {
            device: device(),
            sources: vec![prefix("10.0.0.0/24"), prefix("10.9.0.0/16")],
            except: vec![prefix("10.0.0.0/8")],
            protocol: Some(17),
            to: ip("192.0.2.1"),
            ports: Some(1024..=2047),
            static_port: false,
        }]
    );
    let first = Forward {
        device: device(),
        to: ip("2001:db8::1"),
        protocol: 17,
        ports: 80..=89,
        host: ip("fd00::5"),
        host_port: None,
        hairpin: false,
    };
    let second = Forward {
        device: device(),
        to: ip("192.0.2.1"),
        protocol: 6,
        ports: 443..=443,
        host: ip("10.0.0.5"),
        host_port: Some(8443),
        hairpin: true,
    };
    assert_eq!(read.forwards, [first, second]);
    assert_eq!(read.one_to_one, [OneToOne { device: device(), vip: ip("192.0.2.9"), host: ip("10.0.0.9") }]);
    assert_eq!(nat(""), Nat::default());
}

#[test]
fn a_source_that_has_what_the_nodes_send_is_refused() {
    const OUTSIDE: &str = "expected a network behind the gateway";
    let inside = "for example source = [\"10.0.0.0/24\"]";
    for (source, said) in [
        ("0.0.0.0/0", "0.0.0.0/0 is everybody, the nodes themselves too"),
        (
            "192.0.2.0/28",
            "192.0.2.0/28 has the VIP 192.0.2.1 of wan0: that is the outside, the nodes themselves too",
        ),
        ("10.0.0.0/8", "10.0.0.0/8 has 10.255.0.1 of the sync link: the nodes speak with each other there"),
    ] {
        let line = format!("source = [\"{source}\"]");
        assert_eq!(only("outbound", &line), format!("{said} | {OUTSIDE} | {inside}"));
    }
    let v6 = "source = [\"::/0\"]\nto = \"2001:db8::1\"";
    assert!(
        only("outbound", v6).ends_with("for example source = [\"fd00::/64\"]"),
        "{}",
        only("outbound", v6)
    );
}

#[test]
fn what_no_outbound_rule_can_be_is_refused_with_what_to_write() {
    for (lines, said) in [
        (
            "to = \"10.0.0.1\"",
            "10.0.0.1 is no VIP of wan0 | expected a VIP of that interface | for example \"192.0.2.1\", \"192.0.2.9\", \"2001:db8::1\"",
        ),
        (
            "interface = \"dmz\"",
            "192.0.2.1 is no VIP of dmz | expected a VIP of that interface | first add a [[virtual_host]] there",
        ),
        (
            "source = [\"fd00::/64\"]",
            "fd00::/64 is not of the family of 192.0.2.1 | expected the family of `to` | -",
        ),
        (
            "source = []",
            "a rule without a source | expected at least one network | for example [\"10.0.0.0/24\"]",
        ),
        (
            "source = [\"10.0.0.7/24\"]",
            "\"10.0.0.7/24\" is not a prefix | it has bits behind its length | write \"10.0.0.0/24\" for the network, or \"10.0.0.7\"",
        ),
        (
            "ports = \"1024-2047\"\nprotocol = \"gre\"",
            "`ports` for another protocol than TCP or UDP | not together with these ports | leave `ports` out",
        ),
        (
            "ports = \"1024-2047\"\nstatic_port = true",
            "`ports` and `static_port` | not together with these ports | keep one of the two",
        ),
        ("ports = \"0-9\"", "there is no port 0 | expected 1 to 65535 | -"),
        (
            "excpet = []",
            "unknown key `excpet` in [[nat.outbound]] | not a key of this table | did you mean `except`?",
        ),
    ] {
        assert_eq!(only("outbound", lines), said);
    }
}

#[test]
fn what_no_forward_can_be_is_refused_with_what_to_write() {
    for (lines, said) in [
        (
            "to = \"192.0.2.2\"",
            "192.0.2.2 is no VIP | expected an address of a virtual host | for example \"10.0.0.1\", \"192.0.2.1\", \"192.0.2.9\", \"2001:db8::1\"",
        ),
        (
            "to = \"fe80::1\"\nhost = \"fd00::5\"",
            "fe80::1 is no VIP | expected an address of a virtual host | for example \"10.0.0.1\", \"192.0.2.1\", \"192.0.2.9\", \"2001:db8::1\"",
        ),
        (
            "host = \"fd00::5\"",
            "fd00::5 is not of the family of 192.0.2.1 | expected a host's own address | -",
        ),
        (
            "host = \"10.0.0.1\"",
            "10.0.0.1 is a VIP, no host behind the gateway | expected a host's own address | -",
        ),
        (
            "port = \"80-89\"\nhost_port = 8080",
            "a range of ports to port 8080 | this range | a range keeps its numbers: leave `host_port` out, or forward each port",
        ),
        ("protocol = \"icmp\"", "`protocol` cannot be \"icmp\" | one of `tcp`, `udp` | did you mean `tcp`?"),
        ("host_port = 0", "`host_port` is out of range | expected 1 to 65535 | the nearest valid value is 1"),
    ] {
        assert_eq!(only("forward", lines), said);
    }
    let missing =
        read(HEAD, "[[nat.forward]]\nto = \"192.0.2.1\"\nhost = \"10.0.0.5\"\n").expect_err("no port");
    assert_eq!(listed(&missing), ["[[nat.forward]] has no `port` | in this table | for example port = 443"]);
}

#[test]
fn two_rules_for_the_same_are_refused_whatever_their_order() {
    let forward =
        |ports: &str| format!("[[nat.forward]]\nto = \"192.0.2.1\"\nhost = \"10.0.0.5\"\nport = {ports}\n");
    for (one, two) in [("443", "443"), ("80", "\"70-90\""), ("\"70-90\"", "90"), ("\"70-90\"", "\"60-70\"")] {
        let found =
            read(HEAD, &(forward(one) + &forward("\"1-9\"") + &forward(two))).expect_err("the same port");
        assert_eq!(listed(&found), ["two rules for the same port | the second one | remove one of the two"]);
        assert!(found.render(false).contains("the first one"), "{}", found.render(false));
    }
    let udp = "protocol = \"udp\"\n";
    assert_eq!(nat(&(forward("\"70-79\"") + &forward("80") + &forward("80") + udp)).forwards.len(), 3);
    let pair = |vip: &str, host: &str| format!("[[nat.one_to_one]]\nvip = \"{vip}\"\nhost = \"{host}\"\n");
    let twice =
        pair("192.0.2.1", "10.0.0.8") + &pair("192.0.2.9", "10.0.0.9") + &pair("192.0.2.9", "10.0.0.8");
    let found = read(HEAD, &twice).expect_err("twice");
    let said = ["192.0.2.9", "10.0.0.8"]
        .map(|ip| format!("{ip} in two rules of one-to-one | second time here | remove one of the two"));
    assert_eq!(listed(&found), said);
}

#[test]
fn networks_that_cannot_stand_for_each_other_are_refused() {
    const EXPECTED: &str = "expected a network that is routed to a VIP | -";
    for (lines, said) in [
        ("outside = \"2001:db8:7::/60\"", "2001:db8:7::/60 is not as long as fd00:7::/64"),
        ("inside = \"10.0.0.0/24\"", "prefixes are translated for IPv6 only"),
        (
            "outside = \"2001:db8::/64\"",
            "2001:db8::/64 has the VIP 2001:db8::1: what comes for the nodes themselves would go inside",
        ),
    ] {
        assert_eq!(only("prefix", lines), format!("{said} | {EXPECTED}"));
    }
    let trap = only("prefix", "inside = \"2001:db8::/64\"");
    assert!(trap.starts_with("2001:db8::/64 has the VIP 2001:db8::1 of wan0"), "{trap}");
    let bare = only("prefix", "interface = \"dmz\"");
    assert!(bare.starts_with("dmz carries no virtual host"), "{bare}");
    let rule = |inside: &str, outside: &str| {
        format!("[[nat.prefix]]\ninterface = \"wan\"\ninside = \"{inside}\"\noutside = \"{outside}\"\n")
    };
    let first = rule("fd00:7::/64", "2001:db8:7::/64");
    for second in [rule("fd00:7::/48", "2001:db8:8::/48"), rule("fd00:8::/80", "2001:db8:7:0:1::/80")] {
        let found = read(HEAD, &(first.clone() + &second)).expect_err("twice");
        assert!(listed(&found)[0].contains("in two places of [[nat.prefix]]"), "{}", found.render(false));
    }
    assert_eq!(nat(&(first + &rule("fd00:8::/64", "2001:db8:8::/64"))).prefixes.len(), 2);
}

#[test]
fn a_mistake_in_a_virtual_host_is_not_told_again_of_the_rules_for_it() {
    let broken = HEAD.replace("vhid = 2", "vhid = 300");
    let rule = "[[nat.one_to_one]]\nvip = \"192.0.2.9\"\nhost = \"x\"\n";
    let found = read(&broken, rule).expect_err("two mistakes");
    let said = listed(&found);
    assert_eq!(said.len(), 2, "{}", found.render(false));
    assert!(said[0].starts_with("`vhid` is out of range") && said[1].starts_with("\"x\" is no address"));
}

#[test]
fn more_rules_than_there_is_room_for_are_refused() {
    let forwards = |count: u16| -> String {
        let of = |port| format!("[[nat.forward]]\nto = \"192.0.2.1\"\nport = {port}\nhost = \"10.0.0.5\"\n");
        (1..=count).map(of).collect()
    };
    assert_eq!(nat(&forwards(5000)).forwards.len(), Nat::MOST);
    let found = read(HEAD, &forwards(5001)).expect_err("too many");
    assert_eq!(
        listed(&found),
        [
            "5001 rules of NAT | expected at most 5000 | a shorter prefix or a range of ports can stand for several"
        ]
    );
}

#[test]
fn the_rules_are_of_both_nodes_and_of_interfaces_that_nft_can_name() {
    let shared = Source { name: "carp.toml".into(), text: String::new() };
    let own = "[node]\nname = \"gw1\"\n[nat]\n[firewall]\n".to_owned();
    let own = Source { name: "node.toml".into(), text: own };
    let found = parse(shared, Some(own), |_| Ok(Vec::new().into())).expect_err("misplaced");
    let said: Vec<String> = found.list().iter().map(|mistake| mistake.what.clone()).collect();
    assert_eq!(
        said,
        ["there is no virtual host", "NAT in the file of one node", "the firewall in the file of one node"]
    );
    for name in ["wan*", "w\\\"an", "wän"] {
        let head = HEAD.replace("wan = \"wan0\"", &format!("wan = \"{name}\""));
        assert!(read(&head, "").is_ok(), "without rules any name will do");
        let found = read(&head, "[firewall]\nenabled = true\n").expect_err(name);
        assert!(
            listed(&found)[0].starts_with("nft cannot be told of an interface"),
            "{}",
            found.render(false)
        );
    }
}

#[test]
fn what_is_inside_leaves_as_a_virtual_host_with_an_ipv4_address_and_one_only() {
    let config = read(HEAD, "snat = \"vip\"\n").map_err(|found| found.render(false)).expect("right");
    assert_eq!(config.hosts.iter().map(|host| host.snat).collect::<Vec<_>>(), [false, true]);
    let host = |vhid, vip| {
        format!(
            "[[virtual_host]]\ninterface = \"wan\"\nvhid = {vhid}\naddresses = [\"{vip}\"]\npassword_file = \"pw\"\n\
             snat = \"vip\"\n"
        )
    };
    let found = read(HEAD, &host(3, "2001:db8::3")).expect_err("no IPv4");
    assert!(listed(&found)[0].starts_with("snat to a virtual host without an IPv4 address"), "{found}");
    let found = read(HEAD, &format!("snat = \"vip\"\n{}", host(3, "192.0.2.3"))).expect_err("two");
    assert!(listed(&found)[0].starts_with("a second virtual host for what leaves by wan0"), "{found}");
}

#[test]
fn a_flowtable_is_between_two_links() {
    let on = "[firewall]\nflowtable = true\n";
    assert!(read(HEAD, on).expect("right").firewall.flowtable);
    let one = HEAD.replace("interface = \"wan\"", "interface = \"lan\"");
    let found = read(&one, on).expect_err("one link");
    assert!(listed(&found)[0].contains("virtual hosts on one interface only"), "{found}");
}
