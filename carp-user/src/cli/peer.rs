//! `carpctl peer`: whom this node trusts, by hand, and calls to it.

use super::files::Files;
use super::{account, instance};
use crate::io::https::{Client, Credentials, Fingerprint, Identity, pin};
use anyhow::{Context, Result, anyhow, bail};
use dxr::Value;
use std::path::PathBuf;

/// Show this node's certificate, pin the peer's, call the peer. What `carpctl pair` does by itself.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  carpctl peer fingerprint             # on the other node\n  carpctl peer pin sha256:3f5a...      # here\n  \
                  carpctl peer certificate > gw1.pem   # for a script that is to trust this node\n  \
                  carpctl peer call carp.version --user gw1 --password-file /etc/carp/config-sync.password"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print the fingerprint of this node's certificate.
    Fingerprint,
    /// Print this node's certificate.
    Certificate,
    /// Trust the peer by this fingerprint, and no other; without one, print the one that is trusted.
    Pin {
        /// As `carpctl peer fingerprint` prints it there.
        fingerprint: Option<Fingerprint>,
    },
    /// Trust no peer any more.
    Unpin,
    /// Call a method of the peer, and print what it answers as JSON.
    Call {
        /// Its name, such as carp.status; system.listMethods names all.
        method: String,
        /// What it takes: true and false, whole numbers, all else as text.
        params: Vec<String>,
        /// Account on the peer.
        #[arg(long)]
        user: String,
        /// File whose first line is its password, mode 0600; - for standard input.
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
        /// The configuration that both nodes share.
        #[arg(long, value_name = "FILE", default_value = "/etc/carp/carp.toml")]
        config: PathBuf,
        /// What is of this node alone; without it node.toml beside the other, where there is one.
        #[arg(long, value_name = "FILE")]
        node: Option<PathBuf>,
    },
}

/// Does it.
///
/// # Errors
/// What the file system says; why the peer does not answer.
pub fn run(args: &Args, name: Option<&str>) -> Result<()> {
    match &args.verb {
        Verb::Fingerprint => {
            let identity = Identity::of(&instance::configured(name)?)?;
            super::print(&format!("{}\n", identity.fingerprint()));
        }
        Verb::Certificate => super::print(&Identity::of(&instance::configured(name)?)?.pem),
        Verb::Pin { fingerprint: Some(fingerprint) } => {
            pin::write(&instance::configured(name)?, *fingerprint).context("pinning the peer")?;
        }
        Verb::Pin { fingerprint: None } => {
            let pinned = pin::read(&instance::configured(name)?).context("reading the pin")?;
            let pinned =
                pinned.context("no peer is pinned: carpctl peer pin FINGERPRINT, or carpctl pair")?;
            super::print(&format!("{pinned}\n"));
        }
        Verb::Unpin => pin::remove(&instance::configured(name)?).context("removing the pin")?,
        Verb::Call { method, params, user, password_file, config, node } => {
            let files = Files::at(config.clone(), node.clone());
            let config = files.load().map_err(|mistakes| anyhow!("{mistakes}"))?;
            let Some(sync) = &config.sync else {
                bail!("this node has no peer: see [sync] in the configuration")
            };
            let who = Credentials { user: user.clone(), password: account::read(password_file)? };
            let client = Client::open(&config.node.name, sync)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let params = params.iter().map(|param| value(param)).collect();
            let answer = runtime.block_on(client.call(&who, method, params))?;
            super::print(&(serde_json::to_string_pretty(&json(&answer))? + "\n"));
        }
    }
    Ok(())
}

fn value(param: &str) -> Value {
    match (param.parse::<bool>(), param.parse::<i32>()) {
        (Ok(is), _) => Value::Boolean(is),
        (_, Ok(number)) => Value::Integer(number),
        (Err(_), Err(_)) => Value::String(param.to_owned()),
    }
}

/// For people: what is text as bytes is shown as text.
fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Integer(number) => (*number).into(),
        Value::Boolean(is) => (*is).into(),
        Value::String(text) => text.as_str().into(),
        Value::Double(number) => (*number).into(),
        Value::DateTime(at) => at.to_string().into(),
        Value::Base64(bytes) => String::from_utf8_lossy(bytes).into(),
        Value::Struct(fields) => fields.iter().map(|(name, value)| (name.clone(), json(value))).collect(),
        Value::Array(values) => values.iter().map(json).collect(),
        _ => serde_json::Value::Null,
    }
}
