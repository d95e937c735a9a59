//! What makes a pair a gateway beside its addresses: translation for what is inside, settings of the kernel, secrets from
//! the service manager; and a configuration of which any step may fail.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::machine::{State, difference_since};
use carp_tests::lab::pair::Pair;
use carp_tests::lab::{Purpose, clock};
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Below the last virtual host, which is on the WAN.
const SNAT: &str = "snat = \"vip\"\n";
const SETTINGS: &str =
    "[kernel]\narp = true\nrp_filter = \"loose\"\ntcp_liberal = true\nconntrack_max = 1024\n";

#[test]
fn what_is_inside_leaves_as_the_vip_of_the_virtual_host_with_snat_and_the_node_as_itself() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut gw1 = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().with_rules(SNAT))?;
    gw1.wait_role("MASTER", PATIENCE)?;
    gw1.wait_serving(PATIENCE)?;
    let server = pair.server.enter(|| Ok(UdpSocket::bind("10.77.2.10:5000")?))?;
    server.set_read_timeout(Some(Span::secs(2).std()))?;
    for (host, from, wanted) in [
        (&pair.client, "10.77.1.10:0", "10.77.2.1"),
        (pair.gw1(), "10.77.1.2:0", "10.77.1.2"),
        (pair.gw1(), "10.77.2.2:0", "10.77.2.2"),
    ] {
        let socket = host.enter(|| Ok(UdpSocket::bind(from)?))?;
        let seen = clock::wait_for("the datagram", PATIENCE, || {
            socket.send_to(b"who am I", "10.77.2.10:5000").ok()?;
            server.recv_from(&mut [0; 16]).ok()
        });
        let seen = seen.with_context(|| from)?.1.ip().to_string();
        ensure!(seen == wanted, "{from} on {} is seen as {seen}", host.host());
    }
    let nat = pair.gw1().output(Command::new(product("carpctl")?).arg("nat"))?;
    let nat = String::from_utf8(nat.stdout)?;
    ensure!(nat.contains("snat wan0  1 "), "{nat}");
    gw1.stop().map(drop)
}

#[test]
fn settings_of_the_kernel_are_other_ones_while_carpd_runs_and_as_they_were_after_it() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let names = ["ipv4/conf/lan0/arp_ignore", "ipv4/conf/lan0/arp_announce", "ipv4/conf/wan0/rp_filter"];
    let names = [names[0], names[1], names[2], "netfilter/nf_conntrack_tcp_be_liberal"];
    let are = |wanted: [&str; 4]| {
        let read = || {
            let read = |name: &&str| fs::read_to_string(Path::new("/proc/sys/net").join(name));
            Ok(names.iter().map(read).collect::<Result<Vec<_>, _>>()?)
        };
        let now: Vec<String> = pair.gw1().enter(read)?.iter().map(|value| value.trim().to_owned()).collect();
        ensure!(now == wanted, "{now:?}, not {wanted:?}");
        Ok(())
    };
    let (before, during) = (["0", "1", "1", "0"], ["1", "2", "2", "1"]);
    names.iter().zip(before).try_for_each(|(name, value)| pair.gw1().sysctl(name, value))?;
    let (plain, asking) = (Config::gateway(), Config::gateway().with_rules(SETTINGS));
    let mut carpd = Carpd::configure(&pair.lab, pair.gw1(), &asking)?;
    let machine = State::of(pair.gw1(), carpd.instance())?;
    let file = carpd.files().carp.to_string_lossy().into_owned();
    let checked = carpd.carpctl(&["check", &file])?;
    let checked = String::from_utf8(checked.stdout)?;
    ensure!(checked.contains("net.ipv4.conf.wan0.rp_filter is 1: carpd sets it to 2"), "{checked}");
    ensure!(!checked.contains("nf_conntrack_max"), "there is room enough: {checked}");
    carpd.run()?;
    are(during)?;
    carpd.reload_live(&plain)?;
    are(before).context("without the table")?;
    carpd.reload_live(&asking)?;
    carpd.kill()?;
    are(during).context("a killed daemon leaves them")?;
    let cleaned = carpd.carpctl(&["cleanup"])?;
    ensure!(cleaned.status.success(), "{}", String::from_utf8_lossy(&cleaned.stderr));
    are(before).context("cleaned up")?;
    carpd.run()?;
    are(during)?;
    carpd.stop()?;
    are(before).context("after a stop")?;
    let difference = difference_since(&machine, pair.gw1(), carpd.instance())?;
    ensure!(difference.is_empty(), "left behind:\n{difference}");
    Ok(())
}

