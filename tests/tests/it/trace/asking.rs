//! What a use case answers to a step.

use tenure_domain::{
    Bucket, ClientField, ClientInfo, DeviceId, Family, Filter, Millis, RotationSecret, Secret, Session, SessionId,
    Subject, Token,
};
use tenure_service::{ActivityMode, IssueRequest, SessionRecord, Sessions, Target};

use super::steps::{Meant, Nth, Shown, Step};
use super::world::{DEVICES, World};

const SUBJECTS: [&str; 2] = ["operator", "anna"];

/// What a use case answered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) said: String,
    pub(super) sessions: Vec<Session>,
    pub(super) tokens: Vec<String>,
}

impl Answer {
    pub(super) fn said(text: impl std::fmt::Debug) -> Self {
        Self { said: format!("{text:?}"), ..Self::default() }
    }

    pub(super) fn with(mut self, sessions: impl IntoIterator<Item = Session>) -> Self {
        self.sessions.extend(sessions);
        self
    }

    /// In an order of its own, where the store's own order is none of anybody's business.
    pub(super) fn with_unordered(mut self, sessions: impl IntoIterator<Item = Session>) -> Self {
        let mut sessions: Vec<Session> = sessions.into_iter().collect();
        sessions.sort_by_key(|session| session.id);
        self.sessions.extend(sessions);
        self
    }
}

impl World {
    pub(super) async fn answer(&self, sessions: &Sessions, step: &Step) -> Answer {
        match step {
            Step::Issue { device, subject, ttl } => issued(sessions.issue(request(*device, *subject, *ttl)).await),
            Step::TakeOver { device, subject } => {
                let cause = Sessions::revocation(Some("taken over".parse().unwrap()), Some("test".parse().unwrap()));
                let issuing = sessions.prepare_issue(request(*device, *subject, None));
                match issuing {
                    Ok(issuing) => issued(sessions.issue_prepared(issuing.taking_over(cause)).await),
                    Err(error) => Answer::said(error.to_string()),
                }
            }
            Step::Enrol { device, ttl } => issued(sessions.enrol(request(*device, 0, *ttl)).await),
            Step::Verify { shown, counts } => {
                let usage = if *counts { ActivityMode::Record } else { ActivityMode::Ignore };
                let verified = match self.shown(*shown) {
                    Some(token) => sessions.verify(&token, usage).await,
                    None => sessions.verify_text("tnr_nothing", usage).await,
                };
                match verified {
                    Ok(v) => Answer::said((v.token_match, v.rotation_due, v.at)).with([v.session]),
                    Err(error) => Answer::said(error),
                }
            }
            Step::Rotate(shown) => match self.shown(*shown) {
                Some(token) => match sessions.rotate(&token).await {
                    Ok(rotated) => {
                        let tokens = vec![rotated.token.to_text().expose().to_owned()];
                        Answer { tokens, ..Answer::said("rotated").with([rotated.session]) }
                    }
                    Err(error) => Answer::said(error.to_string()),
                },
                None => Answer::default(),
            },
            Step::Revoke { meant, except, dry_run } => self.revoke(sessions, *meant, *except, *dry_run).await,
            Step::LogOut(session) => {
                let Some(id) = self.id(*session) else { return Answer::default() };
                match sessions.get(id).await {
                    Ok(Some(session)) => revoked(sessions.log_out(&session).await.map_err(|error| error.to_string())),
                    other => Answer::said(other),
                }
            }
            Step::Describe { session, client } => match self.id(*session) {
                Some(id) => Answer::said(sessions.update_client(id, &self::client(*client)).await),
                None => Answer::default(),
            },
            Step::Use(session) => {
                self.id(*session).inspect(|id| sessions.note_activity(*id));
                Answer::default()
            }
            Step::Flush => Answer::said(sessions.flush_activity().await),
            Step::List { device, subject, scope, sort, limit } => {
                let device = device.map(device_id);
                let filter = Filter { device, subject: subject.map(subject_of), scope: *scope };
                match sessions.list(&filter, *sort, *limit).await {
                    Ok(listed) => Answer::said("listed").with(listed),
                    Err(error) => Answer::said(error),
                }
            }
            Step::Show { session, length } => self.show(sessions, *session, *length).await,
            Step::StillHolds(session) => match self.id(*session) {
                Some(id) => match sessions.check_active(id).await {
                    Ok(session) => Answer::said("holds").with([session]),
                    Err(error) => Answer::said(error),
                },
                None => Answer::default(),
            },
            Step::Cleanup { older_than, dry_run } => {
                Answer::said(sessions.cleanup(*older_than, *dry_run, |_| {}).await)
            }
            Step::Export => {
                let mut text = Vec::new();
                let count = sessions.export(&mut text, |_| {}).await.map_err(|error| error.to_string());
                let text = String::from_utf8(text).unwrap();
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort_unstable();
                let parsed = lines.iter().map(|line| SessionRecord::parse(1, line).unwrap());
                Answer { tokens: lines.clone(), ..Answer::said(count).with_unordered(parsed) }
            }
            other => Answer::said(other),
        }
    }

