//! One configuration on two nodes: what is applied on gw1 is used by gw2 too, or by neither; no probe is lost and no role
//! moves.

use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::{Config, VirtualHost};
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::echo::Echo;
use carp_tests::lab::follow::{self, DRIFT, TABLE, has, says, standing, uses};
use carp_tests::lab::pair::Pair;
use carp_tests::lab::{Purpose, clock};
use serde_json::Value;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Output};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 2, 10));
const REQUIRED: &str =
    "\n[config_sync]\nuser = \"gw1\"\npassword_file = \"config-password\"\nrequire_peer = true\n";
const NAT_ONLY: &str = "\n[config_sync]\nuser = \"gw1\"\npassword_file = \"config-password\"\nsections = [\"nat\"]\n\
                        push = \"manual\"\n";
const NAT: &str = "[[nat.outbound]]\nsource = [\"10.77.1.0/24\"]\ninterface = \"wan\"\nto = \"10.77.2.1\"\n";
/// Nothing comes in over the sync link, and nobody is told.
const CUT: &str = "table inet cut {
    chain in { type filter hook input priority -300; policy accept; iifname sync0 drop; }
    chain out { type filter hook output priority -300; policy accept; oifname sync0 drop; }
}
";
/// Who applies waits no longer for a node that does not answer.
const GIVEN_UP: Span = Span::secs(8);

/// What gw1 logs once gw2 has something else, without a push of its own.
const DIFFERS: &str = "the other node uses another configuration";

/// A pair of which gw2 follows gw1.
struct Scene {
    echo: Echo,
    from: Instant,
    config: Config,
    duo: Duo,
}

impl Scene {
    /// With this in gw1's `node.toml`.
    fn new(own: &'static str) -> Result<Self> {
        let (plain, pair) = (Config::gateway().with_sync(), Pair::new(Purpose::Test)?);
        let mut config = Config { own, ..plain.clone() };
        config.interfaces.push(follow::dmz(&pair)?);
        let duo = Duo::elected_with(pair, [&config, &plain.of_backup()], follow::trust)?;
        clock::wait_for("gw2 to answer", PATIENCE, || follow::is_met(&duo.gw1).then_some(()))?;
        let echo = Echo::start(&duo.pair.client, &duo.pair.server, SERVER)?;
        let begun = clock::now();
        clock::wait_for("probes", PATIENCE, || echo.answered_since(begun).then_some(()))?;
        Ok(Self { echo, from: clock::now(), config, duo })
    }

    /// What carpctl says of a new shared file on a gateway.
    fn apply(&self, carpd: &Carpd, config: &Config, more: &[&str]) -> Result<Output> {
        follow::apply(carpd, &config.carp_toml(), more)
    }

    /// Applies on gw1, does this once gw1 has told gw2 to commit, and waits for what carpctl says.
    fn apply_and_meanwhile(
        &mut self,
        config: &Config,
        does: impl FnOnce(&mut Duo) -> Result<()>,
    ) -> Result<String> {
        let duo = &mut self.duo;
        let mut carpctl = Command::new(product("carpctl")?);
        carpctl
            .args(["--instance", duo.gw1.instance(), "apply"])
            .arg(follow::written(&duo.gw1, &config.carp_toml())?);
        let mut applying = duo.pair.gw1().spawn("apply", carpctl)?;
        // Should that moment be missed, it happens behind the commit.
        while !follow::is_in_doubt(&duo.gw1) && applying.ended()?.is_none() {
            clock::sleep(Span::micros(200));
        }
        let at = clock::now();
        does(duo)?;
        applying.wait(PATIENCE)?;
        let took = clock::now().since(at);
        ensure!(took < GIVEN_UP, "it took {took}: {}", applying.log());
        Ok(applying.log())
    }

    /// Both show one hash and nothing amiss, and both have this in their file, or neither.
    fn agreed_on(&self, address: &str) -> Result<bool> {
        let (gw1, gw2) = (&self.duo.gw1, &self.duo.gw2);
        clock::wait_for("both to show the same", DRIFT, || follow::agree(gw1, gw2).then_some(()))
            .with_context(|| format!("{:?}\n{:?}", standing(gw1), standing(gw2)))?;
        let [one, two] = [gw1, gw2].map(|carpd| has(carpd, address));
        ensure!(one? == two?, "only one has {address}");
        has(gw1, address)
    }

    /// The sync link is cut without a word, or whole again.
    fn cut(duo: &Duo, is_cut: bool) -> Result<()> {
        duo.pair.gw2().load_rules(if is_cut { CUT } else { "delete table inet cut\n" })
    }

