//! Tracks and hooks with real daemons: what fails demotes the node by its name, and no longer once it is good again; what becomes
//! of the virtual hosts is told, and nothing waits for that.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::Purpose;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::pair::Pair;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Of a script that fails at once and is good again at once.
const TRACK: &str = "[[track]]\nname = \"dns\"\nscript = \"check\"\ninterval = 100\nfall = 2\nrise = 2\n";
/// gw1 only, while there is such a file. It says who it runs as and how many files it has open: three and that of ls.
const CHECK: &str = "ip -o -4 address show lan0 | grep -q 'inet 10.77.1.2/' || exit 0\n\
    test -e bad || exit 0\necho $(id -un) $(id -G) $(ls /proc/self/fd | wc -l) $(env | wc -l)\nexit 7\n";

#[test]
fn a_script_that_fails_has_the_peer_take_over_and_once_it_is_good_the_node_is_master_again() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let folder = pair.lab.folder().to_owned();
    let bad = folder.join("bad");
    let check = program(&folder, "check", &CHECK.replace("bad", &bad.to_string_lossy()))?;
    let config = Config { scripts: script("check", &check), tracks: TRACK.to_owned(), ..Config::gateway() };
    let mut duo = Duo::elected_in(pair, &config)?;
    ensure!(duo.gw1.status()?["tracks"][0]["failing"] == false, "{}", duo.gw1.status()?);

    fs::write(&bad, "")?;
    duo.wait_moved()?;
    let status = duo.gw1.status()?;
    let demotion = &status["demotions"][0];
    ensure!(demotion["name"] == "track dns" && demotion["amount"] == 240, "{status}");
    // LANG, PATH, and what the shell itself sets.
    let (who, open) = ("exit code 7: nobody 65534 4 ", demotion["reason"].as_str().unwrap_or_default());
    ensure!(open.starts_with(who) && open.ends_with(['3', '4', '5']), "{open}");
    let told = String::from_utf8(duo.gw1.carpctl(&["status"])?.stdout)?;
    ensure!(
        told.contains("track dns fails, for ") && told.contains("demoted by 240: track dns (exit code 7"),
        "{told}"
    );

    fs::remove_file(&bad)?;
    duo.wait_as_configured()?;
    ensure!(duo.gw1.status()?["demotions"] == serde_json::json!([]), "{}", duo.gw1.status()?);

    // What hangs fails, and what a reload takes out demotes nobody any more.
    program(&folder, "check", "exec sleep 1000\n")?;
    wait_demotion(&duo.gw1, Some("no outcome after 1.000 s"))?;
    duo.gw1.reload_live(&Config { tracks: String::new(), ..config })?;
    wait_demotion(&duo.gw1, None)?;
    duo.never_two_masters()
}

#[test]
fn a_gateway_that_answers_only_the_peer_moves_the_role_there_until_it_answers_again() -> Result<()> {
    let tracks = [("wan4", "10.77.2.10"), ("wan6", "fd77:2::10")].map(|(name, address)| {
        format!(
            "[[track]]\nname = \"{name}\"\nkind = \"gateway\"\ninterface = \"wan\"\naddress = \"{address}\"\n\
             interval = 100\ntimeout = 90\n"
        )
    });
    let duo = Duo::elected(&Config { tracks: tracks.concat(), ..Config::gateway() })?;
    let server = &duo.pair.server;
    server.load_rules(
        "table inet t { chain c { type filter hook input priority 0; ip saddr 10.77.2.2 icmp type echo-request drop; \
         ip6 saddr fd77:2::2 icmpv6 type echo-request drop; }; }",
    )?;
    duo.wait_moved()?;
    let status = duo.gw1.status()?;
    let names: Vec<&str> =
        status["demotions"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
    ensure!(names == ["track wan4", "track wan6"], "{status}");
    ensure!(duo.gw2.status()?["demotions"] == serde_json::json!([]), "asked from its own address");
    server.load_rules("delete table inet t")?;
    duo.wait_as_configured()?;
    duo.never_two_masters()
}

#[test]
fn hooks_are_told_in_order_what_became_of_each_virtual_host_and_one_that_hangs_delays_no_take_over()
-> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let folder = pair.lab.folder().to_owned();
    let told = folder.join("told");
    fs::write(&told, "")?;
    fs::set_permissions(&told, Permissions::from_mode(0o666))?;
    let hang = script("hang", &program(&folder, "hang", "exec sleep 1000\n")?);
    let tell = script("tell", &program(&folder, "tell", &format!("cat >> {}\n", told.display()))?);
    let hooks =
        "[[hook]]\nscript = \"hang\"\ntimeout = 500\n[[hook]]\nscript = \"tell\"\nwhen = \"notify\"\n";
    let config = Config { scripts: hang + &tell, tracks: hooks.to_owned(), ..Config::gateway() };
    let mut duo = Duo::elected_in(pair, &config)?;
    wait_told(&told, duo.gw1.instance(), "MASTER", true)?;
    wait_told(&told, duo.gw2.instance(), "BACKUP", false)?;
    duo.gw1.kill()?;
    duo.wait_moved()?;
    wait_told(&told, duo.gw2.instance(), "MASTER", true)?;
    duo.gw2.stop()?;
    wait_told(&told, duo.gw2.instance(), "INIT", false)?;
    // Nothing is told twice, and each knows what it was told before.
    let lines = lines(&told)?;
    for (node, vhid) in [(duo.gw1.instance(), 1), (duo.gw2.instance(), 1), (duo.gw2.instance(), 2)] {
        let mut before = (serde_json::Value::Null, serde_json::Value::Null);
        for line in lines.iter().filter(|line| line["node"] == node && line["vhid"] == vhid) {
            ensure!(line["before"] == before.0, "{lines:?}");
            let is = (line["role"].clone(), line["serving"].clone());
            ensure!(is != before && line["at"].is_u64() && line["ranks"]["own"].is_string(), "{line}");
            before = is;
        }
    }
    duo.never_two_masters()
}

