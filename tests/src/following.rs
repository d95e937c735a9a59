//! Two nodes with one configuration, over a network that loses, repeats and delays what they say, with crashes between
//! any two steps; and what must hold all the while.

pub mod machine;
pub mod play;
pub mod world;