    fn nothing_moved(&self) -> Result<()> {
        let to = clock::now();
        clock::sleep(Span::millis(200));
        let report = self.echo.report(self.from, to);
        ensure!(report.sent > 50 && report.lost == 0, "{report:?}");
        self.duo.watch.catch_up()?;
        let moved = self.duo.watch.changes(self.from, Instant::MAX);
        ensure!(moved.is_empty(), "{moved:?}");
        self.duo.never_two_masters()
    }
}

/// With one more virtual host.
fn third(config: &Config, interface: &'static str, vhid: u8, address: &'static str) -> Config {
    let mut config = config.clone();
    config.hosts.push(VirtualHost { interface, vhid, addresses: vec![address], base: 1, skew: 0 });
    config
}

/// With one more address of the LAN's virtual host.
fn longer(config: &Config, address: &'static str) -> Config {
    let mut config = config.clone();
    config.hosts[0].addresses.push(address);
    config
}

#[test]
fn what_is_applied_on_one_node_is_used_by_both_or_by_neither() -> Result<()> {
    let scene = Scene::new(TABLE)?;
    let (gw1, gw2) = (&scene.duo.gw1, &scene.duo.gw2);
    let own = fs::read_to_string(&gw2.files().node)?;
    let more = third(&scene.config, "lan", 3, "10.77.1.7/24");
    let said = scene.apply(gw1, &more, &[])?;
    ensure!(said.status.success() && says(&said).contains("on the other node: 3@lan0 is new"), "{said:?}");
    clock::wait_for("the third", PATIENCE, || {
        (gw1.has_role(2, "MASTER") && gw2.has_role(2, "BACKUP")).then_some(())
    })?;
    ensure!(scene.agreed_on("10.77.1.7")?, "it is in the file");
    for (carpd, other, part) in [(gw1, gw2, "primary"), (gw2, gw1, "secondary")] {
        let line = || {
            let [here, there] = [standing(carpd).ok()?, standing(other).ok()?];
            let shown = |of: &Value| {
                let (origin, hash) = (of["origin"].as_str()?, of["hash"].as_str()?.get(..12)?);
                Some(format!("revision 2 ({origin}), {hash}"))
            };
            let (here, there) = (shown(&here)?, shown(&there)?);
            Some(format!("configuration: {part}, {here}; {}: {there}", other.instance()))
        };
        let status = || says(&carpd.carpctl(&["status"]).ok()?).contains(&line()?).then_some(());
        clock::wait_for("the status to show both nodes", DRIFT, status)
            .with_context(|| format!("{:?}", line()))?;
    }
    let bad = third(&more, "dmz", 4, "10.77.3.9/24");
    let said = scene.apply(gw1, &bad, &[])?;
    ensure!(
        !said.status.success() && says(&said).contains("neither node uses it") && says(&said).contains("dmz"),
        "{said:?}"
    );
    for carpd in [gw1, gw2] {
        ensure!(!has(carpd, "10.77.3.9")?, "it is in no file");
        ensure!(carpd.status()?["hosts"].as_array().is_some_and(|hosts| hosts.len() == 3));
    }
    ensure!(!scene.agreed_on("10.77.3.9")?);

    let other = Config { answer_ping: true, ..more };
    let said = scene.apply(gw2, &other, &[])?;
    ensure!(!said.status.success() && says(&said).contains("--local"), "{said:?}");
    ensure!(!gw1.log().contains(DIFFERS), "{}", gw1.log());
    let said = scene.apply(gw2, &other, &["--local"])?;
    ensure!(said.status.success(), "{said:?}");
    let told = || {
        let amiss = standing(gw1).ok()?["amiss"][0].as_str()?.contains("differ");
        (amiss && gw1.log().contains(DIFFERS)).then_some(())
    };
    clock::wait_for("gw1 to say, and to log, that they differ", DRIFT, told)?;
    let says_so = standing(gw2)?["amiss"].to_string();
    ensure!(says_so.contains("changed here since"), "{says_so}");
    ensure!(has(gw2, "answer_ping = true")? && has(gw1, "answer_ping = false")?, "nobody merges it");
    let said = gw1.carpctl(&["config", "diff", "peer"])?;
    ensure!(
        says(&said).contains("-answer_ping = true") && says(&said).contains("+answer_ping = false"),
        "{said:?}"
    );
    let said = gw1.carpctl(&["config", "push"])?;
    ensure!(
        said.status.success() && says(&said).contains("answer_ping") && says(&said).contains("--local goes"),
        "{said:?}"
    );
    ensure!(scene.agreed_on("answer_ping = false")?);
    ensure!(fs::read_to_string(&gw2.files().node)? == own, "what is of gw2 alone is as it was");
    scene.nothing_moved()
}

