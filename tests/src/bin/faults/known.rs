//! What was acknowledged, and what is answered about it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use tenure_domain::{SessionId, Token};

use crate::Failure;
use crate::child::{judge, open, runtime};

/// What the parent knows of a session from the acknowledgements.
struct Known {
    tokens: Vec<String>,
    /// A rotation or revocation was under way when its writer last spoke.
    unsettled: bool,
    revoked: bool,
    /// Which writer speaks of it.
    writer: u64,
}

/// Everything that was acknowledged, and how the store answered for it.
#[derive(Default)]
pub(crate) struct Ledger {
    known: BTreeMap<SessionId, Known>,
    pub(crate) checks: u64,
    pub(crate) lost: u64,
    pub(crate) accepted: u64,
    pub(crate) slowest_open: Duration,
}

impl Ledger {
    pub(crate) fn sessions(&self) -> usize {
        self.known.len()
    }

    /// Takes in one line of a writer; answers which session it is about.
    pub(crate) fn learn(&mut self, writer: u64, line: &str) -> Result<Option<SessionId>, Failure> {
        let mut words = line.split(' ');
        let (Some(what), Some(id), Some(token)) = (words.next(), words.next(), words.next()) else {
            return Ok(None); // The kill cut the line.
        };
        let Ok(id) = id.parse::<SessionId>() else { return Ok(None) };
        // A token that was cut was not acknowledged to anyone.
        let is_whole = Token::parse(token).is_ok();
        if what == "issued" && is_whole {
            let known = Known { tokens: vec![token.to_owned()], unsettled: false, revoked: false, writer };
            self.known.insert(id, known);
            return Ok(Some(id));
        }
        let Some(session) = self.known.get_mut(&id) else { return Ok(None) };
        match what {
            "rotating" | "revoking" => session.unsettled = true,
            "rotated" if is_whole => {
                session.tokens.push(token.to_owned());
                session.unsettled = false;
            }
            "revoked" => (session.unsettled, session.revoked) = (false, true),
            _ => return Ok(None),
        }
        Ok(Some(id))
    }

    /// Compares what is answered about sessions with what was acknowledged. While a session's writer lives, the store
    /// may be ahead of what it has said: then only what has ended for good can be held against the store.
    pub(crate) fn check<'a>(
        &mut self,
        ids: impl IntoIterator<Item = &'a SessionId>,
        alive: &BTreeSet<u64>,
        mut ask: impl FnMut(&str) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        for id in ids {
            let Some(session) = self.known.get(id) else { continue };
            let is_alive = alive.contains(&session.writer);
            // A replaced token shown late would end the session, by the rules: only the newest one is asked about.
            let Some(token) = session.tokens.last().filter(|_| session.revoked || !is_alive) else { continue };
            let answer = ask(token)?;
            self.checks += 1;
            if session.revoked && answer != "revoked" {
                self.accepted += 1;
                eprintln!("faults: a revoked session is {answer}: {id}");
            } else if !session.revoked && !session.unsettled && answer != "active" {
                self.lost += 1;
                eprintln!("faults: an acknowledged session is {answer}: {id}");
            }
        }
        Ok(())
    }

    /// Asks a newly opened store about everything.
    pub(crate) fn check_all(&mut self, store: &Path, alive: &BTreeSet<u64>) -> Result<(), Failure> {
        let runtime = runtime()?;
        let began = Instant::now();
        let sessions = open(store)?;
        self.slowest_open = self.slowest_open.max(began.elapsed());
        let ids: Vec<_> = self.known.keys().copied().collect();
        self.check(&ids, alive, |token| Ok(judge(&runtime, &sessions, token)))
    }

    /// Fails where a promise was broken, or nothing was tested.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        if self.checks == 0 {
            return Err("no writer acknowledged anything: nothing was tested".into());
        }
        if self.lost + self.accepted > 0 {
            return Err("the store broke a promise".into());
        }
        Ok(())
    }
}
