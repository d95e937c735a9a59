//! How well a node is, and the exit code for it: the one place that says what gives which.

use super::view::Source;
use crate::api::{Host, Probed, Status};
use crate::proto::demote;
use carp_common::pace::Pace;
use carp_common::time::Span;
use serde::Serialize;

/// The exit codes, for help and manual.
pub const EXIT_CODES: &str = "Exit codes:
   0  healthy, or done
   1  error
   2  usage
   3  configuration invalid (carpd, carpctl check)
   4  configuration valid, but it does not fit this machine (carpctl check)
  10  degraded: a demotion other than `maintenance`, a virtual host in INIT, one that has just claimed
      and does not serve yet, an alarm of replication, or a
      configuration that is not the one of the other node
  11  two masters: while this node is MASTER and serves, another master is heard too
  12  fenced: the lease is lost; MASTER for more than 3 x base seconds without serving
  13  maintenance: `carpctl maintenance on`, or demoted by `carpctl demote maintenance`
  14  silent: carpd does not answer within a second, dead or stopped; what is shown is from the pinned maps
      alone, and says whether the datapath still serves
When several apply, the exit code is the first of 11, 12, 13, 10. `watch` also calls it degraded when send
errors or badauth have grown since the look before.";

/// The names that `carpctl maintenance on` and `carpctl demote maintenance` put in place.
const MAINTENANCE: [&str; 2] = [demote::MAINTENANCE, "user maintenance"];

/// How well a node is. In the order of what is told first, but for `Healthy`, which is told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// While this node is MASTER and serves, an authentic advert of another master came within 1.5
    /// of that one's intervals. Not counted before this node has been MASTER for two dead times: a
    /// former master greets the new one, which says nothing of two.
    TwoMasters,
    /// The lease is lost: MASTER for longer than a claim may take and not serving.
    Fenced,
    /// Demoted by the name `maintenance`: somebody works on the node, so that whatever else is
    /// amiss is expected.
    Maintenance,
    /// The daemon does not answer: nothing but what the datapath does is known.
    Silent,
    /// It does what it can: another demotion, a virtual host in INIT, a claim that does not serve
    /// yet, send errors or bad authentication that grow.
    Degraded,
    /// None of these.
    Healthy,
}

/// How well a node is, and all that speaks against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The first that applies.
    pub health: Health,
    /// The exit code for it.
    pub exit_code: u8,
    /// Everything that is amiss, in words.
    pub why: Vec<String>,
}

impl Health {
    /// What `carpctl status` exits with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded => 10,
            Self::TwoMasters => 11,
            Self::Fenced => 12,
            Self::Maintenance => 13,
            Self::Silent => 14,
        }
    }

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::TwoMasters => "two masters",
            Self::Fenced => "fenced",
            Self::Maintenance => "maintenance",
            Self::Silent => "silent",
        }
    }
}

impl Judgement {
    /// Of a status, and of the one looked at before, if there is one.
    pub fn of(status: &Status, source: Source, before: Option<&Status>) -> Self {
        let mut findings = match source {
            Source::Daemon => of_daemon(status),
            Source::Maps => of_maps(status),
        };
        findings.extend(before.into_iter().flat_map(|before| growth(before, status)));
        findings.sort_by_key(|(health, _)| *health);
        let health = findings.first().map_or(Health::Healthy, |(health, _)| *health);
        let why = findings.into_iter().map(|(_, why)| why).collect();
        Self { health, exit_code: health.code(), why }
    }
}

type Finding = (Health, String);

fn of_daemon(status: &Status) -> Vec<Finding> {
    let demotions =
        status.demotions.iter().map(|demotion| match MAINTENANCE.contains(&demotion.name.as_str()) {
            true => (Health::Maintenance, format!("in maintenance: {}", demotion.reason)),
            false => (Health::Degraded, format!("demoted by {}: {}", demotion.name, demotion.reason)),
        });
    let hosts = status
        .hosts
        .iter()
        .flat_map(|host| [init(host), not_serving(host), second_master(host), silent_path(host)]);
    let unanswered = status.probed.iter().filter(|path| path.silent);
    let unanswered = unanswered.map(|path| {
        let Probed { group, interface, master, .. } = path;
        (
            Health::Degraded,
            format!("{interface}: {master}, the master of group {group}, does not answer there"),
        )
    });
    let alarm = status.sync.iter().flat_map(|sync| &sync.alarm);
    let alarm = alarm.map(|alarm| (Health::Degraded, format!("alarm {alarm}")));
    let config = status.config.iter().flat_map(|config| &config.amiss);
    let config = config.map(|amiss| (Health::Degraded, format!("configuration: {amiss}")));
    demotions.chain(hosts.flatten()).chain(unanswered).chain(alarm).chain(config).collect()
}

