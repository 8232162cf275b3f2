//! Writing the lines of a journal.

use tenure_domain::{ClientInfo, Digest, End, Replaced, RevocationWatermark, Session, SessionId, Terms, Timestamp};

use super::{BEFORE_CRC, BEFORE_TX, FORMAT, SnapshotHeader, TX_AT, VERSION, digest, hex};

/// The members that every transaction has; see [`super::Transaction`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineHeader<'a> {
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) synced: u64,
    pub(crate) boot: &'a str,
    pub(crate) uptime: u64,
}

/// A writer of one line. It writes the operations one after the other, and then the end of the line.
pub(crate) struct LineWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    empty: bool,
}

/// Appends a number in decimal digits.
fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a text as a JSON string.
fn text(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail.
    drop(serde_json::to_writer(out, text));
}

impl<'a> LineWriter<'a> {
    /// Begins a line at the end of `out`.
    pub(crate) fn begin(out: &'a mut Vec<u8>, header: LineHeader<'_>) -> Self {
        let start = out.len();
        out.extend_from_slice(BEFORE_CRC);
        out.extend_from_slice(b"00000000");
        out.extend_from_slice(BEFORE_TX);
        let mut line = Self { out, start, empty: true };
        line.raw(b"{\"q\":");
        number(line.out, header.number);
        line.number("t", header.at.as_millis());
        line.number("s", header.synced);
        line.text("b", header.boot);
        line.number("u", header.uptime);
        line.raw(b",\"ops\":[");
        line
    }

    /// Ends the line, and returns its checksum.
    pub(crate) fn finish(self) -> u32 {
        self.out.extend_from_slice(b"]}");
        let crc = crc32c::crc32c(&self.out[self.start + TX_AT..]);
        let digits = self.start + BEFORE_CRC.len();
        self.out[digits..digits + 8].copy_from_slice(&hex(crc));
        self.out.extend_from_slice(b"}\n");
        crc
    }

    /// Writes the operation of the first line of a file. Its length does not depend on the numbers, so that the line
    /// can be written last.
    pub(crate) fn snapshot_header(&mut self, header: &SnapshotHeader) {
        let SnapshotHeader { through, last_crc, size, lines, records } = *header;
        self.op("head");
        self.text("format", FORMAT);
        self.number("version", VERSION.into());
        for (name, value) in [("through", through), ("size", size), ("lines", lines), ("records", records)] {
            let before = self.out.len();
            self.number(name, value);
            // JSON ignores white space between tokens.
            let width = name.len() + 4 + 20;
            self.out.resize(before + width, b' ');
        }
        self.key("last");
        self.out.push(b'"');
        self.out.extend_from_slice(&hex(last_crc));
        self.raw(b"\"}");
    }

    /// Writes a device: its revision, if that is not the number of this transaction, and its watermark, if that
    /// changed.
    pub(crate) fn device(
        &mut self,
        device: &str,
        revision: Option<u64>,
        watermark: Option<Option<RevocationWatermark>>,
    ) {
        self.op("device");
        self.text("device", device);
        if let Some(revision) = revision {
            self.number("rev", revision);
        }
        match watermark {
            Some(Some(watermark)) => {
                self.raw(b",\"horizon\":{\"created\":");
                number(self.out, watermark.created_at.as_millis());
                self.number("until", watermark.until.as_millis());
                self.out.push(b'}');
            }
            Some(None) => self.raw(b",\"horizon\":{}"),
            None => {}
        }
        self.out.push(b'}');
    }

    /// Writes a whole record. `op` is `issue`, `import` or `record`, or another change if it affects more fields than
    /// usual.
    pub(crate) fn record(&mut self, op: &str, session: &Session, expired: bool) {
        self.op(op);
        self.id(session.id);
        self.text("device", session.device.as_str());
        self.text("subject", session.subject.as_str());
        if !session.client.is_empty() {
            self.client(&session.client);
        }
        self.number("created", session.created_at.as_millis());
        if session.order != 0 {
            self.number("order", session.order);
        }
        self.number("active", session.last_activity.as_millis());
        self.number("expires", session.expires_at.as_millis());
        self.number("gen", session.generation.into());
        if let Some(at) = session.rotated_at {
            self.number("rotated", at.as_millis());
        }
        self.terms(&session.terms);
        self.digest("cur", &session.credential.current);
        self.digest("fam", &session.credential.family);
        if let Some(replaced) = &session.credential.replaced {
            self.replaced(replaced);
        }
        if let Some(end) = &session.end {
            self.ended(end);
        }
        if expired {
            self.raw(b",\"lapsed\":true");
        }
        self.out.push(b'}');
    }

