//! Walks through sessions: bucket by bucket, in the order of ids, pipelined.

use async_trait::async_trait;
use redis::Value;
use tenure_domain::{Bucket, Filter, IdPrefix, Session, SessionId, SortKey, Subject, Timestamp};
use tenure_ports::{Cursor, EventStream, Page, SessionQueries, StoreError};

use crate::client::Request;
use crate::repository::{RedisStore, events};

/// The number of buckets whose index is read in one round, at first and at most.
const FIRST_ROUND: usize = 32;
const LARGEST_ROUND: usize = 256;
/// The number of records that one command reads.
const RECORDS: usize = 256;
/// The number of ids that one step of a walk reads, at least and at most.
const FEWEST: usize = 256;
const MOST: usize = 16_384;

/// Some ids, in order, and whether there may be more.
struct Ids {
    ids: Vec<SessionId>,
    more: bool,
}

#[async_trait]
impl SessionQueries for RedisStore {
    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let after = match after {
            Some(Cursor(number)) => Some(SessionId::from_u128(number).ok_or_else(|| self.unexpected_reply())?),
            None => None,
        };
        let want = limit.clamp(FEWEST, MOST);
        let Ids { mut ids, mut more } = self.ids(filter, after, want).await?;
        more |= ids.len() > want;
        ids.truncate(want);
        let mut sessions = self.records(&ids).await?;
        sessions.retain(|session| filter.matches(session, now));
        if sessions.len() > limit.max(1) {
            sessions.truncate(limit.max(1));
            let next = sessions.last().map(|session| Cursor(session.id.as_u128()));
            return Ok(Page { sessions, next });
        }
        let next = ids.last().filter(|_| more).map(|id| Cursor(id.as_u128()));
        Ok(Page { sessions, next })
    }

    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let mut best: Vec<Session> = Vec::new();
        let mut after = None;
        loop {
            let Ids { ids, more } = self.ids(filter, after, MOST).await?;
            let sessions = self.records(&ids).await?;
            best.extend(sessions.into_iter().filter(|session| filter.matches(session, now)));
            if best.len() > limit && limit > 0 {
                best.select_nth_unstable_by(limit - 1, |a, b| sort.compare(a, b));
            }
            best.truncate(limit);
            after = ids.last().copied();
            if !more {
                best.sort_unstable_by(|a, b| sort.compare(a, b));
                return Ok(best);
            }
        }
    }

    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        let (first, last) = (*prefix.range().start(), *prefix.range().end());
        let mut found = Vec::new();
        let mut from = format!("[{first}");
        loop {
            let mut ids = Vec::new();
            let buckets: Vec<Bucket> = prefix.buckets().collect();
            for range in self.ranges(&buckets, None, &from, &format!("[{last}"), limit).await? {
                ids.extend(range);
            }
            let full = ids.len() >= limit;
            ids.truncate(limit);
            let checks: Vec<Request> = ids
                .iter()
                .map(|id| {
                    let mut command = redis::cmd("EXISTS");
                    command.arg(self.keys.session(*id));
                    Request::Plain(command)
                })
                .collect();
            let answers = self
                .client
                .send_all_repeatable(&checks)
                .await
                .map_err(|failure| self.client.fail(failure, String::new))?;
            let there = ids.iter().zip(answers).filter(|(_, answer)| *answer == Value::Int(1));
            found.extend(there.map(|(id, _)| *id));
            found.truncate(limit);
            match ids.last() {
                // The range was full of ids whose records have expired.
                Some(id) if full && found.len() < limit => from = format!("({id}"),
                _ => return Ok(found),
            }
        }
    }

    async fn subscribe(&self) -> Result<EventStream, StoreError> {
        events::subscribe(&self.client, self.keys.channel()).await
    }
}

impl RedisStore {
    /// Returns the next ids that may match: `want` or more, unless there are fewer.
    async fn ids(&self, filter: &Filter, after: Option<SessionId>, want: usize) -> Result<Ids, StoreError> {
        if filter.device.is_some() {
            let ids = self.device_ids(filter).await?;
            return Ok(Ids {
                ids: ids.into_iter().filter(|id| after.is_none_or(|after| *id > after)).collect(),
                more: false,
            });
        }
        let buckets: Vec<Bucket> = Bucket::all().skip(after.map_or(0, |id| usize::from(id.bucket().index()))).collect();
        let (mut rest, mut round, mut ids) = (&buckets[..], FIRST_ROUND, Vec::new());
        // It applies to the first bucket only.
        let from = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        while !rest.is_empty() {
            let (now, later) = rest.split_at(round.min(rest.len()));
            let ranges = self.ranges(now, filter.subject.as_ref(), &from, "+", want).await?;
            for range in ranges {
                let cut = range.len() >= want;
                ids.extend(range);
                if cut {
                    return Ok(Ids { ids, more: true });
                }
            }
            if ids.len() >= want {
                return Ok(Ids { ids, more: !later.is_empty() });
            }
            rest = later;
            round = (round * 2).min(LARGEST_ROUND);
        }
        Ok(Ids { ids, more: false })
    }