fn of_maps(status: &Status) -> Vec<Finding> {
    let windows = || status.hosts.iter().filter_map(|host| host.window.as_ref());
    let ended = windows().filter(|window| window.ended_ms.is_some()).count();
    let going = windows().filter(|window| window.open).count();
    let armed = windows().filter(|window| window.opens_in_ms.is_some()).count();
    let why = match (going, ended, armed) {
        (1.., _, _) => "carpd does not answer; the datapath serves until its lease ends",
        (0, 1.., _) => "carpd does not answer, and its leases have ended: the datapath is fenced",
        (0, 0, 1..) => {
            "carpd does not answer; the datapath takes over for a moment when its master is silent"
        }
        (0, 0, 0) => "carpd does not answer, and the datapath does not serve",
    };
    vec![(Health::Silent, why.to_owned())]
}

fn init(host: &Host) -> Option<Finding> {
    (host.role == "INIT").then(|| (Health::Degraded, format!("{} is in INIT: {}", host.label(), host.reason)))
}

fn not_serving(host: &Host) -> Option<Finding> {
    let is_closed = !host.serving || host.window.as_ref().is_some_and(|window| !window.open);
    if host.role != "MASTER" || !is_closed {
        return None;
    }
    Some(match host.since_ms <= claim(host.base).as_millis() {
        true => (Health::Degraded, format!("{} has claimed and does not serve yet", host.label())),
        false => (Health::Fenced, format!("{} is MASTER and does not serve", host.label())),
    })
}

fn second_master(host: &Host) -> Option<Finding> {
    let peer = host.peer.as_ref().filter(|_| host.role == "MASTER" && host.serving)?;
    let pace = Pace { base: peer.base, skew: peer.skew };
    // 255 says that its sender is no master, see `Pace::BOW_OUT` and those below it.
    let is_master =
        peer.base != u8::MAX && peer.age_ms.saturating_mul(2) < pace.interval().times(3).as_millis();
    let settled = claim(host.base).times(2).as_millis();
    let was_settled = host.since_ms >= peer.age_ms.saturating_add(settled);
    (is_master && was_settled)
        .then(|| (Health::TwoMasters, format!("{}: {} is a master too", host.label(), peer.address)))
}

fn silent_path(host: &Host) -> Option<Finding> {
    let why = || format!("{}: its master is heard elsewhere in the group, and not there", host.label());
    host.standing.silent_path.then(|| (Health::Degraded, why()))
}

/// The longest that a claim waits for the lease of another to end.
const fn claim(base: u8) -> Span {
    Pace { base, skew: 0 }.longest_lease()
}

