//! What each method does: asks the daemon, or looks at what it has written.

use super::Caller;
use super::door::{Door, Outcome};
use super::staging::Staging;
use crate::api::Request;
use crate::api::remote::{self, Code, Deed, Fault, METHODS};
use crate::api::xmlrpc::Call;
use crate::io::bpf::BUILD;
use crate::io::control;
use crate::io::revisions::{Revision, Revisions};
use crate::io::sysctl;
use crate::pair_config::follower::Follower;
use carp_common::map::ABI;
use dxr::{DateTime, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

/// Version of these methods; changes when one goes or changes its meaning.
const API: i32 = 1;
/// Documents that are read at a time, each of [`crate::api::xmlrpc::MOST_BYTES`] at most: of the peer, and of all others. Policy
/// beyond: requests wait.
const READING: usize = 2;

/// Answers calls.
#[derive(Debug)]
pub(super) struct Desk {
    instance: String,
    door: Door,
    staging: Staging,
    follower: Follower,
    reading_peer: Semaphore,
    reading_others: Semaphore,
}

impl Desk {
    pub fn new(instance: &str, calls: mpsc::Sender<control::Call>) -> Self {
        let door = Door::new(calls);
        let staging = Staging::new(instance, door.clone());
        let follower = Follower::new(instance, door.clone());
        let (reading_peer, reading_others) = (Semaphore::new(READING), Semaphore::new(READING));
        Self { instance: instance.to_owned(), door, staging, follower, reading_peer, reading_others }
    }

    /// What time asks for. Does not end.
    pub async fn look_after(&self) {
        self.follower.look_after().await;
    }

    /// Waits for a turn to read a document. Others who are slow to send theirs are not in the peer's way.
    pub async fn turn(&self, is_peer: bool) -> Option<SemaphorePermit<'_>> {
        let reading = if is_peer { &self.reading_peer } else { &self.reading_others };
        reading.acquire().await.ok()
    }

    /// What a call comes to.
    pub async fn answer(&self, caller: &Caller, call: &Call) -> Result<Value, Fault> {
        let method = remote::admit(call, caller.access)?;
        let given = Given(&call.params);
        match method.deed {
            Deed::ListMethods => Ok(Value::Array(METHODS.iter().map(|method| text(method.name)).collect())),
            Deed::MethodSignature => Ok(remote::find(given.text(0)?)?.signature()),
            Deed::MethodHelp => Ok(text(remote::find(given.text(0)?)?.help)),
            Deed::Version => Ok(self.version()),
            Deed::Status => Ok(of_json(serde_json::to_value(self.door.status().await?).map_err(internal)?)),
            Deed::ConfigGet => self.config(true),
            Deed::ConfigDigest => self.config(false),
            Deed::ConfigStage => {
                let (id, outcome) = self.staging.stage(caller, &given.document(0)?).await?;
                Ok(fields([("id", Some(text(&id)))].into_iter().chain(told(outcome))))
            }
            Deed::ConfigCommit => {
                let outcome = self.staging.commit(caller, given.text(0)?).await?;
                tracing::info!(%caller, "XML-RPC: a configuration was committed");
                Ok(fields(told(outcome)))
            }
            Deed::ConfigAbort => Ok(Value::Boolean(self.staging.abort(caller, given.text(0)?).await)),
            Deed::ConfigFollow => self.follow(given.text(0)?).await,
            Deed::ConfigHistory => {
                let revisions = Revisions::of(&self.instance).list().map_err(internal)?;
                Ok(Value::Array(revisions.iter().map(|revision| fields(about(revision))).collect()))
            }
            Deed::StatesCount => self.states().await,
            Deed::RoleSet => self.set_role(caller, &given).await,
            Deed::Maintenance => self.maintain(caller, &given).await,
        }
    }

    fn version(&self) -> Value {
        fields([
            ("node", Some(text(&self.instance))),
            ("version", Some(text(env!("CARGO_PKG_VERSION")))),
            ("maps", Some(number(ABI.into()))),
            ("programs", Some(text(BUILD))),
            ("api", Some(Value::Integer(API))),
        ])
    }

    /// The revision that is in use: what waits to be confirmed is none yet.
    fn config(&self, with_text: bool) -> Result<Value, Fault> {
        let revisions = Revisions::of(&self.instance);
        let list = revisions.list().map_err(internal)?;
        let newest =
            list.last().ok_or_else(|| Fault::new(Code::Stopping, "carpd is just starting: try again"))?;
        let document = revisions.text(newest.number).map_err(internal)?;
        let about =
            about(newest).map(|(name, value)| (if name == "number" { "revision" } else { name }, value));
        let digest = [("sha256", Some(text(&hex(&Sha256::digest(&document)))))];
        let document = with_text.then(|| Value::Base64(document.into_bytes()));
        Ok(fields(about.into_iter().chain(digest).chain([("text", document)])))
    }

    async fn follow(&self, asked: &str) -> Result<Value, Fault> {
        let ask = serde_json::from_str(asked).map_err(|_| {
            Fault::new(Code::WrongParams, "this node does not know such a request: is it older?")
        })?;
        let told = self.follower.ask(ask).await;
        Ok(Value::String(serde_json::to_string(&told).map_err(internal)?))
    }

    async fn states(&self) -> Result<Value, Fault> {
        let tracked = sysctl::read("net.netfilter.nf_conntrack_count").and_then(|count| count.parse().ok());
        let sync = self.door.status().await?.sync;
        let of = |count: Option<usize>| count.and_then(|count| i64::try_from(count).ok()).map(number);
        let shared = sync.as_ref().and_then(|sync| usize::try_from(sync.shared).ok());
        Ok(fields([
            ("tracked", Some(number(tracked.unwrap_or(0)))),
            ("local", of(sync.as_ref().map(|sync| sync.local))),
            ("replicated", of(sync.as_ref().map(|sync| sync.replicated))),
            ("shared", of(shared)),
            ("waiting", of(sync.as_ref().map(|sync| sync.waiting))),
        ]))
    }

    async fn set_role(&self, caller: &Caller, given: &Given<'_>) -> Result<Value, Fault> {
        let (interface, vhid, role) = (given.text(0)?.to_owned(), given.int(1)?, given.text(2)?);
        let wrong = |what: &str| Fault::new(Code::WrongParams, what);
        let vhid = u8::try_from(vhid).map_err(|_| wrong("vhid is 1 to 255"))?;
        let master = match role {
            "master" => true,
            "backup" => false,
            _ => return Err(wrong("role is \"master\" or \"backup\"")),
        };
        tracing::info!(%caller, interface, vhid, role, "XML-RPC: a role is forced");
        self.door.ask(Request::Force { interface, vhid, master }).await.map(|_| Value::Boolean(true))
    }

    async fn maintain(&self, caller: &Caller, given: &Given<'_>) -> Result<Value, Fault> {
        let on = given.boolean(0)?;
        let reason = given.text(1).map_or_else(|_| format!("asked for by {caller}"), str::to_owned);
        let request = Request::Maintenance { on, reason: Some(reason), for_s: None, force: false };
        tracing::info!(%caller, on, "XML-RPC: maintenance");
        self.door.ask(request).await.map(|_| Value::Boolean(true))
    }
}