    /// Returns the ids of each bucket in a range, at most `limit` of each.
    pub(crate) async fn ranges(
        &self,
        buckets: &[Bucket],
        subject: Option<&Subject>,
        from: &str,
        to: &str,
        limit: usize,
    ) -> Result<Vec<Vec<SessionId>>, StoreError> {
        let requests: Vec<Request> = buckets
            .iter()
            .map(|bucket| {
                let mut command = redis::cmd("ZRANGEBYLEX");
                command.arg(self.keys.index(*bucket, subject)).arg(from).arg(to);
                command.arg("LIMIT").arg(0).arg(limit);
                Request::Plain(command)
            })
            .collect();
        let answers = self.client.send_all_repeatable(&requests).await;
        let answers = answers.map_err(|failure| {
            self.client.fail(failure, || format!("{} or that of another bucket", self.keys.index(buckets[0], subject)))
        })?;
        answers.into_iter().map(|answer| self.ids_of(answer)).collect()
    }

    fn ids_of(&self, value: Value) -> Result<Vec<SessionId>, StoreError> {
        let Value::Array(values) = value else {
            return Err(self.unexpected_reply());
        };
        let id = |value: Value| match value {
            Value::BulkString(text) => SessionId::from_ascii(&text).map_err(|_| self.unexpected_reply()),
            _ => Err(self.unexpected_reply()),
        };
        values.into_iter().map(id).collect()
    }

    async fn device_ids(&self, filter: &Filter) -> Result<Vec<SessionId>, StoreError> {
        let Some(device) = &filter.device else {
            return Ok(Vec::new());
        };
        let (mut active, mut inactive) = (redis::cmd("HKEYS"), redis::cmd("ZRANGE"));
        active.arg(self.keys.device(device));
        inactive.arg(self.keys.inactive(device)).arg(0).arg(-1);
        let answers = self.client.send_all_repeatable(&[Request::Plain(active), Request::Plain(inactive)]).await;
        let answers = answers.map_err(|failure| self.client.fail(failure, || self.keys.device(device)))?;
        let mut ids = Vec::new();
        for value in answers {
            let Value::Array(values) = value else {
                return Err(self.unexpected_reply());
            };
            // The other fields of the hash are shorter than any id.
            let text = |value: Value| match value {
                Value::BulkString(text) if text.len() > 1 => Some(text),
                _ => None,
            };
            for text in values.into_iter().filter_map(text) {
                ids.push(SessionId::from_ascii(&text).map_err(|_| self.unexpected_reply())?);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Returns the records of these ids, in order, without those that no longer exist.
    async fn records(&self, ids: &[SessionId]) -> Result<Vec<Session>, StoreError> {
        let raw = self.raw_records(ids).await?;
        raw.iter().map(|(id, record, activity)| self.decode(*id, record, activity)).collect()
    }

    /// Returns the stored records of these ids, each with its activity.
    pub(crate) async fn raw_records(&self, ids: &[SessionId]) -> Result<Vec<(SessionId, Vec<u8>, Value)>, StoreError> {
        let chunks: Vec<&[SessionId]> =
            ids.chunk_by(|a, b| a.bucket() == b.bucket()).flat_map(|bucket| bucket.chunks(RECORDS)).collect();
        let requests: Vec<Request> = chunks
            .iter()
            .map(|chunk| {
                let mut command = redis::cmd("MGET");
                for id in *chunk {
                    command.arg(self.keys.session(*id)).arg(self.keys.activity(*id));
                }
                Request::Plain(command)
            })
            .collect();
        let answers = self
            .client
            .send_all_repeatable(&requests)
            .await
            .map_err(|failure| self.client.fail(failure, String::new))?;
        let mut records = Vec::with_capacity(ids.len());
        for (chunk, answer) in chunks.into_iter().zip(answers) {
            let Value::Array(values) = answer else {
                return Err(self.unexpected_reply());
            };
            let mut values = values.into_iter();
            for id in chunk {
                match (values.next(), values.next()) {
                    (Some(Value::BulkString(record)), Some(activity)) => records.push((*id, record, activity)),
                    (Some(Value::Nil), Some(_)) => {}
                    _ => return Err(self.unexpected_reply()),
                }
            }
        }
        Ok(records)
    }
}
