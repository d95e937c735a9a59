//! `carpctl explain`: why a virtual host has its role, and what would change that. Of the status alone.

use super::table::span;
use super::view::{Source, View};
use crate::api::{Demotion, Gate, Held, Host, Peer, Status, Waits, rank};
use anyhow::{Result, bail};
use carp_common::pace::Pace;
use serde::Serialize;
use std::process::ExitCode;

/// Why each virtual host has its role: a sentence, the reasons by name, and what would change it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  carpctl explain\n  carpctl explain lan0@1\n  carpctl explain --json | jq '.[].reasons[] | select(.name == \"held-back\")'"
)]
pub struct Args {
    /// Only this virtual host, or those of this group.
    #[arg(value_name = "GROUP|INTERFACE@VHID")]
    host: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why a virtual host has its role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `lan0@1`.
    pub host: String,
    /// In one sentence.
    pub sentence: String,
    /// What counts, by name.
    pub reasons: Vec<Reason>,
    /// What would change it.
    pub changes: Vec<String>,
}

/// One thing that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// `own-rank`, `demotion`, `peer-rank`, `peer`, `lease`, `heir`, `armed`, `gate`, `held-back`, `group`, `waits`, `sync`.
    pub name: &'static str,
    /// In words.
    pub text: String,
}

/// Prints it.
///
/// # Errors
/// When the daemon does not answer, or there is no such virtual host.
pub fn run(args: &Args, name: Option<&str>) -> Result<ExitCode> {
    let View { status, source, .. } = View::look(name, None)?;
    if source == Source::Maps {
        bail!("carpd does not answer, and the maps do not know why: see `carpctl status`");
    }
    let is_meant = |host: &&Host| {
        let is_named = |wanted: &String| *wanted == host.label() || host.group.as_ref() == Some(wanted);
        args.host.as_ref().is_none_or(is_named)
    };
    let hosts: Vec<&Host> = status.hosts.iter().filter(is_meant).collect();
    if let (true, Some(wanted)) = (hosts.is_empty(), &args.host) {
        bail!("no virtual host or group {wanted}: see `carpctl status`");
    }
    let explanations: Vec<Explanation> = hosts.into_iter().map(|host| explain(&status, host)).collect();
    super::print(&if args.json {
        serde_json::to_string_pretty(&explanations)? + "\n"
    } else {
        render(&explanations)
    });
    Ok(ExitCode::SUCCESS)
}

/// Why this virtual host of that node has its role.
pub fn explain(status: &Status, host: &Host) -> Explanation {
    Explanation {
        host: host.label(),
        sentence: sentence(host),
        reasons: reasons(status, host),
        changes: changes(status, host),
    }
}

fn render(explanations: &[Explanation]) -> String {
    let one = |Explanation { sentence, reasons, changes, .. }: &Explanation| {
        let reasons = reasons.iter().map(|Reason { name, text }| format!("  {name}: {text}\n"));
        let changes = changes.iter().map(|change| format!("  would change it: {change}\n"));
        format!("{sentence}\n{}", reasons.chain(changes).collect::<String>())
    };
    explanations.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn sentence(host: &Host) -> String {
    let (label, since, why) = (host.label(), span(host.since_ms), &host.reason);
    match (host.role.as_str(), host.serving) {
        ("MASTER", true) => format!("{label} is MASTER and serves, for {since} now: {why}."),
        ("MASTER", false) => format!("{label} is MASTER for {since} and does not serve{}.", waiting(host)),
        ("BACKUP", _) => match host.master() {
            Some(master) => format!("{label} is BACKUP of {} for {since}: {why}.", master.address),
            None => format!("{label} is BACKUP for {since}, and hears no master: {why}."),
        },
        (role, _) => format!("{label} is {role} for {since}, and takes no part: {why}."),
    }
}

fn waiting(host: &Host) -> String {
    let waits = host.standing.waits.as_ref();
    waits.map(|Waits { what, .. }| format!(" yet: it waits {what}")).unwrap_or_default()
}

fn reasons(status: &Status, host: &Host) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut tell = |name, text| reasons.push(Reason { name, text });
    tell("own-rank", own_rank(host));
    for Demotion { name, amount, reason, .. } in &status.demotions {
        tell("demotion", format!("{name} adds {amount} to the skew: {reason}"));
    }
    if let Some(peer) = &host.peer {
        tell("peer-rank", peer_rank(peer));
        tell(
            "peer",
            match peer.confirms {
                true => {
                    format!("{} is a node of ours: it confirms that it has stopped to serve", peer.address)
                }
                false => format!("{} has not shown that it is a node of ours", peer.address),
            },
        );
    }
    let standing = &host.standing;
    if host.serving {
        tell("lease", format!("{} left, renewed with each advert", span(host.lease_left_ms)));
        tell(
            "heir",
            match &standing.heir {
                Some(heir) => {
                    format!("{} takes over without a gap; heard {} ago", heir.address, span(heir.age_ms))
                }
                None => "nobody: a planned move would leave a gap".to_owned(),
            },
        );
    }
    if let Some(master) = &standing.heir_of {
        tell("heir", format!("of {master}: it takes over from that one at once"));
    }
    if host.role == "BACKUP" {
        tell(
            "armed",
            match standing.armed {
                true => "the datapath takes over by itself when the master is silent".to_owned(),
                false => "no: carpd itself has to wake for a take-over".to_owned(),
            },
        );
        if let Some(gate) = &standing.gate {
            tell("gate", gate.text());
        }
        if let Some(why) = held_back(status, host) {
            tell("held-back", why);
        }
    }
    if let Some(group) = &host.group {
        let silent = if standing.silent_path { ": its master is heard there, and not here" } else { "" };
        tell("group", format!("{group}{silent}"));
    }
    if let Some(Waits { what, left_ms }) = &standing.waits {
        tell("waits", format!("{what}, in {} at most", span(*left_ms)));
    }
    if let Some(sync) = status.sync.as_ref().filter(|sync| sync.state != "in-step") {
        tell("sync", format!("the two nodes do not have the same connections: {}", sync.state));
    }
    reasons
}

