//! Parsing the lines of a journal.

use std::borrow::Cow;

use tenure_domain::{
    ClientField, Digest, End, EndReason, Millis, Replaced, RevocationWatermark, SessionId, TextError, Timestamp,
};

use super::json::{FormatError, JsonReader};
use super::transaction::{Client, Op, Record, RecordKind, SnapshotHeader, Transaction};
use super::{BEFORE_CRC, BEFORE_TX, FORMAT, TX_AT, VERSION, hex};

/// The members of an operation. Its name decides which of them it must have.
#[derive(Default)]
struct Fields<'a> {
    record: Box<Record<'a>>,
    op: Cow<'a, str>,
    /// The required members that were read, as bits.
    has: u32,
    revision: Option<u64>,
    watermark: Option<Option<RevocationWatermark>>,
    ids: Vec<SessionId>,
    seen: Vec<(SessionId, Timestamp)>,
    header: SnapshotHeader,
}

const DEVICE: u32 = 1;
const SUBJECT: u32 = 2;
const CREATED: u32 = 4;
const TTL: u32 = 8;
const LIFE: u32 = 16;
const KEEP: u32 = 32;
const FAMILY: u32 = 64;
const RECORD: u32 = 127;
const FORMAT_NAME: u32 = 128;

/// Parses a line, without its newline. Returns its transaction and its checksum.
///
/// # Errors
/// [`FormatError`] if the line, its checksum or its transaction is not valid.
pub(crate) fn parse_line(line: &[u8]) -> Result<(Transaction<'_>, u32), FormatError> {
    let (body, crc) = check_frame(line)?;
    let text = std::str::from_utf8(body).map_err(|_| "it is not UTF-8")?;
    Ok((parse_tx(text)?, crc))
}

/// Checks the form and the checksum of a line. Returns the bytes of its transaction, and the checksum.
fn check_frame(line: &[u8]) -> Result<(&[u8], u32), FormatError> {
    let framed = line.len() > TX_AT + 1
        && line.starts_with(BEFORE_CRC)
        && line[BEFORE_CRC.len() + 8..].starts_with(BEFORE_TX)
        && line.ends_with(b"}");
    if !framed {
        return Err(Cow::Borrowed("it does not have the form {\"crc\":…,\"tx\":…}"));
    }
    let body = &line[TX_AT..line.len() - 1];
    let crc = crc32c::crc32c(body);
    if line[BEFORE_CRC.len()..BEFORE_CRC.len() + 8] != hex(crc) {
        return Err(Cow::Owned(format!(
            "its checksum is {}, and the line records another one",
            String::from_utf8_lossy(&hex(crc))
        )));
    }
    Ok((body, crc))
}

/// Whether these bytes can be the beginning of a line whose end is missing.
pub(crate) fn is_line_prefix(bytes: &[u8]) -> bool {
    let sample = [BEFORE_CRC, b"00000000", BEFORE_TX, b"{\"q\":"].concat();
    let framed = bytes.iter().zip(&sample).enumerate().all(|(at, (byte, expected))| {
        if (BEFORE_CRC.len()..BEFORE_CRC.len() + 8).contains(&at) { byte.is_ascii_hexdigit() } else { byte == expected }
    });
    framed && bytes.iter().all(|byte| *byte >= b' ')
}

/// Returns the offsets at which lines may begin. No text in a line looks like a beginning, because quotation marks are
/// escaped.
pub(crate) fn find_line_starts(bytes: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(bytes, BEFORE_CRC).collect()
}

fn parse_tx(text: &str) -> Result<Transaction<'_>, FormatError> {
    let mut json = JsonReader::new(text);
    let mut tx = Transaction::default();
    let mut members = 0;
    json.object(|name, json| {
        members += 1;
        match name {
            "q" => tx.number = json.number()?,
            "t" => tx.at = json.number()?,
            "s" => tx.synced = json.number()?,
            "b" => tx.boot = json.string()?,
            "u" => tx.uptime = json.number()?,
            "ops" => json.array(|json| {
                tx.ops.push(parse_op(json)?);
                Ok(())
            })?,
            other => return unknown_member(other),
        }
        Ok(())
    })?;
    json.end()?;
    if members != 6 { Err(Cow::Borrowed("the transaction does not have its six members")) } else { Ok(tx) }
}