#[test]
fn a_node_that_wakes_late_says_so_and_is_demoted_as_long_as_it_does() -> Result<()> {
    // A busy machine has it wake late as well, but not by half a second.
    let track =
        "[[track]]\nname = \"awake\"\nkind = \"wake-ups\"\nmost = 500\ninterval = 500\nfall = 1\nrise = 2\n";
    let mut duo = Duo::elected(&Config { tracks: track.to_owned(), ..Config::gateway() })?;
    // Each advert is one; a backup that hears its master in time has none.
    let late = duo.gw1.status()?["wakeups"].clone();
    let number = |key: &str| late[key].as_u64().unwrap_or_default();
    let buckets = late["buckets"].as_array().context("no buckets")?;
    let counted: u64 = buckets.iter().filter_map(serde_json::Value::as_u64).sum();
    ensure!(counted > 0 && counted == number("count"), "{late}");
    ensure!(number("p50_us") <= number("p99_us") && number("p99_us") <= number("max_us"), "{late}");
    // It would have had to look after its master after 3.4 s at the latest.
    duo.gw2.freeze()?;
    clock::sleep(Span::secs(5));
    duo.gw2.thaw()?;
    let demotion = clock::wait_for("gw2 to be demoted", PATIENCE, || {
        let demotion = duo.gw2.status().ok()?["demotions"][0].clone();
        demotion.is_object().then_some(demotion)
    })?;
    let why = demotion["reason"].as_str().unwrap_or_default();
    ensure!(
        demotion["name"] == "track awake" && why.starts_with("carpd woke ") && why.ends_with(" late"),
        "{demotion}"
    );
    ensure!(duo.gw2.status()?["wakeups"]["max_us"].as_u64() > Some(500_000), "{}", duo.gw2.status()?);
    let said = String::from_utf8(duo.gw2.carpctl(&["status"])?.stdout)?;
    ensure!(said.contains("\nwake-ups: "), "{said}");
    wait_demotion(&duo.gw2, None)?;
    duo.never_two_masters()
}

/// On gw2 it refuses while there is such a file, on gw1 it hangs while there is another one.
const GATE: &str = "cat >> asked\nif ip -o -4 address show lan0 | grep -q 'inet 10.77.1.2/'; then\n\
    test -e hang && exec sleep 1000\nelse\ntest -e refuse && { echo not today; exit 3; }\nfi\nexit 0\n";

