//! What the two nodes tell each other, in this order: [`Hello`], [`Offer`], [`Accept`], [`Done`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::Zeroize;

/// Version of all this.
pub const VERSION: u32 = 1;

/// The joining node presents itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// Its name; it calls by that name later.
    pub node: String,
    /// Fingerprint of its certificate.
    pub fingerprint: String,
}

/// All that the joining node needs. Secrets are wiped when it is dropped.
#[derive(Serialize, Deserialize)]
pub struct Offer {
    /// Name of the first node.
    pub node: String,
    /// Fingerprint of its certificate.
    pub fingerprint: String,
    /// The shared configuration.
    pub shared: String,
    /// Files with secrets beside it, by name.
    pub secrets: BTreeMap<String, String>,
    /// The key of the state session, as its file has it.
    pub sync_key: String,
    /// Password by which the joining node calls this one.
    pub password: String,
    /// Ports of the session and of XML-RPC.
    pub ports: [u16; 2],
    /// Roles of interfaces, of which the joining node has to say its own.
    pub roles: Vec<String>,
}

/// The joining node has written everything.
#[derive(Serialize, Deserialize)]
pub struct Accept {
    /// Password by which the first node calls it.
    pub password: String,
}

/// The first node has, too.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {}

impl Drop for Offer {
    fn drop(&mut self) {
        self.secrets.values_mut().for_each(Zeroize::zeroize);
        self.sync_key.zeroize();
        self.password.zeroize();
    }
}

impl Drop for Accept {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}