/// Parameters, whose types have been checked by the table.
struct Given<'a>(&'a [Value]);

impl Given<'_> {
    fn text(&self, at: usize) -> Result<&str, Fault> {
        match self.0.get(at) {
            Some(Value::String(text)) => Ok(text),
            Some(_) | None => Err(wrong_kind()),
        }
    }

    fn int(&self, at: usize) -> Result<i32, Fault> {
        match self.0.get(at) {
            Some(Value::Integer(number)) => Ok(*number),
            Some(_) | None => Err(wrong_kind()),
        }
    }

    fn boolean(&self, at: usize) -> Result<bool, Fault> {
        match self.0.get(at) {
            Some(Value::Boolean(is)) => Ok(*is),
            Some(_) | None => Err(wrong_kind()),
        }
    }

    /// Text that came as such or as its bytes.
    fn document(&self, at: usize) -> Result<String, Fault> {
        match self.0.get(at) {
            Some(Value::Base64(bytes)) => String::from_utf8(bytes.clone())
                .map_err(|_| Fault::new(Code::Refused, "the configuration is not UTF-8")),
            Some(_) | None => self.text(at).map(str::to_owned),
        }
    }
}

fn wrong_kind() -> Fault {
    Fault::new(Code::WrongParams, "a parameter of another type: see system.methodSignature")
}

