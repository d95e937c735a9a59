//! Translation bound to the VIPs, and the firewall: sessions that go on over the other gateway, what is translated and
//! what never is, and what becomes of the rules.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::machine::{State, difference_since};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::{fortify, in_step, known, streams};
use carp_tests::lab::stream::{Load, all_talk, finish_all};
use carp_tests::lab::talk::Talk;
use carp_tests::lab::{Purpose, clock};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

/// The LAN behind the WAN's VIPs, one port to a host in it, and the firewall.
const RULES: &str = r#"
[[nat.outbound]]
source = ["10.77.1.0/24"]
interface = "wan"
to = "10.77.2.1"

[[nat.outbound]]
source = ["fd77:1::/64"]
interface = "wan"
to = "fd77:2::1"
ports = "20000-29999"

[[nat.forward]]
to = "10.77.2.1"
port = 8080
host = "10.77.1.10"
host_port = 80
hairpin = true

[firewall]
enabled = true
"#;

/// Lets through what the LAN began and what was forwarded, and no connection from its middle.
const FILTER: &str = "table inet gateway {
    chain forward {
        type filter hook forward priority filter; policy drop;
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        ct state invalid counter drop
        ct state established,related counter accept
        iifname lan0 ct state new counter accept
        ct status dnat counter accept
    }
}
";

const OUTSIDE: &str = "10.77.2.1:8080";
const HOST: &str = "10.77.1.10:80";
const VIP: &str = "10.77.2.1";
/// Each way.
const SESSIONS: usize = 50;
const SPEECH: Load = Load { block: 1024, pause: Span::millis(50) };

#[test]
fn a_hundred_translated_sessions_of_both_directions_go_on_over_the_other_gateway_and_back() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    fortify(&pair, FILTER)?;
    let mut duo = Duo::elected_in(pair, &Config::gateway().with_sync().with_rules(RULES))?;
    let outward = streams(&duo.pair, SESSIONS, SPEECH)?;
    let listener = duo.pair.client.enter(|| Ok(TcpListener::bind(HOST)?))?;
    let begin = |_| {
        let outside = duo.pair.server.enter(|| Ok(TcpStream::connect(OUTSIDE)?))?;
        let (inside, from) = listener.accept()?;
        ensure!(from.ip() == "10.77.2.10".parse::<IpAddr>()?, "the host sees {from}");
        Talk::between(outside, inside)
    };
    let mut inward = (0..SESSIONS).map(begin).collect::<Result<Vec<_>>>()?;
    let vip: IpAddr = VIP.parse()?;
    let seen = known(duo.pair.gw1())?;
    ensure!(seen.len() >= SESSIONS && seen.iter().all(|(_, reply)| reply.destination == vip), "{seen:?}");
    in_step(&duo)?;
    duo.gw1.stop()?;
    duo.wait_moved()?;
    go_on(&outward, &mut inward).context("over the other gateway")?;
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    go_on(&outward, &mut inward).context("back")?;
    finish_all(outward)?;
    duo.never_two_masters()
}

#[test]
fn a_client_is_translated_and_what_the_node_itself_sends_never() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut gw1 = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().with_rules(RULES))?;
    gw1.wait_role("MASTER", PATIENCE)?;
    gw1.wait_serving(PATIENCE)?;
    clock::wait_for("the VIP to be an address of the master", PATIENCE, || {
        pair.gw1().enter(|| Ok(UdpSocket::bind("10.77.1.1:0")?)).ok()
    })?;
    for (server, from, seen) in [
        ("10.77.2.10", ("10.77.1.10", &pair.client), VIP),
        ("fd77:2::10", ("fd77:1::10", &pair.client), "fd77:2::1"),
        // An address in the rule's source, as a resolver on the node that listens to the LAN has it.
        ("10.77.2.10", ("10.77.1.2", pair.gw1()), "10.77.1.2"),
        ("10.77.2.10", ("10.77.1.1", pair.gw1()), "10.77.1.1"),
        ("fd77:2::10", ("fd77:1::2", pair.gw1()), "fd77:1::2"),
        ("10.77.2.10", ("10.77.2.2", pair.gw1()), "10.77.2.2"),
    ] {
        let (address, host) = from;
        let at = source_seen(&pair.server, server.parse()?, host, address.parse()?)?;
        ensure!(at.ip() == seen.parse::<IpAddr>()?, "{address} on {} is seen as {at}", host.host());
        ensure!(seen != "fd77:2::1" || (20_000..30_000).contains(&at.port()), "port {}", at.port());
    }
    let rules = usage(&gw1)?;
    for (rule, packets) in [("outbound 1", 1), ("outbound 2", 1), ("own", 4), ("forward 1", 0)] {
        let counted = rules.iter().find(|counted| counted["rule"] == rule).context(rule)?;
        // The nodes say other things, too.
        let counted = counted["packets"].as_u64().context("a number")?;
        ensure!(counted >= packets && (packets > 0 || counted == 0), "{rule}: {counted}");
    }
    let listener = pair.client.enter(|| Ok(TcpListener::bind(HOST)?))?;
    let _inside = pair.client.enter(|| Ok(TcpStream::connect(OUTSIDE)?))?;
    let (_, from) = listener.accept()?;
    ensure!(from.ip() == VIP.parse::<IpAddr>()?, "by way of the VIP, the host sees {from}");
    gw1.stop().map(drop)
}

