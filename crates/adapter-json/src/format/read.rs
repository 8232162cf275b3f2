//! Reading lines.

use std::borrow::Cow;

use tenure_domain::{
    ClientField, ClientInfo, Digest, End, EndReason, Millis, Replaced, RevocationWatermark, SessionId, TextError,
    Timestamp,
};

use super::cursor::{Json, Problem};
use super::{BEFORE_CRC, BEFORE_TX, FORMAT, TX_AT, VERSION, hex};

/// A transaction as it is written.
#[derive(Debug, Default)]
pub(crate) struct Tx<'a> {
    pub(crate) number: u64,
    pub(crate) at: u64,
    pub(crate) synced: u64,
    pub(crate) boot: Cow<'a, str>,
    pub(crate) elapsed: u64,
    pub(crate) ops: Vec<Op<'a>>,
}

impl Tx<'_> {
    /// The sessions whose records it writes.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.ops.iter().filter_map(|op| match op {
            Op::Record(_, record) => record.patch.id,
            Op::Patch(_, patch) => patch.id,
            _ => None,
        })
    }
}

/// One operation.
#[derive(Debug)]
pub(crate) enum Op<'a> {
    /// What the file is; the first of the first line, and nowhere else.
    Head(Head),
    /// A device's revision (`None`: this transaction's number) and watermark (`None`: as it was).
    Device { name: Cow<'a, str>, revision: Option<u64>, watermark: Option<Option<RevocationWatermark>> },
    /// A whole record.
    Record(What, Box<Record<'a>>),
    /// Some of a record.
    Patch(What, Box<Patch<'a>>),
    /// Sessions whose time is over.
    Lapse(Vec<SessionId>),
    /// Records that go.
    Purge(Vec<SessionId>),
    /// Activity.
    Touch(Vec<(SessionId, Timestamp)>),
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Issue,
    Import,
    Rotate,
    End,
    Describe,
    /// Nothing: a compaction wrote it anew.
    Record,
}

/// What the first line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The last transaction that the snapshot contains.
    pub(crate) through: u64,
    /// That one's checksum.
    pub(crate) last: u32,
    /// Where the snapshot ends.
    pub(crate) size: u64,
    /// How many lines it has.
    pub(crate) lines: u64,
    /// How many sessions it has.
    pub(crate) records: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Record<'a> {
    pub(crate) patch: Patch<'a>,
    pub(crate) device: Cow<'a, str>,
    pub(crate) subject: Cow<'a, str>,
    pub(crate) created: Timestamp,
    pub(crate) order: u64,
    pub(crate) ttl: Millis,
    pub(crate) idle: Option<Millis>,
    pub(crate) life: Millis,
    pub(crate) keep: Millis,
    pub(crate) family: [u8; 32],
    pub(crate) expired: bool,
}

/// The fields that changes change.
#[derive(Debug, Default)]
pub(crate) struct Patch<'a> {
    pub(crate) id: Option<SessionId>,
    pub(crate) active: Option<Timestamp>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) generation: Option<u32>,
    pub(crate) rotated: Option<Timestamp>,
    pub(crate) current: Option<[u8; 32]>,
    pub(crate) replaced: Option<Replaced>,
    pub(crate) end: Option<End>,
    pub(crate) client: Option<Client<'a>>,
}

/// A client's description, not yet checked or shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Client<'a>(pub(crate) [Option<Cow<'a, str>>; 7]);

impl Client<'_> {
    pub(crate) fn build(&self) -> Result<ClientInfo, TextError> {
        let mut client = ClientInfo::default();
        for (field, text) in ClientField::ALL.into_iter().zip(&self.0) {
            if let Some(text) = text {
                client = client.with_recorded(field, text)?;
            }
        }
        Ok(client)
    }
}

/// Every field that an operation may have; which it must have follows from its name.
#[derive(Default)]
struct Fields<'a> {
    record: Box<Record<'a>>,
    op: Cow<'a, str>,
    has: u32,
    revision: Option<u64>,
    watermark: Option<Option<RevocationWatermark>>,
    ids: Vec<SessionId>,
    seen: Vec<(SessionId, Timestamp)>,
    head: Head,
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

/// The transaction in a line and the line's checksum. `line` is without its newline.
///
/// # Errors
/// What does not check out, in words.
pub(crate) fn parse_line(line: &[u8]) -> Result<(Tx<'_>, u32), Problem> {
    let (body, crc) = frame(line)?;
    let text = std::str::from_utf8(body).map_err(|_| "it is not UTF-8")?;
    Ok((parse_tx(text)?, crc))
}

/// The raw transaction in a line, after its frame and checksum were checked.
fn frame(line: &[u8]) -> Result<(&[u8], u32), Problem> {
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
            "its checksum is {} and not what the line says",
            String::from_utf8_lossy(&hex(crc))
        )));
    }
    Ok((body, crc))
}

