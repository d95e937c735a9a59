//! Whole nodes on a perfect wire: keys, counters, refusals, hand-overs, demotion, leaving. Numbers
//! are those of the conformance list (`carp-protocol` section 9).

mod handover;
mod refusals;
mod wire;
