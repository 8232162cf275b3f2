//! A look at the file itself, by nobody's code but this.

use std::path::Path;

use serde_json::Value;

use crate::Failure;

/// What a journal says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    /// The last transaction of the snapshot.
    pub(crate) through: u64,
    /// The last transaction of all.
    pub(crate) last: u64,
    pub(crate) lines: u64,
}

/// Reads the file and checks that each line is valid JSON with the checksum that it says, and that the transactions
/// have no gap. A last line without an end is one that is being written.
pub(crate) fn numbers(path: &Path) -> Result<Numbers, Failure> {
    let bytes = std::fs::read(path)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut found = Numbers::default();
    for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
        found.lines += 1;
        let wrong = |what: &str| format!("line {}: {what}", found.lines);
        let text = std::str::from_utf8(line)?.trim_end();
        let value: Value = serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?;
        let crc = u32::from_str_radix(value["crc"].as_str().ok_or_else(|| wrong("no crc"))?, 16)?;
        let tx = text.split_once("\"tx\":").ok_or_else(|| wrong("no tx"))?.1;
        if crc32c::crc32c(&tx.as_bytes()[..tx.len() - 1]) != crc {
            return Err(wrong("the checksum is another").into());
        }
        let q = value["tx"]["q"].as_u64().ok_or_else(|| wrong("no q"))?;
        if found.lines == 1 {
            found.through = value["tx"]["ops"][0]["through"].as_u64().ok_or_else(|| wrong("no first line"))?;
        } else if q != found.last + 1 {
            return Err(wrong(&format!("transaction {q} follows {}", found.last)).into());
        }
        found.last = q;
    }
    Ok(found)
}
