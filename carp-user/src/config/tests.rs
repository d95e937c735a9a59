//! What is right, and every mistake as it is printed.

use super::private::{Content, Problem};
use super::*;
use carp_common::id::IfIndex;

/// Files with secrets of these names are in order; others are not there.
fn secret(file: &Path) -> Result<Content, Problem> {
    match file.to_str() {
        Some("pw" | "/etc/carp/lan.password" | "/etc/carp/wan.password") => Ok(b"secret".to_vec().into()),
        Some("pw2") => Ok(b"another".to_vec().into()),
        Some("key" | "/etc/carp/sync.key") => Ok("0a".repeat(SYNC_KEY_LEN).into_bytes().into()),
        _ => Err(Problem::Unreadable(file.into(), std::io::ErrorKind::NotFound.into())),
    }
}

fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), text: text.into() }
}

fn parse_one(text: &str) -> Result<Config, Mistakes> {
    parse(source("carp.toml", text), None, secret)
}

/// "line:column what | expected | help", for each mistake.
fn listed(found: &Mistakes) -> Vec<String> {
    let line = |mistake: &Mistake| {
        let (file, line, column) = found.position(mistake).expect("it has a place");
        let help = mistake.help.as_deref().unwrap_or("-");
        format!("{file}:{line}:{column} {} | {} | {help}", mistake.what, mistake.expected)
    };
    found.list().iter().map(line).collect()
}

/// The one mistake in a good [node] with this line added.
fn in_node(line: &str) -> String {
    let host = "[[virtual_host]]\ninterface = \"eth0\"\nvhid = 1\naddresses = [\"10.0.0.1/24\"]\npassword_file = \"pw\"\n";
    let name = if line.starts_with("name") { "" } else { "name = \"gw1\"\n" };
    only(&format!("[node]\n{name}{line}\n{host}"))
}

/// The one mistake in a good virtual host with this line instead of its own.
fn in_host(line: &str) -> String {
    let key = line.split(' ').next().expect("a key");
    let good =
        ["interface = \"eth0\"", "vhid = 1", "addresses = [\"10.0.0.1/24\"]", "password_file = \"pw\""];
    let rest = good.into_iter().filter(|line| line.split(' ').next() != Some(key));
    let rest = rest.collect::<Vec<_>>().join("\n");
    only(&format!("[node]\nname = \"gw1\"\nskew = 100\n[[virtual_host]]\n{line}\n{rest}\n"))
}

/// The one mistake, without file and line.
fn only(text: &str) -> String {
    let found = parse_one(text).expect_err(text);
    assert_eq!(found.list().len(), 1, "{found}");
    let line = listed(&found).remove(0);
    let (place, what) = line.split_once(' ').expect("a place");
    format!("{} {what}", place.rsplit(':').next().expect("a column"))
}

#[test]
fn the_example_in_the_reference_is_a_good_configuration() {
    let config = parse_one(reference::EXAMPLE).expect("the example is right");
    let host = &config.hosts[0];
    assert_eq!((config.node.name.as_str(), config.node.xdp), ("gw1", XdpMode::Auto));
    assert_eq!((host.interface.as_str(), host.device.as_str(), host.vhid.get()), ("lan", "eth1", 1));
    assert_eq!(host.addresses.iter().map(Vip::to_string).collect::<Vec<_>>(), ["10.0.0.1/24", "fd00::1/64"]);
    assert_eq!((host.pace, host.preempt, host.tos), (Pace { base: 1, skew: 0 }, true, 0xe0));
    assert_eq!((host.digest, host.accept.len()), (Variant::Freebsd, 2));
    assert_eq!(config.check_line(Path::new("carp.toml")), "carp.toml: ok, 2 virtual hosts");
}

