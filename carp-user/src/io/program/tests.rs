use super::*;
use crate::config::Script;

fn shell(text: &str) -> Script {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    Script { command, user: rustix::process::geteuid().as_raw().to_string() }
}

fn ran(text: &str, input: &[u8], is_ended: bool) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let (end, ended) = oneshot::channel();
    let end = (!is_ended).then_some(end);
    let outcome = runtime.block_on(run(&shell(text), input, ended));
    drop(end);
    outcome
}

#[test]
fn an_exit_code_and_the_first_line_are_told() {
    assert_eq!(ran("exit 0", b"", false), Ended { well: true, text: "exit code 0".into() });
    let said = ran("echo; printf 'no\\tanswer \\n more' >&2; exit 3", b"", false);
    assert_eq!(said, Ended { well: false, text: "exit code 3: no answer".into() });
    assert_eq!(ran("kill -9 $$", b"", false).text, "killed by signal 9");
}

#[test]
fn what_is_kept_is_bounded_and_one_that_says_much_still_ends() {
    let said = ran("head -c 3000000 /dev/zero | tr '\\0' x", b"", false);
    assert!(said.well && said.text == format!("exit code 0: {}", "x".repeat(MOST_SAID)), "{said:?}");
}

#[test]
fn one_that_is_ended_goes_with_what_it_started() {
    let said = ran("sleep 1000 & echo $!; sleep 1000", b"", true);
    assert!(!said.well && said.text.starts_with("killed by signal 9"), "{said:?}");
    // One that ends by itself takes along what it has left in its group.
    let said = ran("sleep 1000 >/dev/null 2>&1 & echo $!", b"", false);
    let pid = said.text.rsplit(' ').next().unwrap_or_default().to_owned();
    assert!(said.well && pid.parse::<u32>().is_ok(), "{said:?}");
    let lives = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !(stat.is_empty() || stat.contains(") Z ") || stat.contains(") X "))
    };
    // It has been killed, and needs a moment for that.
    let end = crate::io::clock::now() + carp_common::time::Span::secs(10);
    while lives() && crate::io::clock::now() < end {
        std::thread::yield_now();
    }
    assert!(!lives(), "{pid} is still there");
}

#[test]
fn it_has_nothing_of_ours_but_what_it_is_given_to_read() {
    // Who runs the tests may have left some open.
    crate::io::raw::keep_open_files_from_programs();
    assert_eq!(ran("cat", b"{\"role\":\"MASTER\"}", false).text, "exit code 0: {\"role\":\"MASTER\"}");
    assert_eq!(
        ran("exec true", &[b'x'; MOST_INPUT], false).text,
        "exit code 0",
        "who does not read is not waited for"
    );
    assert_eq!(ran("env | sort | tr '\\n' ' '; pwd", b"", false).text.matches("CARGO").count(), 0);
    assert_eq!(ran("ls /proc/self/fd | wc -l", b"", false).text, "exit code 0: 4", "three and that of ls");
    let missing = Script { command: vec!["/nowhere".into()], ..shell("") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let (_end, ended) = oneshot::channel();
    let said = runtime.block_on(run(&missing, b"", ended)).text;
    assert!(said.starts_with("/nowhere cannot be started as"), "{said}");
}

#[test]
fn a_program_that_cannot_be_started_or_that_everybody_can_write_is_not_fit() {
    let folder = std::env::temp_dir().join(format!("carp-program-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("check");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let what = |mode: u32| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        examine(Asked::Program(&file)).err().map(|unfit| unfit.help)
    };
    let name = file.display();
    assert_eq!(what(0o644), Some(format!("chmod +x {name}")));
    assert_eq!(what(0o757), Some(format!("chmod o-w {name}")));
    assert_eq!(what(0o755), None);
    assert!(examine(Asked::Program(&folder)).unwrap_err().what.ends_with("is not a regular file"));
    assert!(examine(Asked::Program(&folder.join("none"))).is_err());
    assert!(examine(Asked::User("no-such-user")).is_err() && examine(Asked::User("root")).is_ok());
    std::fs::remove_dir_all(&folder).unwrap();
}