/// Whether these bytes are the beginning of a line, as far as can be told without its end.
pub(crate) fn may_begin_line(bytes: &[u8]) -> bool {
    let sample = [BEFORE_CRC, b"00000000", BEFORE_TX, b"{\"q\":"].concat();
    let framed = bytes.iter().zip(&sample).enumerate().all(|(at, (byte, expected))| {
        if (BEFORE_CRC.len()..BEFORE_CRC.len() + 8).contains(&at) { byte.is_ascii_hexdigit() } else { byte == expected }
    });
    framed && bytes.iter().all(|byte| *byte >= b' ')
}

/// Where lines may begin in these bytes: no text in a line has such a start, since its quotation marks are escaped.
pub(crate) fn starts_of_lines(bytes: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(bytes, BEFORE_CRC).collect()
}

fn parse_tx(text: &str) -> Result<Tx<'_>, Problem> {
    let mut json = Json::new(text);
    let mut tx = Tx::default();
    let mut seen = 0;
    json.object(|name, json| {
        seen += 1;
        match name {
            "q" => tx.number = json.number()?,
            "t" => tx.at = json.number()?,
            "s" => tx.synced = json.number()?,
            "b" => tx.boot = json.string()?,
            "u" => tx.elapsed = json.number()?,
            "ops" => json.array(|json| {
                tx.ops.push(op(json)?);
                Ok(())
            })?,
            other => return unknown(other),
        }
        Ok(())
    })?;
    json.end()?;
    if seen != 6 { Err(Cow::Borrowed("the transaction has not its six members")) } else { Ok(tx) }
}

fn unknown(name: &str) -> Result<(), Problem> {
    let name: String = name.chars().take(20).collect();
    Err(Cow::Owned(format!("{name:?} is no member of this version of the format")))
}

fn op<'a>(json: &mut Json<'a>) -> Result<Op<'a>, Problem> {
    let mut fields = Fields::default();
    json.object(|name, json| fields.read(name, json))?;
    fields.into_op()
}

impl<'a> Fields<'a> {
    fn read(&mut self, name: &str, json: &mut Json<'a>) -> Result<(), Problem> {
        let record = &mut self.record;
        match name {
            "op" => self.op = json.string()?,
            "id" => record.patch.id = Some(id(&json.string()?)?),
            "device" => (record.device, self.has) = (json.string()?, self.has | DEVICE),
            "subject" => (record.subject, self.has) = (json.string()?, self.has | SUBJECT),
            "client" => record.patch.client = Some(client(json)?),
            "created" => (record.created, self.has) = (time(json)?, self.has | CREATED),
            "order" => record.order = json.number()?,
            "active" => record.patch.active = Some(time(json)?),
            "expires" => record.patch.expires = Some(time(json)?),
            "gen" => {
                let generation = u32::try_from(json.number()?);
                record.patch.generation = Some(generation.map_err(|_| "the token generation is too large")?);
            }
            "rotated" => record.patch.rotated = Some(time(json)?),
            "ttl" => (record.ttl, self.has) = (Millis::new(json.number()?), self.has | TTL),
            "idle" => record.idle = Some(Millis::new(json.number()?)),
            "life" => (record.life, self.has) = (Millis::new(json.number()?), self.has | LIFE),
            "keep" => (record.keep, self.has) = (Millis::new(json.number()?), self.has | KEEP),
            "cur" => record.patch.current = Some(digest(json)?),
            "fam" => (record.family, self.has) = (digest(json)?, self.has | FAMILY),
            "prev" => record.patch.replaced = Some(replaced(json)?),
            "end" => record.patch.end = Some(end(json)?),
            "lapsed" => record.expired = json.truth()?,
            _ => self.read_rarer(name, json)?,
        }
        Ok(())
    }

    fn read_rarer(&mut self, name: &str, json: &mut Json<'a>) -> Result<(), Problem> {
        match name {
            "rev" => self.revision = Some(json.number()?),
            "horizon" => self.watermark = Some(watermark(json)?),
            "ids" => json.array(|json| {
                self.ids.push(id(&json.string()?)?);
                Ok(())
            })?,
            "seen" => json.object(|name, json| {
                self.seen.push((id(name)?, time(json)?));
                Ok(())
            })?,
            "format" if json.string()? == FORMAT => self.has |= FORMAT_NAME,
            "format" => return Err(Cow::Borrowed("it is a file of another kind")),
            "version" => match json.number()? {
                version if version == u64::from(VERSION) => {}
                other => {
                    return Err(Cow::Owned(format!(
                        "it is of format version {other}, and this program knows {VERSION}; use a newer one"
                    )));
                }
            },
            "through" => self.head.through = json.number()?,
            "size" => self.head.size = json.number()?,
            "lines" => self.head.lines = json.number()?,
            "records" => self.head.records = json.number()?,
            "last" => {
                let text = json.string()?;
                self.head.last = u32::from_str_radix(&text, 16).map_err(|_| "the last checksum is none")?;
            }
            other => return unknown(other),
        }
        Ok(())
    }

