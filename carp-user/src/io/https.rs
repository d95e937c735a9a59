//! TLS with the peer: this node's certificate, the peer's fingerprint, and calls to it. The server is `crate::remote`.

pub mod client;
pub mod identity;
pub mod pin;
pub mod tls;

pub use client::{Client, Credentials};
pub use identity::Identity;
pub use pin::Fingerprint;
