//! What happened, and why, kept for whoever asks (`carpctl events`).

use super::Daemon;
use crate::api::{EVENTS_AT_ONCE, Event, Response, What, rank};
use crate::io::clock;
use crate::proto::demote;
use crate::proto::event::{Demoted, HostId, News, Role, Transition, Warning};
use carp_common::time::Instant;
use std::collections::VecDeque;
use std::net::IpAddr;

/// Events kept. Policy when full: the oldest is dropped; whoever asks learns how many were.
const MOST: usize = 4096;

/// The last events.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    events: VecDeque<Event>,
    last: u64,
}

impl Journal {
    /// Keeps one.
    pub fn keep(&mut self, host: Option<String>, what: What, now: Instant, wall_ms: u64) {
        if self.events.len() >= MOST {
            self.events.pop_front();
        }
        self.last += 1;
        self.events.push_back(Event { number: self.last, wall_ms, monotonic_ns: now.nanos(), host, what });
    }

    /// Those behind this number, or the last so many, as far as they fit into an answer; and how many of them were dropped.
    pub fn read(&self, after: u64, count: Option<u32>) -> Response {
        let first = self.last + 1 - u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        let from = count.map_or(after + 1, |count| (self.last + 1).saturating_sub(count.into()).max(first));
        let events = self.events.iter().filter(|event| event.number >= from);
        let events = events.take(EVENTS_AT_ONCE).cloned().collect();
        Response::Events { events, dropped: first.saturating_sub(from) }
    }
}

impl Daemon {
    /// Something happened to the whole node.
    pub(super) fn note(&mut self, what: What) {
        self.journal.keep(None, what, clock::now(), clock::milliseconds_since_1970());
    }

    /// Something happened to a virtual host.
    pub(super) fn note_of(&mut self, host: HostId, what: What) {
        let label = self.node.setup(host).map(|host| format!("{}@{}", host.interface, host.vhid));
        self.journal.keep(label, what, clock::now(), clock::milliseconds_since_1970());
    }

    /// FreeBSD's form of the line, for those who search for it.
    pub(super) fn changed(&mut self, transition: Transition) {
        let Transition { host, from, to, reason, .. } = transition;
        tracing::info!("carp: {}: {from} -> {to} ({reason})", self.label(host));
        self.tell_hooks_of_role(&transition);
        self.note_role(transition);
    }

    pub(super) fn tell_news(&mut self, host: HostId, news: News) {
        tracing::info!(virtual_host = self.label(host), "{news}");
        self.note_of(host, What::News { text: news.to_string() });
    }

    pub(super) fn demoted(&mut self, demoted: Demoted) {
        let Demoted { name, amount, reason, sum } = &demoted;
        tracing::info!(name, amount, reason, sum, "demotion");
        if name == demote::MAINTENANCE && *amount == 0 {
            self.forget_maintenance();
        }
        self.note_demotion(demoted);
    }

    pub(super) fn peer(&mut self, host: HostId, address: IpAddr, heard: bool) {
        tracing::info!(virtual_host = self.label(host), %address, heard, "peer");
        let address = address.to_string();
        self.note_of(host, if heard { What::PeerHeard { address } } else { What::PeerLost { address } });
    }

    pub(super) fn warn(&mut self, host: HostId, warning: Warning) {
        tracing::warn!(virtual_host = self.label(host), "{warning}");
        self.note_warning(host, warning);
    }

    fn note_role(
        &mut self,
        Transition { host, from, to, reason, rank_before, rank: own, master }: Transition,
    ) {
        match to {
            Role::Master => self.take_overs.begin(host, clock::now()),
            Role::Init | Role::Backup => self.take_overs.end(host),
        }
        let what = What::Role {
            from: from.name().to_owned(),
            to: to.name().to_owned(),
            reason: reason.text().to_owned(),
            rank_before: rank(rank_before),
            rank: rank(own),
            master: master.map(|(address, _)| address.to_string()),
            master_rank: master.map(|(_, pace)| rank(pace)),
        };
        self.note_of(host, what);
    }

    fn note_demotion(&mut self, Demoted { name, amount, reason, sum }: Demoted) {
        self.note(match amount {
            0 => What::Lifted { name, reason, sum },
            amount => What::Demoted { name, amount, reason, sum },
        });
    }

    fn note_warning(&mut self, host: HostId, warning: Warning) {
        let text = warning.to_string();
        let two = matches!(warning, Warning::SecondMaster(_));
        self.note_of(host, if two { What::TwoMasters { text } } else { What::Warning { text } });
    }

    /// It serves, or is fenced.
    pub(super) fn note_serving(&mut self, host: HostId, serving: bool) {
        self.tell_hooks_of_serving(host, serving);
        self.note_of(host, if serving { What::Serves } else { What::Fenced });
    }

    /// Take-overs whose addresses are in place are finished.
    pub(super) fn note_addresses(&mut self) {
        if *self.shells.applier.applied.borrow_and_update() == *self.shells.wanted.borrow() {
            for (host, what) in self.take_overs.settle(clock::now()) {
                self.note_of(host, what);
            }
        }
    }

    /// The session of replication is another thing now.
    pub(super) fn note_sync(&mut self) {
        let Some(replication) = &mut self.shells.replication else { return };
        let stage = *replication.stage.borrow_and_update();
        if std::mem::replace(&mut self.sync_stage, stage) != stage {
            self.note(What::Sync { state: stage.name().to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u64) -> Journal {
        let mut journal = Journal::default();
        (0..count).for_each(|_| journal.keep(None, What::Stopping, Instant::ZERO, 0));
        journal
    }

    fn numbers(response: Response) -> (Vec<u64>, u64) {
        let Response::Events { events, dropped } = response else { return (Vec::new(), u64::MAX) };
        (events.iter().map(|event| event.number).collect(), dropped)
    }

    #[test]
    fn a_reader_goes_on_behind_what_it_has_and_the_last_few_can_be_had() {
        assert_eq!(numbers(filled(0).read(0, None)), (vec![], 0));
        assert_eq!(numbers(filled(3).read(0, None)), (vec![1, 2, 3], 0));
        assert_eq!(numbers(filled(3).read(2, None)), (vec![3], 0));
        assert_eq!(numbers(filled(3).read(3, None)), (vec![], 0));
        assert_eq!(numbers(filled(9).read(0, Some(2))), (vec![8, 9], 0));
        assert_eq!(numbers(filled(1).read(0, Some(2))), (vec![1], 0));
        assert_eq!(numbers(filled(300).read(0, None)).0.len(), EVENTS_AT_ONCE);
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let journal = filled(u64::try_from(MOST).unwrap() + 3);
        let (events, dropped) = numbers(journal.read(1, None));
        assert_eq!((events.first(), dropped), (Some(&4), 2));
        assert_eq!(numbers(journal.read(0, Some(1))).1, 0, "nothing of the last one is missing");
    }
}
