//! One configuration on two nodes, as far as the daemon has a hand in it: what is applied here waits until the node that follows has
//! it, and on that node only what is pushed is used.

use super::Daemon;
use super::keeping::recorded;
use super::reload::{Outcome, Ready, Wish};
use crate::api::{Authority, ConfigPeer, ConfigState, Response, Shared};
use crate::config::Config;
use crate::config::sections::{self, SECTIONS, Section};
use crate::pair_config::book::{FollowerBook, Pushed, Shelf};
use crate::pair_config::editor::{Editor, Wanted};
use crate::pair_config::talk::Standing;
use crate::proto::config_sync::coordinator::{News, Wish as Asked};
use anyhow::{Result, anyhow, bail};
use carp_common::time::{Instant, Span};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// For so long what is tried is not taken back while the other node is asked.
const ASKING: Span = Span::secs(60);
/// Longest that a new start waits for the node that follows. Policy after it: it goes on, and that one serves when it may.
const SPARED: Span = Span::secs(10);

/// What is remembered of the configuration.
#[derive(Debug)]
pub(super) struct Pair {
    /// The shared text that is used.
    pub text: String,
    /// Of the sections that are pushed.
    pub hash: String,
    /// Where it came from, on a node that follows.
    pub pushed: Option<Pushed>,
    /// The node that this one follows, as it has told.
    pub editor: Option<(Standing, Instant)>,
    /// The newest revision: number and origin.
    pub newest: watch::Sender<(u32, String)>,
    /// The editor waits to be told whether something is used.
    pub is_awaited: bool,
}

impl Pair {
    /// Of a start.
    pub fn of(config: &Config) -> Self {
        let book = Shelf::of_follower(&config.node.name).read::<FollowerBook>();
        let pushed = book.unwrap_or_else(|error| {
            tracing::warn!(%error, "what this node follows by cannot be read");
            FollowerBook::default()
        });
        let pushed = pushed.used.filter(|_| config.config_sync.is_none());
        let (text, hash, newest) = (String::new(), String::new(), watch::Sender::new((0, String::new())));
        Self { text, hash, pushed, editor: None, newest, is_awaited: false }
    }
}