    fn into_op(self) -> Result<Op<'a>, Problem> {
        let what = match &*self.op {
            "issue" => What::Issue,
            "import" => What::Import,
            "record" => What::Record,
            "rotate" => What::Rotate,
            "end" => What::End,
            "describe" => What::Describe,
            "lapse" => return Ok(Op::Lapse(self.ids)),
            "purge" => return Ok(Op::Purge(self.ids)),
            "touch" => return Ok(Op::Touch(self.seen)),
            "head" if self.has & FORMAT_NAME != 0 => return Ok(Op::Head(self.head)),
            "device" if self.has & DEVICE != 0 => {
                let Self { record, revision, watermark, .. } = self;
                return Ok(Op::Device { name: record.device, revision, watermark });
            }
            _ => {
                return Err(Cow::Borrowed("an operation has no name of this version of the format, or lacks a member"));
            }
        };
        let patch = &self.record.patch;
        if patch.id.is_none() || patch.active.is_none() {
            return Err(Cow::Borrowed("a change lacks its session's id or activity"));
        }
        if self.has & DEVICE == 0 && matches!(what, What::Rotate | What::End | What::Describe) {
            return Ok(Op::Patch(what, Box::new(self.record.patch)));
        }
        let whole = self.has & RECORD == RECORD
            && patch.expires.is_some()
            && patch.generation.is_some()
            && patch.current.is_some();
        if whole { Ok(Op::Record(what, self.record)) } else { Err(Cow::Borrowed("a record lacks a member")) }
    }
}

fn id(text: &str) -> Result<SessionId, Problem> {
    SessionId::from_ascii(text.as_bytes()).map_err(|error| Cow::Owned(error.to_string()))
}

fn time(json: &mut Json<'_>) -> Result<Timestamp, Problem> {
    Ok(Timestamp::from_millis(json.number()?))
}

fn digest(json: &mut Json<'_>) -> Result<[u8; 32], Problem> {
    super::digest::decode(json.string()?.as_bytes()).ok_or(Cow::Borrowed("a digest has not the form of one"))
}

fn replaced(json: &mut Json<'_>) -> Result<Replaced, Problem> {
    let mut replaced = Replaced { digest: None, stops_at: Timestamp::EPOCH, tolerance: Millis::ZERO };
    json.object(|name, json| {
        match name {
            "stops" => replaced.stops_at = time(json)?,
            "tolerance" => replaced.tolerance = Millis::new(json.number()?),
            "cur" => replaced.digest = Some(Digest::from_bytes(digest(json)?)),
            other => return unknown(other),
        }
        Ok(())
    })?;
    Ok(replaced)
}

fn end(json: &mut Json<'_>) -> Result<End, Problem> {
    let mut end = End { reason: EndReason::Revoked, at: Timestamp::EPOCH, note: None, actor: None };
    let mut reasons = 0;
    let words = |error: TextError| Cow::Owned(error.to_string());
    json.object(|name, json| {
        match name {
            "reason" => {
                end.reason =
                    json.string()?.parse().map_err(|()| "an end has no reason of this version of the format")?;
                reasons += 1;
            }
            "at" => end.at = time(json)?,
            "text" => end.note = Some(json.string()?.parse().map_err(words)?),
            "actor" => end.actor = Some(json.string()?.parse().map_err(words)?),
            other => return unknown(other),
        }
        Ok(())
    })?;
    if reasons == 1 { Ok(end) } else { Err(Cow::Borrowed("an end has no reason")) }
}

fn client<'a>(json: &mut Json<'a>) -> Result<Client<'a>, Problem> {
    let mut client = Client::default();
    json.object(|name, json| match ClientField::ALL.into_iter().find(|field| field.name() == name) {
        Some(field) => {
            client.0[field as usize] = Some(json.string()?);
            Ok(())
        }
        None => unknown(name),
    })?;
    Ok(client)
}

fn watermark(json: &mut Json<'_>) -> Result<Option<RevocationWatermark>, Problem> {
    let (mut created, mut until) = (None, None);
    json.object(|name, json| {
        match name {
            "created" => created = Some(time(json)?),
            "until" => until = Some(time(json)?),
            other => return unknown(other),
        }
        Ok(())
    })?;
    match (created, until) {
        (Some(created_at), Some(until)) => Ok(Some(RevocationWatermark { created_at, until })),
        (None, None) => Ok(None),
        _ => Err(Cow::Borrowed("a horizon lacks a member")),
    }
}
