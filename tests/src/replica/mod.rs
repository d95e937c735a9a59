//! Two sessions that replicate the flows of two model kernels, over a link that is cut and made anew, with crashes
//! and roles that change at any moment; and what must hold all the while.

pub mod kernel;
pub mod node;
pub mod play;
pub mod world;
