//! Programs that carpd starts for its tracks and hooks: as a named user, without carpd's files, variables, capabilities and
//! working directory, for a bounded time, and with a bounded part of what they say.

use super::privilege;
use super::raw::Ready;
use super::user::User;
use crate::config::Script;
use crate::config::script::{Asked, Unfit};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::fmt::Write as _;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use tokio::sync::oneshot;

/// Most bytes of what a program says that are kept: its first line as far as it fits. Policy: the rest is read and dropped,
/// so that a program that says much does not wait.
const MOST_SAID: usize = 200;
/// Bytes that are read at once.
const CHUNK: usize = 4096;
/// Most bytes that a program is given to read: as many as a pipe takes without anybody reading. Policy: more are an error.
const MOST_INPUT: usize = 4096;
/// Where programs that are named without a folder are looked for, by what is started.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// With exit code 0.
    pub well: bool,
    /// How, with the first line that it said.
    pub text: String,
}

/// Whether a script of the configuration can be what it is to be on this machine.
///
/// # Errors
/// What is wrong, and what to do.
pub fn examine(asked: Asked<'_>) -> Result<(), Unfit> {
    match asked {
        Asked::User(name) => User::find(name).map(drop).ok_or_else(|| Unfit {
            what: format!("there is no user \"{name}\""),
            help: "name one of /etc/passwd, or a number".to_owned(),
        }),
        Asked::Program(path) => {
            let name = path.display();
            let unfit = |what: String, help: String| Err(Unfit { what, help });
            let about = match std::fs::metadata(path) {
                Ok(about) => about,
                Err(error) => return unfit(format!("{name}: {error}"), "install it first".to_owned()),
            };
            let mode = about.permissions().mode();
            if !about.is_file() {
                unfit(format!("{name} is not a regular file"), "name a program".to_owned())
            } else if mode & 0o111 == 0 {
                unfit(
                    format!("{name} is not executable (mode {:04o})", mode & 0o7777),
                    format!("chmod +x {name}"),
                )
            } else if mode & 0o002 != 0 {
                unfit(
                    format!("everybody can write {name} (mode {:04o})", mode & 0o7777),
                    format!("chmod o-w {name}"),
                )
            } else {
                Ok(())
            }
        }
    }
}

/// Starts it, gives it this to read, and waits until it ends, or ends it when `end` is sent or dropped: with everything that it
/// has started and that has not left its process group.
pub async fn run(script: &Script, input: &[u8], end: oneshot::Receiver<()>) -> Ended {
    let failed = |error: io::Error| {
        let program = script.command.first().map_or("", String::as_str);
        Ended { well: false, text: format!("{program} cannot be started as {}: {error}", script.user) }
    };
    match Running::start(script, input) {
        Ok(running) => running.wait(end).await.unwrap_or_else(failed),
        Err(error) => failed(error),
    }
}

/// A program that has been started. Dropping it ends it.
struct Running {
    child: Child,
    /// Can be read once it has ended.
    exit: Ready,
    output: Ready,
    reader: PipeReader,
    said: Vec<u8>,
    is_over: bool,
}

impl Running {
    fn start(script: &Script, input: &[u8]) -> io::Result<Self> {
        let [program, words @ ..] = &script.command[..] else { return Err(io::ErrorKind::NotFound.into()) };
        if input.len() > MOST_INPUT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let (reader, writer) = io::pipe()?;
        fcntl_setfl(&reader, fcntl_getfl(&reader)? | OFlags::NONBLOCK)?;
        let output = Ready::new(reader.try_clone()?)?;
        let mut command = Command::new(program);
        command.args(words).current_dir("/").env_clear().env("PATH", PATH).env("LANG", "C").process_group(0);
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(writer.try_clone()?).stderr(writer);
        let user = User::find(&script.user).ok_or_else(|| io::Error::other("there is no such user"))?;
        if !user.is_this_process() {
            privilege::raise_for_programs()?;
            command.uid(user.uid).gid(user.gid);
        }
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        if let Some(mut stdin) = child.stdin.take() {
            // It fits into the pipe; one that does not read it loses nothing but that.
            let _ = stdin.write_all(input);
        }
        let exit = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from).and_then(Ready::new);
        match exit {
            Ok(exit) => Ok(Self { child, exit, output, reader, said: Vec::new(), is_over: false }),
            Err(error) => {
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = child.wait();
                Err(error)
            }
        }
    }

    async fn wait(mut self, mut end: oneshot::Receiver<()>) -> io::Result<Ended> {
        let mut is_told = false;
        let mut speaks = true;
        loop {
            tokio::select! {
                biased;
                ended = self.exit.read(has_ended) => break ended?,
                _ = &mut end, if !is_told => {
                    is_told = true;
                    self.kill();
                }
                more = listen(&self.output, &mut self.said), if speaks => speaks = more,
            }
        }
        // What it has left behind in its group goes, too. Its number is its own until it is waited for.
        self.kill();
        self.is_over = true;
        let status = self.child.wait()?;
        let mut rest = [0; CHUNK];
        while self.said.len() < MOST_SAID
            && let Ok(length @ 1..) = self.reader.read(&mut rest)
        {
            keep(&mut self.said, &rest[..length]);
        }
        Ok(Ended { well: status.success(), text: in_words(status, &self.said) })
    }

    fn kill(&self) {
        let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            self.kill();
        }
    }
}

/// Whether a process has ended, which its descriptor shows by being readable.
fn has_ended(fd: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Takes what it says; whether there can be more.
async fn listen(output: &Ready, said: &mut Vec<u8>) -> bool {
    let mut chunk = [0; CHUNK];
    let read = output.read(|fd| Ok(rustix::io::read(fd, &mut chunk)?)).await;
    match read {
        Ok(0) | Err(_) => false,
        Ok(length) => {
            keep(said, &chunk[..length.min(CHUNK)]);
            true
        }
    }
}

fn keep(said: &mut Vec<u8>, more: &[u8]) {
    let room = MOST_SAID.saturating_sub(said.len());
    said.extend(more.iter().take(room));
}

/// `exit code 3: no answer from 10.0.0.53`.
fn in_words(status: ExitStatus, said: &[u8]) -> String {
    let mut text = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let said = String::from_utf8_lossy(said);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if !line.is_empty() {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // Writing to a String cannot fail.
        let _ = write!(text, ": {line}");
    }
    text
}

#[cfg(test)]
mod tests;
