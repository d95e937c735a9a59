//! How the configurations of two nodes stand, as the control socket tells it.

use serde::{Deserialize, Serialize};

/// Of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// `primary`: another node follows; `secondary`: it follows.
    pub part: String,
    /// Of what is pushed, in canonical form: SHA-256. Both nodes show the same while they have the same.
    pub hash: String,
    /// Number of the newest revision.
    pub revision: u32,
    /// What it came by.
    pub origin: String,
    /// The other node: as this one has asked it, or been told by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<ConfigPeer>,
    /// What is not as it should be, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amiss: Vec<String>,
}

/// Of the other node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigPeer {
    /// Its name.
    pub node: String,
    /// As above.
    pub hash: String,
    /// As above.
    pub revision: u32,
    /// As above.
    pub origin: String,
    /// Milliseconds since it said so.
    pub age_ms: u64,
}