#[test]
fn whatever_breaks_in_the_middle_of_a_commit_both_nodes_end_on_one_configuration() -> Result<()> {
    let mut scene = Scene::new(REQUIRED)?;
    scene.duo.gw2.kill()?;
    let more = third(&scene.config, "lan", 3, "10.77.1.7/24");
    let said = scene.apply(&scene.duo.gw1, &more, &[])?;
    ensure!(!said.status.success() && says(&said).contains("neither node uses it"), "{said:?}");
    ensure!(!uses(&scene.duo.gw1, "10.77.1.7") && !has(&scene.duo.gw1, "10.77.1.7")?);
    scene.duo.gw2.run()?;

    let said = scene.apply_and_meanwhile(&more, |duo| {
        duo.gw2.kill()?;
        duo.gw2.run()
    })?;
    let is_used = scene.agreed_on("10.77.1.7")?;
    println!("killed in the middle: used = {is_used}, {said}");

    let longest = third(&more, "lan", 4, "10.77.1.8/24");
    let said = scene.apply_and_meanwhile(&longest, |duo| {
        duo.gw2.freeze()?;
        Scene::cut(duo, true)?;
        duo.gw2.thaw().map(drop)
    })?;
    println!("cut in the middle: {said}");
    let other = Config { answer_ping: true, ..longest };
    let refused = scene.apply(&scene.duo.gw1, &other, &[])?;
    ensure!(!refused.status.success() && says(&refused).contains("neither node uses it"), "{refused:?}");
    Scene::cut(&scene.duo, false)?;
    let is_used = scene.agreed_on("10.77.1.8")?;
    println!("used = {is_used}");
    ensure!(!scene.agreed_on("answer_ping = true")?);
    scene.nothing_moved()?;

    // The node that is edited itself: now its roles move.
    let last = third(&more, "lan", 5, "10.77.1.9/24");
    let said = scene.apply_and_meanwhile(&last, |duo| {
        duo.gw1.kill()?;
        duo.gw1.run()
    })?;
    let is_used = scene.agreed_on("10.77.1.9")?;
    println!("the edited one killed in the middle: used = {is_used}, {said}");
    scene.duo.never_two_masters()
}

#[test]
fn a_node_that_was_just_cut_off_is_not_waited_for_and_gets_the_newest_when_it_is_back() -> Result<()> {
    let scene = Scene::new(TABLE)?;
    Scene::cut(&scene.duo, true)?;
    let at = clock::now();
    let more = longer(&scene.config, "10.77.1.7/24");
    let said = scene.apply(&scene.duo.gw1, &more, &[])?;
    let took = clock::now().since(at);
    ensure!(said.status.success() && says(&said).contains("gets it when it can"), "{said:?}");
    ensure!(took < GIVEN_UP, "it took {took}");
    println!("given up after {took}");
    let said = scene.apply(&scene.duo.gw1, &third(&more, "lan", 3, "10.77.1.8/24"), &[])?;
    ensure!(said.status.success() && says(&said).contains("gets it when it can"), "{said:?}");
    ensure!(uses(&scene.duo.gw1, "10.77.1.8") && !uses(&scene.duo.gw2, "10.77.1.7"));
    let state = standing(&scene.duo.gw1)?["amiss"].to_string();
    ensure!(state.contains("does not answer") && state.contains("is to go to the other node yet"), "{state}");
    Scene::cut(&scene.duo, false)?;
    clock::wait_for("gw2 to use it", PATIENCE.times(2), || uses(&scene.duo.gw2, "10.77.1.8").then_some(()))?;
    ensure!(scene.agreed_on("10.77.1.8")?);
    scene.nothing_moved()
}

