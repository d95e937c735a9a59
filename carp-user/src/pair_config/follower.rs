//! The shell of the node that follows: one request at a time, each done to its end even when the one who asked is gone.

use super::book::{FollowerBook, Pushed, Shelf};
use super::talk::{Ask, Parcel, Standing, Told};
use crate::api::{Authority, Request};
use crate::config::sections;
use crate::io::clock;
use crate::proto::config_sync::participant::{Action, Event, Ledger, Participant};
use crate::proto::config_sync::{Answer, Ticket};
use crate::remote::{Door, Outcome};
use carp_common::time::Span;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

/// How often is looked whether what is staged is to be forgotten.
const LOOK: std::time::Duration = std::time::Duration::from_secs(30);

/// The node that follows.
#[derive(Clone, Debug)]
pub struct Follower {
    instance: String,
    door: Door,
    shelf: Shelf,
    /// None until somebody asks, and after a mistake: then it begins anew with what is on the disk.
    state: Arc<Mutex<Option<State>>>,
}

#[derive(Debug)]
struct State {
    machine: Participant,
    book: FollowerBook,
    /// What is being looked at: the merged text, and where it comes from.
    incoming: Option<(String, Pushed)>,
    /// It is used until it is confirmed.
    tried: Option<Ticket>,
}

impl Follower {
    /// Of the instance of this name.
    pub fn new(instance: &str, door: Door) -> Self {
        let (instance, shelf) = (instance.to_owned(), Shelf::of_follower(instance));
        Self { instance, door, shelf, state: Arc::default() }
    }

    /// Answers; at once where another request is being worked on.
    pub async fn ask(&self, ask: Ask) -> Told {
        if let Ask::Stand { sections, here } = ask {
            if let Some(here) = here {
                // Only shown: nothing depends on it.
                let _ = self.door.ask(Request::Met { peer: here }).await;
            }
            return self.stand(&sections).await.map_or(Told::Busy, Told::Stands);
        }
        let Ok(mut state) = Arc::clone(&self.state).try_lock_owned() else { return Told::Busy };
        let follower = self.clone();
        // A task of its own: it goes on when the connection breaks.
        let done = tokio::spawn(async move {
            let answer = follower.work(&mut state, Some(ask)).await;
            if answer.is_none() {
                *state = None;
            }
            answer.flatten()
        });
        done.await.ok().flatten().map_or(Told::Busy, Into::into)
    }