#[test]
fn a_gate_is_asked_once_for_a_group_keeps_a_backup_from_taking_over_and_is_not_waited_for_without_end()
-> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let folder = pair.lab.folder().to_owned();
    let asked = folder.join("asked");
    fs::write(&asked, "")?;
    fs::set_permissions(&asked, Permissions::from_mode(0o666))?;
    let text = ["asked", "hang", "refuse"].iter().fold(GATE.to_owned(), |text, name| {
        text.replace(&format!(" {name}"), &format!(" {}", folder.join(name).display()))
    });
    let hooks = "[[hook]]\nscript = \"may\"\nwhen = \"gate\"\ntimeout = 1000\n";
    let scripts = script("may", &program(&folder, "may", &text)?);
    let config = Config { scripts, tracks: hooks.to_owned(), ..Config::gateway().as_one() };
    let mut duo = Duo::elected_in(pair, &config)?;
    let questions = |node: &str| -> Result<Vec<serde_json::Value>> {
        Ok(lines(&asked)?.into_iter().filter(|line| line["node"] == node).collect())
    };
    let (gw1, gw2) = (duo.gw1.instance().to_owned(), duo.gw2.instance().to_owned());
    let first = questions(&gw1)?;
    ensure!(first.len() == 1 && first[0]["group"] == "edge" && first[0]["event"] == "gate", "{first:?}");
    ensure!(duo.gw2.status()?["hosts"][0]["standing"]["armed"] == false, "its kernel does not ask");

    // Refused, it gives the role back at once, which its former master has left.
    fs::write(folder.join("refuse"), "")?;
    let at = clock::now();
    let output = duo.gw1.carpctl(&["failover"])?;
    duo.gw1.wait_serving(PATIENCE)?;
    let took = clock::now().since(at);
    ensure!(!output.status.success() && questions(&gw2)?.len() == 1, "{output:?}");
    ensure!(questions(&gw1)?.len() == 2 && duo.gw1.is_all("MASTER"), "{}", duo.gw1.status()?);
    println!("handed over, and back {took} later");

    clock::wait_for("the gate to be asked again", PATIENCE, || {
        (duo.gw2.status().ok()?["hosts"][0]["standing"]["gate"]).is_null().then_some(())
    })?;
    duo.gw1.kill()?;
    let gate = clock::wait_for("the gate to refuse", PATIENCE, || {
        let gate = duo.gw2.status().ok()?["hosts"][1]["standing"]["gate"].clone();
        (gate["is"] == "vetoed").then_some(gate)
    })?;
    ensure!(gate["why"] == "may: exit code 3: not today", "{gate}");
    let said = String::from_utf8(duo.gw2.carpctl(&["explain", "edge"])?.stdout)?;
    ensure!(said.contains("gate: refused that this node takes over: may: exit code 3: not today"), "{said}");
    clock::sleep(Span::secs(1));
    ensure!(duo.gw2.is_all("BACKUP") && duo.gw2.windows().serves_none(), "{}", duo.gw2.status()?);
    fs::remove_file(folder.join("refuse"))?;
    duo.gw2.wait_role("MASTER", PATIENCE.times(2))?;

    fs::write(folder.join("hang"), "")?;
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    duo.never_two_masters()
}

/// Waits until the last that was told of both virtual hosts of a node is this.
fn wait_told(file: &Path, node: &str, role: &str, serving: bool) -> Result<()> {
    let is_told = |vhid: u8| {
        let lines = lines(file).unwrap_or_default();
        let last = lines.into_iter().rfind(|line| line["node"] == node && line["vhid"] == vhid);
        last.is_some_and(|line| line["role"] == role && line["serving"] == serving)
    };
    clock::wait_for(&format!("{node} to tell {role}"), PATIENCE, || (is_told(1) && is_told(2)).then_some(()))
        .with_context(|| fs::read_to_string(file).unwrap_or_default())
}

fn lines(file: &Path) -> Result<Vec<serde_json::Value>> {
    Ok(fs::read_to_string(file)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Waits until the node is demoted for this reason alone, or not at all.
fn wait_demotion(node: &Carpd, reason: Option<&str>) -> Result<()> {
    clock::wait_for(&format!("demotion {reason:?}"), PATIENCE, || {
        let demotions = node.status().ok()?["demotions"].as_array()?.clone();
        let reasons: Vec<_> = demotions.iter().filter_map(|one| one["reason"].as_str()).collect();
        (reasons.first().copied() == reason && reasons.len() < 2).then_some(())
    })
}

/// Puts a program in its place as a whole: it may just be running.
fn program(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    fs::write(&new, format!("#!/bin/sh\n{text}"))?;
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    fs::rename(&new, &path)?;
    Ok(path)
}

/// Its table, for `node.toml`.
fn script(name: &str, program: &Path) -> String {
    format!("[node.scripts.{name}]\ncommand = [\"{}\"]\n", program.display())
}