#[test]
fn a_vip_stands_for_one_host_both_ways() -> Result<()> {
    const ONE_TO_ONE: &str = "[[nat.one_to_one]]\nvip = \"10.77.2.9\"\nhost = \"10.77.1.10\"\n";
    let pair = Pair::new(Purpose::Test)?;
    let mut config = Config::gateway().with_rules(ONE_TO_ONE);
    config.hosts.iter_mut().filter(|host| host.vhid == 2).for_each(|wan| wan.addresses.push("10.77.2.9"));
    let mut gw1 = Carpd::start(&pair.lab, pair.gw1(), &config)?;
    gw1.wait_role("MASTER", PATIENCE)?;
    gw1.wait_serving(PATIENCE)?;
    let seen = source_seen(&pair.server, "10.77.2.10".parse()?, &pair.client, "10.77.1.10".parse()?)?;
    ensure!(seen.ip() == "10.77.2.9".parse::<IpAddr>()?, "outside sees {seen}");
    let listener = pair.client.enter(|| Ok(TcpListener::bind("10.77.1.10:5000")?))?;
    let _outside = pair.server.enter(|| Ok(TcpStream::connect("10.77.2.9:5000")?))?;
    let (_, from) = listener.accept()?;
    ensure!(from.ip() == "10.77.2.10".parse::<IpAddr>()?, "the host sees {from}");
    ensure!(usage(&gw1)?[0]["packets"] == 2, "{:?}", usage(&gw1)?);
    gw1.stop().map(drop)
}

#[test]
fn an_ipv6_network_is_another_one_to_the_outside_both_ways() -> Result<()> {
    const PREFIX: &str =
        "[[nat.prefix]]\ninterface = \"wan\"\ninside = \"fd77:1::/64\"\noutside = \"fd77:7::/64\"\n";
    let pair = Pair::new(Purpose::Test)?;
    let mut gw1 = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().with_rules(PREFIX))?;
    gw1.wait_role("MASTER", PATIENCE)?;
    gw1.wait_serving(PATIENCE)?;
    let seen = source_seen(&pair.server, "fd77:2::10".parse()?, &pair.client, "fd77:1::10".parse()?)?;
    ensure!(seen.ip() == "fd77:7::10".parse::<IpAddr>()?, "outside sees {seen}");
    let seen = source_seen(&pair.server, "fd77:2::10".parse()?, pair.gw1(), "fd77:1::2".parse()?)?;
    ensure!(seen.ip() == "fd77:1::2".parse::<IpAddr>()?, "the node itself is seen as {seen}");
    let listener = pair.client.enter(|| Ok(TcpListener::bind("[fd77:1::10]:5000")?))?;
    let _outside = pair.server.enter(|| Ok(TcpStream::connect("[fd77:7::10]:5000")?))?;
    let (_, from) = listener.accept()?;
    ensure!(from.ip() == "fd77:2::10".parse::<IpAddr>()?, "the host sees {from}");
    ensure!(usage(&gw1)?.iter().any(|rule| rule["rule"] == "prefix 1" && rule["packets"] == 2));
    gw1.stop().map(drop)
}

