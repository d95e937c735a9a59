//! Kernel modules: which ones the tests need, what these need in turn, and how busybox's modprobe finds them
//! when the kernel asks for one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cpio::Cpio;
use super::kernel::{decompressed, files_below};

/// What the lab's networks and the product's own choices take. What a kernel has built in, or does not have, is
/// simply not found.
const WANTED: [&str; 44] = [
    "veth",
    "bridge",
    "br_netfilter",
    "dummy",
    "tun",
    "macvlan",
    "ipvlan",
    "8021q",
    "bonding",
    "vrf",
    "vxlan",
    "sch_ingress",
    "cls_bpf",
    "act_bpf",
    "sch_netem",
    "sch_fq",
    "sch_htb",
    "sch_tbf",
    "sch_prio",
    "cls_u32",
    "cls_matchall",
    "act_gact",
    "act_mirred",
    "nf_tables",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_conntrack_ftp",
    "nf_nat_ftp",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_chain_nat",
    "nft_redir",
    "nft_counter",
    "nft_limit",
    "nft_log",
    "nft_numgen",
    "nft_fib_inet",
    "nft_flow_offload",
    "nf_flow_table_inet",
    "nft_reject_inet",
    "nf_log_syslog",
    "af_packet_diag",
    "inet_diag",
];

const FOLDER: &str = "lib/modules";

/// A module with all that modprobe must know of it.
struct Module {
    name: String,
    bytes: Vec<u8>,
    needs: Vec<String>,
    aliases: Vec<String>,
}

/// Puts the wanted modules of an unpacked kernel into an archive.
///
/// # Errors
/// A tree without modules, or a module that is none.
pub fn add(cpio: &mut Cpio, tree: &Path) -> Result<()> {
    let files = files_below(tree)?;
    let release = release(&files)?;
    let modules = closure(&files)?;
    let file_of = |name: &str| format!("/{FOLDER}/{release}/{name}.ko");
    let (mut needs, mut aliases) = (String::new(), String::new());
    for module in &modules {
        cpio.file(&file_of(&module.name), 0o644, &module.bytes)?;
        let needed: Vec<String> = needed_by(&module.name, &modules).into_iter().map(file_of).collect();
        needs += &format!("{}: {}\n", file_of(&module.name), needed.join(" "));
        for alias in &module.aliases {
            aliases += &format!("alias {alias} {}\n", module.name);
        }
    }
    cpio.file(&format!("{FOLDER}/{release}/modules.dep"), 0o644, needs.as_bytes())?;
    cpio.file(&format!("{FOLDER}/{release}/modules.alias"), 0o644, aliases.as_bytes())
}

/// What `uname -r` will say: the modules' folder is called so.
fn release(files: &[PathBuf]) -> Result<String> {
    let below_modules = |file: &PathBuf| {
        let mut parts = file.iter().skip_while(|part| *part != OsStr::new("modules"));
        Some(parts.nth(1)?.to_string_lossy().into_owned())
    };
    let module = files.iter().find(|file| module_name(file).is_some()).context("a kernel without modules")?;
    below_modules(module).context("modules outside of lib/modules")
}

/// Everything wanted with everything that it needs, what is needed before whoever needs it.
fn closure(files: &[PathBuf]) -> Result<Vec<Module>> {
    let known: BTreeMap<String, &Path> =
        files.iter().filter_map(|file| Some((module_name(file)?, file.as_path()))).collect();
    let (mut modules, mut seen) = (Vec::new(), BTreeSet::new());
    for name in WANTED {
        visit(name, &known, &mut seen, &mut modules)?;
    }
    Ok(modules)
}

fn visit(
    name: &str,
    known: &BTreeMap<String, &Path>,
    seen: &mut BTreeSet<String>,
    modules: &mut Vec<Module>,
) -> Result<()> {
    let name = name.replace('-', "_");
    let Some(file) = known.get(&name) else { return Ok(()) };
    if !seen.insert(name.clone()) {
        return Ok(());
    }
    let module = Module::read(name, file).with_context(|| file.display().to_string())?;
    for needed in &module.needs {
        visit(needed, known, seen, modules)?;
    }
    modules.push(module);
    Ok(())
}

