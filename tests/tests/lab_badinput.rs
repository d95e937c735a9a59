//! What a person gets wrong: the daemon says so in words, and leaves the machine as it was.

use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::Config;
use carp_tests::lab::machine::{State, difference_since};
use carp_tests::lab::pair::Pair;
use carp_tests::lab::{Purpose, clock};
use serde_json::Value;
use std::fs;
use std::process::Command;

#[test]
fn no_such_interface_is_answered_with_those_that_exist_and_nothing_is_left() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    // The first interface is right, so a careless start would have begun with it.
    let config = Config { interfaces: vec![("lan", "lan0"), ("wan", "wna0")], ..Config::gateway() };
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &config)?;
    let before = State::of(pair.gw1(), carpd.instance())?;
    let (code, said) = carpd.refusal()?;
    assert_eq!(code, Some(1), "{said}");
    for word in ["wna0", "lan0", "wan0"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let difference = difference_since(&before, pair.gw1(), carpd.instance())?;
    assert!(difference.is_empty(), "left behind:\n{difference}");
    Ok(())
}

#[test]
fn a_second_daemon_of_the_same_name_is_told_the_pid_of_the_first() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut first = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().with_auth("strict"))?;
    let epoch = format!("/var/lib/carp/{}/epoch", first.instance());
    let counted = fs::read_to_string(&epoch)?;
    let (code, said) = first.refusal()?;
    assert_eq!(fs::read_to_string(&epoch)?, counted, "who has the name counts its starts alone");
    let pid = first.process()?.id().to_string();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&pid), "pid {pid} is not in: {said}");
    // And the first is none the worse for it.
    first.wait_role("MASTER", Span::secs(10))
}

#[test]
fn a_second_daemon_on_the_same_interface_is_told_the_pid_of_the_first_with_xdp_and_without() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut first = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().with_xdp("off"))?;
    let pid = first.process()?.id().to_string();
    for xdp in ["off", "auto"] {
        let other = format!("{}-b", first.instance());
        let config = Config::gateway().with_xdp(xdp);
        let files = config.write(&pair.lab.folder().join("rival"), &other)?;
        let before = State::of(pair.gw1(), &other)?;
        let mut command = Command::new(product("carpd")?);
        command.arg("--config").arg(&files.carp).arg("--node").arg(&files.node);
        let output = pair.gw1().output(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&pid) && said.contains("lan0"), "{said}");
        let difference = difference_since(&before, pair.gw1(), &other)?;
        assert!(difference.is_empty(), "left behind:\n{difference}");
    }
    Ok(())
}

#[test]
fn a_reload_of_what_cannot_be_started_keeps_the_old_configuration() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut carpd = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway())?;
    carpd.wait_role("MASTER", Span::secs(10))?;
    let node = fs::read_to_string(&carpd.files().node)?;
    fs::write(&carpd.files().node, node.replacen("wan0", "wna0", 1))?;
    carpd.process()?.signal(rustix::process::Signal::HUP)?;
    clock::wait_for("a word about wna0", Span::secs(5), || {
        carpd.process().ok()?.log().contains("wna0").then_some(())
    })?;
    carpd.wait_role("MASTER", Span::secs(10))?;
    carpd.stop().map(drop)
}

/// A kernel without an option has not its settings either.
#[test]
fn what_the_kernel_lacks_for_replication_is_named_at_the_start_and_nothing_is_left() -> Result<()> {
    const SETTINGS: &str = "/proc/sys/net/netfilter";
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway().with_sync())?;
    let before = State::of(pair.gw1(), carpd.instance())?;
    for (settings, option) in
        [("", "CONFIG_NF_CONNTRACK"), ("max buckets tcp_loose tcp_be_liberal", "CONFIG_NF_CONNTRACK_EVENTS")]
    {
        let whole = carpd.command()?;
        let mut command = Command::new("unshare");
        let script = format!(
            "mount -t tmpfs none {SETTINGS} && for it in {settings}; do echo 1000 > {SETTINGS}/nf_conntrack_$it; \
             done && exec \"$@\""
        );
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(whole.get_program()).args(whole.get_args());
        let output = pair.gw1().output(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let named = said.split(|letter: char| !letter.is_ascii_uppercase() && letter != '_');
        assert!(named.into_iter().any(|word| word == option), "{option} is not in: {said}");
        let difference = difference_since(&before, pair.gw1(), carpd.instance())?;
        assert!(difference.is_empty(), "left behind:\n{difference}");
    }
    Ok(())
}

