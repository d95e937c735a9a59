//! The shell of the node that is edited: a thread of its own, as calls to the peer take their time and the election does not wait.

mod calls;
mod view;

pub use view::View;

use super::book::{EditorBook, Shelf};
use super::talk::Told;
use crate::api::{Authority, Request, Response};
use crate::config::{ConfigSync, Sync};
use crate::io::clock;
use crate::proto::config_sync::coordinator::{self, Action, Coordinator, Event, News, Use, Wish};
use crate::proto::config_sync::{self as pair, Answer, Ticket};
use crate::remote::Door;
use anyhow::{Context, Result};
use calls::{NoAnswer, exchange, peer_text};
use std::collections::VecDeque;
use tokio::sync::{mpsc, oneshot, watch};
use view::Seen;

/// What people want and is not done yet. Policy when full: told to try again.
const WAITING: usize = 8;

/// What a start needs to know.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where the peer is, and this node.
    pub sync: Sync,
    /// How it follows.
    pub config_sync: ConfigSync,
    /// Name of this instance.
    pub node: String,
    /// Number of this start.
    pub epoch: u32,
    /// The daemon's door.
    pub door: Door,
}

/// The way to the thread. Dropping it ends that.
#[derive(Clone, Debug)]
pub struct Editor {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
    door: Door,
}

/// What is wanted to be used here.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The whole shared text.
    pub text: String,
    /// Of the sections that are pushed, in canonical form.
    pub hash: String,
    /// What it is applied by.
    pub origin: String,
}

enum Command {
    Want(Wish, Wanted, oneshot::Sender<Result<Vec<String>, News>>),
    Used(Result<(), String>, oneshot::Sender<News>),
    Confirm(oneshot::Sender<Result<Vec<String>, News>>),
    TakenBack,
    Push(oneshot::Sender<News>),
    PeerText(oneshot::Sender<Result<String, String>>),
}

impl Editor {
    /// Starts it, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there can be no thread, or what it writes down cannot be read.
    pub fn start(start: Start) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("making the thread that pushes the configuration")?;
        let (commands, receiver) = mpsc::channel(WAITING);
        let (view, seen) = watch::channel(View::default());
        let door = start.door.clone();
        let desk = Desk::new(start, view)?;
        std::thread::Builder::new()
            .name("editor".to_owned())
            .spawn(move || {
                runtime.block_on(desk.serve(receiver));
                runtime.shutdown_background();
            })
            .context("making the thread that pushes the configuration")?;
        Ok(Self { commands, view: seen, door })
    }

    /// What is known of the peer.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Waits until this may be used here; what it changes on the peer. With [`Wish::Rehearse`] nothing is used.
    ///
    /// # Errors
    /// Why not.
    pub async fn want(&self, wish: Wish, wanted: Wanted) -> Result<Vec<String>, News> {
        self.ask(|answer| Command::Want(wish, wanted, answer)).await?
    }

    /// What may be used was, or could not be; what has come of it.
    pub async fn used(&self, outcome: Result<(), String>) -> News {
        self.ask(|answer| Command::Used(outcome, answer)).await.unwrap_or_else(|news| news)
    }

    /// Waits until what was tried may be kept.
    ///
    /// # Errors
    /// Why not.
    pub async fn confirm(&self) -> Result<Vec<String>, News> {
        self.ask(Command::Confirm).await?
    }

    /// Has the daemon keep what was tried.
    pub async fn keep(&self) -> Response {
        self.door.ask(Request::Keep).await.unwrap_or_else(|fault| Response::Error { message: fault.message })
    }

    /// Has the daemon go back to what is in the file.
    pub async fn go_back(&self) {
        let _ = self.door.ask(Request::Reload { dry_run: false, by: Authority::Agreed }).await;
    }

    /// What was tried is not used any more.
    pub fn taken_back(&self) {
        let _ = self.commands.try_send(Command::TakenBack);
    }

    /// Pushes what is used here.
    pub async fn push(&self) -> News {
        self.ask(Command::Push).await.unwrap_or_else(|news| news)
    }

    /// The peer's shared text.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn peer_text(&self) -> Result<String, String> {
        self.ask(Command::PeerText).await.map_err(|_| STOPPING.to_owned())?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, News> {
        let stopping = || News::Neither(STOPPING.to_owned());
        let (sender, receiver) = oneshot::channel();
        self.commands.send(command(sender)).await.map_err(|_| stopping())?;
        receiver.await.map_err(|_| stopping())
    }
}

/// What comes of a call or of a use; and what the call of this number has shown.
type Heard = (Event, Option<(u64, Seen)>);

