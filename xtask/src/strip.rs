//! The BPF object without its DWARF: nine tenths of it, which neither the kernel nor the daemon reads. BTF, made from it
//! by the linker, stays.

use anyhow::{Context, Result, ensure};

/// Of an ELF header of 64 bits: where the table of sections is, and how many there are.
const TABLE_AT: usize = 0x28;
const SECTIONS: usize = 0x3c;
/// Which section has the names.
const NAMES: usize = 0x3e;
const HEADER: usize = 0x40;
/// Of an entry of that table: name, type, place, size, alignment.
const ENTRY: usize = 0x40;
const KIND: usize = 4;
const AT: usize = 24;
const SIZE: usize = 32;
const ALIGN: usize = 48;
/// Types of sections: none, and one without bytes in the file.
const NULL: usize = 0;
const NO_BITS: usize = 8;

/// The same object without what is only for debuggers and linkers. Sections keep their numbers, so that all who refer to
/// one stay right: a removed one is of no type and empty.
pub fn strip(object: &[u8]) -> Result<Vec<u8>> {
    ensure!(object.starts_with(b"\x7fELF\x02\x01"), "no little-endian ELF object of 64 bits");
    let (table_at, count) = (number::<8>(object, TABLE_AT)?, number::<2>(object, SECTIONS)?);
    let table = piece(object, table_at, count * ENTRY)?;
    let mut entries: Vec<Vec<u8>> = table.chunks(ENTRY).map(<[u8]>::to_vec).collect();
    let names = entries.get(number::<2>(object, NAMES)?).context("no names of sections")?;
    let names = bytes(object, names)?;
    let mut stripped = piece(object, 0, HEADER)?.to_vec();
    for entry in &mut entries {
        if is_for_others(name(names, entry)?) {
            entry.fill(0);
        }
        let kind = number::<4>(entry, KIND)?;
        if kind == NULL || kind == NO_BITS {
            continue;
        }
        stripped.resize(stripped.len().next_multiple_of(number::<8>(entry, ALIGN)?.max(1)), 0);
        let bytes = bytes(object, entry)?;
        entry[AT..AT + 8].copy_from_slice(&stripped.len().to_le_bytes());
        stripped.extend_from_slice(bytes);
    }
    stripped.resize(stripped.len().next_multiple_of(8), 0);
    let table_at = stripped.len().to_le_bytes();
    stripped[TABLE_AT..TABLE_AT + 8].copy_from_slice(&table_at);
    stripped.extend(entries.concat());
    Ok(stripped)
}

/// DWARF; and where in it and in BTF a linker would put addresses.
fn is_for_others(name: &[u8]) -> bool {
    [".debug_", ".rel.debug_", ".rel.BTF"].iter().any(|begin| name.starts_with(begin.as_bytes()))
}

fn name<'a>(names: &'a [u8], entry: &[u8]) -> Result<&'a [u8]> {
    let name = names.get(number::<4>(entry, 0)?..).context("a section without a name")?;
    Ok(name.split(|byte| *byte == 0).next().unwrap_or_default())
}

fn bytes<'a>(object: &'a [u8], entry: &[u8]) -> Result<&'a [u8]> {
    piece(object, number::<8>(entry, AT)?, number::<8>(entry, SIZE)?)
}

fn piece(bytes: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    at.checked_add(len).and_then(|end| bytes.get(at..end)).context("the object is cut")
}

/// Of `N` bytes, little-endian.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<usize> {
    let mut number = [0; 8];
    number[..N].copy_from_slice(piece(bytes, at, N)?);
    Ok(usize::try_from(u64::from_le_bytes(number))?)
}