fn unknown_member(name: &str) -> Result<(), FormatError> {
    let name: String = name.chars().take(20).collect();
    Err(Cow::Owned(format!("{name:?} is not a member in this version of the format")))
}

fn parse_op<'a>(json: &mut JsonReader<'a>) -> Result<Op<'a>, FormatError> {
    let mut fields = Fields::default();
    json.object(|name, json| fields.read(name, json))?;
    fields.into_op()
}

impl<'a> Fields<'a> {
    fn read(&mut self, name: &str, json: &mut JsonReader<'a>) -> Result<(), FormatError> {
        let record = &mut self.record;
        match name {
            "op" => self.op = json.string()?,
            "id" => record.patch.id = Some(parse_id(&json.string()?)?),
            "device" => (record.device, self.has) = (json.string()?, self.has | DEVICE),
            "subject" => (record.subject, self.has) = (json.string()?, self.has | SUBJECT),
            "client" => record.patch.client = Some(parse_client(json)?),
            "created" => (record.created, self.has) = (parse_time(json)?, self.has | CREATED),
            "order" => record.order = json.number()?,
            "active" => record.patch.active = Some(parse_time(json)?),
            "expires" => record.patch.expires = Some(parse_time(json)?),
            "gen" => {
                let generation = u32::try_from(json.number()?);
                record.patch.generation = Some(generation.map_err(|_| "the token generation is too large")?);
            }
            "rotated" => record.patch.rotated = Some(parse_time(json)?),
            "ttl" => (record.ttl, self.has) = (Millis::new(json.number()?), self.has | TTL),
            "idle" => record.idle_timeout = Some(Millis::new(json.number()?)),
            "life" => (record.max_lifetime, self.has) = (Millis::new(json.number()?), self.has | LIFE),
            "keep" => (record.retention, self.has) = (Millis::new(json.number()?), self.has | KEEP),
            "cur" => record.patch.current = Some(parse_digest(json)?),
            "fam" => (record.family, self.has) = (parse_digest(json)?, self.has | FAMILY),
            "prev" => record.patch.replaced = Some(parse_replaced(json)?),
            "end" => record.patch.end = Some(parse_end(json)?),
            "lapsed" => record.expired = json.boolean()?,
            _ => self.read_uncommon(name, json)?,
        }
        Ok(())
    }

    fn read_uncommon(&mut self, name: &str, json: &mut JsonReader<'a>) -> Result<(), FormatError> {
        match name {
            "rev" => self.revision = Some(json.number()?),
            "horizon" => self.watermark = Some(parse_watermark(json)?),
            "ids" => json.array(|json| {
                self.ids.push(parse_id(&json.string()?)?);
                Ok(())
            })?,
            "seen" => json.object(|name, json| {
                self.seen.push((parse_id(name)?, parse_time(json)?));
                Ok(())
            })?,
            "format" if json.string()? == FORMAT => self.has |= FORMAT_NAME,
            "format" => return Err(Cow::Borrowed("it is a file of another kind")),
            "version" => match json.number()? {
                version if version == u64::from(VERSION) => {}
                other => {
                    return Err(Cow::Owned(format!(
                        "it has format version {other}, and this program knows only {VERSION}; use a newer one"
                    )));
                }
            },
            "through" => self.header.through = json.number()?,
            "size" => self.header.size = json.number()?,
            "lines" => self.header.lines = json.number()?,
            "records" => self.header.records = json.number()?,
            "last" => {
                let text = json.string()?;
                self.header.last_crc =
                    u32::from_str_radix(&text, 16).map_err(|_| "the last checksum is not a hexadecimal number")?;
            }
            other => return unknown_member(other),
        }
        Ok(())
    }

