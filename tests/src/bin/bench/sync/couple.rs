//! Two gateways with carpd, and whatever replicates their connections.

use super::flows::PATIENCE;
use crate::cpu;
use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::Purpose;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::conntrackd::{Conntrackd, is_installed};
use carp_tests::lab::flows::clear;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::is_in_step;

/// Who replicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Nobody.
    Nobody,
    /// carpd itself.
    Carp,
    /// conntrackd, beside a carpd that does not.
    Conntrackd,
}

impl By {
    /// Whether this can be measured on this machine.
    pub fn is_there(self) -> bool {
        self != Self::Conntrackd || is_installed()
    }
}

/// Last bytes of the two on the sync link.
const ENDS: [[u8; 2]; 2] = [[2, 3], [3, 2]];

/// gw1 serves, gw2 stands by.
pub struct Couple {
    rivals: Vec<Conntrackd>,
    pub gw1: Carpd,
    pub gw2: Carpd,
    pub pair: Pair,
}

impl Couple {
    /// Both daemons run, and know each other.
    pub fn start(by: By) -> Result<Self> {
        let mut couple = Self::configure(by)?;
        couple.gw2.run()?;
        if by == By::Carp {
            couple.wait_in_step()?;
        }
        for (gateway, ends) in couple.pair.gateways.iter().zip(ENDS).filter(|_| by == By::Conntrackd) {
            couple.rivals.push(Conntrackd::start(couple.pair.lab.folder(), gateway, ends)?);
        }
        Ok(couple)
    }

    /// gw1 serves; gw2 is only configured.
    pub fn configure(by: By) -> Result<Self> {
        let pair = Pair::new(Purpose::Show)?;
        let config = Config::gateway();
        let config = if by == By::Carp { config.with_sync() } else { config };
        let gw1 = Carpd::start(&pair.lab, pair.gw1(), &config)?;
        gw1.wait_serving(PATIENCE)?;
        let gw2 = Carpd::configure(&pair.lab, pair.gw2(), &config.of_backup())?;
        Ok(Self { rivals: Vec::new(), gw1, gw2, pair })
    }

    /// Until both have told each other everything, and have compared.
    pub fn wait_in_step(&self) -> Result<()> {
        clock::wait_for("both nodes to be in step", PATIENCE, || {
            [&self.gw1, &self.gw2].into_iter().all(is_in_step).then_some(())
        })
    }

    /// What the two processes that replicate have spent.
    pub fn spent(&mut self) -> Result<Span> {
        let rivals = self.rivals.iter().map(Conntrackd::id);
        let own = [self.gw1.process()?.id(), self.gw2.process()?.id()];
        let all: Vec<u32> = if self.rivals.is_empty() { own.to_vec() } else { rivals.collect() };
        all.into_iter().map(cpu::of_process).try_fold(Span::ZERO, |sum, spent| Ok(sum + spent?))
    }

    /// Ends everything, and the flows first: their end is to cost nothing while the next one is measured.
    pub fn end(self) -> Result<()> {
        let Self { rivals, gw1, gw2, pair } = self;
        drop((rivals, gw1, gw2));
        pair.gateways.iter().try_for_each(clear)
    }
}