/// All that it needs, directly or not. The deepest comes last: modprobe goes from right to left.
fn needed_by<'a>(name: &str, modules: &'a [Module]) -> Vec<&'a str> {
    let mut wanted = BTreeSet::from([name]);
    let mut needed = Vec::new();
    for module in modules.iter().rev() {
        if wanted.contains(module.name.as_str()) {
            wanted.extend(module.needs.iter().map(String::as_str));
            if module.name != name {
                needed.push(module.name.as_str());
            }
        }
    }
    needed
}

impl Module {
    fn read(name: String, file: &Path) -> Result<Self> {
        let bytes = match file.extension().and_then(OsStr::to_str) {
            Some("xz") => decompressed("xz", file)?,
            Some("zst") => decompressed("zstd", file)?,
            Some(_) | None => fs::read(file)?,
        };
        let Some(fields) = modinfo(&bytes) else { bail!("no .modinfo in it") };
        let (mut needs, mut aliases) = (Vec::new(), Vec::new());
        for (key, value) in fields {
            match key.as_str() {
                "depends" => {
                    let names = value.split(',').filter(|name| !name.is_empty());
                    needs.extend(names.map(|name| name.replace('-', "_")));
                }
                "alias" => aliases.push(value),
                _ => {}
            }
        }
        Ok(Self { name, bytes, needs, aliases })
    }
}

/// `nft_ct` of `…/nft_ct.ko.xz`; none for other files.
fn module_name(file: &Path) -> Option<String> {
    let (name, end) = file.file_name()?.to_str()?.split_once(".ko")?;
    (end.is_empty() || end.starts_with('.')).then(|| name.replace('-', "_"))
}

/// The fields of section `.modinfo` of a 64-bit ELF file: texts `key=value`, each ended by a zero.
fn modinfo(elf: &[u8]) -> Option<Vec<(String, String)>> {
    let number = |at: usize, len: usize| {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(elf.get(at..at.checked_add(len)?)?);
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let (headers, size, count, names) =
        (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?, number(0x3e, 2)?);
    let header = |index: usize| headers.checked_add(index.checked_mul(size)?);
    // Of a section header: the name's place in the table of names, the content's offset and length.
    let content = |index: usize| {
        let header = header(index)?;
        let (offset, len) = (number(header + 0x18, 8)?, number(header + 0x20, 8)?);
        elf.get(offset..offset.checked_add(len)?)
    };
    let names = content(names)?;
    let is_called = |index: usize, name: &[u8]| {
        let called = header(index).and_then(|header| names.get(number(header, 4)?..));
        called.is_some_and(|called| called.starts_with(name))
    };
    let section = (0..count).find(|&index| is_called(index, b".modinfo\0"))?;
    let fields = content(section)?.split(|byte| *byte == 0);
    Some(
        fields
            .filter_map(|field| {
                let text = String::from_utf8_lossy(field);
                let (key, value) = text.split_once('=')?;
                Some((key.to_owned(), value.to_owned()))
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, needs: &[&str]) -> Module {
        let needs = needs.iter().map(|name| (*name).to_owned()).collect();
        Module { name: name.to_owned(), bytes: Vec::new(), needs, aliases: Vec::new() }
    }

    #[test]
    fn what_is_needed_most_deeply_comes_last() {
        let modules =
            [module("llc", &[]), module("stp", &["llc"]), module("other", &[]), module("bridge", &["stp"])];
        assert_eq!(needed_by("bridge", &modules), ["stp", "llc"]);
        assert_eq!(needed_by("llc", &modules), [""; 0]);
    }

    #[test]
    fn a_module_is_known_by_its_file_s_name() {
        assert_eq!(module_name(Path::new("net/nft-ct.ko")).as_deref(), Some("nft_ct"));
        assert_eq!(module_name(Path::new("net/veth.ko.xz")).as_deref(), Some("veth"));
        assert_eq!(module_name(Path::new("net/modules.kotest")), None);
        let files = [PathBuf::from("usr/lib/modules/6.1.0-1/kernel/a.ko")];
        assert_eq!(release(&files).ok().as_deref(), Some("6.1.0-1"));
    }

    #[test]
    fn a_file_that_is_no_elf_has_no_fields() {
        assert!(modinfo(&[0; 64]).is_none() && modinfo(&[0xff; 64]).is_none() && modinfo(&[]).is_none());
    }
}
