//! Whether a process runs, by its name or by a file with its number.

use std::fs;
use std::path::Path;

/// Processes are looked at up to this one. Policy for more: those behind are not found.
const MOST: usize = 65_536;
/// Names are as long in the kernel (`TASK_COMM_LEN`, without the NUL).
const MOST_NAME: usize = 15;

/// Whether it runs: `what` is a name as in `/proc/PID/comm`, or the path of a file with a number.
///
/// # Errors
/// Why not, in words.
pub fn runs(what: &str) -> Result<String, String> {
    if !what.starts_with('/') {
        let name: &str = what.get(..MOST_NAME).unwrap_or(what);
        let found = all().find(|pid| comm(pid).is_some_and(|comm| comm == name) && is_alive(pid));
        return found
            .map(|pid| format!("process {pid}"))
            .ok_or_else(|| format!("no process is called {name}"));
    }
    let text = fs::read_to_string(Path::new(what)).map_err(|error| format!("{what}: {error}"))?;
    let number: Option<u32> = text.trim().parse().ok();
    match number.map(|number| number.to_string()) {
        None => Err(format!("{what} has no number of a process")),
        Some(pid) if is_alive(&pid) => Ok(format!("process {pid}")),
        Some(pid) => Err(format!("process {pid} does not run")),
    }
}

fn all() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten().take(MOST);
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    entries.filter_map(name).filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

fn comm(pid: &str) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end_matches('\n').to_owned())
}

/// There, and no zombie. The state stands behind the name, which may have any character.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_name_and_by_file() {
        let own = comm(&std::process::id().to_string()).unwrap();
        assert!(runs(&own).is_ok() && runs("no-such-process").is_err());
        let file = std::env::temp_dir().join(format!("carp-pid-{}", std::process::id()));
        let path = file.to_str().unwrap();
        let with = |text: &str| {
            fs::write(&file, text).unwrap();
            runs(path)
        };
        assert_eq!(with(&format!("{}\n", std::process::id())), Ok(format!("process {}", std::process::id())));
        assert_eq!(with("4194305\n"), Err("process 4194305 does not run".into()), "more than there can be");
        assert!(with("../1").unwrap_err().ends_with("has no number of a process"));
        fs::remove_file(&file).unwrap();
        assert!(runs(path).unwrap_err().contains("No such file"));
    }
}
