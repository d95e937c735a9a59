//! How long the steps of a take-over take, of each virtual host.

use crate::api;
use crate::proto::event::HostId;
use carp_common::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// What a node does that takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has told the others.
    Advert,
    /// The datapath answers and lets through.
    Datapath,
    /// Switches and neighbours are told.
    Announce,
    /// Addresses and routes are in place.
    Addresses,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Advert => "advert",
            Self::Datapath => "datapath",
            Self::Announce => "announce",
            Self::Addresses => "addresses",
        }
    }
}

/// Take-overs that are not finished; one a virtual host at most.
#[derive(Debug, Default)]
pub struct TakeOvers(BTreeMap<HostId, TakeOver>);

#[derive(Debug)]
struct TakeOver {
    decided_at: Instant,
    /// At most one of each kind.
    steps: Vec<(Step, Instant)>,
}

impl TakeOvers {
    /// It is decided.
    pub fn begin(&mut self, host: HostId, now: Instant) {
        self.0.insert(host, TakeOver { decided_at: now, steps: Vec::new() });
    }

    /// The role is lost, or the virtual host leaves.
    pub fn end(&mut self, host: HostId) {
        self.0.remove(&host);
    }

    /// A step is done; only the first time counts.
    pub fn done(&mut self, host: HostId, step: Step, now: Instant) {
        if let Some(TakeOver { steps, .. }) = self.0.get_mut(&host)
            && steps.iter().all(|(known, _)| *known != step)
        {
            steps.push((step, now));
        }
    }

    /// Whatever was to be sent is: those who serve have announced themselves.
    pub fn announced(&mut self, serving: &BTreeSet<HostId>, now: Instant) {
        let hosts: Vec<HostId> = self.0.keys().filter(|host| serving.contains(host)).copied().collect();
        hosts.into_iter().for_each(|host| self.done(host, Step::Announce, now));
    }

    /// All addresses and routes that are wanted are in place: who has announced itself is done.
    pub fn settle(&mut self, now: Instant) -> Vec<(HostId, api::What)> {
        let announced =
            |take_over: &TakeOver| take_over.steps.iter().any(|(step, _)| *step == Step::Announce);
        let done = self.0.extract_if(.., |_, take_over| announced(take_over));
        done.map(|(host, take_over)| (host, take_over.report(now))).collect()
    }
}

impl TakeOver {
    fn report(mut self, now: Instant) -> api::What {
        self.steps.push((Step::Addresses, now));
        let mut before = self.decided_at;
        let steps = self.steps.iter().map(|(step, at)| {
            let us = at.since(std::mem::replace(&mut before, *at)).as_micros();
            api::Step { step: step.name().to_owned(), us }
        });
        api::What::TakenOver { steps: steps.collect(), total_us: now.since(self.decided_at).as_micros() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carp_common::time::Span;

    #[test]
    fn every_step_has_its_time_and_the_whole_is_their_sum() {
        let (host, other) = (HostId(0), HostId(1));
        let at = |us| Instant::from_nanos(1_000_000_000) + Span::micros(us);
        let mut all = TakeOvers::default();
        all.begin(host, at(0));
        all.begin(other, at(5));
        all.done(host, Step::Advert, at(10));
        all.done(host, Step::Datapath, at(110));
        all.done(host, Step::Datapath, at(9_000));
        all.done(other, Step::Datapath, at(120));
        assert_eq!(all.settle(at(150)), [], "nobody has announced itself");
        all.announced(&BTreeSet::from([host]), at(160));
        all.end(other);
        let step = |step: &str, us| api::Step { step: step.to_owned(), us };
        let steps =
            vec![step("advert", 10), step("datapath", 100), step("announce", 50), step("addresses", 40)];
        assert_eq!(all.settle(at(200)), [(host, api::What::TakenOver { steps, total_us: 200 })]);
        assert_eq!(all.settle(at(300)), [], "it was told");
    }
}
