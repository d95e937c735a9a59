//! CARP on the wire and its authentication against captured and derived frames, against other
//! implementations, and against the conformance list (`tests/CONFORMANCE.md`, sections 9.1–9.4).

mod corpus;
mod counter;
mod encoding;
mod mac;
mod oracle;
mod properties;
mod strict;
mod validation;
mod vectors;
