//! The names of the keys. All keys of a bucket share its hash tag, so that one script may use them on a cluster.
//!
//! ```text
//! <prefix>:{<bucket>}:s:<session id>   string  the session's record
//! <prefix>:{<bucket>}:a:<session id>   string  the session's last activity in milliseconds, where later than the record's
//! <prefix>:{<bucket>}:d:<device id>    hash    r: revision; h: watermark; <session id>: expiry and end of retention
//! <prefix>:{<bucket>}:o:<device id>    zset    the device's inactive sessions, by the time at which they became inactive
//! <prefix>:{<bucket>}:i                zset    all session ids of the bucket, in order
//! <prefix>:{<bucket>}:u:<subject>      zset    the session ids of one subject in the bucket, in order
//! <prefix>:{<bucket>}:n                string  the last revision that was used: the one key that does not expire
//! ```

use tenure_domain::{Bucket, DeviceId, SessionId, Subject};

/// Makes the names of keys with one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    /// Returns `None` for a prefix that would change the hash tag, act as a pattern or break a line.
    pub(crate) fn new(prefix: &str) -> Option<Self> {
        let plain = |c: char| !c.is_control() && !matches!(c, '{' | '}' | ' ' | '*' | '?' | '[' | ']' | '\\');
        (!prefix.is_empty() && prefix.len() <= 64 && prefix.chars().all(plain))
            .then(|| Self { prefix: prefix.to_owned() })
    }

    /// Returns the start of every key of a bucket.
    pub(crate) fn base(&self, bucket: Bucket) -> String {
        format!("{}:{{{bucket}}}:", self.prefix)
    }

    pub(crate) fn session(&self, id: SessionId) -> String {
        self.of_session(id, 's')
    }

    pub(crate) fn activity(&self, id: SessionId) -> String {
        self.of_session(id, 'a')
    }

    // This is on the hot path: one allocation, and no formatting machinery.
    fn of_session(&self, id: SessionId, kind: char) -> String {
        let text = id.to_ascii();
        let text = std::str::from_utf8(&text).unwrap_or_default();
        let mut key = String::with_capacity(self.prefix.len() + 28);
        key.push_str(&self.prefix);
        key.push_str(":{");
        key.push_str(&text[..2]);
        key.push_str("}:");
        key.push(kind);
        key.push(':');
        key.push_str(text);
        key
    }

    pub(crate) fn device(&self, device: &DeviceId) -> String {
        format!("{}d:{}", self.base(Bucket::of(device)), device.as_str())
    }

    pub(crate) fn inactive(&self, device: &DeviceId) -> String {
        format!("{}o:{}", self.base(Bucket::of(device)), device.as_str())
    }

    /// Returns the key of a bucket's index: of one subject's sessions, or of all.
    pub(crate) fn index(&self, bucket: Bucket, subject: Option<&Subject>) -> String {
        match subject {
            None => format!("{}i", self.base(bucket)),
            Some(subject) => format!("{}u:{}", self.base(bucket), subject.as_str()),
        }
    }

    pub(crate) fn counter(&self, bucket: Bucket) -> String {
        format!("{}n", self.base(bucket))
    }

    /// Returns the name of the channel on which changes are announced.
    pub(crate) fn channel(&self) -> String {
        format!("{}:feed", self.prefix)
    }
}