    fn into_op(self) -> Result<Op<'a>, FormatError> {
        let kind = match &*self.op {
            "issue" => RecordKind::Issue,
            "import" => RecordKind::Import,
            "record" => RecordKind::Record,
            "rotate" => RecordKind::Rotate,
            "end" => RecordKind::End,
            "describe" => RecordKind::UpdateClient,
            "lapse" => return Ok(Op::Expire(self.ids)),
            "purge" => return Ok(Op::Purge(self.ids)),
            "touch" => return Ok(Op::Touch(self.seen)),
            "head" if self.has & FORMAT_NAME != 0 => return Ok(Op::Header(self.header)),
            "device" if self.has & DEVICE != 0 => {
                let Self { record, revision, watermark, .. } = self;
                return Ok(Op::Device { name: record.device, revision, watermark });
            }
            _ => {
                return Err(Cow::Borrowed(
                    "an operation has a name that this version of the format does not know, or lacks a member",
                ));
            }
        };
        let patch = &self.record.patch;
        if patch.id.is_none() || patch.active.is_none() {
            return Err(Cow::Borrowed("a change lacks its session's id or activity"));
        }
        if self.has & DEVICE == 0 && matches!(kind, RecordKind::Rotate | RecordKind::End | RecordKind::UpdateClient) {
            return Ok(Op::Patch(kind, Box::new(self.record.patch)));
        }
        let whole = self.has & RECORD == RECORD
            && patch.expires.is_some()
            && patch.generation.is_some()
            && patch.current.is_some();
        if whole { Ok(Op::Record(kind, self.record)) } else { Err(Cow::Borrowed("a record lacks a member")) }
    }
}

fn parse_id(text: &str) -> Result<SessionId, FormatError> {
    SessionId::from_ascii(text.as_bytes()).map_err(|error| Cow::Owned(error.to_string()))
}

fn parse_time(json: &mut JsonReader<'_>) -> Result<Timestamp, FormatError> {
    Ok(Timestamp::from_millis(json.number()?))
}

fn parse_digest(json: &mut JsonReader<'_>) -> Result<[u8; 32], FormatError> {
    super::digest::decode(json.string()?.as_bytes()).ok_or(Cow::Borrowed("a digest is malformed"))
}

fn parse_replaced(json: &mut JsonReader<'_>) -> Result<Replaced, FormatError> {
    let mut replaced = Replaced { digest: None, stops_at: Timestamp::EPOCH, tolerance: Millis::ZERO };
    json.object(|name, json| {
        match name {
            "stops" => replaced.stops_at = parse_time(json)?,
            "tolerance" => replaced.tolerance = Millis::new(json.number()?),
            "cur" => replaced.digest = Some(Digest::from_bytes(parse_digest(json)?)),
            other => return unknown_member(other),
        }
        Ok(())
    })?;
    Ok(replaced)
}

fn parse_end(json: &mut JsonReader<'_>) -> Result<End, FormatError> {
    let mut end = End { reason: EndReason::Revoked, at: Timestamp::EPOCH, note: None, actor: None };
    let mut reasons = 0;
    let text_error = |error: TextError| Cow::Owned(error.to_string());
    json.object(|name, json| {
        match name {
            "reason" => {
                end.reason = json
                    .string()?
                    .parse()
                    .map_err(|()| "an end has a reason that this version of the format does not know")?;
                reasons += 1;
            }
            "at" => end.at = parse_time(json)?,
            "text" => end.note = Some(json.string()?.parse().map_err(text_error)?),
            "actor" => end.actor = Some(json.string()?.parse().map_err(text_error)?),
            other => return unknown_member(other),
        }
        Ok(())
    })?;
    if reasons == 1 { Ok(end) } else { Err(Cow::Borrowed("an end has no reason")) }
}

fn parse_client<'a>(json: &mut JsonReader<'a>) -> Result<Client<'a>, FormatError> {
    let mut client = Client::default();
    json.object(|name, json| match ClientField::ALL.into_iter().find(|field| field.name() == name) {
        Some(field) => {
            client.0[field as usize] = Some(json.string()?);
            Ok(())
        }
        None => unknown_member(name),
    })?;
    Ok(client)
}

fn parse_watermark(json: &mut JsonReader<'_>) -> Result<Option<RevocationWatermark>, FormatError> {
    let (mut created, mut until) = (None, None);
    json.object(|name, json| {
        match name {
            "created" => created = Some(parse_time(json)?),
            "until" => until = Some(parse_time(json)?),
            other => return unknown_member(other),
        }
        Ok(())
    })?;
    match (created, until) {
        (Some(created_at), Some(until)) => Ok(Some(RevocationWatermark { created_at, until })),
        (None, None) => Ok(None),
        _ => Err(Cow::Borrowed("a horizon lacks a member")),
    }
}
