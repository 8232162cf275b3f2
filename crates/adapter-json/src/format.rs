//! The journal's lines: one JSON object each, one transaction each.
//!
//! ```text
//! {"crc":"9a3c01f2","tx":{"q":1842,"t":1764000000000,"s":1841,"b":"4f2a…","u":86400000,"ops":[…]}}
//! ```
//! `crc` is the CRC-32C of the bytes of `tx`, `q` the transaction's number, `t` the store's time, `s` the number of
//! the last transaction known to be on the disk when this one was written, `b` and `u` the machine's run and how long
//! it had lasted.

mod cursor;
mod digest;
mod mend;
mod read;
mod write;

pub(crate) use cursor::Problem;
pub(crate) use mend::mended;
pub(crate) use read::{Client, Head, Op, Patch, Record, Tx, What, may_begin_line, parse_line, starts_of_lines};
pub(crate) use write::{Line, Ops};

/// What stands before the checksum's eight digits.
const BEFORE_CRC: &[u8] = b"{\"crc\":\"";
/// What stands between those and the transaction.
const BEFORE_TX: &[u8] = b"\",\"tx\":";
/// Where the transaction begins in its line.
const TX_AT: usize = BEFORE_CRC.len() + 8 + BEFORE_TX.len();

/// What the first line says the file is.
const FORMAT: &str = "tenure-sessions";
/// The version of everything in this module.
const VERSION: u32 = 1;

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex(crc: u32) -> [u8; 8] {
    std::array::from_fn(|i| HEX[(crc >> (28 - 4 * i)) as usize & 15])
}