#[test]
fn a_password_may_be_a_credential_of_the_service_manager() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    let shared = &carpd.files().carp;
    let text = fs::read_to_string(shared)?;
    let name =
        text.split("password_file = \"").nth(1).and_then(|rest| rest.split('"').next()).context("one")?;
    let credentials = pair.lab.folder().join("credentials");
    fs::create_dir(&credentials)?;
    let credential = credentials.join("lan");
    fs::rename(shared.with_file_name(name), &credential)?;
    fs::write(shared, text.replace(&format!("\"{name}\""), "\"credential:lan\""))?;
    // As for a service with a user: by an access list, which looks like a group.
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o440))?;
    let (code, said) = carpd.refusal()?;
    ensure!(code == Some(3) && said.contains("LoadCredential=lan:FILE"), "{said}");
    let mut command = carpd.command()?;
    let mut process = pair.gw1().spawn("carpd", {
        command.env("CREDENTIALS_DIRECTORY", &credentials);
        command
    })?;
    carpd.wait_role("MASTER", PATIENCE).with_context(|| process.log())?;
    process.signal(rustix::process::Signal::TERM)?;
    ensure!(process.wait(PATIENCE)?.success(), "{}", process.log());
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o644))?;
    let mut command = carpd.command()?;
    let output = pair.gw1().output(command.env("CREDENTIALS_DIRECTORY", &credentials))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(3) && said.contains("open to others (mode 0644)"), "{said}");
    Ok(())
}

#[test]
fn check_tells_of_the_other_node_s_rank_and_base_and_of_mtus() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let gw1 = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway())?;
    gw1.wait_role("MASTER", PATIENCE)?;
    // As if nobody had thought of its skew.
    let gw2 = Carpd::start(&pair.lab, pair.gw2(), &Config::gateway())?;
    let (file, node) = (gw2.files().carp.clone(), gw2.files().node.to_string_lossy().into_owned());
    let check = || {
        let output = gw2.carpctl(&["check", &file.to_string_lossy(), "--node", &node])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok::<_, anyhow::Error>((output.status.code(), said))
    };
    clock::wait_for("the same rank to be told", PATIENCE, || {
        let (code, said) = check().ok()?;
        (code == Some(4) && said.contains(" advertises with the same base and skew")).then_some(())
    })?;
    fs::write(&file, fs::read_to_string(&file)?.replace("base = 1", "base = 2"))?;
    let (code, said) = check()?;
    ensure!(code == Some(4) && said.contains("advertises with base 1, and here it is 2"), "{said}");
    ensure!(!said.contains("MTU"), "{said}");
    pair.gw2().ip("link set wan0 mtu 1400")?;
    let (_, said) = check()?;
    ensure!(said.contains("different MTUs (lan0 1500, wan0 1400)"), "{said}");
    pair.gw2().ip("link set sync0 mtu 1200")?;
    ensure!(!check()?.1.contains("sync0 has an MTU"), "it is not used");
    Ok(())
}

/// A daemon whose nft can be told to refuse.
struct Scene {
    carpd: Carpd,
    process: carp_tests::lab::process::Process,
    refuses: std::path::PathBuf,
    pair: Pair,
}

