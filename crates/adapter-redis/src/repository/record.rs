//! The record of a session: compact, versioned, with a checksum that also covers the session's id.
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

/// The number that stands for an end reason in a record. It must never change: records of earlier releases have it.
const fn end_reason_code(reason: EndReason) -> u8 {
    match reason {
        EndReason::Revoked => 0,
        EndReason::Evicted => 1,
        EndReason::Replayed => 2,
        EndReason::LoggedOut => 3,
        EndReason::Idle => 4,
    }
}

fn end_reason_from_code(code: u8) -> Option<EndReason> {
    EndReason::ALL.into_iter().find(|reason| end_reason_code(*reason) == code)
}

/// The bit that says that a record has a client field. It must never change. Texts are stored in the order of the bits.
const fn client_field_bit(field: ClientField) -> u8 {
    match field {
        ClientField::Id => 1,
        ClientField::DisplayName => 2,
        ClientField::Platform => 4,
        ClientField::Version => 8,
        ClientField::Address => 16,
        ClientField::UserAgent => 32,
        ClientField::DeviceKey => 64,
    }
}

/// The client fields in the order in which a record stores them.
const STORED_CLIENT_FIELDS: [ClientField; 7] = [
    ClientField::Id,
    ClientField::DisplayName,
    ClientField::Platform,
    ClientField::Version,
    ClientField::Address,
    ClientField::UserAgent,
    ClientField::DeviceKey,
];

/// The length in bytes of the checksum at the end.
pub(crate) const SUM: usize = 4;

/// Writes the record of a session.
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
        out.push(end_reason_code(end.reason));
        put_number(&mut out, end.at.as_millis());
        end.note.iter().for_each(|text| put_text(&mut out, text.as_str()));
        end.actor.iter().for_each(|actor| put_text(&mut out, actor.as_str()));
    }
    let fields = session.client.iter().fold(0, |fields, (field, _)| fields | client_field_bit(field));
    out.push(fields);
    let texts = STORED_CLIENT_FIELDS.into_iter().filter_map(|field| session.client.get(field));
    texts.for_each(|text| put_text(&mut out, text));
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

/// Parses the record of `id`. `activity` is the activity that is stored beside it. The error says what is wrong with
/// the record.
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
        let reason = end_reason_from_code(rest.byte()?)?;
        let at = rest.time()?;
        let text = if has(HAS_END_TEXT) { Some(Note::new(rest.text()?).ok()?) } else { None };
        let actor = if has(HAS_END_ACTOR) { Some(Actor::new(rest.text()?).ok()?) } else { None };
        Some(End { reason, at, note: text, actor })
    } else {
        None
    };
    let fields = rest.byte()?;
    let mut client = ClientInfo::default();
    for field in STORED_CLIENT_FIELDS.into_iter().filter(|field| fields & client_field_bit(*field) != 0) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A session with everything that a record can hold.
    fn full() -> Session {
        let text = |field: ClientField| format!("the {}", field.name());
        let client = ClientField::ALL
            .into_iter()
            .fold(ClientInfo::default(), |client, field| client.with_recorded(field, &text(field)).unwrap());
        Session::from_parts(SessionParts {
            id: SessionId::from_ascii(b"0123456789abcdefghjk").unwrap(),
            device: DeviceId::new("laptop").unwrap(),
            subject: Subject::new("owner").unwrap(),
            client: Arc::new(client),
            created_at: Timestamp::from_millis(1_700_000_000_000),
            order: 7,
            last_activity: Timestamp::from_millis(1_700_000_200_000),
            expires_at: Timestamp::from_millis(1_700_003_600_000),
            generation: 3,
            rotated_at: Some(Timestamp::from_millis(1_700_000_100_000)),
            terms: Terms {
                ttl: Millis::hours(1),
                idle_timeout: Some(Millis::minutes(30)),
                max_lifetime: Millis::hours(24),
                retention: Millis::hours(48),
            },
            credential: Credential {
                current: Digest::from_bytes([1; 32]),
                family: Digest::from_bytes([2; 32]),
                replaced: Some(Replaced {
                    digest: Some(Digest::from_bytes([3; 32])),
                    stops_at: Timestamp::from_millis(1_700_000_160_000),
                    tolerance: Millis::seconds(10),
                }),
            },
            end: Some(End {
                reason: EndReason::LoggedOut,
                at: Timestamp::from_millis(1_700_000_300_000),
                note: Some(Note::new("a note").unwrap()),
                actor: Some(Actor::new("an actor").unwrap()),
            }),
        })
        .unwrap()
    }

    #[test]
    fn end_reason_codes_are_those_of_every_release() {
        let codes = EndReason::ALL.map(|reason| (reason.code(), end_reason_code(reason)));
        assert_eq!(
            BTreeSet::from(codes),
            BTreeSet::from([("revoked", 0), ("evicted", 1), ("replayed", 2), ("logged_out", 3), ("idle", 4)])
        );
        for reason in EndReason::ALL {
            assert_eq!(end_reason_from_code(end_reason_code(reason)), Some(reason));
        }
        assert_eq!(end_reason_from_code(5), None);
    }

    #[test]
    fn client_field_bits_are_those_of_every_release() {
        let bits = STORED_CLIENT_FIELDS.map(|field| (field.name(), client_field_bit(field)));
        assert_eq!(
            bits,
            [
                ("id", 1),
                ("displayName", 2),
                ("platform", 4),
                ("version", 8),
                ("address", 16),
                ("userAgent", 32),
                ("deviceKey", 64)
            ]
        );
        assert_eq!(BTreeSet::from(STORED_CLIENT_FIELDS), BTreeSet::from(ClientField::ALL), "one would not be stored");
    }

    #[test]
    fn presence_flags_are_those_of_every_release() {
        let flags = [HAS_ROTATED, HAS_IDLE, HAS_REPLACED, HAS_PREVIOUS, HAS_END, HAS_END_TEXT, HAS_END_ACTOR];
        assert_eq!(flags, [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!([VERSION, ACTIVE, ENDED], *b"1ae");
    }

    #[test]
    fn a_record_is_the_same_bytes_as_in_every_release() {
        let session = full();
        let record = encode(&session);
        let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "3165018bcfe87540000600056c6170746f706f776e65727f80d095ffbc310780adf180bd310380dddb0180b8992980f0",
            "b252a0dd9bffbc31c0ee6d01010101010101010101010101010101010101010101010101010101010101010202020202",
            "02020202020202020202020202020202020202020202020202020280b29fffbc31904e03030303030303030303030303",
            "0303030303030303030303030303030303030303e0f7a7ffbc310661206e6f746508616e206163746f727f0674686520",
            "69640f74686520646973706c61794e616d650c74686520706c6174666f726d0b7468652076657273696f6e0b74686520",
            "616464726573730d74686520757365724167656e740d746865206465766963654b6579c043319b",
        );
        assert_eq!(hex, expected);
        assert_eq!(decode(session.id, &record, None), Ok(session));
    }
}
