//! A configuration that is used, and is not in its file yet: it is put there at once, or when somebody confirms it. Until
//! then a daemon that starts anew, for whatever reason, has the one before.

use super::Daemon;
use super::reload::Wish;
use crate::api::{Authority, Response, What};
use crate::config::Files;
use crate::io::clock;
use crate::io::disk::Staged;
use crate::io::error::chain;
use crate::io::revisions::Revisions;
use crate::pair_config::book::Pushed;
use anyhow::{Context, Result};
use carp_common::time::{Instant, Span};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What is not confirmed in time waits for so long while another configuration is just being read.
const BUSY: Span = Span::millis(200);

/// What becomes of a configuration that is used.
#[derive(Debug)]
pub struct Pending {
    /// To be put into its file; none when it was read from there.
    pub staged: Option<Staged>,
    /// The text.
    pub text: String,
    /// What it was used by.
    pub origin: String,
    /// It has to be confirmed within this time.
    pub confirm: Option<Span>,
    /// Where it came from, if it was pushed.
    pub pushed: Option<Pushed>,
}

/// One that waits to be confirmed.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pending: Pending,
    until: Instant,
}

/// Waits until that is done.
pub(super) async fn recorded(recording: Option<JoinHandle<()>>) {
    if let Some(recording) = recording
        && let Err(error) = recording.await
    {
        tracing::warn!(%error, "writing a revision down");
    }
}

/// Waits until it is too late to confirm; for ever when nothing is to be. Dropping the future loses nothing.
pub(super) async fn expired(unconfirmed: Option<&Unconfirmed>) {
    match unconfirmed {
        Some(Unconfirmed { until, .. }) => tokio::time::sleep(until.since(clock::now()).std()).await,
        None => std::future::pending().await,
    }
}

impl Daemon {
    /// This configuration is used now: keeps it, or waits for somebody to confirm it.
    ///
    /// # Errors
    /// It cannot be put into its file. Then the one that is there is read again.
    pub fn keep(&mut self, pending: Pending) -> Result<()> {
        if self.unconfirmed.take().is_some() {
            self.forget_trial();
        }
        if let Some(within) = pending.confirm {
            self.remember(&pending.text);
            self.unconfirmed = Some(Unconfirmed { pending, until: clock::now() + within });
            return Ok(());
        }
        let Pending { staged, text, origin, confirm: _, pushed } = pending;
        if let Err(error) = staged.map_or(Ok(()), Staged::settle) {
            self.missed = true;
            return Err(error)
                .context("the configuration cannot be put into its file: back to the one that is there");
        }
        self.came_from(pushed, &text);
        let revisions = Revisions::of(&self.config.node.name);
        let newest = self.pair.newest.clone();
        // Who asked waits for that, and nothing else.
        self.recording = Some(tokio::task::spawn_blocking(move || {
            let recorded = revisions.record(&text, &origin).and_then(|()| revisions.list());
            if let Ok(Some(last)) = recorded.as_ref().map(|list| list.last()) {
                newest.send_replace((last.number, last.origin.clone()));
            }
            if let Err(error) = recorded {
                tracing::warn!(%error, "the configuration is not in the list of revisions (carpctl config log)");
            }
        }));
        Ok(())
    }

    /// Answers once what was kept is in the list of revisions: who looks there next finds it, and can go back.
    pub(super) fn answer_recorded(&mut self, response: Response, answer: oneshot::Sender<Response>) {
        let Some(recording) = self.recording.take() else { return drop(answer.send(response)) };
        tokio::spawn(async move {
            recorded(Some(recording)).await;
            let _ = answer.send(response);
        });
    }

    /// Nobody has confirmed it in time.
    pub(super) fn take_back(&mut self, files: &Files) {
        if let (Some(unconfirmed), Some(_)) = (&mut self.unconfirmed, &self.reading) {
            unconfirmed.until = clock::now() + BUSY;
            return;
        }
        tracing::warn!("nobody has confirmed the configuration in time: back to the one in the file");
        self.note(What::ConfigurationTakenBack);
        self.unconfirmed = None;
        self.forget_trial();
        let wish = Wish { by: Authority::Agreed, ..Wish::reload(false, "not confirmed in time") };
        self.read(files, wish, None);
    }

    /// What waits to be confirmed is.
    pub(super) fn confirm(&mut self) -> Response {
        match self.unconfirmed.take() {
            Some(Unconfirmed { pending, .. }) => {
                if let Err(error) = self.keep(Pending { confirm: None, ..pending }) {
                    return Response::Error { message: chain(error.as_ref()) };
                }
                tracing::info!("the configuration is confirmed");
                Response::Done
            }
            None => {
                Response::Error { message: "nothing waits to be confirmed: see `carpctl status`".to_owned() }
            }
        }
    }

    /// It goes on being tried for a while: the other node is just asked.
    pub(super) fn extend_trial(&mut self, by: Span) {
        if let Some(unconfirmed) = &mut self.unconfirmed {
            unconfirmed.until = unconfirmed.until + by;
        }
    }

    /// How long somebody has time to confirm, if something waits for that.
    pub(super) fn time_to_confirm(&self, now: Instant) -> Option<Span> {
        self.unconfirmed.as_ref().map(|unconfirmed| unconfirmed.until.since(now))
    }
}
