//! What the tests share: the simulator (`sim`), the namespace lab (`lab`), the generated documents, two nodes with one
//! configuration (`following`),
//! two sessions that replicate flows (`replica`), numbers as text.

pub mod decimal;
pub mod docs;
pub mod following;
pub mod lab;
pub mod replica;
pub mod sim;
