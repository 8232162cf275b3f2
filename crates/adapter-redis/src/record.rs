//! A session's record: compact, versioned, with a checksum that also covers the session's name.
//!
//! ```text
//! '1' version, 'a' or 'e' (ended), 6 bytes last activity, 2 bytes length of device, 2 bytes length of subject,
//! device, subject; then as varints, digests as they are, texts with their length:
//! creation, order, expiry, generation, [rotation], terms, digests, [replaced], [end], client; CRC-32
//! ```
//! The scripts read the fixed part only. Rolling upgrades: a version that this build does not know is refused, so a
//! new version must be read one release before it is written.

use std::sync::Arc;

use tenure_domain::{
    Actor, ClientField, ClientInfo, Credential, DeviceId, Digest, End, EndReason, Millis, Note, Replaced, Session,
    SessionId, SessionParts, Subject, Terms, Timestamp,
};

const VERSION: u8 = b'1';
const ACTIVE: u8 = b'a';
const ENDED: u8 = b'e';

const HAS_ROTATED: u8 = 1;
const HAS_IDLE: u8 = 2;
const HAS_REPLACED: u8 = 4;
const HAS_PREVIOUS: u8 = 8;
const HAS_END: u8 = 16;
const HAS_END_TEXT: u8 = 32;
const HAS_END_ACTOR: u8 = 64;

/// Bytes of the checksum at the end.
pub(crate) const SUM: usize = 4;

/// Writes a session.
pub(crate) fn encode(session: &Session) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let (device, subject) = (session.device.as_str(), session.subject.as_str());
    out.extend([VERSION, if session.end.is_some() { ENDED } else { ACTIVE }]);
    out.extend(&session.last_activity.as_millis().to_be_bytes()[2..]);
    // Both are bounded to 128 characters.
    out.extend((device.len() as u16).to_be_bytes());
    out.extend((subject.len() as u16).to_be_bytes());
    out.extend(device.as_bytes());
    out.extend(subject.as_bytes());
    let replaced = session.credential.replaced.as_ref();
    let previous = replaced.and_then(|replaced| replaced.digest);
    let end = session.end.as_ref();
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        flag(session.rotated_at.is_some(), HAS_ROTATED)
            | flag(session.terms.idle_timeout.is_some(), HAS_IDLE)
            | flag(replaced.is_some(), HAS_REPLACED)
            | flag(previous.is_some(), HAS_PREVIOUS)
            | flag(end.is_some(), HAS_END)
            | flag(end.is_some_and(|end| end.note.is_some()), HAS_END_TEXT)
            | flag(end.is_some_and(|end| end.actor.is_some()), HAS_END_ACTOR),
    );
    for number in [
        session.created_at.as_millis(),
        session.order,
        session.expires_at.as_millis(),
        u64::from(session.generation),
        session.terms.ttl.get(),
        session.terms.max_lifetime.get(),
        session.terms.retention.get(),
    ] {
        put_number(&mut out, number);
    }
    let optional = [session.rotated_at.map(Timestamp::as_millis), session.terms.idle_timeout.map(Millis::get)];
    optional.into_iter().flatten().for_each(|number| put_number(&mut out, number));
    out.extend(session.credential.current.as_bytes());
    out.extend(session.credential.family.as_bytes());
    if let Some(replaced) = replaced {
        put_number(&mut out, replaced.stops_at.as_millis());
        put_number(&mut out, replaced.tolerance.get());
        out.extend(previous.iter().flat_map(|digest| digest.as_bytes()));
    }
    if let Some(end) = end {
        out.push(EndReason::ALL.iter().position(|reason| *reason == end.reason).unwrap_or_default() as u8);
        put_number(&mut out, end.at.as_millis());
        end.note.iter().for_each(|text| put_text(&mut out, text.as_str()));
        end.actor.iter().for_each(|actor| put_text(&mut out, actor.as_str()));
    }
    let fields = session.client.iter().fold(0, |fields, (field, _)| fields | 1 << field as u8);
    out.push(fields);
    session.client.iter().for_each(|(_, text)| put_text(&mut out, text));
    let sum = checksum(session.id, &out);
    out.extend(sum);
    out
}

/// Whether the first two bytes are those of a session that has not ended.
pub(crate) fn is_active(head: &[u8]) -> bool {
    head.get(1) == Some(&ACTIVE)
}

