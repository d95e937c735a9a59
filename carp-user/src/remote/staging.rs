//! Configurations that another machine brings: staged, then committed or aborted.

use super::Caller;
use super::door::{Door, Outcome};
use crate::api::remote::{Code, Fault};
use crate::api::{Authority, Request};
use crate::io::clock;
use crate::io::disk::{self, Staged};
use carp_common::time::{Instant, Span};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use tokio::sync::Mutex;

/// How long a staged configuration is kept. Policy: it is forgotten then.
pub const KEPT: Span = Span::secs(300);
/// Bytes of an id, random.
const ID: usize = 8;

/// The one place for what is staged. Policy when taken: the same account's next one replaces it, another account is told to try
/// again.
#[derive(Debug)]
pub struct Staging {
    file: PathBuf,
    door: Door,
    place: Mutex<Option<Place>>,
}

#[derive(Debug)]
struct Place {
    id: String,
    user: String,
    until: Instant,
}

impl Staging {
    /// Of the instance of this name.
    pub fn new(instance: &str, door: Door) -> Self {
        Self { file: disk::state_of(instance).join("staged.toml"), door, place: Mutex::default() }
    }

    /// Checks it against this node, and keeps it; the id to go on with.
    ///
    /// # Errors
    /// [`Code::Busy`]; [`Code::Refused`] with every mistake in it; [`Code::Internal`].
    pub async fn stage(&self, caller: &Caller, text: &str) -> Result<(String, Outcome), Fault> {
        let mut place = self.place.lock().await;
        let now = clock::now();
        if place.as_ref().is_some_and(|place| place.until > now && place.user != caller.user) {
            return Err(Fault::new(Code::Busy, "another account has a configuration staged: try again"));
        }
        *place = None;
        let mut drawn = [0; ID];
        clock::draw(&mut drawn).map_err(internal)?;
        let folder = self.file.parent().map_or(Ok(()), disk::make);
        folder.and_then(|()| Staged::write(&self.file, text, 0o600)?.settle()).map_err(internal)?;
        let outcome = match self.apply(true, caller).await {
            Ok(outcome) => outcome,
            Err(fault) => {
                let _ = fs::remove_file(&self.file);
                return Err(fault);
            }
        };
        let mut id = String::new();
        // Writing to a String cannot fail.
        drawn.iter().for_each(|byte| write!(id, "{byte:02x}").unwrap_or_default());
        *place = Some(Place { id: id.clone(), user: caller.user.clone(), until: clock::now() + KEPT });
        Ok((id, outcome))
    }

    /// Goes on with it.
    ///
    /// # Errors
    /// [`Code::NotStaged`]; [`Code::Refused`], and then everything is as it was and it is still staged.
    pub async fn commit(&self, caller: &Caller, id: &str) -> Result<Outcome, Fault> {
        let mut place = self.place.lock().await;
        if !is_there(place.as_ref(), caller, id) {
            return Err(Fault::new(Code::NotStaged, "nothing is staged by that id: stage it again"));
        }
        let outcome = self.apply(false, caller).await?;
        *place = None;
        let _ = fs::remove_file(&self.file);
        Ok(outcome)
    }

    /// Forgets it; whether there was anything.
    pub async fn abort(&self, caller: &Caller, id: &str) -> bool {
        let mut place = self.place.lock().await;
        let was_there = is_there(place.as_ref(), caller, id);
        if was_there {
            *place = None;
            let _ = fs::remove_file(&self.file);
        }
        was_there
    }

    async fn apply(&self, dry_run: bool, caller: &Caller) -> Result<Outcome, Fault> {
        let (file, origin) = (self.file.clone(), format!("xml-rpc {caller}"));
        let request = Request::Apply { file, dry_run, confirm_s: None, origin, by: Authority::Here };
        self.door.reload(request).await
    }
}

fn is_there(place: Option<&Place>, caller: &Caller, id: &str) -> bool {
    place.is_some_and(|place| place.id == id && place.user == caller.user && place.until > clock::now())
}

fn internal(error: impl std::error::Error) -> Fault {
    tracing::error!(%error, "XML-RPC: staging a configuration");
    Fault::new(Code::Internal, "the configuration cannot be kept: see the log of carpd")
}
