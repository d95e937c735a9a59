//! The documents that are generated from the code: man pages, the configuration reference and its schema.

use clap::CommandFactory;
use std::path::{Path, PathBuf};

/// Every generated document: its path from the root of the repository, and its text.
///
/// # Errors
/// A man page that cannot be rendered.
pub fn pages() -> std::io::Result<Vec<(&'static str, String)>> {
    let daemon = carp_user::cli::daemon::Args::command();
    let control = carp_user::cli::Cli::command();
    Ok(vec![
        ("docs/config.md", carp_user::config::reference()),
        ("docs/config.schema.json", carp_user::config::schema()),
        ("docs/xmlrpc.md", carp_user::api::remote::reference()),
        ("docs/man/carpd.8", man(daemon, "8")?),
        ("docs/man/carpctl.8", man(control, "8")?),
    ])
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The page of a command; of one with verbs, the options of each verb follow.
fn man(command: clap::Command, section: &str) -> std::io::Result<String> {
    let mut page = Vec::new();
    let name = command.get_name().to_owned();
    // Not the build of the BPF programs, which every change of them changes.
    let command = command.version(env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone()).section(section).date("").source("carp").manual("carp");
    man.render(&mut page)?;
    verbs(&command, &name, &mut page)?;
    String::from_utf8(page).map_err(std::io::Error::other)
}

/// A section for each verb of a command, and for each of theirs.
fn verbs(command: &clap::Command, name: &str, page: &mut Vec<u8>) -> std::io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let title = format!("{name} {}", verb.get_name());
        page.extend_from_slice(format!(".SH \"{}\"\n", title.to_uppercase()).as_bytes());
        let man = clap_mangen::Man::new(verb.clone());
        man.render_description_section(page)?;
        man.render_options_section(page)?;
        if verb.get_after_help().is_some() {
            man.render_extra_section(page)?;
        }
        verbs(verb, &title, page)?;
    }
    Ok(())
}
