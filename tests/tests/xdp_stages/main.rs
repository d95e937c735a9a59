//! The programs in the kernel, frame by frame (`BPF_PROG_TEST_RUN`), and the same stages on the host:
//! tables of frames with every kind of window, cut frames, random frames against a model. Needs root.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod adverts;
mod arming;
mod defaults;
mod egress;
mod egress_model;
mod frames;
mod harness;
mod incoming;
mod leaving;
mod model;
mod probes;
mod random;
mod serving;
mod speed;
mod strict;
mod table;
mod tracing;
mod twin;
mod windows;
