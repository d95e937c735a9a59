//! Fail-over as a client sees it, carpd beside keepalived in the same run: probes every millisecond and TCP connections
//! through two gateways that translate sources, while something happens to the one that serves.

mod contender;
mod fault;
mod picture;
mod rows;
mod trial;

use crate::report::Row;
use anyhow::{Context, Result};
use carp_tests::lab::owners::Owners;
use contender::Couple;
use trial::Trial;

pub use contender::Contender;
pub use fault::Fault;
pub use picture::draw;

/// What became of one fault: of each contender all trials.
pub struct Outcome {
    /// What happened.
    pub fault: Fault,
    /// To whom, and what was seen.
    pub contenders: Vec<(Contender, Vec<Trial>)>,
}

/// So many trials of a fault for each contender in turn.
pub fn measure(fault: Fault, contenders: &[Contender], trials: usize) -> Result<Outcome> {
    let able = contenders.iter().filter(|contender| contender.is_there() && contender.knows(fault));
    let of_one = |contender: &Contender| {
        let name = contender.name();
        let measure = || -> Result<Vec<Trial>> {
            let mut couple = Couple::start(*contender)?;
            let owners = Owners::start(&couple.pair)?;
            (0..trials).map(|_| trial::run(&mut couple, &owners, fault)).collect()
        };
        Ok((*contender, measure().with_context(|| format!("{name}, {}", fault.name()))?))
    };
    Ok(Outcome { fault, contenders: able.map(of_one).collect::<Result<_>>()? })
}

impl Outcome {
    /// Its tables: the fault, and what follows it.
    pub fn tables(&self) -> [(&'static str, Vec<Row>); 2] {
        [(self.fault.name(), rows::there(self)), (self.fault.back(), rows::back(self))]
    }
}