/// What has got worse from one look to the next, of the same daemon.
fn growth(before: &Status, now: &Status) -> Vec<Finding> {
    if before.pid != now.pid {
        return Vec::new();
    }
    let pairs = now.hosts.iter().filter_map(|host| {
        let same = |old: &&Host| old.interface == host.interface && old.vhid == host.vhid;
        Some((before.hosts.iter().find(same)?, host))
    });
    let bad_auth = |host: &Host| host.refused.get("badauth").copied().unwrap_or(0);
    let grown = |(old, new): (&Host, &Host)| {
        let counts =
            [("send errors", old.send_errors, new.send_errors), ("badauth", bad_auth(old), bad_auth(new))];
        let label = new.label();
        counts.map(|(what, old, new)| {
            (new > old).then(|| (Health::Degraded, format!("{label}: {what} grew from {old} to {new}")))
        })
    };
    pairs.flat_map(grown).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Demotion, MapWindow, Peer};

    #[test]
    fn a_master_that_serves_and_a_backup_are_healthy() {
        assert_eq!(health(&[master(), backup()], &[]), (Health::Healthy, vec![]));
    }

    #[test]
    fn a_demotion_degrades_unless_it_is_called_maintenance() {
        assert_eq!(health(&[backup()], &["link lan0"]).0, Health::Degraded);
        assert_eq!(health(&[backup()], &["user test"]).0, Health::Degraded);
        assert_eq!(health(&[backup()], &["user maintenance"]).0, Health::Maintenance);
        assert_eq!(health(&[backup()], &["maintenance"]).0, Health::Maintenance);
    }

    #[test]
    fn maintenance_goes_before_degraded_and_after_fenced_and_everything_is_told() {
        let (health, why) = health(&[host("INIT"), late()], &["user maintenance", "link lan0"]);
        assert_eq!(health, Health::Fenced);
        assert_eq!(
            why,
            [
                "lan0@1 is MASTER and does not serve",
                "in maintenance: why",
                "demoted by link lan0: why",
                "lan0@1 is in INIT: reason"
            ]
        );
    }

    #[test]
    fn a_claim_is_given_the_time_that_it_may_take() {
        let claiming = Host { since_ms: 3_000, ..late() };
        assert_eq!(health(&[claiming], &[]).0, Health::Degraded);
        let late = Host { since_ms: 3_001, ..late() };
        assert_eq!(health(&[late], &[]).0, Health::Fenced);
    }

    #[test]
    fn a_master_whose_window_in_the_map_is_closed_is_fenced() {
        let closed = Host { window: Some(MapWindow::default()), ..master() };
        assert_eq!(health(&[closed], &[]).0, Health::Fenced);
    }

    #[test]
    fn a_second_master_is_one_that_went_on_advertising() {
        let with = |base, skew, age_ms| {
            let address = "10.0.0.3".to_owned();
            let peer = Some(Peer { address, base, skew, age_ms, confirms: true });
            health(&[Host { peer, ..master() }], &[]).0
        };
        assert_eq!(with(1, 100, 2_085), Health::TwoMasters);
        assert_eq!(with(1, 100, 2_086), Health::Healthy, "it has missed one");
        assert_eq!(with(255, 254, 10), Health::Healthy, "a backup that greets");
        let young = Host { since_ms: 6_000, ..master() };
        let peer = Some(Peer { address: String::new(), base: 1, skew: 100, age_ms: 10, confirms: true });
        assert_eq!(health(&[Host { peer, ..young }], &[]).0, Health::Healthy, "a hand-over just now");
    }

    #[test]
    fn the_maps_alone_have_their_own_code_and_say_what_the_datapath_does() {
        let of = |windows: &[&MapWindow]| {
            let host = |window: &&MapWindow| Host { window: Some((*window).clone()), ..host("UNKNOWN") };
            let hosts = windows.iter().map(host).collect();
            let judgement = Judgement::of(&Status { hosts, ..Status::default() }, Source::Maps, None);
            assert_eq!(judgement.exit_code, 14);
            judgement.why.concat()
        };
        let open = MapWindow { open: true, left_ms: 1, ..MapWindow::default() };
        let ended = MapWindow { ended_ms: Some(1), ..MapWindow::default() };
        let armed = MapWindow { opens_in_ms: Some(1), ..MapWindow::default() };
        let never = MapWindow::default();
        assert!(of(&[&open, &ended]).ends_with("serves until its lease ends"));
        assert!(of(&[&ended, &never]).ends_with("fenced"));
        assert!(of(&[&armed, &never]).ends_with("when its master is silent"));
        assert!(of(&[&never, &never]).ends_with("does not serve"), "it was a backup");
    }

    #[test]
    fn what_grows_between_two_looks_at_one_daemon_degrades() {
        let bad = |count| Host { refused: [("badauth".to_owned(), count)].into(), ..backup() };
        let status = |pid, host| Status { pid, hosts: vec![host], ..Status::default() };
        let of = |before: Status, now| Judgement::of(&now, Source::Daemon, Some(&before));
        assert_eq!(of(status(7, bad(3)), status(7, bad(5))).why, ["lan0@1: badauth grew from 3 to 5"]);
        assert_eq!(of(status(7, bad(3)), status(7, bad(3))).exit_code, 0);
        assert_eq!(of(status(7, bad(3)), status(8, bad(5))).exit_code, 0, "another daemon");
        let failing = Host { send_errors: 1, ..backup() };
        assert_eq!(of(status(7, backup()), status(7, failing)).exit_code, 10);
    }

    #[test]
    fn the_help_has_every_code() {
        let all = [
            Health::Healthy,
            Health::Degraded,
            Health::TwoMasters,
            Health::Fenced,
            Health::Maintenance,
            Health::Silent,
        ];
        for health in all {
            let line = format!("  {:>2}  {}", health.code(), health.name());
            assert!(EXIT_CODES.contains(&line), "{line}");
        }
    }

    fn health(hosts: &[Host], demotions: &[&str]) -> (Health, Vec<String>) {
        let demotion = |name: &&str| {
            let (name, reason) = ((*name).to_owned(), "why".to_owned());
            Demotion { name, amount: 1, reason, since_ms: 0, expires_ms: None }
        };
        let demotions = demotions.iter().map(demotion).collect();
        let status = Status { hosts: hosts.to_vec(), demotions, ..Status::default() };
        let Judgement { health, why, .. } = Judgement::of(&status, Source::Daemon, None);
        (health, why)
    }

    fn master() -> Host {
        Host { serving: true, lease_left_ms: 2_000, ..host("MASTER") }
    }

    fn backup() -> Host {
        host("BACKUP")
    }

    /// A master without a lease.
    fn late() -> Host {
        host("MASTER")
    }

    fn host(role: &str) -> Host {
        let (interface, role, reason) = ("lan0".to_owned(), role.to_owned(), "reason".to_owned());
        Host { interface, vhid: 1, base: 1, role, reason, since_ms: 60_000, ..Host::default() }
    }
}