/// Runs nft, unless what is asked of it stands in the file beside it: `check` or `load`.
const NFT: &str = "#!/bin/sh
for word; do [ \"$word\" = -c ] && step=check; [ \"$word\" = -f ] && : ${step:=load}; done
if [ -n \"$step\" ] && grep -q \"$step\" \"$0.refuses\"; then echo \"out of luck with $step\" >&2; exit 1; fi
PATH=/usr/sbin:/usr/bin:/sbin:/bin exec nft \"$@\"
";

impl Scene {
    fn new(config: &Config) -> Result<Self> {
        let pair = Pair::new(Purpose::Test)?;
        let carpd = Carpd::configure(&pair.lab, pair.gw1(), config)?;
        let folder = pair.lab.folder().join("bin");
        fs::create_dir_all(&folder)?;
        let (nft, refuses) = (folder.join("nft"), folder.join("nft.refuses"));
        fs::write(&nft, NFT)?;
        fs::set_permissions(&nft, fs::Permissions::from_mode(0o755))?;
        fs::write(&refuses, "")?;
        let mut command = carpd.command()?;
        command.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH")?));
        let process = pair.gw1().spawn("carpd", command)?;
        carpd.wait_role("MASTER", PATIENCE).with_context(|| process.log())?;
        carpd.wait_serving(PATIENCE)?;
        Ok(Self { carpd, process, refuses, pair })
    }

    /// What must not change: rules, settings, addresses; roles, and the configuration that counts.
    fn state(&self) -> Result<String> {
        let shell = "nft --stateless list ruleset; ip -br address; cat /proc/sys/net/ipv4/conf/*/arp_ignore";
        let machine = self.pair.gw1().output(Command::new("sh").args(["-c", shell]))?;
        let status = self.carpd.status()?;
        let hosts = status["virtual_hosts"].as_array().or_else(|| status["hosts"].as_array());
        let hosts = hosts.with_context(|| format!("{status}"))?.iter();
        let told = |host: &serde_json::Value| format!("{} {} {}", host["vhid"], host["role"], host["digest"]);
        let hosts: Vec<String> = hosts.map(told).collect();
        let file = fs::read_to_string(&self.carpd.files().carp)?;
        Ok(format!("{}\n{hosts:?}\n{file}", String::from_utf8_lossy(&machine.stdout)))
    }

    /// Has carpd go on with this file; what it says, if it does not.
    fn apply(&self, file: &Path) -> Result<Option<String>> {
        let output = self.carpd.carpctl(&["apply", &file.to_string_lossy()])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((!output.status.success()).then_some(said))
    }
}

#[test]
fn whatever_step_of_a_change_fails_the_configuration_before_goes_on() -> Result<()> {
    let rules = |more: &str| format!("{SNAT}{more}[firewall]\nenabled = true\n");
    let kept = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let scene = Scene::new(&Config::gateway().with_rules(kept(rules(""))))?;
    let forward = "[[nat.forward]]\nto = \"10.77.2.1\"\nport = 443\nhost = \"10.77.1.10\"\n";
    let other = Config::gateway().with_rules(kept(rules(&format!("{forward}[kernel]\narp = true\n"))));
    let mut other = other.carp_toml();
    // Also another VIP.
    other = other.replacen("\"10.77.1.1/24\"", "\"10.77.1.1/24\", \"10.77.1.7/24\"", 1);
    let new = scene.pair.lab.folder().join("new.toml");
    let before = scene.state()?;
    let run = Path::new("/run/carp").join(scene.carpd.instance());
    let (shared, marks) = (scene.carpd.files().carp.clone(), run.join("marks"));
    let staged = shared.with_extension("toml.new");
    let no = |what: &str, text: &str, says: &str| {
        fs::write(&new, text)?;
        let said = scene.apply(&new)?.with_context(|| format!("{what}: it is accepted"))?;
        ensure!(said.contains(says), "{what}: {said}");
        clock::sleep(Span::millis(200));
        let after = scene.state()?;
        ensure!(after == before, "{what}: {after}\n\nbefore:\n{before}");
        Ok::<_, anyhow::Error>(())
    };
    no("no TOML", "[[virtual_host", "not TOML")?;
    let vanished = other.replacen("password_file = \"", "password_file = \"gone-", 1);
    no("a file with a secret that is gone", &vanished, "cannot read password file")?;
    no("no such link", &other.replacen("interface = \"lan\"", "interface = \"lan7\"", 1), "lan7")?;
    fs::write(&scene.refuses, "check")?;
    no("rules that nft refuses", &other, "out of luck with check")?;
    fs::write(&scene.refuses, "load")?;
    no("rules that the kernel refuses", &other, "out of luck with load")?;
    fs::write(&scene.refuses, "")?;
    let full = |at: &Path| -> Result<()> {
        fs::create_dir(at)?;
        Ok(fs::write(at.join("in the way"), "")?)
    };
    full(&staged)?;
    no("no place for the new file", &other, "cannot be written")?;
    fs::remove_dir_all(&staged)?;
    full(&run.join("settings.new"))?;
    no("no place to note a setting", &other, "setting net.ipv4.conf")?;
    fs::remove_dir_all(run.join("settings.new"))?;
    let most = other.replace("arp = true", "arp = true\nconntrack_max = 2147483647");
    no("a setting that the kernel refuses", &most, "nf_conntrack_max")?;
    let noted = fs::read(&marks)?;
    full(&run.join("marks.new"))?;
    no("no place to note an address", &other, "")?;
    fs::remove_dir_all(run.join("marks.new"))?;
    ensure!(fs::read(&marks)? == noted, "the note is as it was");
    fs::write(&new, &other)?;
    let path = new.to_string_lossy().into_owned();
    let applied = scene.carpd.carpctl(&["apply", &path, "--confirm", "60s"])?;
    ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    fs::remove_file(&staged)?;
    let confirmed = scene.carpd.carpctl(&["confirm"])?;
    let said = String::from_utf8_lossy(&confirmed.stderr).into_owned();
    ensure!(!confirmed.status.success() && said.contains("back to the one that is there"), "{said}");
    clock::wait_for("the configuration before", PATIENCE, || (scene.state().ok()? == before).then_some(()))?;
    ensure!(scene.apply(&new)?.is_none(), "in the end it works: {}", scene.process.log());
    ensure!(scene.state()?.contains("10.77.1.7"), "{}", scene.state()?);
    let Scene { mut process, .. } = scene;
    process.signal(rustix::process::Signal::TERM)?;
    ensure!(process.wait(PATIENCE)?.success(), "{}", process.log());
    Ok(())
}