fn own_rank(host: &Host) -> String {
    let (own, now) = (rank(host.configured()), rank(host.effective()));
    if own == now { format!("{own}, as configured") } else { format!("{now}, demoted from {own}") }
}

fn peer_rank(peer: &Peer) -> String {
    // See `Pace::BOW_OUT` and those below it.
    if peer.base == u8::MAX {
        return format!("{} is no master now", peer.address);
    }
    format!("{} advertised {}, {} ago", peer.address, rank(peer.pace()), span(peer.age_ms))
}

/// What keeps a backup from its worse master, or what makes it the worse one.
fn held_back(status: &Status, host: &Host) -> Option<String> {
    let master = host.master()?.pace();
    let standing = &host.standing;
    if let Some(held) = &standing.held {
        return Some(held.text());
    }
    if host.effective() < master {
        return (!standing.preempt).then(|| "it ranks higher, and preempt is false".to_owned());
    }
    let names: Vec<&str> = status.demotions.iter().map(|demotion| demotion.name.as_str()).collect();
    (host.configured() < master && !names.is_empty())
        .then(|| format!("by its demotions: {}", names.join(", ")))
}

fn changes(status: &Status, host: &Host) -> Vec<String> {
    let mut changes: Vec<String> = Vec::new();
    let standing = &host.standing;
    let own = rank(host.effective());
    match host.role.as_str() {
        "MASTER" => {
            changes.push(format!("an advert of a node that ranks higher than {own}, and preempts"));
            changes.extend(
                standing.heir.as_ref().map(|heir| format!("carpctl failover: {} takes over", heir.address)),
            );
            changes.push("a demotion: carpctl demote, carpctl maintenance, a lost link".to_owned());
        }
        "BACKUP" => {
            if let Some(master) = host.master() {
                let left = standing.waits.as_ref().map(|waits| format!(" for {}", span(waits.left_ms)));
                let left = left.unwrap_or_default();
                changes
                    .push(format!("silence of {}{left} from now on: this node takes over", master.address));
                changes.push(format!("{} hands over, or ranks lower than {own}", master.address));
            }
            if let Some(Gate::Vetoed { left_ms, .. }) = &standing.gate {
                changes.push(format!(
                    "its gate lets it pass, which is asked again in {} at the earliest",
                    span(*left_ms)
                ));
            }
            changes.extend(match &standing.held {
                Some(Held::Failover { .. }) => {
                    Some("carpctl failover --back: this node takes the role again".to_owned())
                }
                Some(Held::PreemptDelay { left_ms }) => Some(format!("{} pass", span(*left_ms))),
                None => None,
            });
        }
        _ => changes.push("a link that is up, with an address of its own in each family in use".to_owned()),
    }
    for Demotion { name, amount, expires_ms, .. } in &status.demotions {
        let left = host.configured().demoted(status.demotion - i32::from(*amount));
        let when = expires_ms.map(|left| format!(" (by itself in {})", span(left))).unwrap_or_default();
        changes.push(format!("demotion {name} is lifted{when}: this node ranks at {} then", rank(left)));
    }
    changes
}

impl Host {
    /// The peer, if it has been heard as a master within this node's dead time.
    fn master(&self) -> Option<&Peer> {
        let dead = self.configured().dead().as_millis();
        self.peer.as_ref().filter(|peer| peer.base != u8::MAX && peer.age_ms <= dead)
    }

    const fn configured(&self) -> Pace {
        Pace { base: self.base, skew: self.skew }
    }

    const fn effective(&self) -> Pace {
        Pace { base: self.base, skew: self.effective_skew }
    }
}

impl Held {
    /// In words.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Failover { since_ms } => {
                format!("it handed over {} ago, as asked (carpctl failover)", span(*since_ms))
            }
            Self::PreemptDelay { left_ms } => {
                format!("it has come back, and waits {} more (preempt_delay)", span(*left_ms))
            }
        }
    }
}

