//! The loader in a network namespace of its own: what it makes, goes on with, refuses, and leaves
//! behind. Needs root and iproute2.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adopting;
mod asking;
mod opening;
mod place;
mod tc;
mod upgrading;