#[test]
fn check_names_the_chain_of_another_firewall_that_drops_the_session_and_what_nft_refuses() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let config = Config::gateway().with_sync().with_rules(RULES);
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &config)?;
    let file = carpd.files().carp.to_string_lossy().into_owned();
    let check = |path: &str| {
        let mut carpctl = Command::new(product("carpctl")?);
        let output = pair.gw1().output(carpctl.args(["check", &file]).env("PATH", path))?;
        Ok::<_, anyhow::Error>((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let path = std::env::var("PATH")?;
    ensure!(check(&path)? == (Some(0), String::new()), "{:?}", check(&path)?);
    let before = listing(pair.gw1())?;
    pair.gw1().load_rules(
        "table inet strict { chain out { type filter hook output priority 0; policy drop; udp dport 53 accept; }; }",
    )?;
    let (code, said) = check(&path)?;
    ensure!(code == Some(4) && said.contains("chain out of table inet strict"), "{said}");
    pair.gw1().load_rules("add rule inet strict out oifname sync0 tcp dport 7112 accept")?;
    ensure!(check(&path)?.0 == Some(0), "{:?}", check(&path)?);
    let (code, said) = check(&pair.lab.folder().to_string_lossy())?;
    ensure!(code == Some(4) && said.contains("install the package nftables"), "{said}");
    pair.gw1().load_rules("delete table inet strict")?;
    ensure!(listing(pair.gw1())? == before, "it changes nothing");
    Ok(())
}

#[test]
fn strangers_do_not_reach_the_port_of_the_sync_link() -> Result<()> {
    let duo = Duo::elected(&Config::gateway().with_sync().with_rules(RULES))?;
    in_step_without_connections(&duo)?;
    // gw2 has the higher address and listens.
    let target: SocketAddr = "10.77.2.3:7112".parse()?;
    let called =
        duo.pair.server.enter(|| Ok(TcpStream::connect_timeout(&target, Span::millis(500).std())))?;
    let refused = called.err().map(|error| error.kind());
    ensure!(refused == Some(ErrorKind::TimedOut), "{refused:?}");
    let rules = usage(&duo.gw2)?;
    let packets = |rule: &str| {
        let counted = rules.iter().find(|counted| counted["rule"] == rule);
        counted.and_then(|counted| counted["packets"].as_u64()).unwrap_or_default()
    };
    ensure!(packets("sync-strangers") > 0 && packets("sync") > 0, "{rules:?}");
    Ok(())
}

#[test]
fn after_a_clean_stop_the_table_is_gone_and_those_of_others_are_as_they_were() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    pair.gw1().load_rules(FILTER)?;
    let mut carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway().with_rules(RULES))?;
    let before = State::of(pair.gw1(), carpd.instance())?;
    carpd.run()?;
    let listed = listing(pair.gw1())?;
    ensure!(listed.contains("table inet carp {") && listed.contains("table inet gateway {"), "{listed}");
    carpd.reload_live(&Config::gateway())?;
    let listed = listing(pair.gw1())?;
    ensure!(!listed.contains("inet carp"), "without rules in the configuration there is no table:\n{listed}");
    carpd.reload_live(&Config::gateway().with_rules(RULES))?;
    carpd.stop()?;
    let difference = difference_since(&before, pair.gw1(), carpd.instance())?;
    ensure!(difference.is_empty(), "left behind:\n{difference}");
    Ok(())
}

#[test]
fn rules_that_nft_refuses_change_nothing_and_its_reason_is_told() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut carpd = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().with_rules(RULES))?;
    carpd.kill()?;
    let before = listing(pair.gw1())?;
    ensure!(before.contains("table inet carp {"), "a killed daemon leaves its rules:\n{before}");
    let folder = pair.lab.folder().join("bin");
    fs::create_dir_all(&folder)?;
    let refused = |path: &Path| {
        let output = pair.gw1().output(carpd.command()?.env("PATH", path))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{said}");
        ensure!(listing(pair.gw1())? == before, "{}", listing(pair.gw1())?);
        Ok(said)
    };
    let said = refused(&folder)?;
    ensure!(said.contains("install the package nftables"), "{said}");
    let fake = folder.join("nft");
    fs::write(&fake, "#!/bin/sh\necho 'stdin:7:1-2: Error: out of luck' >&2\nexit 1\n")?;
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755))?;
    let said = refused(&folder)?;
    ensure!(said.contains("nft says: stdin:7:1-2: Error: out of luck"), "{said}");
    let listed = carpd.carpctl(&["cleanup", "--dry-run"])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.contains("table inet carp of nftables"), "{listed}");
    let cleaned = carpd.carpctl(&["cleanup"])?;
    ensure!(cleaned.status.success(), "{}", String::from_utf8_lossy(&cleaned.stderr));
    ensure!(!listing(pair.gw1())?.contains("inet carp"), "cleaned up");
    Ok(())
}

