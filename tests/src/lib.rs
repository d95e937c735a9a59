//! What the tests share: the simulator (`sim`), the namespace lab (`lab`), the generated documents,
//! numbers as text.

pub mod decimal;
pub mod docs;
pub mod lab;
pub mod sim;
