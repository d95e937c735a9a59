//! The programs in the kernel, frame by frame (`BPF_PROG_TEST_RUN`): every stage with every
//! kind of window, what must pass untouched, cut and random frames against a model. Needs root.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod adverts;
mod egress;
mod egress_model;
mod frames;
mod harness;
mod model;
mod passing;
mod random;
mod serving;
mod speed;
