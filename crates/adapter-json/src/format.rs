//! The format of the journal: each line is one JSON object and one transaction.
//!
//! ```text
//! {"crc":"9a3c01f2","tx":{"q":1842,"t":1764000000000,"s":1841,"b":"4f2a…","u":86400000,"ops":[…]}}
//! ```
//! | member | meaning |
//! |---|---|
//! | `crc` | the CRC-32C of the bytes of `tx` |
//! | `q` | the number of the transaction |
//! | `t` | the store's time, in Unix milliseconds |
//! | `s` | the number of the last transaction that was known to be durable when this one was written |
//! | `b` | the machine's boot id |
//! | `u` | the machine's uptime in milliseconds |
//! | `ops` | the operations |

mod bit_repair;
mod digest;
mod json;
mod read;
mod transaction;
mod write;

pub(crate) use bit_repair::repair_bit;
pub(crate) use json::FormatError;
pub(crate) use read::{find_line_starts, is_line_prefix, parse_line};
pub(crate) use transaction::{Client, Op, Patch, Record, RecordKind, SnapshotHeader, Transaction};
pub(crate) use write::{LineHeader, LineWriter};

/// Whether these bytes are a valid line, without its newline. For fuzzers.
#[cfg(feature = "fuzz")]
#[doc(hidden)]
#[must_use]
pub fn is_valid_line(line: &[u8]) -> bool {
    parse_line(line).is_ok()
}

/// The bytes before the eight digits of the checksum.
const BEFORE_CRC: &[u8] = b"{\"crc\":\"";
/// The bytes between the checksum and the transaction.
const BEFORE_TX: &[u8] = b"\",\"tx\":";
/// The offset of the transaction in its line.
const TX_AT: usize = BEFORE_CRC.len() + 8 + BEFORE_TX.len();

/// The format that the first line names.
const FORMAT: &str = "tenure-sessions";
/// The version of the format.
const VERSION: u32 = 1;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Returns the text of a checksum: eight hexadecimal digits.
fn hex(crc: u32) -> [u8; 8] {
    std::array::from_fn(|i| HEX[(crc >> (28 - 4 * i)) as usize & 15])
}
