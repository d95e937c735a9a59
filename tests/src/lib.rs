//! What the tests share: the simulator (`sim`), the namespace lab (`lab`), the generated documents.

pub mod docs;
pub mod lab;
pub mod sim;
