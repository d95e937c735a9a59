//! `carpctl pair`: the first node waits for the second one.

use super::{files::Files, genkey, instance};
use crate::api::remote::Access;
use crate::api::{Authority, Request, Response};
use crate::config::{Config, HostConfig, PASSWORD_FILE, Sync, private};
use crate::io::accounts::{self, Accounts};
use crate::io::disk::Staged;
use crate::io::https::{Fingerprint, Identity, pin};
use crate::io::pairing::message::{Accept, Done, Hello, Offer, VERSION};
use crate::io::pairing::{self, Code, Line};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// TCP port of pairing, on the sync address, while `carpctl pair` waits.
pub const PORT: u16 = 7114;
/// How long the other node may think; who joins may be asked for interfaces.
const PATIENCE: Duration = Duration::from_secs(600);

/// Have another node join this one: prints a code that is good for ten minutes and for one use, and what to say there. Afterwards
/// each node trusts the other's certificate, both have a new key for the session, an account for each other's calls, and the
/// same shared configuration. carpd may run or not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  carpctl pair\n  carpctl pair /etc/carp/carp.toml --port 7200\n\nBy hand: see docs/pairing.md."
)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    /// TCP port to wait at, on the sync address.
    #[arg(long, default_value_t = PORT)]
    port: u16,
}

/// Waits, and pairs.
///
/// # Errors
/// When there is no sync link, the code is void, or something cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let config = args.files.load().map_err(|mistakes| anyhow!("{mistakes}"))?;
    let Some(sync) = config.sync.clone() else {
        bail!(
            "this node has no sync link: write [sync] into the configuration of the node first (carpctl init --sync does)"
        );
    };
    ensure!(
        args.files.node().is_some(),
        "[node] and [sync] stand in the shared file: put them into a file of this node, node.toml beside it, so that the rest can be shared"
    );
    let first = First::of(&args.files.file, config, sync)?;
    let code = Code::new()?;
    let at = if args.port == PORT { String::new() } else { format!(" --port {}", args.port) };
    super::print(&format!(
        "On the other node ({}), within ten minutes:\n\n  carpctl join {} {code}{at}\n\n",
        first.sync.peer, first.sync.address
    ));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let local = (first.sync.address, args.port).into();
        let told = |what: &str| eprintln!("{what}");
        let mut line = pairing::wait(local, &first.sync.device, first.sync.peer, &code, told).await?;
        first.pair(&mut line).await
    })
}

/// The first node, and what it will be.
struct First {
    folder: PathBuf,
    shared: String,
    config: Config,
    sync: Sync,
    identity: Identity,
    key: Zeroizing<String>,
}

impl First {
    fn of(file: &Path, config: Config, sync: Sync) -> Result<Self> {
        let shared = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let (identity, key) = (Identity::of(&config.node.name)?, genkey::key()?);
        let first = Self { folder, shared, config, sync, identity, key };
        // Before anybody is waited for.
        first.secrets()?;
        Ok(first)
    }

    async fn pair(&self, line: &mut Line) -> Result<()> {
        let Hello { version, node, fingerprint } = line.hear(PATIENCE).await?;
        ensure!(version == VERSION, "carpctl there pairs by version {version}, this one by {VERSION}");
        ensure!(node != self.config.node.name, "both nodes are called {node}: give the other one --name");
        let fingerprint: Fingerprint = fingerprint.parse()?;
        let password = accounts::password()?;
        line.say(&self.offer(&password)?).await?;
        let accept: Accept = line.hear(PATIENCE).await?;
        self.keep(&node, fingerprint, &password, &accept.password)?;
        line.say(&Done {}).await?;
        super::print(&format!("{node} has joined: its certificate is {fingerprint}\n"));
        self.reload();
        Ok(())
    }

    fn offer(&self, password: &str) -> Result<Offer> {
        Ok(Offer {
            node: self.config.node.name.clone(),
            fingerprint: self.identity.fingerprint().to_string(),
            shared: self.shared.clone(),
            secrets: self.secrets()?,
            sync_key: self.key.to_string(),
            password: password.to_owned(),
            ports: [self.sync.port, self.sync.config_port],
            roles: self.config.node.interfaces.keys().cloned().collect(),
        })
    }

    /// What the other node needs beside the shared configuration.
    fn secrets(&self) -> Result<BTreeMap<String, String>> {
        let of = |host: &HostConfig| [Some(host.password_file.clone()), host.next_password_file.clone()];
        let files: BTreeSet<PathBuf> = self.config.hosts.iter().flat_map(of).flatten().collect();
        let mut secrets = BTreeMap::new();
        for file in files {
            let name = file.to_str().filter(|name| is_plain(name)).with_context(|| {
                format!(
                    "{} is not beside the shared file: put it there, and name it without a folder",
                    file.display()
                )
            })?;
            let content = private::read(&self.folder.join(name))
                .map_err(|problem| anyhow!(problem.text("password file")))?;
            let text = String::from_utf8(content.to_vec()).with_context(|| format!("{name} is not UTF-8"))?;
            secrets.insert(name.to_owned(), text);
        }
        Ok(secrets)
    }

    fn keep(&self, node: &str, fingerprint: Fingerprint, theirs: &str, ours: &str) -> Result<()> {
        let own = &self.config.node.name;
        Accounts::of(own)
            .set(node, theirs, Access::Full, true)
            .context("making the account of the other node")?;
        pin::write(own, fingerprint).context("pinning the other node")?;
        let key_file = self.folder.join(&self.sync.key_file);
        for (path, text) in
            [(key_file, self.key.as_str()), (self.folder.join(PASSWORD_FILE), &format!("{ours}\n"))]
        {
            let written = Staged::write(&path, text, 0o600).and_then(Staged::settle);
            written.with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// A carpd that runs goes on with the new key.
    fn reload(&self) {
        let request = Request::Reload { dry_run: false, by: Authority::Here };
        match instance::call(&self.config.node.name, &request) {
            Ok(answer) => {
                if let Ok(Response::Reloaded { .. }) = answer {
                    super::print("carpd goes on with the new key\n");
                }
            }
            Err(error) => eprintln!("carpd does not go on with the new key: {error:#}; say `carpctl reload`"),
        }
    }
}

/// A name that stays in its folder.
pub(super) fn is_plain(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(is_known) && !name.starts_with('.')
}
