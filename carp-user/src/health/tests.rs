use super::*;
use crate::config::Script;
use crate::config::track::Probe;

fn track(name: &str, text: &str) -> Track {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    let user = rustix::process::geteuid().as_raw().to_string();
    let probe = Probe::Script { name: name.to_owned(), script: Script { command, user } };
    Track { name: name.to_owned(), probe, demote: 50, interval: 100, timeout: 10_000, rise: 1, fall: 1 }
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
    let mut health = Health::start(vec![track("file", &text)]).unwrap();
    let first = loop {
        let commands = told(&mut health);
        if !commands.is_empty() {
            break commands;
        }
    };
    assert_eq!(first, [demote("track file", 50, "exit code 4: it is there")]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(told(&mut health), [Command::Undemote { name: "track file".to_owned() }]);

    health.set(&[track("file", &text), track("other", "exit 1")]);
    let second = loop {
        let commands = told(&mut health);
        if !commands.is_empty() {
            break commands;
        }
    };
    assert_eq!(second, [demote("track other", 50, "exit code 1")]);
    health.set(&[Track { demote: 9, ..track("other", "exit 1") }]);
    assert_eq!(told(&mut health), [demote("track other", 9, "exit code 1")]);
    health.set(&[]);
    assert_eq!(told(&mut health), [Command::Undemote { name: "track other".to_owned() }]);
}

#[test]
fn dropping_it_ends_what_hangs() {
    let health = Health::start(vec![track("hangs", "sleep 1000")]).unwrap();
    drop(health);
}
