//! Calls to the peer.

use super::{Start, Wanted};
use crate::api::Shared;
use crate::config::{Sync, sections};
use crate::io::https::client::Failure;
use crate::io::https::{Client, Credentials};
use crate::pair_config::talk::{Ask, Parcel, Standing, Told};
use crate::proto::config_sync::{self as pair, Ticket};
use dxr::Value;
use std::time::Duration;

/// How long a call may take: the peer reads files, and asks nft.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoAnswer {
    /// In words.
    pub why: String,
    /// There was not even a connection.
    pub is_unreached: bool,
}

impl From<String> for NoAnswer {
    fn from(why: String) -> Self {
        Self { why, is_unreached: false }
    }
}

/// Asks the peer this. When that is how it stands, this node's standing comes with the answer.
pub(super) async fn exchange(
    start: &Start,
    request: pair::Request,
    wanted: Option<Wanted>,
) -> Result<(Told, Option<Standing>), NoAnswer> {
    let sections: Vec<String> = start.config_sync.sections.iter().map(|it| it.name.to_owned()).collect();
    let mut here = None;
    let ask = match request {
        pair::Request::Ask => {
            here = stands(start, sections.clone()).await;
            Ask::Stand { sections, here: here.clone().map(Box::new) }
        }
        pair::Request::Stage(Ticket(ticket)) => {
            Ask::Stage { ticket, parcel: Box::new(parcel(start, sections, wanted).await?) }
        }
        pair::Request::Try(Ticket(ticket), within) => {
            Ask::Try { ticket, seconds: u32::try_from(within.as_millis() / 1000).unwrap_or(u32::MAX) }
        }
        pair::Request::Commit(Ticket(ticket)) => Ask::Commit { ticket },
        pair::Request::Abort(Ticket(ticket)) => Ask::Abort { ticket },
    };
    let ask = serde_json::to_string(&ask).map_err(|error| error.to_string())?;
    let Value::String(told) = call(start, "carp.config.follow", vec![Value::String(ask)]).await? else {
        return Err(ODD.to_owned().into());
    };
    let told = serde_json::from_str(&told).map_err(|error| error.to_string())?;
    Ok((told, here))
}

/// How this node stands; none while the daemon does not say.
async fn stands(start: &Start, sections: Vec<String>) -> Option<Standing> {
    let Shared { hash, revision, origin, .. } = start.door.shared(sections).await.ok()?;
    Some(Standing { node: start.node.clone(), hash, revision, origin, changed: false })
}

async fn parcel(start: &Start, names: Vec<String>, wanted: Option<Wanted>) -> Result<Parcel, String> {
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => {
            let shared = start.door.shared(names).await;
            let Shared { text, hash, .. } = shared.map_err(|fault| fault.message)?;
            Wanted { text, hash, origin: "config push".to_owned() }
        }
    };
    let sections = &start.config_sync.sections;
    Ok(Parcel {
        text: sections::extract(&wanted.text, sections).map_err(|problem| problem.to_string())?,
        sections: sections.iter().map(|section| (section.name.to_owned(), section.version)).collect(),
        hash: wanted.hash,
        skew_add: start.config_sync.skew_add,
        node: start.node.clone(),
        origin: wanted.origin,
    })
}

/// The peer's shared text.
pub(super) async fn peer_text(start: &Start) -> Result<String, String> {
    let told = call(start, "carp.config.get", Vec::new()).await.map_err(|none| none.why)?;
    let Value::Struct(mut fields) = told else { return Err(ODD.to_owned()) };
    let Some(Value::Base64(bytes)) = fields.remove("text") else { return Err(ODD.to_owned()) };
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

async fn call(start: &Start, method: &str, params: Vec<Value>) -> Result<Value, NoAnswer> {
    let sync = Sync { peer: start.config_sync.to, ..start.sync.clone() };
    let client = Client::open(&start.node, &sync).map_err(|error| error.to_string())?;
    let who =
        Credentials { user: start.config_sync.user.clone(), password: start.config_sync.password.0.clone() };
    match tokio::time::timeout(PATIENCE, client.call(&who, method, params)).await {
        Ok(answered) => answered.map_err(|failure| NoAnswer {
            why: failure.to_string(),
            is_unreached: matches!(failure, Failure::Unreached(_)),
        }),
        Err(_) => Err("it does not answer in time".to_owned().into()),
    }
}

const ODD: &str = "the peer answers something else: is it of another version?";
