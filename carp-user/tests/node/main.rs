//! Whole nodes on a perfect wire: keys, counters, refusals, hand-overs, demotion, leaving. Numbers
//! are those of the conformance list (`carp-protocol` section 9).

#[cfg(test)]
mod configuring;
#[cfg(test)]
mod demotion;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod handover;
#[cfg(test)]
mod migration;
#[cfg(test)]
mod moving;
#[cfg(test)]
mod proving;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod scale;
mod succession;
#[cfg(test)]
mod wire;
