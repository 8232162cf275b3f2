//! The cursor of a listing: the session after which it continues, and its order. Opaque to clients.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tenure_domain::{Session, SessionId, SortKey, Timestamp};

/// The last session of a page, by the key that the listing is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    sort: SortKey,
    at: Timestamp,
    id: SessionId,
}

const fn letter(sort: SortKey) -> char {
    match sort {
        SortKey::LastActivity => 'a',
        SortKey::Created => 'c',
        SortKey::Expires => 'e',
    }
}

impl Cursor {
    pub(super) fn of(session: &Session, sort: SortKey) -> Self {
        let at = match sort {
            SortKey::LastActivity => session.last_activity,
            SortKey::Created => session.created_at,
            SortKey::Expires => session.expires_at,
        };
        Self { sort, at, id: session.id }
    }

    /// Whether `session` comes after the cursor.
    pub(super) fn is_before(&self, session: &Session) -> bool {
        let other = Self::of(session, self.sort);
        let by_key = match self.sort {
            SortKey::LastActivity | SortKey::Created => other.at.cmp(&self.at),
            SortKey::Expires => self.at.cmp(&other.at),
        };
        by_key.then_with(|| self.id.cmp(&other.id)) == Ordering::Less
    }

    pub(super) fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}{}.{}", letter(self.sort), self.at.as_millis(), self.id))
    }

    /// Parses a cursor of a listing in this order. Returns `None` for any text that was not written here.
    pub(super) fn parse(text: &str, sort: SortKey) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (at, id) = text.strip_prefix(letter(sort))?.split_once('.')?;
        Some(Self { sort, at: Timestamp::from_millis(at.parse().ok()?), id: id.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use tenure_domain::{Bucket, DeviceId};

    use super::*;

    #[test]
    fn a_place_is_read_back_in_its_own_order_only() {
        let id = SessionId::new(Bucket::of(&DeviceId::new("laptop").unwrap()), [7; 12]);
        let cursor = Cursor { sort: SortKey::Created, at: Timestamp::from_millis(1_795_000_000_123), id };
        let text = cursor.to_text();
        assert_eq!(Cursor::parse(&text, SortKey::Created), Some(cursor));
        assert_eq!(Cursor::parse(&text, SortKey::Expires), None);
        for text in ["", "!", "YTE", &text[1..]] {
            assert_eq!(Cursor::parse(text, SortKey::Created), None, "{text}");
        }
    }
}
