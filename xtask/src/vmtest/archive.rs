//! Which kernels Debian has now: apt with lists of its own in the cache, so that the system's sources stay as they
//! are and nobody has to be root.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Series;
use crate::command::{cache_dir, capture, is_root, run, which};

/// Small suites only (0.5 MB each, a full one has 10): between them they have all series that we want.
const SUITES: [(Repository, &str); 5] = [
    (Repository::Security, "bullseye-security"),
    (Repository::Security, "bookworm-security"),
    (Repository::Security, "trixie-security"),
    (Repository::Main, "bookworm-backports"),
    (Repository::Main, "trixie-backports"),
];
/// What to do without a network.
const ONLINE: &str = "Kernels come from Debian's mirrors: run this again with a network (behind a proxy with http_proxy set). A \
    kernel that has been fetched once is kept and works offline.";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How old the lists may be.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// Kernels without the drivers of real machines, of which the tests need none: a fifth of the size.
const FLAVOUR: &str = "-cloud-amd64";
/// In KiB; a smaller image is an empty shell whose kernel is in other packages.
const SELF_CONTAINED: u64 = 1000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Repository {
    Main,
    Security,
}

/// The private apt, with its lists read.
pub struct Archive {
    config: PathBuf,
    packages: Vec<Package>,
}

/// A package of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// `linux-image-6.1.0-56-cloud-amd64`
    pub name: String,
    /// `6.1.192-2`
    pub version: String,
    /// KiB.
    installed_size: u64,
    /// Those of its dependencies that take exactly one version: name and version.
    parts: Vec<(String, String)>,
}

impl Archive {
    /// Refreshes the lists when they are old and reads them; old ones do when there is no network.
    ///
    /// # Errors
    /// No apt, no mirror of Debian in the system's sources, or no lists at all.
    pub fn open() -> Result<Self> {
        if which("apt-get").is_none() || which("dpkg-deb").is_none() {
            bail!("kernels are fetched and unpacked by apt and dpkg, which this machine does not have");
        }
        let folder = cache_dir()?.join("kernels/apt");
        let config = configure(&folder)?;
        let stamp = folder.join("updated");
        let age =
            fs::metadata(&stamp).and_then(|about| about.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age > FRESH) {
            match run(apt("apt-get", &config).args(["-qq", "update"])) {
                Ok(()) => drop(File::create(&stamp)?),
                Err(error) => eprintln!("going on with the list of kernels that is here: {error:#}"),
            }
        }
        let available = capture(apt("apt-cache", &config).arg("dumpavail"))?;
        let packages: Vec<_> = available.split("\n\n").filter_map(Package::read).collect();
        if packages.is_empty() {
            bail!("apt has no list of kernels. {ONLINE}");
        }
        Ok(Self { config, packages })
    }

    /// The newest complete kernel of a series: its image, and the packages that the image is split into.
    pub fn select(&self, series: &Series) -> Option<Vec<Package>> {
        let images = self.packages.iter().filter(|package| series.has(package) && self.is_complete(package));
        let image = images.max_by(|one, other| compare(&one.version, &other.version))?;
        let parts = self.packages.iter().filter(|package| image.is_made_of(package));
        Some([image].into_iter().chain(parts).cloned().collect())
    }

    /// Fetches packages into a folder; apt checks size and hash of each against the signed list.
    ///
    /// # Errors
    /// Whatever apt says.
    pub fn download(&self, packages: &[Package], into: &Path) -> Result<()> {
        let names = packages.iter().map(|package| format!("{}={}", package.name, package.version));
        let mut apt = apt("apt-get", &self.config);
        capture(apt.current_dir(into).args(["-q", "download"]).args(names)).context(ONLINE).map(drop)
    }

    /// Of a superseded kernel the modules leave the archive at once, while the image that needs them stays.
    fn is_complete(&self, image: &Package) -> bool {
        let is_metapackage = image.parts.iter().any(|(name, _)| name.starts_with("linux-image-"));
        let has_modules = self
            .packages
            .iter()
            .any(|package| package.name.starts_with("linux-modules-") && image.is_made_of(package));
        !is_metapackage && (image.installed_size >= SELF_CONTAINED || has_modules)
    }
}

impl Series {
    /// Whether this is an image of the series: 6.1 is neither 6.12 nor 6.19.
    fn has(&self, package: &Package) -> bool {
        let image = package.name.strip_prefix("linux-image-").and_then(|name| name.strip_suffix(FLAVOUR));
        match self {
            Self::Newest => image.is_some(),
            Self::Numbered(number) => image
                .and_then(|name| name.strip_prefix(number.as_str()))
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit())),
        }
    }
}

impl Package {
    /// Reads a stanza of apt's; none when it is not of the kernel.
    fn read(stanza: &str) -> Option<Self> {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let name = field("Package").filter(|name| name.starts_with("linux-"))?;
        let exact = |word: &str| {
            let (name, rest) = word.trim().split_once(" (= ")?;
            name.starts_with("linux-").then(|| (name.to_owned(), rest.trim_end_matches(')').to_owned()))
        };
        Some(Self {
            name: name.to_owned(),
            version: field("Version")?.to_owned(),
            installed_size: field("Installed-Size")?.parse().ok()?,
            parts: field("Depends").unwrap_or_default().split(',').filter_map(exact).collect(),
        })
    }