fn internal(error: impl std::error::Error) -> Fault {
    tracing::error!(%error, "XML-RPC");
    Fault::new(Code::Internal, "this node has a problem of its own: see the log of carpd")
}

fn told(Outcome { changes, new_start }: Outcome) -> [(&'static str, Option<Value>); 2] {
    let changes = changes.iter().map(|line| text(line)).collect();
    [("changes", Some(Value::Array(changes))), ("new_start", new_start.as_deref().map(text))]
}

fn about(revision: &Revision) -> [(&'static str, Option<Value>); 3] {
    let at = date(revision.at).map(Value::DateTime);
    [("number", Some(number(revision.number.into()))), ("at", at), ("origin", Some(text(&revision.origin)))]
}

/// A struct of those that are there.
fn fields(fields: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let there = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Struct(there.collect::<BTreeMap<_, _>>())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// As `i4` where that has room for it.
fn number(number: i64) -> Value {
    of_json(number.into())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    // Writing to a String cannot fail.
    bytes.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap_or_default());
    text
}

/// What JSON says, in XML-RPC's words; what is null has none and is left out.
fn of_json(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => text(""),
        Json::Bool(is) => Value::Boolean(is),
        Json::Number(number) => match number.as_i64().map(i32::try_from) {
            Some(Ok(small)) => Value::Integer(small),
            Some(Err(_)) | None => Value::Double(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text),
        Json::Array(values) => Value::Array(values.into_iter().map(of_json).collect()),
        Json::Object(map) => {
            let there = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Struct(there.map(|(name, value)| (name, of_json(value))).collect())
        }
    }
}

/// Seconds since 1970 by the calendar, UTC. The algorithm counts days in years that begin in March, eras of 400 of them.
fn date(seconds: u64) -> Option<DateTime> {
    let (days, left) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let day = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (left / 3600, left / 60 % 60, left % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}:{minute:02}:{second:02}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_told_as_a_date() {
        for (seconds, expected) in [
            (0, "19700101T00:00:00"),
            (951_782_399, "20000228T23:59:59"),
            (951_782_400, "20000229T00:00:00"),
            (1_709_251_199, "20240229T23:59:59"),
            (1_796_000_523, "20261130T01:02:03"),
            (4_107_542_400, "21000301T00:00:00"),
        ] {
            assert_eq!(date(seconds).expect("a date").to_string(), expected);
        }
    }

    #[test]
    fn large_numbers_are_doubles_and_what_is_not_known_is_left_out() {
        let json =
            serde_json::json!({"a": 2_147_483_647, "b": 2_147_483_648_u64, "c": null, "d": [true, "x"]});
        let Value::Struct(told) = of_json(json) else { panic!("a struct") };
        assert_eq!(told["a"], Value::Integer(i32::MAX));
        assert_eq!(told["b"], Value::Double(2_147_483_648.0));
        assert_eq!(told["d"], Value::Array(vec![Value::Boolean(true), text("x")]));
        assert_eq!(told.len(), 3);
    }
}