impl Daemon {
    /// The sections that go from one node to the other.
    pub(super) fn sections(&self) -> Vec<&'static Section> {
        match (&self.config.config_sync, &self.pair.pushed) {
            (Some(config_sync), _) => config_sync.sections.clone(),
            (None, Some(pushed)) => sections::named(&pushed.sections),
            (None, None) => SECTIONS.iter().collect(),
        }
    }

    /// This text is used from now on.
    pub(super) fn remember(&mut self, text: &str) {
        text.clone_into(&mut self.pair.text);
        self.pair.hash = sections::hash(&self.config, &self.sections());
    }

    /// This text is used and kept; it may have been pushed.
    pub(super) fn came_from(&mut self, pushed: Option<Pushed>, text: &str) {
        let is_pushed = pushed.is_some();
        self.pair.pushed = pushed.or_else(|| self.pair.pushed.take());
        self.remember(text);
        if let (true, Some(pushed)) = (is_pushed, &mut self.pair.pushed) {
            pushed.own.clone_from(&self.pair.hash);
        }
    }

    /// What is used, for whoever compares.
    pub(super) fn shared(&self, names: &[String]) -> Shared {
        let asked = sections::named(names);
        // Known, as a rule: the other node asks again and again.
        let is_known = asked == self.sections();
        let hash = if is_known { self.pair.hash.clone() } else { sections::hash(&self.config, &asked) };
        let (revision, origin) = self.pair.newest.borrow().clone();
        Shared {
            text: self.pair.text.clone(),
            hash,
            revision,
            origin,
            node_skew: self.config.node.skew,
            pushes: self.config.config_sync.is_some(),
            pushed: self.pair.pushed.clone(),
            changed: self.is_changed(),
        }
    }

    /// Whether this may be used on this node in this name.
    pub(super) fn admit(&self, ready: &Ready, wish: &Wish) -> Result<()> {
        match (&wish.by, self.following()) {
            (Authority::Here, Some(pushed)) if ready.hash != self.pair.hash && !wish.dry_run => bail!(
                "the configuration of this node comes from {}: change it there, or say --local to have this node differ",
                pushed.node
            ),
            (Authority::Here | Authority::Local | Authority::Pushed(_) | Authority::Agreed, _) => Ok(()),
        }
    }

    /// Whether the node that follows has to be asked first.
    pub(super) fn needs_agreement(&self, ready: &Ready, wish: &Wish) -> bool {
        let is_ours = matches!(wish.by, Authority::Here | Authority::Local);
        let is_back = self.unconfirmed.is_some() && wish.file.is_none();
        let pushes = self.config.config_sync.as_ref().is_some_and(|config_sync| config_sync.on_apply);
        is_ours && !is_back && pushes && ready.agreed.is_none() && ready.hash != self.pair.hash
    }

    /// Asks it.
    pub(super) fn agree(&self, ready: Ready, wish: &Wish) -> JoinHandle<Result<Ready>> {
        let asked = match (wish.dry_run, wish.confirm) {
            (true, _) => Asked::Rehearse,
            (false, Some(within)) => Asked::Try(within),
            (false, None) => Asked::Apply,
        };
        let wanted =
            Wanted { text: ready.text.clone(), hash: ready.hash.clone(), origin: wish.origin.clone() };
        let editor = self.shells.editor.clone();
        tokio::spawn(async move {
            let Some(editor) = editor else { return Ok(ready.agreed(Vec::new())) };
            match editor.want(asked, wanted).await {
                Ok(changes) => Ok(ready.agreed(of_peer(&changes))),
                Err(news) => Err(anyhow!(refused(&news, &editor))),
            }
        })
    }

    /// Whether this node serves, and the one that follows may just have started anew for the same.
    pub(super) fn is_to_be_spared(&self, ready: &Ready, wish: &Wish) -> bool {
        ready.agreed.is_some() && !ready.is_spared && !wish.dry_run && !self.serving.is_empty()
    }

    /// Waits until that one can be handed what this node serves without a gap: it has to have listened for a lease before.
    pub(super) fn spare(&self, ready: Ready) -> JoinHandle<Result<Ready>> {
        let lease = self.config.hosts.iter().map(|host| host.pace.lease()).max().unwrap_or_default();
        tokio::spawn(async move {
            tokio::time::sleep(lease.min(SPARED).std()).await;
            Ok(Ready { is_spared: true, ..ready })
        })
    }

    /// Answers; when the node that follows has been asked, once it is known what has come of it.
    pub(super) fn report(
        &mut self,
        response: Response,
        answer: Option<oneshot::Sender<Response>>,
        outcome: &Outcome,
    ) {
        let is_awaited = std::mem::take(&mut self.pair.is_awaited);
        match (&self.shells.editor, outcome) {
            (Some(editor), Outcome::Stays) if is_awaited => {
                let (editor, recording) = (editor.clone(), self.recording.take());
                tokio::spawn(async move {
                    let response = settled(&editor, response).await;
                    recorded(recording).await;
                    answer.map(|answer| answer.send(response));
                });
            }
            // A new start looks at what was written down.
            (Some(_) | None, Outcome::Stays | Outcome::StartAnew(_)) => {
                if let Some(answer) = answer {
                    self.answer_recorded(response, answer);
                }
            }
        }
    }

    /// Keeps what was tried, on both nodes.
    pub(super) fn confirm_both(&mut self, answer: oneshot::Sender<Response>) {
        let is_tried = self.unconfirmed.is_some();
        let editor = self.shells.editor.clone().filter(|_| is_tried && self.pushes_on_apply());
        let Some(editor) = editor else {
            let response = self.confirm();
            return self.answer_recorded(response, answer);
        };
        self.extend_trial(ASKING);
        tokio::spawn(async move {
            let response = match editor.confirm().await {
                Ok(_) => {
                    let response = editor.keep().await;
                    settled(&editor, response).await
                }
                Err(news) => {
                    editor.go_back().await;
                    Response::Error { message: refused(&news, &editor) }
                }
            };
            let _ = answer.send(response);
        });
    }

    /// What was tried is not used any more.
    pub(super) fn forget_trial(&self) {
        if let Some(editor) = &self.shells.editor {
            editor.taken_back();
        }
    }

    /// Pushes what is used.
    pub(super) fn push(&self, answer: oneshot::Sender<Response>) {
        let Some(editor) = self.shells.editor.clone() else {
            let _ = answer.send(no_config_sync());
            return;
        };
        tokio::spawn(async move {
            let response = match editor.push().await {
                News::Both(changes) | News::Would(changes) => {
                    Response::Reloaded { changes: of_peer(&changes), new_start: None }
                }
                news @ (News::Owed(_) | News::Neither(_) | News::Unsure) => {
                    Response::Error { message: refused(&news, &editor) }
                }
            };
            let _ = answer.send(response);
        });
    }

    /// The peer's text.
    pub(super) fn peer_text(&self, answer: oneshot::Sender<Response>) {
        let Some(editor) = self.shells.editor.clone() else {
            let _ = answer.send(no_config_sync());
            return;
        };
        tokio::spawn(async move {
            let response = match editor.peer_text().await {
                Ok(text) => Response::Text { text },
                Err(message) => Response::Error { message },
            };
            let _ = answer.send(response);
        });
    }

    /// For the status.
    pub(super) fn config_state(&self, now: Instant) -> Option<ConfigState> {
        let (revision, origin) = self.pair.newest.borrow().clone();
        if let Some(editor) = self.shells.editor.as_ref().filter(|_| self.config.config_sync.is_some()) {
            let view = editor.view();
            let peer = view.peer.map(|(standing, at)| of(standing, now.since(at)));
            let differs = peer.as_ref().is_some_and(|peer| peer.hash != self.pair.hash);
            let amiss = [
                differs.then(|| {
                    "the nodes differ: see `carpctl config diff peer`, then `carpctl config push`".to_owned()
                }),
                view.away.map(|why| format!("the other node does not answer: {why}")),
                view.owed.then(|| "it is to go to the other node yet".to_owned()),
                view.refusal.map(|why| format!("the other node refuses it: {why}")),
                view.in_doubt.then(|| "whether the other node uses the last change is not known".to_owned()),
            ];
            let amiss = amiss.into_iter().flatten().collect();
            let (part, hash) = ("primary".to_owned(), self.pair.hash.clone());
            return Some(ConfigState { part, hash, revision, origin, peer, amiss });
        }
        let pushed = self.following()?;
        let is_changed = self.is_changed();
        let hash = if is_changed { self.pair.hash.clone() } else { pushed.hash.clone() };
        let amiss = is_changed.then(|| format!("it was changed here since {} pushed it", pushed.node));
        let (part, amiss) = ("secondary".to_owned(), amiss.into_iter().collect());
        let peer = self.pair.editor.clone().map(|(standing, at)| of(standing, now.since(at)));
        Some(ConfigState { part, hash, revision, origin, peer, amiss })
    }

    fn following(&self) -> Option<&Pushed> {
        self.pair.pushed.as_ref().filter(|_| self.config.config_sync.is_none())
    }

    fn is_changed(&self) -> bool {
        self.following().is_some_and(|pushed| pushed.own != self.pair.hash)
    }

    fn pushes_on_apply(&self) -> bool {
        self.config.config_sync.as_ref().is_some_and(|config_sync| config_sync.on_apply)
    }
}