    fn is_made_of(&self, other: &Self) -> bool {
        self.parts.iter().any(|(name, version)| (name, version) == (&other.name, &other.version))
    }
}

/// As dpkg orders versions.
fn compare(one: &str, other: &str) -> Ordering {
    let is = |relation| {
        let status = Command::new("dpkg").args(["--compare-versions", one, relation, other]).status();
        status.is_ok_and(|status| status.success())
    };
    if is("lt") {
        Ordering::Less
    } else if is("gt") {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}

/// apt with the private configuration.
fn apt(program: &str, config: &Path) -> Command {
    let mut apt = Command::new(program);
    apt.env("APT_CONFIG", config).env("LC_ALL", "C");
    apt
}

/// Writes the private configuration, and returns its file.
fn configure(folder: &Path) -> Result<PathBuf> {
    for name in ["lists/partial", "archives/partial", "state"] {
        fs::create_dir_all(folder.join(name)).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    File::create(folder.join("status"))?; // as if nothing were installed
    let sources = folder.join("kernels.sources");
    let main = mirror("/debian")
        .context("the system's apt sources name no mirror of Debian, which has the kernels")?;
    let security = mirror("/debian-security").unwrap_or_else(|| format!("{main}-security"));
    let stanzas = SUITES.map(|(repository, suite)| {
        let address = match repository {
            Repository::Main => &main,
            Repository::Security => &security,
        };
        format!(
            "Types: deb\nURIs: {address}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\nSigned-By: {KEYS}\n"
        )
    });
    fs::write(&sources, stanzas.join("\n"))?;
    let config = folder.join("apt.conf");
    fs::write(&config, settings(folder, &sources))?;
    Ok(config)
}

fn settings(folder: &Path, sources: &Path) -> String {
    let (folder, sources) = (folder.display(), sources.display());
    // As root apt would give up its privileges for a user who may not write here.
    let user = if is_root() { "root" } else { "" };
    format!(
        r#"Dir::Etc::sourcelist "{sources}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{folder}/state";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Log "{folder}";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
APT::Update::Error-Mode "any";
APT::Architecture "amd64";
APT::Sandbox::User "{user}";
"#
    )
}

/// The mirror that the system uses for an archive whose address ends so.
fn mirror(end: &str) -> Option<String> {
    let mut ask = Command::new("apt-get");
    ask.args(["indextargets", "--no-release-info", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let addresses = capture(&mut ask).unwrap_or_default();
    let mut addresses = addresses.lines().map(|line| line.trim_end_matches('/'));
    addresses.find(|address| address.ends_with(end)).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, version: &str, size: u64, depends: &str) -> String {
        format!("Package: {name}\nVersion: {version}\nInstalled-Size: {size}\nDepends: {depends}\n")
    }

    fn archive(stanzas: &[String]) -> Archive {
        let packages = stanzas.iter().filter_map(|stanza| Package::read(stanza)).collect();
        Archive { config: PathBuf::new(), packages }
    }

    fn selected(archive: &Archive, series: &str) -> Vec<String> {
        let packages = archive.select(&series.parse().unwrap()).unwrap_or_default();
        packages.into_iter().map(|package| format!("{} {}", package.name, package.version)).collect()
    }

    #[test]
    fn a_series_is_not_another_that_begins_like_it() {
        let archive = archive(&[
            image("linux-image-6.1.0-55-cloud-amd64", "6.1.180-1", 30_000, "kmod, linux-base (>= 4.3~)"),
            image("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2", 30_000, "kmod"),
            image("linux-image-6.12.9+deb13-cloud-amd64", "6.12.9-1", 30_000, "kmod"),
            image("linux-image-6.1.0-56-amd64", "6.1.193-1", 300_000, "kmod"),
        ]);
        assert_eq!(selected(&archive, "6.1"), ["linux-image-6.1.0-56-cloud-amd64 6.1.192-2"]);
        assert_eq!(selected(&archive, "newest"), ["linux-image-6.12.9+deb13-cloud-amd64 6.12.9-1"]);
        assert_eq!(selected(&archive, "5.10"), [""; 0]);
    }

    #[test]
    fn a_split_image_needs_its_modules_and_a_metapackage_is_none() {
        let parts = |v: &str| format!("linux-binary-{v} (= {v}-1), linux-modules-{v} (= {v}-1), kmod");
        let archive = archive(&[
            image("linux-image-7.3.4-cloud-amd64", "7.3.4-1", 20, &parts("7.3.4")),
            image("linux-binary-7.3.4", "7.3.4-1", 20_000, ""),
            image("linux-modules-7.3.4", "7.3.4-1", 20_000, ""),
            image("linux-image-7.4.1-cloud-amd64", "7.4.1-1", 20, &parts("7.4.1")),
            image("linux-binary-7.4.1", "7.4.1-1", 20_000, ""),
            image(
                "linux-image-7.5-cloud-amd64",
                "7.5.1-1",
                2_000,
                "linux-image-7.5.1-cloud-amd64 (= 7.5.1-1)",
            ),
        ]);
        let expected = [
            "linux-image-7.3.4-cloud-amd64 7.3.4-1",
            "linux-binary-7.3.4 7.3.4-1",
            "linux-modules-7.3.4 7.3.4-1",
        ];
        assert_eq!(selected(&archive, "newest"), expected);
    }
}