impl Gate {
    /// In words.
    fn text(&self) -> String {
        match self {
            Self::Asked { since_ms } => {
                format!("asked {} ago whether this node may take over", span(*since_ms))
            }
            Self::Vetoed { why, .. } => format!("refused that this node takes over: {why}"),
        }
    }
}

impl Peer {
    const fn pace(&self) -> Pace {
        Pace { base: self.base, skew: self.skew }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Heir, Standing, Sync};

    fn host(role: &str, serving: bool) -> Host {
        let text = str::to_owned;
        let peer = Peer { address: text("10.0.0.3"), base: 1, skew: 100, age_ms: 700, confirms: true };
        let (interface, reason) = (text("lan0"), text("master timed out"));
        let standing = Standing { preempt: true, ..Standing::default() };
        let base = Host { interface, vhid: 1, base: 1, role: text(role), reason, serving, ..Host::default() };
        Host { since_ms: 61_000, lease_left_ms: 2_300, peer: Some(peer), standing, ..base }
    }

    fn demotion(name: &str, expires_ms: Option<u64>) -> Demotion {
        Demotion {
            name: name.to_owned(),
            amount: 240,
            reason: "new memory".to_owned(),
            since_ms: 5,
            expires_ms,
        }
    }

    fn told(status: &Status, host: &Host) -> String {
        render(&[explain(status, host)])
    }

    #[test]
    fn a_master_that_serves() {
        let heir = Some(Heir { address: "10.0.0.3".to_owned(), age_ms: 1_200 });
        let mut master = host("MASTER", true);
        master.standing.heir = heir;
        let sync = Some(Sync { state: "bulk".to_owned(), ..Sync::default() });
        assert_eq!(
            told(&Status { sync, ..Status::default() }, &master),
            "\
lan0@1 is MASTER and serves, for 1 min 1 s now: master timed out.
  own-rank: 1/0, as configured
  peer-rank: 10.0.0.3 advertised 1/100, 700 ms ago
  peer: 10.0.0.3 is a node of ours: it confirms that it has stopped to serve
  lease: 2.3 s left, renewed with each advert
  heir: 10.0.0.3 takes over without a gap; heard 1.2 s ago
  sync: the two nodes do not have the same connections: bulk
  would change it: an advert of a node that ranks higher than 1/0, and preempts
  would change it: carpctl failover: 10.0.0.3 takes over
  would change it: a demotion: carpctl demote, carpctl maintenance, a lost link
"
        );
    }

    #[test]
    fn a_backup_in_maintenance() {
        let mut backup = Host { effective_skew: 240, ..host("BACKUP", false) };
        backup.standing.waits =
            Some(Waits { what: "for its master to count as dead".to_owned(), left_ms: 2_690 });
        let demotions = vec![demotion("maintenance", Some(3_600_000))];
        assert_eq!(
            told(&Status { demotions, demotion: 240, ..Status::default() }, &backup),
            "\
lan0@1 is BACKUP of 10.0.0.3 for 1 min 1 s: master timed out.
  own-rank: 1/240, demoted from 1/0
  demotion: maintenance adds 240 to the skew: new memory
  peer-rank: 10.0.0.3 advertised 1/100, 700 ms ago
  peer: 10.0.0.3 is a node of ours: it confirms that it has stopped to serve
  armed: no: carpd itself has to wake for a take-over
  held-back: by its demotions: maintenance
  waits: for its master to count as dead, in 2.6 s at most
  would change it: silence of 10.0.0.3 for 2.6 s from now on: this node takes over
  would change it: 10.0.0.3 hands over, or ranks lower than 1/240
  would change it: demotion maintenance is lifted (by itself in 1 h 0 min): this node ranks at 1/0 then
"
        );
    }

    #[test]
    fn a_backup_that_ranks_higher_says_what_holds_it_back() {
        let held = |preempt, held| {
            let mut backup = host("BACKUP", false);
            (backup.standing.preempt, backup.standing.held) = (preempt, held);
            held_back(&Status::default(), &backup).unwrap_or_default()
        };
        assert_eq!(held(true, None), "", "it is just about to take over");
        assert_eq!(held(false, None), "it ranks higher, and preempt is false");
        let failover = Some(Held::Failover { since_ms: 5_000 });
        assert_eq!(held(true, failover), "it handed over 5.0 s ago, as asked (carpctl failover)");
        let delay = Some(Held::PreemptDelay { left_ms: 90_000 });
        assert_eq!(held(true, delay), "it has come back, and waits 1 min 30 s more (preempt_delay)");
    }

    #[test]
    fn a_claim_says_what_it_waits_for_and_a_silent_segment_is_told() {
        let mut claimant = host("MASTER", false);
        claimant.standing.waits = Some(Waits { what: "for its claim to settle".to_owned(), left_ms: 100 });
        assert_eq!(
            sentence(&claimant),
            "lan0@1 is MASTER for 1 min 1 s and does not serve yet: it waits for its claim to settle."
        );
        let alone = Host { peer: None, ..host("BACKUP", false) };
        assert!(sentence(&alone).contains("hears no master"));
    }
}