#[test]
fn every_mistake_in_the_configuration_is_told_at_once_with_file_and_line() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    let before = State::of(pair.gw1(), carpd.instance())?;
    let text = fs::read_to_string(&carpd.files().carp)?;
    fs::write(
        &carpd.files().carp,
        text.replacen("vhid = 1", "vhid = 300", 1).replacen("skew =", "scew =", 1),
    )?;
    for check_only in [false, true] {
        let mut command = carpd.command()?;
        if check_only {
            command.arg("--check");
        }
        let output = pair.gw1().output(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        for word in ["carp.toml:3", "carp.toml:7", "300", "scew", "skew"] {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
    }
    let difference = difference_since(&before, pair.gw1(), carpd.instance())?;
    assert!(difference.is_empty(), "left behind:\n{difference}");
    Ok(())
}

#[test]
fn a_good_configuration_passes_the_check_and_nothing_is_started() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    let before = State::of(pair.gw1(), carpd.instance())?;
    let output = pair.gw1().output(carpd.command()?.arg("--check"))?;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(before.difference(&State::of(pair.gw1(), carpd.instance())?), "");
    Ok(())
}

#[test]
fn carpctl_check_says_invalid_valid_and_unfit_in_words_in_json_and_by_its_exit_code() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    let before = State::of(pair.gw1(), carpd.instance())?;
    let check = |words: &[&str]| -> Result<(Option<i32>, String, String)> {
        let files = carpd.files();
        let mut command = Command::new(product("carpctl")?);
        command.arg("check").arg(&files.carp).arg("--node").arg(&files.node).args(words);
        let output = pair.gw1().output(&mut command)?;
        let [said, told] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok((output.status.code(), said, told))
    };
    let (code, said, told) = check(&[])?;
    assert!(code == Some(0) && said.contains("ok, 2 virtual hosts") && told.is_empty(), "{said}{told}");
    let (code, said, _) = check(&["--json"])?;
    let report: Value = serde_json::from_str(&said)?;
    assert_eq!((code, &report["valid"], &report["virtual_hosts"]), (Some(0), &true.into(), &2.into()));

    let good = fs::read_to_string(&carpd.files().node)?;
    fs::write(&carpd.files().node, good.replacen("wan0", "wna0", 1))?;
    let (code, said, told) = check(&[])?;
    assert!(code == Some(4) && told.starts_with("warning: ") && told.contains("wna0"), "{said}{told}");
    let (code, said, _) = check(&["--json"])?;
    let report: Value = serde_json::from_str(&said)?;
    assert_eq!(
        (code, &report["valid"], report["warnings"].as_array().map(Vec::len)),
        (Some(4), &true.into(), Some(1))
    );
    fs::write(&carpd.files().node, good)?;

    // Somebody gave the machine the VIP itself; the network has gone; another VIP is of no network there.
    for (change, back, words) in [
        (
            "address add 10.77.1.1/24 dev lan0",
            "address del 10.77.1.1/24 dev lan0",
            ["10.77.1.1 is", "already"],
        ),
        ("address del 10.77.1.2/24 dev lan0", "address add 10.77.1.2/24 dev lan0", ["10.77.1.1", "IPv4"]),
    ] {
        pair.gw1().ip(change)?;
        let (code, _, told) = check(&[])?;
        assert!(code == Some(4) && words.iter().all(|word| told.contains(word)), "{change}: {told}");
        pair.gw1().ip(back)?;
    }
    let good = fs::read_to_string(&carpd.files().carp)?;
    fs::write(&carpd.files().carp, good.replacen("\"10.77.1.1", "\"10.79.1.1", 1))?;
    let (code, _, told) = check(&[])?;
    assert!(code == Some(4) && told.contains("10.79.1.1") && told.contains("(10.77.1.0/24)"), "{told}");
    fs::write(&carpd.files().carp, good)?;

    let good = fs::read_to_string(&carpd.files().carp)?;
    fs::write(
        &carpd.files().carp,
        good.replacen("vhid = 1", "vhid = 300", 1).replacen("skew =", "scew =", 1),
    )?;
    let (code, said, told) = check(&[])?;
    assert!(code == Some(3) && told.contains("carp.toml:3") && said.is_empty(), "{said}{told}");
    let (code, said, told) = check(&["--json"])?;
    let report: Value = serde_json::from_str(&said)?;
    assert_eq!((code, &report["valid"], told.as_str()), (Some(3), &false.into(), ""));
    let mistakes = report["mistakes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<_> = mistakes.iter().filter_map(|mistake| mistake["line"].as_u64()).collect();
    assert_eq!(lines, [3, 7], "{said}");
    assert!(
        mistakes.iter().any(|mistake| mistake["help"].as_str().is_some_and(|help| help.contains("skew")))
    );

    fs::remove_file(&carpd.files().carp)?;
    let (code, said, _) = check(&["--json"])?;
    assert!(code == Some(3) && said.contains("carp.toml"), "{said}");
    assert_eq!(before.difference(&State::of(pair.gw1(), carpd.instance())?), "");
    Ok(())
}