    async fn show(&self, sessions: &Sessions, session: Nth, length: usize) -> Answer {
        let Some(id) = self.id(session) else { return Answer::default() };
        let start = &id.to_string()[..length];
        // As the command does: first which one it is, then all about it.
        let found = match sessions.resolve(start).await {
            Ok(id) => sessions.get(id).await.map_err(|error| error.to_string()),
            Err(tenure_service::ResolveError::NoSuchSession(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(found) => Answer::said("found").with(found),
            Err(error) => Answer::said(error),
        }
    }

    async fn revoke(&self, sessions: &Sessions, meant: Meant, except: Option<Nth>, dry_run: bool) -> Answer {
        let target = match meant {
            Meant::Sessions(a, b) => Target::Ids(self.id(a).into_iter().chain(self.id(b)).collect()),
            Meant::Unknown(n) => Target::Ids(vec![stranger(n)]),
            Meant::Device(n) => Target::Device(device_id(n)),
            Meant::Subject(n) => Target::Subject(subject_of(n)),
            Meant::All => Target::All,
        };
        let except = except.and_then(|nth| self.id(nth));
        let cause = Sessions::revocation(Some("because".parse().unwrap()), Some("test".parse().unwrap()));
        revoked(if dry_run {
            sessions.preview_revoke(&target, except).await.map_err(|error| error.to_string())
        } else {
            sessions.revoke(&target, except, &cause).await.map_err(|error| error.to_string())
        })
    }

    pub(super) fn id(&self, session: Nth) -> Option<SessionId> {
        nth(&self.known, session).map(|known| known.id)
    }

    /// `None` for what is no token, or where there is no session yet.
    fn shown(&self, shown: Shown) -> Option<Token> {
        let of = |session| nth(&self.known, session);
        let made = |session, family: u8| {
            Token::new(session, Secret::new(&Family::new([family; 16]), &RotationSecret::new([0xee; 16])))
        };
        match shown {
            Shown::Current(n) => of(n)?.tokens.last().cloned(),
            Shown::Previous(n) => of(n)?.tokens.iter().rev().nth(1).cloned(),
            Shown::First(n) => of(n)?.tokens.first().cloned(),
            Shown::Guessed(n) => Some(made(of(n)?.id, 0xdd)),
            Shown::NeverIssued(n) => Some(of(n)?.tokens.last()?.successor(&RotationSecret::new([0xee; 16]))),
            Shown::Unknown(n) => Some(made(stranger(n), 0xdd)),
            Shown::Malformed => None,
        }
    }
}

pub(super) fn nth<T>(of: &[T], nth: Nth) -> Option<&T> {
    of.get(usize::from(nth).checked_rem(of.len())?)
}

pub(super) fn device_id(nth: Nth) -> DeviceId {
    DeviceId::new(DEVICES[usize::from(nth) % DEVICES.len()]).unwrap()
}

pub(super) fn subject_of(nth: Nth) -> Subject {
    Subject::new(SUBJECTS[usize::from(nth) % SUBJECTS.len()]).unwrap()
}

fn stranger(nth: Nth) -> SessionId {
    SessionId::new(Bucket::of(&device_id(nth)), [0xcc; 12])
}

pub(super) fn client(number: u8) -> ClientInfo {
    let field = ClientField::ALL[usize::from(number) % 7];
    ClientInfo::default().with(field, &format!("client {}", number % 3)).unwrap()
}

fn request(device: Nth, subject: Nth, ttl: Option<Millis>) -> IssueRequest {
    IssueRequest { device: device_id(device), subject: subject_of(subject), client: client(subject as u8), ttl }
}

fn issued(outcome: Result<tenure_service::Issued, tenure_service::IssueError>) -> Answer {
    match outcome {
        Ok(issued) => {
            let tokens = vec![issued.token.to_text().expose().to_owned()];
            let displaced = Answer::said(issued.evicted).with([issued.session]).with_unordered(issued.revoked);
            Answer { tokens, ..displaced }
        }
        Err(error) => Answer::said(error.to_string()),
    }
}

fn revoked(outcome: Result<tenure_service::Revoked, String>) -> Answer {
    match outcome {
        Ok(mut done) => {
            done.unknown.sort_unstable();
            Answer::said((done.unknown, done.ended.len())).with_unordered(done.ended).with_unordered(done.already_ended)
        }
        Err(error) => Answer::said(error),
    }
}