fn checksum(id: SessionId, body: &[u8]) -> [u8; SUM] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_ascii());
    hasher.update(body);
    hasher.finalize().to_be_bytes()
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend(text.as_bytes());
}

/// Reads the record of `id`; `activity` is what the store knows beside it. The error says what is wrong with it.
pub(crate) fn decode(id: SessionId, record: &[u8], activity: Option<Timestamp>) -> Result<Session, String> {
    match record.first() {
        Some(&VERSION) => {}
        Some(version @ b'0'..=b'9') => {
            return Err(format!(
                "the record has version {}, which this tenure does not know; upgrade it",
                char::from(*version)
            ));
        }
        _ => return Err("this is no session record".to_owned()),
    }
    let (body, sum) = record.split_last_chunk::<SUM>().ok_or("the record is cut short")?;
    if *sum != checksum(id, body) {
        return Err("the record's checksum is wrong".to_owned());
    }
    let parts = read(id, body).ok_or("the record does not read to its end")?;
    let session = Session::from_parts(parts).map_err(|error| error.message.to_owned())?;
    if let Some(activity) = activity.filter(|activity| *activity > session.last_activity) {
        let parts = SessionParts { last_activity: activity, ..session.into_parts() };
        return Session::from_parts(parts).map_err(|error| error.message.to_owned());
    }
    Ok(session)
}

fn read(id: SessionId, body: &[u8]) -> Option<SessionParts> {
    let mut rest = Reader(body.get(1..)?);
    let ended = rest.byte()? == ENDED;
    let last_activity = rest.take(6)?.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let lengths = [rest.take(2)?, rest.take(2)?].map(|bytes| usize::from(bytes[0]) << 8 | usize::from(bytes[1]));
    let device = DeviceId::recorded(std::str::from_utf8(rest.take(lengths[0])?).ok()?).ok()?;
    let subject = Subject::recorded(std::str::from_utf8(rest.take(lengths[1])?).ok()?).ok()?;
    let flags = rest.byte()?;
    let has = |bit: u8| flags & bit != 0;
    if ended != has(HAS_END) {
        return None;
    }
    let created_at = rest.time()?;
    let order = rest.number()?;
    let expires_at = rest.time()?;
    let generation = u32::try_from(rest.number()?).ok()?;
    let (ttl, max_lifetime, retention) =
        (Millis::new(rest.number()?), Millis::new(rest.number()?), Millis::new(rest.number()?));
    let rotated_at = if has(HAS_ROTATED) { Some(rest.time()?) } else { None };
    let idle_timeout = if has(HAS_IDLE) { Some(Millis::new(rest.number()?)) } else { None };
    let (current, family) = (rest.digest()?, rest.digest()?);
    let replaced = if has(HAS_REPLACED) {
        let (stops_at, tolerance) = (rest.time()?, Millis::new(rest.number()?));
        let digest = if has(HAS_PREVIOUS) { Some(rest.digest()?) } else { None };
        Some(Replaced { digest, stops_at, tolerance })
    } else {
        None
    };
    let end = if ended {
        let reason = *EndReason::ALL.get(usize::from(rest.byte()?))?;
        let at = rest.time()?;
        let text = if has(HAS_END_TEXT) { Some(Note::new(rest.text()?).ok()?) } else { None };
        let actor = if has(HAS_END_ACTOR) { Some(Actor::new(rest.text()?).ok()?) } else { None };
        Some(End { reason, at, note: text, actor })
    } else {
        None
    };
    let fields = rest.byte()?;
    let mut client = ClientInfo::default();
    for field in ClientField::ALL.into_iter().filter(|field| fields & 1 << *field as u8 != 0) {
        client = client.with_recorded(field, rest.text()?).ok()?;
    }
    rest.0.is_empty().then(|| SessionParts {
        id,
        device,
        subject,
        client: Arc::new(client),
        created_at,
        order,
        last_activity: Timestamp::from_millis(last_activity),
        expires_at,
        generation,
        rotated_at,
        terms: Terms { ttl, idle_timeout, max_lifetime, retention },
        credential: Credential { current, family, replaced },
        end,
    })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u64> {
        let mut sum = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            sum |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(sum);
            }
        }
        None
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.number().map(Timestamp::from_millis)
    }

    fn digest(&mut self) -> Option<Digest> {
        Some(Digest::from_bytes(*self.take(32)?.first_chunk()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}
