//! The simulator: whole nodes on a virtual clock over virtual segments, with everything going wrong
//! that may go wrong, and an oracle that says what must not happen. It is no mock: it runs the same
//! [`carp_user::proto::node::Node`] as the daemon, through the same door, on real frames.
//!
//! One seed is one run. [`chance`] draws a script from it, [`world`] plays the script, [`oracle`]
//! judges every step, [`story`] tells it, [`hunt`] tries many, [`mutant`] breaks nodes on purpose.

pub mod chance;
pub mod clock;
mod daemon;
mod deeds;
pub mod fault;
pub mod hunt;
pub mod machine;
pub mod mutant;
pub mod oracle;
pub mod post;
pub mod probing;
pub mod rng;
pub mod scenario;
pub mod story;
pub mod world;
