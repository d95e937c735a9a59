//! Hooks that are told of what became of a virtual host: one at a time of each virtual host, in the order of the configuration.
//! What is kept of a virtual host is its newest state, so a hook that lags learns of that and not of each one before it.
//!
//! A value with one door: [`Notices::handle`].

use std::collections::{BTreeMap, BTreeSet};

/// Most virtual hosts that something is kept of: twice as many as a node has, as some come while others go. Policy when full: of
/// the new ones nothing is told.
pub const MOST: usize = 2 * carp_common::map::MAX_HOSTS as usize;

/// Most hooks that run at a time. Policy when full: the others wait, and then tell of the newest state.
pub const AT_ONCE: usize = 16;

/// How a virtual host is; whose number is higher is newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice<S> {
    /// Counts up.
    pub number: u64,
    /// What a hook is told.
    pub state: S,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event<S> {
    /// These are the hooks, by name, in their order.
    Hooks(Vec<String>),
    /// The newest state of a virtual host.
    State(String, Notice<S>),
    /// The hook that was run for this virtual host has ended.
    Ended(String),
}

/// Run a hook, and tell when it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run<S> {
    /// The hook.
    pub hook: String,
    /// The virtual host.
    pub host: String,
    /// Its state.
    pub state: S,
    /// The one that this hook was told of before, if it was.
    pub before: Option<S>,
}

/// All that is to be told.
#[derive(Debug)]
pub struct Notices<S> {
    hooks: Vec<String>,
    hosts: BTreeMap<String, Host<S>>,
}

#[derive(Debug)]
struct Host<S> {
    newest: Notice<S>,
    /// What each hook was told last.
    told: BTreeMap<String, Notice<S>>,
    is_running: bool,
}

impl<S> Default for Notices<S> {
    fn default() -> Self {
        Self { hooks: Vec::new(), hosts: BTreeMap::new() }
    }
}

impl<S: Clone> Notices<S> {
    /// The one door: something happened, these are to be run.
    pub fn handle(&mut self, event: Event<S>) -> Vec<Run<S>> {
        match event {
            Event::Hooks(hooks) => {
                let known: BTreeSet<&String> = hooks.iter().collect();
                self.hosts.values_mut().for_each(|host| host.told.retain(|hook, _| known.contains(hook)));
                self.hooks = hooks;
            }
            Event::State(name, notice) => {
                let has_room = self.hosts.len() < MOST;
                match self.hosts.get_mut(&name) {
                    Some(host) if host.newest.number < notice.number => host.newest = notice,
                    None if has_room => {
                        let host = Host { newest: notice, told: BTreeMap::new(), is_running: false };
                        self.hosts.insert(name, host);
                    }
                    Some(_) | None => {}
                }
            }
            Event::Ended(name) => {
                if let Some(host) = self.hosts.get_mut(&name) {
                    host.is_running = false;
                }
            }
        }
        self.next()
    }

    /// Whether every hook has been told of everything.
    pub fn is_done(&self) -> bool {
        self.hosts.values().all(|host| !host.is_running && host.due(&self.hooks).is_none())
    }

    fn next(&mut self) -> Vec<Run<S>> {
        let running = self.hosts.values().filter(|host| host.is_running).count();
        let mut runs = Vec::new();
        for (name, host) in self.hosts.iter_mut().filter(|(_, host)| !host.is_running) {
            if running + runs.len() >= AT_ONCE {
                break;
            }
            let Some(hook) = host.due(&self.hooks) else { continue };
            let before = host.told.insert(hook.clone(), host.newest.clone()).map(|notice| notice.state);
            host.is_running = true;
            runs.push(Run { hook, host: name.clone(), state: host.newest.state.clone(), before });
        }
        runs
    }
}

impl<S> Host<S> {
    /// The first hook that has not been told of the newest state.
    fn due(&self, hooks: &[String]) -> Option<String> {
        let knows = |hook: &String| self.told.get(hook).is_some_and(|told| told.number >= self.newest.number);
        hooks.iter().find(|hook| !knows(hook)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(names: &[&str]) -> Event<&'static str> {
        Event::Hooks(names.iter().map(|&name| name.to_owned()).collect())
    }

    fn state(host: &str, number: u64, state: &'static str) -> Event<&'static str> {
        Event::State(host.to_owned(), Notice { number, state })
    }

    fn ended(host: &str) -> Event<&'static str> {
        Event::Ended(host.to_owned())
    }

    /// What is run, in short.
    fn runs(notices: &mut Notices<&'static str>, event: Event<&'static str>) -> Vec<String> {
        let runs = notices.handle(event).into_iter();
        runs.map(|run| format!("{} {}: {:?} -> {}", run.hook, run.host, run.before, run.state)).collect()
    }

    #[test]
    fn hooks_are_run_one_after_the_other_for_each_virtual_host_and_at_the_same_time_for_several() {
        let mut notices = Notices::default();
        assert!(runs(&mut notices, hooks(&["a", "b"])).is_empty() && notices.is_done());
        assert_eq!(runs(&mut notices, state("lan", 1, "BACKUP")), ["a lan: None -> BACKUP"]);
        assert_eq!(runs(&mut notices, state("wan", 2, "BACKUP")), ["a wan: None -> BACKUP"]);
        assert_eq!(runs(&mut notices, ended("lan")), ["b lan: None -> BACKUP"]);
        assert!(runs(&mut notices, ended("lan")).is_empty() && !notices.is_done());
        assert_eq!(runs(&mut notices, ended("wan")), ["b wan: None -> BACKUP"]);
        assert!(runs(&mut notices, ended("wan")).is_empty() && notices.is_done());
    }

    #[test]
    fn one_that_lags_learns_of_the_newest_state_and_of_the_one_that_it_knew() {
        let mut notices = Notices::default();
        runs(&mut notices, hooks(&["a", "b"]));
        runs(&mut notices, state("lan", 1, "BACKUP"));
        for (number, now) in [(2, "MASTER"), (3, "BACKUP"), (4, "INIT"), (3, "BACKUP")] {
            assert!(runs(&mut notices, state("lan", number, now)).is_empty(), "it still runs");
        }
        assert_eq!(runs(&mut notices, ended("lan")), ["a lan: Some(\"BACKUP\") -> INIT"]);
        assert_eq!(runs(&mut notices, ended("lan")), ["b lan: None -> INIT"]);
    }

    #[test]
    fn a_hook_that_comes_is_told_how_things_are_and_one_that_goes_is_forgotten() {
        let mut notices = Notices::default();
        assert!(runs(&mut notices, state("lan", 1, "MASTER")).is_empty() && notices.is_done());
        assert_eq!(runs(&mut notices, hooks(&["a"])), ["a lan: None -> MASTER"]);
        runs(&mut notices, ended("lan"));
        assert!(runs(&mut notices, hooks(&["a"])).is_empty());
        runs(&mut notices, hooks(&[]));
        assert_eq!(runs(&mut notices, hooks(&["a"])), ["a lan: None -> MASTER"]);
    }

    #[test]
    fn not_all_run_at_once_and_nobody_is_left_out() {
        let mut notices = Notices::default();
        runs(&mut notices, hooks(&["a"]));
        let names: Vec<String> = (0..AT_ONCE + 1).map(|number| format!("h{number:02}")).collect();
        let begun: usize = names.iter().map(|name| runs(&mut notices, state(name, 1, "BACKUP")).len()).sum();
        assert_eq!(begun, AT_ONCE);
        assert_eq!(runs(&mut notices, ended("h03")), ["a h16: None -> BACKUP"]);
    }
}