    /// Writes the rotation of a session's token.
    pub(crate) fn rotate(&mut self, session: &Session) {
        self.op("rotate");
        self.id(session.id);
        self.number("active", session.last_activity.as_millis());
        self.number("expires", session.expires_at.as_millis());
        self.number("gen", session.generation.into());
        if let Some(at) = session.rotated_at {
            self.number("rotated", at.as_millis());
        }
        self.digest("cur", &session.credential.current);
        if let Some(replaced) = &session.credential.replaced {
            self.replaced(replaced);
        }
        self.out.push(b'}');
    }

    /// Writes the end of a session.
    pub(crate) fn end_session(&mut self, session: &Session, end: &End) {
        self.op("end");
        self.id(session.id);
        self.number("active", session.last_activity.as_millis());
        self.ended(end);
        self.out.push(b'}');
    }

    /// Writes the new description of a session's client.
    pub(crate) fn update_client(&mut self, session: &Session) {
        self.op("describe");
        self.id(session.id);
        self.number("active", session.last_activity.as_millis());
        self.client(&session.client);
        self.out.push(b'}');
    }

    /// Writes an operation on several sessions: `lapse` or `purge`.
    pub(crate) fn session_list(&mut self, op: &str, ids: &[SessionId]) {
        self.op(op);
        self.raw(b",\"ids\":[");
        for (i, id) in ids.iter().enumerate() {
            self.raw(if i == 0 { b"\"" } else { b",\"" });
            self.out.extend_from_slice(&id.to_ascii());
            self.out.push(b'"');
        }
        self.raw(b"]}");
    }

    /// Writes the last activity of sessions.
    pub(crate) fn touch(&mut self, seen: impl Iterator<Item = (SessionId, Timestamp)>) {
        self.op("touch");
        self.raw(b",\"seen\":{");
        for (i, (id, at)) in seen.enumerate() {
            self.raw(if i == 0 { b"\"" } else { b",\"" });
            self.out.extend_from_slice(&id.to_ascii());
            self.raw(b"\":");
            number(self.out, at.as_millis());
        }
        self.raw(b"}}");
    }

    fn op(&mut self, name: &str) {
        self.raw(if self.empty { b"{\"op\":\"" } else { b",{\"op\":\"" });
        self.empty = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'"');
    }

    fn client(&mut self, client: &ClientInfo) {
        self.raw(b",\"client\":{");
        for (i, (field, value)) in client.iter().enumerate() {
            self.raw(if i == 0 { b"\"" } else { b",\"" });
            self.out.extend_from_slice(field.name().as_bytes());
            self.raw(b"\":");
            text(self.out, value);
        }
        self.out.push(b'}');
    }

    fn terms(&mut self, terms: &Terms) {
        self.number("ttl", terms.ttl.get());
        if let Some(idle) = terms.idle_timeout {
            self.number("idle", idle.get());
        }
        self.number("life", terms.max_lifetime.get());
        self.number("keep", terms.retention.get());
    }

    fn replaced(&mut self, replaced: &Replaced) {
        self.raw(b",\"prev\":{\"stops\":");
        number(self.out, replaced.stops_at.as_millis());
        self.number("tolerance", replaced.tolerance.get());
        if let Some(digest) = &replaced.digest {
            self.digest("cur", digest);
        }
        self.out.push(b'}');
    }

    fn ended(&mut self, end: &End) {
        self.raw(b",\"end\":{\"reason\":\"");
        self.out.extend_from_slice(end.reason.code().as_bytes());
        self.raw(b"\"");
        self.number("at", end.at.as_millis());
        if let Some(note) = &end.note {
            self.text("text", note.as_str());
        }
        if let Some(actor) = &end.actor {
            self.text("actor", actor.as_str());
        }
        self.out.push(b'}');
    }

    fn id(&mut self, id: SessionId) {
        self.raw(b",\"id\":\"");
        self.out.extend_from_slice(&id.to_ascii());
        self.out.push(b'"');
    }

    fn digest(&mut self, name: &str, digest: &Digest) {
        self.key(name);
        self.out.push(b'"');
        digest::encode(digest, self.out);
        self.out.push(b'"');
    }

    fn text(&mut self, name: &str, value: &str) {
        self.key(name);
        text(self.out, value);
    }

    fn number(&mut self, name: &str, value: u64) {
        self.key(name);
        number(self.out, value);
    }

    fn key(&mut self, name: &str) {
        self.raw(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.raw(b"\":");
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}
