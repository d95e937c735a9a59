use super::*;
use crate::config::Script;
use crate::config::track::Probe;

fn track(name: &str, text: &str) -> Track {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    let user = rustix::process::geteuid().as_raw().to_string();
    let probe = Probe::Script { name: name.to_owned(), script: Script { command, user } };
    Track { name: name.to_owned(), probe, demote: 50, interval: 100, timeout: 10_000, rise: 1, fall: 1 }
}

fn wanted(tracks: Vec<Track>) -> Wanted {
    Wanted { node: "gw1".to_owned(), tracks, hooks: Vec::new() }
}

/// What the node is told next.
fn told(health: &mut Health) -> Vec<Command> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(changed(Some(health)));
    health.commands()
}

fn demote(name: &str, amount: u8, reason: &str) -> Command {
    Command::Demote { name: name.to_owned(), amount, reason: reason.to_owned(), until: None }
}

#[test]
fn a_script_that_fails_demotes_and_the_demotion_goes_with_the_failure_or_with_the_track() {
    let file = std::env::temp_dir().join(format!("carp-health-{}", std::process::id()));
    std::fs::write(&file, "").unwrap();
    let text = format!("test ! -e {} || {{ echo it is there; exit 4; }}", file.display());
    let mut health = Health::begin(wanted(vec![track("file", &text)]), Worst::default()).unwrap();
    let first = loop {
        let commands = told(&mut health);
        if !commands.is_empty() {
            break commands;
        }
    };
    assert_eq!(first, [demote("track file", 50, "exit code 4: it is there")]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(told(&mut health), [Command::Undemote { name: "track file".to_owned() }]);

    health.want(wanted(vec![track("file", &text), track("other", "exit 1")]));
    let second = loop {
        let commands = told(&mut health);
        if !commands.is_empty() {
            break commands;
        }
    };
    assert_eq!(second, [demote("track other", 50, "exit code 1")]);
    health.want(wanted(vec![Track { demote: 9, ..track("other", "exit 1") }]));
    assert_eq!(told(&mut health), [demote("track other", 9, "exit code 1")]);
    health.want(wanted(vec![]));
    assert_eq!(told(&mut health), [Command::Undemote { name: "track other".to_owned() }]);
}

#[test]
fn dropping_it_ends_what_hangs() {
    let health = Health::begin(wanted(vec![track("hangs", "sleep 1000")]), Worst::default()).unwrap();
    drop(health);
}

#[test]
fn hooks_are_told_of_the_newest_states_and_of_the_last_ones_before_the_end() {
    let file = std::env::temp_dir().join(format!("carp-hooks-{}", std::process::id()));
    let command = ["/bin/sh", "-c", &format!("cat >> {}", file.display())].map(str::to_owned).to_vec();
    let user = rustix::process::geteuid().as_raw().to_string();
    let hook = Hook {
        name: "tell".to_owned(),
        script: Script { command, user },
        timeout: 10_000,
        when: When::Notify,
    };
    let health = Health::begin(Wanted { hooks: vec![hook], ..wanted(vec![]) }, Worst::default()).unwrap();
    assert!(health.has_hooks());
    let role = |role| move |state: &mut State| state.role = role;
    health.tell("lan0@1", role("BACKUP"));
    health.tell("lan0@1", role("BACKUP"));
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    while read().is_empty() {
        std::thread::yield_now();
    }
    health.tell("lan0@1", role("MASTER"));
    health.tell("lan0@1", |state| state.serving = true);
    health.tell("lan0@1", |state| (state.role, state.serving) = ("INIT", false));
    drop(health);
    let told = read();
    std::fs::remove_file(&file).unwrap();
    let first = told.lines().next().unwrap_or_default();
    let last = told.lines().last().unwrap_or_default();
    assert!(first.contains("\"role\":\"BACKUP\"") && first.contains("\"before\":null"), "{told}");
    assert!(last.contains("\"role\":\"INIT\"") && (2..=4).contains(&told.lines().count()), "{told}");
}

#[test]
fn a_thread_that_has_ended_leaves_no_demotion_behind() {
    let (tell, findings) = watch::channel(Vec::new());
    let (wanted, states) = (watch::channel(Wanted::default()).0, watch::channel(States::default()).0);
    let placed = BTreeMap::from([("track dns".to_owned(), 50)]);
    let (questions, answers) = (watch::channel(Questions::new()).0, watch::channel(Answers::new()).1);
    let mut health =
        Health { wanted, states, questions, answers, heard: BTreeMap::new(), findings, placed, thread: None };
    drop(tell);
    assert_eq!(told(&mut health), [Command::Undemote { name: "track dns".to_owned() }]);
}