#[test]
fn of_two_daemons_in_one_namespace_only_one_can_have_rules_and_only_it_removes_them() -> Result<()> {
    const FIREWALL: &str = "[firewall]\nenabled = true\n";
    let pair = Pair::new(Purpose::Test)?;
    let on = |vhid: u8, rules| {
        let mut config = Config::gateway().with_rules(rules);
        config.hosts.retain(|host| host.vhid == vhid);
        config
    };
    let mut killed = Carpd::start(&pair.lab, pair.gw1(), &on(1, FIREWALL))?;
    let other = format!("{}-b", killed.instance());
    let files = on(2, FIREWALL).write(&pair.lab.folder().join("other"), &other)?;
    let mut command = Command::new(product("carpd")?);
    command.arg("--config").arg(&files.carp).arg("--node").arg(&files.node);
    let output = pair.gw1().output(&mut command)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let pid = killed.process()?.id().to_string();
    ensure!(output.status.code() == Some(1) && said.contains(&pid) && said.contains("inet carp"), "{said}");
    killed.kill()?;
    let mut heir = pair.gw1().spawn("heir", command)?;
    clock::wait_for("the heir of the table", PATIENCE, || heir.log().contains("started").then_some(()))?;
    let cleaned = killed.carpctl(&["cleanup"])?;
    ensure!(cleaned.status.success(), "{}", String::from_utf8_lossy(&cleaned.stderr));
    ensure!(listing(pair.gw1())?.contains("table inet carp {"), "it is another one's now");
    heir.signal(rustix::process::Signal::TERM)?;
    ensure!(heir.wait(PATIENCE)?.success() && !listing(pair.gw1())?.contains("inet carp"), "{}", heir.log());
    Ok(())
}

#[test]
fn without_rules_in_the_configuration_nft_need_not_be_there() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    let mut command = carpd.command()?;
    command.env("PATH", pair.lab.folder());
    let mut process = pair.gw1().spawn("without-nft", command)?;
    carpd.wait_role("MASTER", PATIENCE).with_context(|| process.log())?;
    process.signal(rustix::process::Signal::TERM)?;
    ensure!(process.wait(PATIENCE)?.success() && !process.log().contains("nft"), "{}", process.log());
    Ok(())
}

#[test]
fn another_user_with_the_capabilities_loads_and_removes_the_rules_too() -> Result<()> {
    const NOBODY: u32 = 65_534;
    const CAPABILITIES: &str = "+net_admin,+net_raw,+dac_read_search";
    let pair = Pair::new(Purpose::Test)?;
    let config = Config::gateway().with_xdp("off").with_rules(RULES);
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &config)?;
    let run = Path::new("/run/carp").join(carpd.instance());
    fs::create_dir_all(&run)?;
    chown(&run, Some(NOBODY), Some(NOBODY))?;
    let whole = carpd.command()?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"]);
    command.args(["--inh-caps", CAPABILITIES, "--ambient-caps", CAPABILITIES]);
    command.arg(whole.get_program()).args(whole.get_args());
    let mut process = pair.gw1().spawn("nobody", command)?;
    carpd.wait_role("MASTER", PATIENCE).with_context(|| process.log())?;
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    ensure!(status.contains(&format!("Uid:\t{NOBODY}\t{NOBODY}")), "{status}");
    ensure!(status.contains("CapAmb:\t0000000000000000"), "only nft gets them:\n{status}");
    ensure!(listing(pair.gw1())?.contains("table inet carp {"), "{}", process.log());
    process.signal(rustix::process::Signal::TERM)?;
    ensure!(process.wait(PATIENCE)?.success(), "{}", process.log());
    ensure!(!listing(pair.gw1())?.contains("inet carp"), "{}", process.log());
    let _ = fs::remove_dir(&run);
    Ok(())
}

fn go_on(outward: &[carp_tests::lab::stream::Stream], inward: &mut [Talk]) -> Result<()> {
    all_talk(outward, 5).context("outward")?;
    inward.iter_mut().try_for_each(|talk| talk.exchange(1, PATIENCE.std())).context("inward")
}

/// From where a host outside sees a datagram that was sent from this address.
fn source_seen(server: &Namespace, target: IpAddr, host: &Namespace, from: IpAddr) -> Result<SocketAddr> {
    let socket = server.enter(|| Ok(UdpSocket::bind((target, 0))?))?;
    socket.set_read_timeout(Some(Span::secs(2).std()))?;
    let to = socket.local_addr()?;
    let send = || Ok(UdpSocket::bind((from, 0))?.send_to(b"who am I", to)?);
    // The first ones may wait for neighbours that are asked for.
    for _ in 0..3 {
        host.enter(send)?;
        if let Ok((_, seen)) = socket.recv_from(&mut [0; 16]) {
            return Ok(seen);
        }
    }
    anyhow::bail!("nothing from {from} on {} comes to {target}", host.host())
}

fn in_step_without_connections(duo: &Duo) -> Result<()> {
    clock::wait_for("the session", PATIENCE.times(2), || {
        (duo.gw1.status().ok()?["sync"]["state"] == "in-step").then_some(())
    })
}

fn usage(carpd: &Carpd) -> Result<Vec<Value>> {
    let mut carpctl = Command::new(product("carpctl")?);
    let output = carpd.namespace().output(carpctl.args(["nat", "--json"]))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    Ok(report["rules"].as_array().context("a list")?.clone())
}

/// All rules of a host, without their counts.
fn listing(host: &Namespace) -> Result<String> {
    let output = host.output(Command::new("nft").args(["--stateless", "list", "ruleset"]))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