#[test]
fn addresses_change_on_both_nodes_and_go_back_on_both_when_nobody_confirms() -> Result<()> {
    let mut scene = Scene::new(TABLE)?;
    let (gw1, gw2) = (&scene.duo.gw1, &scene.duo.gw2);
    // The list that the adverts of a virtual host are signed over: each node accepts the old one and the new one.
    let more = longer(&scene.config, "10.77.1.7/24");
    let said = scene.apply(gw1, &more, &[])?;
    ensure!(said.status.success() && says(&said).contains("on the other node: 1@lan0"), "{said:?}");
    ensure!(scene.agreed_on("10.77.1.7")? && uses(gw1, "10.77.1.7") && uses(gw2, "10.77.1.7"));

    let tried = longer(&more, "10.77.1.8/24");
    let said = scene.apply(gw1, &tried, &["--confirm", "2s"])?;
    ensure!(said.status.success() && uses(gw1, "10.77.1.8") && uses(gw2, "10.77.1.8"), "{said:?}");
    ensure!(!has(gw1, "10.77.1.8")? && !has(gw2, "10.77.1.8")?, "nobody has confirmed it");
    clock::wait_for("both to go back", PATIENCE, || {
        (!uses(gw1, "10.77.1.8") && !uses(gw2, "10.77.1.8")).then_some(())
    })?;
    ensure!(!scene.agreed_on("10.77.1.8")?);
    let said = scene.apply(gw1, &tried, &["--confirm", "60s"])?;
    ensure!(said.status.success(), "{said:?}");
    let said = gw1.carpctl(&["confirm"])?;
    ensure!(said.status.success(), "{said:?}");
    ensure!(scene.agreed_on("10.77.1.8")?, "it is kept by both");
    let said = gw1.carpctl(&["rollback"])?;
    ensure!(said.status.success() && says(&said).contains("on the other node: 1@lan0"), "{said:?}");
    ensure!(!scene.agreed_on("10.77.1.8")?, "both are where they were");

    // From here on only one section goes over, and when it is said.
    let own = fs::read_to_string(&gw2.files().carp)?;
    let apart = Config { own: NAT_ONLY, ..more };
    scene.duo.gw1.reload_live(&apart)?;
    let (gw1, gw2) = (&scene.duo.gw1, &scene.duo.gw2);
    let said = scene.apply(gw1, &Config { answer_ping: true, rules: NAT, ..apart }, &[])?;
    ensure!(said.status.success(), "{said:?}");
    ensure!(fs::read_to_string(&gw2.files().carp)? == own, "nobody has pushed it");
    clock::wait_for("gw1 to say that they differ", DRIFT, || {
        standing(gw1).ok()?["amiss"].to_string().contains("differ").then_some(())
    })?;
    let said = gw1.carpctl(&["config", "push"])?;
    ensure!(said.status.success() && says(&said).contains("rules of nftables"), "{said:?}");
    ensure!(scene.agreed_on("[[nat.outbound]]")?);
    ensure!(!has(gw2, "answer_ping = true")? && has(gw1, "answer_ping = true")?, "a section of its own");

    // What is pushed is not pushed on: a node that pushes takes nothing.
    let node = fs::read_to_string(&gw2.files().node)?;
    fs::write(&gw2.files().node, node + TABLE)?;
    fs::copy(
        gw1.files().carp.with_file_name("config-password"),
        gw2.files().carp.with_file_name("config-password"),
    )?;
    let said = gw2.carpctl(&["reload"])?;
    ensure!(said.status.success(), "{said:?}");
    let said = gw1.carpctl(&["config", "push"])?;
    ensure!(!said.status.success() && says(&said).contains("only one of the two is edited"), "{said:?}");
    scene.nothing_moved()
}

#[test]
fn what_nodes_start_anew_for_is_used_by_the_follower_first_and_handed_over_without_a_gap() -> Result<()> {
    let scene = Scene::new(TABLE)?;
    let (gw1, gw2) = (&scene.duo.gw1, &scene.duo.gw2);
    let strictly = scene.config.clone().with_auth("migrate");
    let said = scene.apply(gw1, &strictly, &["--confirm", "60s"])?;
    ensure!(!said.status.success() && says(&said).contains("without --confirm"), "{said:?}");
    let at = clock::now();
    let said = scene.apply(gw1, &strictly, &[])?;
    ensure!(said.status.success() && says(&said).contains("starts anew"), "{said:?}");
    scene.duo.wait_moved()?;
    let [left, came] = [scene.duo.watch.changes(at, Instant::MAX)[0].at, scene.duo.served_at(1, at)?];
    let gap = came.since(left);
    println!("gw2 serves {gap} after gw1");
    ensure!(gap < Span::secs(1), "gw2 was not ready to be handed it: {gap}");
    scene.duo.wait_as_configured()?;
    ensure!(scene.agreed_on("auth = \"migrate\"")?);

    // The follower alone needs a new start.
    let said = scene.apply(gw2, &scene.config, &["--local"])?;
    ensure!(said.status.success() && says(&said).contains("starts anew"), "{said:?}");
    let other = longer(&strictly, "10.77.1.7");
    let said = clock::wait_for("gw2 to be back", PATIENCE, || {
        let said = scene.apply(gw1, &other, &["--confirm", "60s"]).ok()?;
        says(&said).contains("without --confirm").then_some(said)
    })?;
    ensure!(!said.status.success() && says(&said).contains(gw2.instance()), "{said:?}");
    ensure!(!uses(gw1, "10.77.1.7") && !uses(gw2, "10.77.1.7"), "neither tries it");
    let said = scene.apply(gw1, &other, &[])?;
    ensure!(said.status.success(), "{said:?}");
    ensure!(scene.agreed_on("10.77.1.7")? && has(gw2, "auth = \"migrate\"")?);
    scene.duo.never_two_masters()
}