#[test]
fn a_relative_password_file_lies_beside_the_file_that_names_it() {
    use std::os::unix::fs::OpenOptionsExt;
    let directory = std::env::temp_dir().join(format!("carp-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    let (sync, hosts) = reference::EXAMPLE.split_at(reference::EXAMPLE.find("[[").expect("virtual hosts"));
    let (node, _) = sync.split_at(sync.find("[sync]").expect("a sync link"));
    let hosts = hosts.replace("/etc/carp/lan.password", "pw").replace("/etc/carp/wan.password", "pw");
    let text = node.to_owned() + &hosts;
    let file = directory.join("carp.toml");
    std::fs::write(&file, text).expect("it is writable");
    let missing = load(&file, None).expect_err("no password yet");
    assert_eq!(missing.list().len(), 2, "{missing}");
    let options = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).to_owned();
    std::io::Write::write_all(&mut options.open(directory.join("pw")).expect("writable"), b"secret\n")
        .expect("room");
    let config = load(&file, None).expect("right");
    assert_eq!(config.hosts[0].secret.key().0[..7], *b"secret\0");
    std::fs::remove_dir_all(&directory).expect("it is ours");
}

#[test]
fn the_tables_of_the_reference_agree_with_the_types() {
    let names: Vec<_> = Variant::ALL.iter().map(|variant| variant.name()).collect();
    assert!(reference::DIGESTS.iter().all(|name| Variant::from_name(name).is_some()));
    assert_eq!(names.len(), reference::DIGESTS.len());
    assert!(reference::XDP_MODES.iter().all(|name| XdpMode::from_name(name).is_some()));
}

#[test]
fn a_node_file_gives_the_node_and_its_skew_and_roles_count() {
    let shared = "[[virtual_host]]\ninterface = \"lan\"\nvhid = 7\nskew = 20\naddresses = [\"10.0.0.1\"]\n\
                  password_file = \"pw\"\ndigest = \"ucarp\"\nbase = 2\ntos = 0x10\nanswer_ping = true\n";
    let own = "[node]\nname = \"gw-2\"\nskew = 100\npreempt = false\nxdp = \"off\"\n[node.interfaces]\nlan = \"br0\"\n";
    let config = parse(source("carp.toml", shared), Some(source("node.toml", own)), secret).expect("right");
    let host = &config.hosts[0];
    assert_eq!((host.device.as_str(), host.pace, host.preempt), ("br0", Pace { base: 2, skew: 120 }, false));
    assert_eq!((host.addresses[0].to_string().as_str(), host.answer_ping), ("10.0.0.1/32", true));
    assert_eq!(host.accept, [Variant::Freebsd, Variant::OpenbsdNov6ll, Variant::Ucarp]);
    let setup = config.setup(|name| (name == "br0").then_some(IfIndex(3)), 9).expect("br0 is there");
    assert_eq!((setup.hosts[0].link, setup.seed, setup.hosts[0].tos), (IfIndex(3), 9, 0x10));
    let missing = config.setup(|_| None, 9).expect_err("nothing is there");
    assert_eq!(missing.to_string(), "no such interface: br0");
}

#[test]
fn link_local_addresses_and_numbers_repeat_on_other_devices() {
    let host = |device: &str| {
        format!(
            "[[virtual_host]]\ninterface = \"{device}\"\nvhid = 1\naddresses = [\"fe80::1/64\"]\npassword_file = \"pw\"\n"
        )
    };
    let text = |a: &str, b: &str| format!("[node]\nname = \"a\"\n{}{}", host(a), host(b));
    assert!(parse_one(&text("eth0", "eth1")).is_ok());
    let twice = parse_one(&text("eth0", "eth0")).expect_err("the same device");
    assert_eq!(
        listed(&twice),
        [
            "carp.toml:10:8 vhid 1 twice on eth0 | expected another number | 2 is free on eth0",
            "carp.toml:11:14 the address fe80::1 twice | second time here | remove one of the two",
        ]
    );
}

#[test]
fn strict_adverts_of_two_devices_that_cannot_be_told_apart_are_a_mistake() {
    let parse = |own: &str, other: [&str; 3]| {
        let host = |device: &str, vhid: &str, vips: &str, secrets: &str| {
            format!(
                "[[virtual_host]]\ninterface = \"{device}\"\nvhid = {vhid}\naddresses = [{vips}]\n{secrets}\n"
            )
        };
        let [vhid, vips, secrets] = other;
        let first = host("eth0", "1", "\"fe80::1/64\", \"fe80::2/64\"", own);
        parse_one(&format!("[node]\nname = \"a\"\n{first}{}", host("eth1", vhid, vips, secrets)))
    };
    let same = "\"fe80::2/64\", \"fe80::1/10\"";
    let signs = |file: &str, auth: &str| format!("password_file = \"{file}\"\nauth = \"{auth}\"");
    let [strict, migrate, carp] = ["strict", "migrate", "carp"].map(|auth| signs("pw", auth));
    let another = signs("pw2", "strict");
    let next = format!("{another}\nnext_password_file = \"pw\"");
    let help = "give one of the two another password: with the same number, addresses and password, what is recorded \
                on eth0 would be accepted on eth1";
    for (own, secrets, place) in
        [(&strict, &strict, "13:17"), (&strict, &migrate, "13:17"), (&migrate, &next, "15:22")]
    {
        let what =
            "strict adverts of vhid 1 on eth0 and eth1 cannot be told apart | expected another password";
        let found = parse(own, ["1", same, secrets]).expect_err("alike");
        assert_eq!(listed(&found), [format!("carp.toml:{place} {what} | {help}")]);
        assert!(found.to_string().contains("the same here"), "{found}");
    }
    for good in
        [["2", same, &strict], ["1", "\"fe80::1\"", &strict], ["1", same, &carp], ["1", same, &another]]
    {
        assert!(parse(&strict, good).is_ok(), "{good:?}");
    }
    assert!(parse(&carp, ["1", same, &carp]).is_ok());
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_like_a_compiler_does() {
    let text = r#"[node]
name = "GW 1"
skeww = 5
xdp = "nativ"
[[virtual_host]]
interface = "eth0"
vhid = 300
adresses = ["10.0.0.1"]
password_file = "nope"
base = 0
skew = "7"
tos = 1.5
tos = 2
"#;
    let found = parse_one(text).expect_err("wrong");
    assert_eq!(
        listed(&found),
        [
            "carp.toml:2:8 \"GW 1\" cannot be an instance name | expected 1 to 32 of a-z, 0-9 and - | the nearest \
             valid name is \"gw-1\"",
            "carp.toml:3:1 unknown key `skeww` in [node] | not a key of this table | did you mean `skew`?",
            "carp.toml:4:7 `xdp` cannot be \"nativ\" | one of `auto`, `native`, `generic`, `tcx`, `off` | did you mean \
             `native`?",
            "carp.toml:7:8 `vhid` is out of range | expected 1 to 255 | the nearest valid value is 255",
            "carp.toml:8:1 unknown key `adresses` in [[virtual_host]] | not a key of this table | did you mean \
             `addresses`?",
            "carp.toml:9:17 cannot read password file nope: entity not found | this file | write the password into \
             it: (umask 077; cat > nope), type it, Enter, Ctrl-D",
            "carp.toml:10:8 `base` is out of range | expected 1 to 254 | use 1: with base 0 an advertisement comes \
             every few milliseconds or never, FreeBSD peers cannot be configured with it, and three times nothing is \
             no time to wait for a master",
            "carp.toml:11:8 `skew` cannot be a string | expected a whole number, 0 to 254 | write 7, without quotes",
            "carp.toml:12:7 `tos` cannot be a number with a fraction | expected a whole number, 0 to 255 | -",
            "carp.toml:13:1 the same key twice in one table | it already has a value | keep one of the two",
        ]
    );
    let picture = "\
error: unknown key `skeww` in [node]
 --> carp.toml:3:1
  |
3 | skeww = 5
  | ^^^^^ not a key of this table
  |
  = help: did you mean `skew`?
";
    assert!(found.to_string().contains(picture), "{found}");
    assert!(found.to_string().ends_with("error: 10 mistakes in the configuration"), "{found}");
}

#[test]
fn each_mistake_in_the_node_has_its_words() {
    let cases = [
        ("name = 7", "8 `name` cannot be a number | expected a string in quotes | write \"7\""),
        ("name = \"\"", "8 \"\" cannot be an instance name | expected 1 to 32 of a-z, 0-9 and - | -"),
        ("skew = 255", "8 `skew` is out of range | expected 0 to 254 | the nearest valid value is 254"),
        ("skew = -1", "8 `skew` is out of range | expected 0 to 254 | the nearest valid value is 0"),
        (
            "preempt = \"yes\"",
            "11 `preempt` cannot be a string | expected true or false | write true, without quotes",
        ),
        (
            "xdp = \"fast\"",
            "7 `xdp` cannot be \"fast\" | one of `auto`, `native`, `generic`, `tcx`, `off` | it can be `auto`, `native`, \
             `generic`, `tcx`, `off`",
        ),
        (
            "interfaces = { lan = \"a/b\" }",
            "22 no device can be called \"a/b\" | a device name has no space, / or : | -",
        ),
        (
            "interfaces = { lan = 5 }",
            "22 `lan` cannot be a number | expected a device name in quotes | write \"5\"",
        ),
        (
            "interfaces = \"eth0\"",
            "14 `interfaces` cannot be a string | expected a table | write [node.interfaces] and below it lines like \
             lan = \"eth1\"",
        ),
        (
            "vhid = 1",
            "1 unknown key `vhid` in [node] | not a key of this table | it can be `name`, `skew`, `preempt`, `preempt_delay`, `xdp`, `interfaces`, `scripts`",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(in_node(line), expected, "{line}");
    }
}

#[test]
fn each_mistake_in_a_virtual_host_has_its_words() {
    let cases = [
        (
            "interface = \"a long name with spaces\"",
            "13 \"a long name with spaces\" is neither a role in [node.interfaces] nor a device name | a device name \
             has 1 to 15 bytes | -",
        ),
        ("vhid = 0", "8 `vhid` is out of range | expected 1 to 255 | the nearest valid value is 1"),
        (
            "vhid = \"1\"",
            "8 `vhid` cannot be a string | expected a whole number, 1 to 255 | write 1, without quotes",
        ),
        (
            "addresses = []",
            "13 a virtual host without an address | expected at least one | for example addresses = [\"10.0.0.1/24\"]",
        ),
        (
            "addresses = \"10.0.0.1\"",
            "13 `addresses` cannot be a string | expected a list of strings | write [\"10.0.0.1\"]",
        ),
        (
            "skew = 155",
            "8 skew 155 and the node's 100 together exceed 254 | expected at most 154 on this node | lower one of the \
             two; both nodes share the virtual host's skew",
        ),
        ("base = 255", "8 `base` is out of range | expected 1 to 254 | the nearest valid value is 254"),
        (
            "digest = \"openbsd\"",
            "10 `digest` cannot be \"openbsd\" | one of `freebsd`, `openbsd-nov6ll`, `openbsd-orig`, `ucarp`, \
             `netbsd`, `dragonfly`, `fb05` | did you mean `openbsd-nov6ll`?",
        ),
        (
            "addresses = [\"10.0.0.1\", \"10.0.0.2\"]\ndigest = \"ucarp\"",
            "10 digest \"ucarp\" with other than exactly one IPv4 address | ucarp knows one IPv4 address and nothing \
             else | give each address its own virtual host, or leave digest out",
        ),
        (
            "addresses = [\"fd00::1/0\"]",
            "14 \"fd00::1/0\" has no valid prefix length | expected a prefix length of 1 to 128 | write fd00::1/128 \
             for the address alone",
        ),
        (
            "addresses = [\"10.0.0.1\", \"10.0.0.1/24\"]",
            "26 the address 10.0.0.1 twice | second time here | remove one of the two",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(in_host(line), expected, "{line}");
    }
}

#[test]
fn a_slip_of_syntax_does_not_hide_the_other_mistakes_nor_breed_new_ones() {
    let found = parse_one("[node]\nname = gw1\n[[virtual_host]\nvhid = 1\n").expect_err("broken");
    assert_eq!(
        listed(&found),
        [
            "carp.toml:2:8 not TOML: string values must be quoted, expected literal string | here | -",
            "carp.toml:3:16 not TOML: unclosed array table, expected `]` | here | -",
        ]
    );
}

#[test]
fn missing_tables_are_named_with_what_to_write() {
    assert_eq!(
        listed(&parse_one("colour = 1\nbase = 2\n").expect_err("empty")),
        [
            "carp.toml:1:1 there is no table [node] | in this file | write [node] and below it name = \"gw1\", or give \
             --node FILE",
            "carp.toml:1:1 there is no virtual host | in this file | begin each virtual host with a line \
             [[virtual_host]]",
            "carp.toml:1:1 unknown table or key `colour` | not at the top level | it can be `node`, `sync`, `config_sync`, \
             `group`, `virtual_host`, `route`, `nat`, `firewall`, `kernel`, `track`, `hook`",
            "carp.toml:2:1 unknown table or key `base` | not at the top level | `base` belongs below [[virtual_host]]",
        ]
    );
    let slip = parse_one("[node]\nname = \"a\"\n[virtual_host]\n").expect_err("one pair of brackets");
    assert!(listed(&slip)[0].contains("`virtual_host` is a list of tables"), "{slip}");
}

#[test]
fn a_node_in_both_files_is_pointed_at_in_both() {
    let shared = "[node]\nname = \"a\"\n[[virtual_host]]\ninterface = \"eth0\"\nvhid = 1\naddresses = [\"10.0.0.1\"]\n\
                  password_file = \"pw\"\n";
    let own = source("node.toml", "[node]\nname = \"b\"\n[[virtual_host]]\n");
    let found = parse(source("carp.toml", shared), Some(own), secret).expect_err("twice");
    assert_eq!(
        found.to_string(),
        "\
error: [node] stands in both files
 --> carp.toml:1:1
  |
1 | [node]
  | ^^^^^^ once here
  |
 ::: node.toml:1:1
  |
1 | [node]
  | ------ and once here
  |
  = help: remove it from the shared file: it is what differs between the nodes

error: a virtual host in the file of one node
 --> node.toml:3:3
  |
3 | [[virtual_host]]
  |   ^^^^^^^^^^^^ not here
  |
  = help: move it to the shared file (--config), so that both nodes have it

error: 2 mistakes in the configuration"
    );
}

#[test]
fn an_unreadable_file_is_named() {
    let found = load(Path::new("/nonexistent/carp.toml"), None).expect_err("not there");
    assert!(
        found.to_string().starts_with("error: cannot read /nonexistent/carp.toml: No such file"),
        "{found}"
    );
    assert!(found.to_string().contains("help: name a text file with --config FILE"), "{found}");
}
