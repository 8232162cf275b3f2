//! Reading one session or one device from the server.

use redis::Value;
use tenure_domain::{Device, DeviceId, Revision, RevocationWatermark, Session, SessionId, Timestamp};
use tenure_ports::StoreError;

use crate::client::request_error::corrupt;
use crate::client::{Invocation, Request};
use crate::repository::RedisStore;
use crate::repository::record;
use crate::repository::scripts::LOAD;

impl RedisStore {
    /// Reads a session's record without its activity, by one plain command.
    pub(crate) async fn read_record(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let key = self.keys.session(id);
        let mut command = redis::cmd("GET");
        command.arg(&key);
        let answer = self.client.send_repeatable(&Request::Plain(command)).await;
        match answer.map_err(|failure| self.client.fail(failure, || key))? {
            Value::BulkString(record) => self.decode(id, &record, &Value::Nil).map(Some),
            Value::Nil => Ok(None),
            _ => Err(self.unexpected_reply()),
        }
    }

    /// Reads a session's record and its activity, by one plain command. Only where there is no record, a second command
    /// tells absence from damage.
    pub(crate) async fn read_session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let key = self.keys.session(id);
        let mut command = redis::cmd("MGET");
        command.arg(&key).arg(self.keys.activity(id));
        let answer = self.client.send_repeatable(&Request::Plain(command)).await;
        match answer.map_err(|failure| self.client.fail(failure, || key.clone()))? {
            Value::Array(values) => match <[Value; 2]>::try_from(values) {
                Ok([Value::BulkString(record), activity]) => self.decode(id, &record, &activity).map(Some),
                Ok([Value::Nil, _]) => self.check_absent(key).await.map(|()| None),
                _ => Err(self.unexpected_reply()),
            },
            _ => Err(self.unexpected_reply()),
        }
    }

    /// Fails where the key has another type. `MGET` returns nil for such a key, which must not pass for absence.
    async fn check_absent(&self, key: String) -> Result<(), StoreError> {
        let mut command = redis::cmd("STRLEN");
        command.arg(&key);
        let answer = self.client.send_repeatable(&Request::Plain(command)).await;
        answer.map(drop).map_err(|failure| self.client.fail(failure, || key))
    }

    /// Decodes a record and the activity stored beside it.
    pub(crate) fn decode(&self, id: SessionId, record: &[u8], activity: &Value) -> Result<Session, StoreError> {
        let damaged = |key: String, message: &str| corrupt(&self.client.location, &key, message);
        let activity = match activity {
            Value::Nil => None,
            Value::BulkString(text) if text.is_empty() => None,
            Value::BulkString(text) => {
                let millis = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                let millis = millis.ok_or_else(|| damaged(self.keys.activity(id), "its value is not a time"))?;
                Some(Timestamp::from_millis(millis))
            }
            _ => return Err(self.unexpected_reply()),
        };
        record::decode(id, record, activity).map_err(|message| damaged(self.keys.session(id), &message))
    }

    /// Ends the device's sessions again that this process has ended and the server has forgotten. Returns whether there
    /// were any.
    pub(crate) async fn restore_ends_of(&self, device: &Device) -> Result<bool, StoreError> {
        let forgotten = device.sessions().iter().filter(|session| self.recent_ends.contradict(session));
        let forgotten: Vec<SessionId> = forgotten.map(|session| session.id).collect();
        for id in &forgotten {
            self.reassert_end(*id).await?;
        }
        Ok(!forgotten.is_empty())
    }

    /// Reads a device and its sessions as of one instant.
    pub(crate) async fn read_device(&self, device: &DeviceId) -> Result<Device, StoreError> {
        let key = self.keys.device(device);
        let mut call = Invocation::new(&LOAD, vec![key.clone()]);
        call.arg(self.keys.base(tenure_domain::Bucket::of(device))).arg("");
        let answer = self.client.send_repeatable(&Request::Script(call)).await;
        let values = answer.map_err(|failure| self.client.fail(failure, || format!("{key} or one of its sessions")))?;
        let loaded = self.loaded(values)?.ok_or_else(|| self.unexpected_reply())?;
        Ok(loaded.into_device(device.clone()))
    }

    /// Reads the device of a session, with this session in any state, as of one instant.
    pub(crate) async fn read_device_of(&self, id: SessionId) -> Result<Option<Device>, StoreError> {
        let key = self.keys.session(id);
        let mut call = Invocation::new(&LOAD, vec![key.clone()]);
        call.arg(self.keys.base(id.bucket())).arg(id.to_ascii());
        let answer = self.client.send_repeatable(&Request::Script(call)).await;
        let values = answer.map_err(|failure| self.client.fail(failure, || format!("{key} or one of its device")))?;
        let Some(loaded) = self.loaded(values)? else {
            return Ok(None);
        };
        let device = loaded.sessions.iter().find(|session| session.id == id).map(|session| session.device.clone());
        Ok(Some(loaded.into_device(device.ok_or_else(|| self.unexpected_reply())?)))
    }

    fn loaded(&self, value: Value) -> Result<Option<Loaded>, StoreError> {
        let values = match value {
            Value::Nil => return Ok(None),
            Value::Array(values) => values,
            _ => return Err(self.unexpected_reply()),
        };
        let [Value::BulkString(revision), Value::BulkString(watermark), rest @ ..] = &values[..] else {
            return Err(self.unexpected_reply());
        };
        let mut sessions = Vec::with_capacity(rest.len() / 3);
        for entry in rest.chunks(3) {
            let [Value::BulkString(id), Value::BulkString(record), activity] = entry else {
                return Err(self.unexpected_reply());
            };
            let id = SessionId::from_ascii(id).map_err(|_| self.unexpected_reply())?;
            sessions.push(self.decode(id, record, activity)?);
        }
        Ok(Some(Loaded {
            revision: Revision::new(number(revision).ok_or_else(|| self.unexpected_reply())?),
            watermark: watermark_of(watermark).map_err(|()| self.unexpected_reply())?,
            sessions,
        }))
    }

    /// The error for a reply that none of the store's scripts and commands gives.
    pub(crate) fn unexpected_reply(&self) -> StoreError {
        StoreError::corrupt(
            &*self.client.location,
            format!(
                "keys with the prefix {} hold data that tenure did not write; give tenure a prefix or a database of its own",
                self.options.prefix
            ),
        )
    }
}

struct Loaded {
    revision: Revision,
    watermark: Option<RevocationWatermark>,
    sessions: Vec<Session>,
}

impl Loaded {
    fn into_device(self, id: DeviceId) -> Device {
        Device::new(id, self.revision, self.sessions, self.watermark)
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn watermark_of(text: &[u8]) -> Result<Option<RevocationWatermark>, ()> {
    if text.is_empty() {
        return Ok(None);
    }
    let comma = text.iter().position(|byte| *byte == b',').ok_or(())?;
    let time = |text| number(text).map(Timestamp::from_millis).ok_or(());
    Ok(Some(RevocationWatermark { created_at: time(&text[..comma])?, until: time(&text[comma + 1..])? }))
}