/// What the thread has.
struct Desk {
    start: Start,
    shelf: Shelf,
    machine: Coordinator,
    first: Vec<Action>,
    /// The number of the call made last: what others show is old.
    call: u64,
    view: watch::Sender<View>,
    wanted: Option<Wanted>,
    /// It is used until it is confirmed, and is wanted for so long.
    on_trial: bool,
    verdict: Option<oneshot::Sender<Result<Vec<String>, News>>>,
    news: Option<oneshot::Sender<News>>,
    pushed: Option<oneshot::Sender<News>>,
    /// From calls and from what is being used. No more wait there than calls are under way: the machine makes one at a time,
    /// and one that it has given up ends by its time limit.
    events: mpsc::UnboundedSender<Heard>,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Desk {
    fn new(start: Start, view: watch::Sender<View>) -> Result<Self> {
        let shelf = Shelf::of_editor(&start.node);
        let book: EditorBook = shelf.read().context("reading what is written down of pushes")?;
        let proposed = book.doubt.and_then(|ticket| std::fs::read_to_string(shelf.file(ticket)).ok());
        let revisions = crate::io::revisions::Revisions::of(&start.node);
        let newest = revisions.list()?.last().and_then(|newest| revisions.text(newest.number).ok());
        let is_in_file = proposed.is_some() && proposed == newest;
        let (machine, first) = Coordinator::start(
            start.config_sync.require_peer,
            book.into(),
            is_in_file,
            start.epoch,
            clock::now(),
        );
        let (events, heard) = mpsc::unbounded_channel();
        Ok(Self {
            start,
            shelf,
            machine,
            first,
            call: 0,
            view,
            wanted: None,
            on_trial: false,
            verdict: None,
            news: None,
            pushed: None,
            events,
            heard,
        })
    }

    async fn serve(mut self, mut commands: mpsc::Receiver<Command>) {
        let first = std::mem::take(&mut self.first);
        self.act(first);
        loop {
            let wait = self.machine.deadline().since(clock::now()).std();
            let event = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Some((event, seen)) = self.heard.recv() => {
                    if let Some((_, seen)) = seen.filter(|(call, _)| *call == self.call) {
                        self.view.send_modify(|view| view.see(seen));
                    }
                    Some(event)
                }
                () = tokio::time::sleep(wait) => Some(Event::Tick),
            };
            if let Some(event) = event {
                self.tell(event);
            }
            self.show();
        }
    }

    fn obey(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Want(wish, wanted, verdict) => {
                self.wanted = Some(wanted);
                self.verdict = Some(verdict);
                Some(Event::Wanted(wish))
            }
            Command::Used(outcome, news) => {
                self.news = Some(news);
                Some(Event::Used(outcome))
            }
            Command::Confirm(verdict) => {
                self.verdict = Some(verdict);
                self.on_trial = false;
                Some(Event::Confirmed)
            }
            Command::TakenBack => {
                (self.on_trial, self.wanted) = (false, None);
                Some(Event::TakenBack)
            }
            Command::Push(news) => {
                self.pushed = Some(news);
                Some(Event::Push)
            }
            Command::PeerText(answer) => {
                let start = self.start.clone();
                tokio::spawn(async move { answer.send(peer_text(&start).await) });
                None
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let actions = self.machine.handle(event, clock::now());
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Call(call, request) => self.call(call, request),
                Action::Write(journal) => match self.write(journal) {
                    Ok(()) => actions.extend(self.machine.handle(Event::Written, clock::now())),
                    // Nothing goes on without it; a start begins with what is on the disk.
                    Err(error) => tracing::error!(%error, "what is pushed cannot be written down"),
                },
                Action::Use(how) => self.make_use(how),
                Action::Tell(news) => self.say(news),
                Action::TellPushed(news) => {
                    self.pushed.take().map(|pushed| pushed.send(news));
                }
            }
        }
    }

    fn say(&mut self, news: News) {
        if !self.on_trial {
            self.wanted = None;
        }
        if let Some(verdict) = self.verdict.take() {
            let outcome = match news {
                News::Would(changes) => Ok(changes),
                news @ (News::Both(_) | News::Owed(_) | News::Neither(_) | News::Unsure) => Err(news),
            };
            let _ = verdict.send(outcome);
        } else if let Some(waits) = self.news.take() {
            let _ = waits.send(news);
        }
    }

    fn write(&self, journal: coordinator::Journal) -> std::io::Result<()> {
        let book = EditorBook::from(journal);
        if let (Some(ticket), Some(wanted)) = (book.doubt, &self.wanted) {
            self.shelf.put(ticket, &wanted.text)?;
        }
        self.shelf.write(&book)?;
        self.shelf.keep_only(book.doubt);
        Ok(())
    }

    fn make_use(&mut self, how: Use) {
        let ticket = match how {
            Use::Keep | Use::Try | Use::Confirm => {
                self.on_trial = how == Use::Try;
                if self.verdict.take().is_none_or(|verdict| verdict.send(Ok(Vec::new())).is_err()) {
                    let _ = self.events.send((Event::Used(Err(STOPPING.to_owned())), None));
                }
                return;
            }
            Use::Recover => self.machine.journal().doubt,
        };
        let Some(Ticket(ticket)) = ticket else { return };
        let (door, events, file) = (self.start.door.clone(), self.events.clone(), self.shelf.file(ticket));
        tokio::spawn(async move {
            let origin = "the other node uses it".to_owned();
            let request =
                Request::Apply { file, dry_run: false, confirm_s: None, origin, by: Authority::Agreed };
            let outcome = door.ask(request).await.map(drop).map_err(|fault| fault.message);
            let _ = events.send((Event::Used(outcome), None));
        });
    }

    fn call(&mut self, call: u64, request: pair::Request) {
        self.call = call;
        let (start, events, wanted) = (self.start.clone(), self.events.clone(), self.wanted.clone());
        tokio::spawn(async move {
            let (event, seen) = match exchange(&start, request, wanted).await {
                Ok((Told::Stands(there), here)) => {
                    let differs = here.is_some_and(|here| here.hash != there.hash);
                    (Event::Answered(call, Answer::Here), Seen::Stands { there, differs })
                }
                Ok((told, _)) => (Event::Answered(call, told.into()), Seen::Answers),
                Err(NoAnswer { why, is_unreached: true }) => (Event::Unreached(call), Seen::Away(why)),
                Err(NoAnswer { why, is_unreached: false }) => (Event::Unanswered(call), Seen::Away(why)),
            };
            let _ = events.send((event, Some((call, seen))));
        });
    }

    fn show(&self) {
        let journal = self.machine.journal();
        self.view.send_modify(|view| {
            view.owed = journal.owed;
            view.in_doubt = journal.doubt.is_some();
            view.refusal = self.machine.refusal().map(str::to_owned);
        });
    }
}

const STOPPING: &str = "carpd is stopping";