#[test]
fn carpctl_check_tells_a_gateway_that_does_not_forward_what_to_set() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    for (setting, name) in [
        ("ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"),
    ] {
        for (value, code) in [("0", 4), ("1", 0)] {
            pair.gw1().sysctl(setting, value)?;
            let mut command = Command::new(product("carpctl")?);
            command.arg("check").arg(&carpd.files().carp).arg("--node").arg(&carpd.files().node);
            let output = pair.gw1().output(&mut command)?;
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{setting}={value}: {told}");
            assert_eq!(told.contains(&format!("sysctl -w {name}=1")), value == "0", "{told}");
        }
    }
    Ok(())
}

#[test]
fn wrong_usage_is_exit_code_2() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    let output = pair.gw1().output(carpd.command()?.arg("--no-such-option"))?;
    assert_eq!(output.status.code(), Some(2));
    Ok(())
}

#[test]
fn an_ipv6_vip_on_a_link_without_ipv6_is_told_at_start() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    pair.gw1().sysctl("ipv6/conf/lan0/disable_ipv6", "1")?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    let mut process = pair.gw1().spawn("no-ipv6", carpd.command()?)?;
    // Whether it then refuses or waits for the address is its own affair.
    clock::wait_for("a word about IPv6 on lan0", Span::secs(5), || {
        let log = process.log();
        (log.contains("IPv6") && log.contains("lan0")).then_some(())
    })?;
    process.signal(rustix::process::Signal::TERM)?;
    process.wait(Span::secs(10)).map(drop)
}

#[test]
fn a_missing_privilege_is_named() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    let before = State::of(pair.gw1(), carpd.instance())?;
    let whole = carpd.command()?;
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
    command.arg(whole.get_program()).args(whole.get_args());
    let output = pair.gw1().output(&mut command)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.to_uppercase().contains("NET_ADMIN"), "no capability is named in: {said}");
    let difference = difference_since(&before, pair.gw1(), carpd.instance())?;
    assert!(difference.is_empty(), "left behind:\n{difference}");
    Ok(())
}

#[test]
fn a_password_file_that_others_can_read_is_refused() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    let password = carpd.files().carp.with_file_name("password");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644))?;
    let (code, said) = carpd.refusal()?;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("password") && !said.contains("lab secret"), "{said}");
    Ok(())
}