    /// Forgets what nobody asks for again. Does not end.
    pub async fn look_after(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let mut state = self.state.lock().await;
            if self.work(&mut state, None).await.is_none() {
                *state = None;
            }
        }
    }

    async fn stand(&self, names: &[String]) -> Option<Standing> {
        let shared = self.door.shared(names.to_vec()).await.ok()?;
        let pushed = shared.pushed.filter(|pushed| pushed.own == shared.hash && pushed.sections == names);
        Some(Standing {
            node: self.instance.clone(),
            hash: pushed.map_or(shared.hash, |pushed| pushed.hash),
            revision: shared.revision,
            origin: shared.origin,
            changed: shared.changed,
        })
    }

    /// One request, or else what time asks for, to its end. The inner `None`: there is nothing to say; the outer one: the
    /// disk or the daemon failed, and what is in memory may not be what is on the disk.
    async fn work(&self, state: &mut Option<State>, ask: Option<Ask>) -> Option<Option<Answer>> {
        let (event, parcel) = match ask {
            Some(Ask::Stage { ticket, parcel }) => {
                (Event::Asked(crate::proto::config_sync::Request::Stage(Ticket(ticket))), Some(*parcel))
            }
            Some(ask) => (Event::Asked(ask.request()), None),
            None => (Event::Tick, None),
        };
        let mut actions = VecDeque::new();
        if state.is_none() {
            let (loaded, first) = self.load().await?;
            *state = Some(loaded);
            actions.extend(first);
        }
        let state = state.as_mut()?;
        let mut answer = None;
        self.act(state, &mut actions, parcel.as_ref(), &mut answer).await?;
        actions.extend(state.machine.handle(event, clock::now()));
        self.act(state, &mut actions, parcel.as_ref(), &mut answer).await?;
        Some(answer)
    }

    async fn act(
        &self,
        state: &mut State,
        actions: &mut VecDeque<Action>,
        parcel: Option<&Parcel>,
        answer: &mut Option<Answer>,
    ) -> Option<()> {
        while let Some(action) = actions.pop_front() {
            let event = match action {
                Action::Answer(says) => {
                    *answer = Some(says);
                    continue;
                }
                Action::TurnAway => {
                    *answer = Some(Answer::Busy);
                    continue;
                }
                Action::GoBack => {
                    state.tried = None;
                    let _ = self.door.ask(Request::Reload { dry_run: false, by: Authority::Local }).await;
                    continue;
                }
                Action::Check(_) => Event::Checked(self.check(state, parcel?).await),
                Action::Write(ledger) => {
                    self.write(state, &ledger).await.inspect_err(failed).ok()?;
                    Event::Written
                }
                Action::Use(ticket, within) => Event::Used(self.make_use(state, ticket, within).await?),
            };
            actions.extend(state.machine.handle(event, clock::now()));
        }
        Some(())
    }

    async fn load(&self) -> Option<(State, Vec<Action>)> {
        let book: FollowerBook = self.shelf.read().inspect_err(failed).ok()?;
        let staged = book
            .staged
            .as_ref()
            .and_then(|(ticket, _)| std::fs::read_to_string(self.shelf.file(*ticket)).ok());
        let text = self.door.shared(Vec::new()).await.ok()?.text;
        let is_in_file = staged.is_some_and(|staged| staged == text);
        let (machine, first) = Participant::start(book.ledger(), is_in_file, clock::now());
        Some((State { machine, book, incoming: None, tried: None }, first))
    }

    async fn check(&self, state: &mut State, parcel: &Parcel) -> Result<Vec<String>, String> {
        let names: Vec<String> = parcel.sections.keys().cloned().collect();
        let known =
            sections::negotiate(&parcel.sections).map_err(|problem| self.says(&problem.to_string()))?;
        let here = self.door.shared(names.clone()).await.map_err(|fault| self.says(&fault.message))?;
        if here.pushes {
            return Err(
                self.says("it has a [config_sync] of its own: only one of the two is edited, remove one")
            );
        }
        let raise = parcel.skew_add.saturating_sub(here.node_skew);
        let text = sections::merge(&here.text, &parcel.text, &known, raise)
            .map_err(|problem| self.says(&problem.to_string()))?;
        let pushed = Pushed {
            node: parcel.node.clone(),
            origin: parcel.origin.clone(),
            sections: names,
            hash: parcel.hash.clone(),
            own: String::new(),
        };
        self.shelf.put(LOOKED_AT, &text).map_err(|error| self.says(&error.to_string()))?;
        let changes = self.apply(self.shelf.file(LOOKED_AT), &pushed, None, true).await;
        let Outcome { changes, .. } = changes.map_err(|message| self.says(&message))?;
        let lost = here.changed.then(|| "what was changed here with --local goes".to_owned());
        state.incoming = Some((text, pushed));
        Ok(lost.into_iter().chain(changes).collect())
    }

    async fn write(&self, state: &mut State, ledger: &Ledger) -> io::Result<()> {
        let incoming = state.incoming.take();
        let mut book = state.book.clone().with(ledger, incoming.as_ref().map(|(_, pushed)| pushed));
        if let (Some((text, _)), Some(Ticket(ticket))) = (&incoming, ledger.staged) {
            self.shelf.put(ticket, text)?;
        }
        if let Some(used) = book.used.as_mut().filter(|used| used.own.is_empty()) {
            let shared = self.door.shared(used.sections.clone()).await;
            used.own = shared.map_err(|fault| io::Error::other(fault.message))?.hash;
        }
        self.shelf.write(&book)?;
        self.shelf.keep_only(book.staged.as_ref().map(|(ticket, _)| *ticket));
        state.book = book;
        Ok(())
    }

    /// None when the daemon starts anew for it: the next one says what has come of it.
    async fn make_use(
        &self,
        state: &mut State,
        ticket: Ticket,
        within: Option<Span>,
    ) -> Option<Result<(), String>> {
        let (_, pushed) = state.book.staged.as_ref().filter(|(staged, _)| *staged == ticket.0)?;
        if within.is_none()
            && state.tried.take() == Some(ticket)
            && self.door.ask(Request::Keep).await.is_ok()
        {
            return Some(Ok(()));
        }
        if within.is_some() {
            let look = self.apply(self.shelf.file(ticket.0), pushed, None, true).await;
            if let Ok(Outcome { new_start: Some(why), .. }) = look {
                let why = format!(
                    "{why}; it starts anew for that, which a trial does not outlive: apply it without --confirm"
                );
                return Some(Err(self.says(&why)));
            }
        }
        let seconds = within.map(|within| u32::try_from(within.as_millis() / 1000).unwrap_or(u32::MAX));
        match self.apply(self.shelf.file(ticket.0), pushed, seconds, false).await {
            Ok(Outcome { new_start: Some(_), .. }) => None,
            Ok(Outcome { new_start: None, .. }) => {
                state.tried = within.map(|_| ticket);
                Some(Ok(()))
            }
            Err(message) => Some(Err(self.says(&message))),
        }
    }

    async fn apply(
        &self,
        file: PathBuf,
        pushed: &Pushed,
        confirm_s: Option<u32>,
        dry_run: bool,
    ) -> Result<Outcome, String> {
        let origin = format!("pushed by {}: {}", pushed.node, pushed.origin);
        let by = Authority::Pushed(Box::new(pushed.clone()));
        let request = Request::Apply { file, dry_run, confirm_s, origin, by };
        self.door.reload(request).await.map_err(|fault| fault.message)
    }

    /// Named, as it is read on the other node.
    fn says(&self, message: &str) -> String {
        format!("{}: {message}", self.instance)
    }
}

/// Ticket of a configuration that is only looked at: no attempt has it.
const LOOKED_AT: u64 = 0;

fn failed(error: &io::Error) {
    tracing::error!(%error, "what this node follows by cannot be read or written");
}