fn of(standing: Standing, age: Span) -> ConfigPeer {
    let Standing { node, hash, revision, origin, changed: _ } = standing;
    ConfigPeer { node, hash, revision, origin, age_ms: age.as_millis() }
}

async fn settled(editor: &Editor, mut response: Response) -> Response {
    let outcome = response.clone().or_error().map(drop);
    let more = match editor.used(outcome).await {
        News::Both(changes) => of_peer(&changes),
        News::Owed(why) => vec![format!("the other node gets it when it can: {}", reason(&why, editor))],
        News::Neither(_) | News::Would(_) | News::Unsure => Vec::new(),
    };
    if let Response::Reloaded { changes, .. } = &mut response {
        changes.extend(more);
    }
    response
}

/// Each line as one of the other node.
fn of_peer(changes: &[String]) -> Vec<String> {
    changes.iter().map(|line| format!("on the other node: {line}")).collect()
}

fn refused(news: &News, editor: &Editor) -> String {
    match news {
        News::Neither(why) => format!("neither node uses it: {}", reason(why, editor)),
        News::Owed(why) => format!("the other node does not take it: {}", reason(why, editor)),
        News::Unsure => {
            "the other node stopped to answer in the middle: this node uses what it had, and goes where the \
                         other one is once that answers"
                .to_owned()
        }
        News::Both(_) | News::Would(_) => String::new(),
    }
}

/// With what a call has shown.
fn reason(why: &str, editor: &Editor) -> String {
    match editor.view().away {
        Some(away) => format!("{why} ({away})"),
        None => why.to_owned(),
    }
}

fn no_config_sync() -> Response {
    Response::Error { message: "no node follows this one: see [config_sync] in docs/config.md".to_owned() }
}
