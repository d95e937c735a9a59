//! The last configurations that carpd has used, as text: `carpctl config log`, `carpctl rollback`. Of secrets they have
//! the names of the files only.

use super::clock;
use super::disk::{self, Staged};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Revisions that are kept. Policy: the oldest ones go.
pub const MOST: usize = 20;

/// Those of one instance: for each a file with the text, and one with time and origin.
#[derive(Clone, Debug)]
pub struct Revisions {
    folder: PathBuf,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Revision {
    /// Counts from 1.
    pub number: u32,
    /// When it was first used, seconds since 1970.
    pub at: u64,
    /// By what.
    pub origin: String,
}

impl Revisions {
    /// Of the instance of this name.
    pub fn of(instance: &str) -> Self {
        Self { folder: disk::state_of(instance).join("revisions") }
    }

    /// This text is used from now on. Nothing is written when it is that of the newest revision.
    ///
    /// # Errors
    /// What the file system says.
    pub fn record(&self, text: &str, origin: &str) -> io::Result<()> {
        let known = self.list()?;
        let newest = known.last().map(|newest| newest.number);
        if let Some(newest) = newest
            && self.text(newest)? == text
        {
            return Ok(());
        }
        disk::make(&self.folder)?;
        let number = newest.unwrap_or(0).saturating_add(1);
        let now = clock::seconds_since_1970();
        // One line: what a client called it ends there.
        let origin: String = origin.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Staged::write(&self.path(number, ORIGIN), &format!("{now} {origin}\n"), 0o600)?.settle()?;
        Staged::write(&self.file(number), text, 0o600)?.settle()?;
        let surplus = (known.len() + 1).saturating_sub(MOST);
        for old in known.iter().take(surplus) {
            fs::remove_file(self.file(old.number))?;
            let _ = fs::remove_file(self.path(old.number, ORIGIN));
        }
        Ok(())
    }

    /// All that are kept, the newest last.
    ///
    /// # Errors
    /// What the file system says.
    pub fn list(&self) -> io::Result<Vec<Revision>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let numbers = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(TEXT)?.parse::<u32>().ok()
        });
        let mut revisions = Vec::new();
        for number in numbers {
            let line = fs::read_to_string(self.path(number, ORIGIN)).unwrap_or_default();
            let (at, origin) = line.trim_end().split_once(' ').unwrap_or(("0", "unknown"));
            revisions.push(Revision { number, at: at.parse().unwrap_or(0), origin: origin.to_owned() });
        }
        revisions.sort_by_key(|revision| revision.number);
        Ok(revisions)
    }

    /// The configuration, as it was used.
    ///
    /// # Errors
    /// What the file system says, as when it is not kept any more.
    pub fn text(&self, number: u32) -> io::Result<String> {
        fs::read_to_string(self.file(number))
    }

    /// Where that is.
    pub fn file(&self, number: u32) -> PathBuf {
        self.path(number, TEXT)
    }

    fn path(&self, number: u32, suffix: &str) -> PathBuf {
        self.folder.join(format!("{number}{suffix}"))
    }
}

const TEXT: &str = ".toml";
const ORIGIN: &str = ".origin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_are_kept_each_with_its_origin_and_one_that_is_the_same_is_none() {
        let folder = std::env::temp_dir().join(format!("carp-revisions-{}", std::process::id()));
        let revisions = Revisions { folder: folder.clone() };
        assert_eq!(revisions.list().unwrap(), []);
        for number in 1..=23 {
            let text = format!("# mine\nnumber = {number}\n");
            revisions.record(&text, &format!("apply {number}\nby hand")).unwrap();
            revisions.record(&text, "reload").unwrap();
            assert_eq!(revisions.text(number).unwrap(), text);
        }
        let list = revisions.list().unwrap();
        let numbers: Vec<u32> = list.iter().map(|revision| revision.number).collect();
        assert_eq!(numbers, (4..=23).collect::<Vec<_>>());
        assert!(list.iter().all(|revision| revision.at > 0));
        assert_eq!(list[0].origin, "apply 4 by hand");
        assert!(revisions.text(3).is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2 * MOST);
        fs::remove_dir_all(folder).unwrap();
    }
}
