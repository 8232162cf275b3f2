//! The gate: what every request of every listener goes through.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::header::COOKIE;
use http::{HeaderMap, Method};
use tenure_domain::Refusal;
use tenure_ports::StoreError;
use tenure_service::{ActivityMode, Sessions, Verified};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::credential::Credential;
use crate::describe::Describer;
use crate::failures::{Guesses, Lockouts};
use crate::live::Live;
use crate::login;
use crate::metrics::{Metrics, Outcome};
use crate::options::Options;
use crate::origin;
use crate::peer::Peer;
use crate::problem::{Problem, Refused};
use crate::ready::Ready;
use crate::watch::Young;

/// How often noted activity is written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// The use cases and how they are enforced, shared by all connections.
pub struct Gate {
    sessions: Arc<Sessions>,
    options: ArcSwap<Options>,
    metrics: Metrics,
    live: Live,
    young: Young,
    lockouts: Lockouts,
    ready: Ready,
    describer: Describer,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// A request whose token holds.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// What the verification came to.
    pub(crate) verified: Verified,
    /// What was presented.
    pub(crate) credential: Credential,
}

impl Gate {
    /// A gate over these use cases.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>, options: Options) -> Arc<Self> {
        let live = Live::new(Arc::clone(&sessions), options.store_loss_grace);
        Arc::new(Self {
            sessions,
            options: ArcSwap::from_pointee(options),
            metrics: Metrics::new(),
            live,
            young: Young::default(),
            lockouts: Lockouts::new(),
            ready: Ready::default(),
            describer: Describer::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// The use cases.
    #[must_use]
    pub const fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// What is counted.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The connections that last.
    #[must_use]
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// Exchanges that have just begun.
    pub(crate) const fn young(&self) -> &Young {
        &self.young
    }

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> Arc<Options> {
        self.options.load_full()
    }

    /// Goes by other options from now on, as far as they can change while it runs.
    pub fn set_options(&self, options: Options) {
        self.live.set_grace(options.store_loss_grace);
        self.options.store(Arc::new(options));
    }

    /// Whether the store answers and would take a change.
    ///
    /// # Errors
    /// [`StoreError`] where it would not.
    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        self.ready.ask(&self.sessions).await
    }

    /// Failed attempts, by purpose and address.
    pub(crate) const fn lockouts(&self) -> &Lockouts {
        &self.lockouts
    }

    /// Cancelled when the gateway shuts down: what lasts should end.
    pub(crate) const fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// The tasks that a shutdown waits for.
    pub(crate) const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Writes noted activity every second until `end` is ready, and then what is left. A failure denies nobody: the
    /// activity is kept for the next time. [`crate::Server::run`] does this itself; whoever only uses
    /// [`crate::TenureLayer`] has it run beside.
    pub async fn keep(&self, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        let (mut failing, mut last) = (false, false);
        while !last {
            last = tokio::time::timeout(FLUSH_EVERY, end.as_mut()).await.is_ok();
            match self.sessions.flush_activity().await {
                Ok(touches) => {
                    self.metrics.flushed(touches);
                    failing = false;
                }
                Err(error) => {
                    self.metrics.store_failed();
                    if !failing || last {
                        tracing::warn!(%error, "the store does not accept activity now: it will be written later");
                    }
                    failing = true;
                }
            }
        }
    }

    /// The session that a request presents the token of; counts as its use. `secure` says whether the client came over
    /// TLS, which tells what cookie counts.
    ///
    /// # Errors
    /// [`Problem`].
    pub async fn authenticate(&self, headers: &HeaderMap, secure: bool) -> Result<(Verified, Credential), Problem> {
        let outcome = self.timed(headers, secure, |_| Ok(())).await;
        self.count(&outcome);
        outcome
    }

    /// The same where `may`, which is asked before the token is judged, allows for what the token came in.
    async fn timed(
        &self,
        headers: &HeaderMap,
        secure: bool,
        may: impl FnOnce(&Credential) -> Result<(), Problem>,
    ) -> Result<(Verified, Credential), Problem> {
        let start = Instant::now();
        let outcome = self.judge(headers, secure, may).await;
        self.metrics.verified(start.elapsed());
        outcome
    }

    fn count<T>(&self, outcome: &Result<T, Problem>) {
        match outcome {
            Ok(_) => self.metrics.passed(Outcome::Admitted),
            Err(problem) => self.metrics.answered(problem),
        }
    }

    async fn judge(
        &self,
        headers: &HeaderMap,
        secure: bool,
        may: impl FnOnce(&Credential) -> Result<(), Problem>,
    ) -> Result<(Verified, Credential), Problem> {
        let credential = Credential::of(headers, &self.options.load().cookie_name, secure);
        let credential = credential.map_err(|error| Problem::BadRequest(error.to_string()))?;
        let credential = credential.ok_or(Problem::Unauthorized(Refused::Missing))?;
        may(&credential)?;
        let token = credential.token.as_ref().ok_or(Problem::from(Refusal::Malformed))?;
        let verified = self.sessions.verify(token, ActivityMode::Record).await;
        let verified = verified.map_err(|error| Problem::from(error).of_cookie(credential.in_cookie))?;
        Ok((verified, credential))
    }

    /// Lets a request in, or says why not: [`Gate::authenticate`], and besides that a cookie is not taken for a change
    /// that another site may have asked for, a guess counts against the client's address, and the session records
    /// where it is used from.
    ///
    /// # Errors
    /// [`Problem`]; 429 instead of 401 after too many guesses, but never to a person who asks for a page, and never to
    /// whoever shows a token that was a session's own. A token that holds is let in all the same.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        peer: &Peer,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Admitted, Problem> {
        self.admit_counting(&self.lockouts.tokens, peer, method, headers).await
    }

    /// [`Gate::admit`] for a token that was pasted into the login page: guesses there count apart.
    pub(crate) async fn admit_form(
        self: &Arc<Self>,
        peer: &Peer,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Admitted, Problem> {
        self.admit_counting(&self.lockouts.forms, peer, method, headers).await
    }

    async fn admit_counting(
        self: &Arc<Self>,
        guesses: &Guesses,
        peer: &Peer,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Admitted, Problem> {
        let may = |credential: &Credential| match credential.from_cookie && origin::may_change(method, headers) {
            true => origin::guard(headers, peer.host(), peer.secure),
            false => Ok(()),
        };
        let outcome = match self.timed(headers, peer.secure, may).await {
            Ok((verified, credential)) => {
                self.describer.note(self, &verified.session, peer, headers);
                Ok(Admitted { verified, credential })
            }
            Err(problem @ Problem::Unauthorized(Refused::Token(refusal) | Refused::Cookie(refusal))) => {
                let print = self.print(headers, peer.secure);
                let told = self.refused(guesses, peer, refusal, print);
                // A person is told in words by the login page.
                if login::is_navigation(method, headers) {
                    Err(problem)
                } else if matches!(told, Problem::TooMany(_)) {
                    self.metrics.refused(refusal);
                    Err(told)
                } else {
                    Err(problem)
                }
            }
            Err(problem) => Err(problem),
        };
        self.count(&outcome);
        outcome
    }

    /// What tells a refused token from others, where a browser sends it by itself: a tab that goes on asking with the
    /// cookie of a session that is long forgotten makes no other guess each time.
    fn print(&self, headers: &HeaderMap, secure: bool) -> Option<u32> {
        let credential = Credential::of(headers, &self.options.load().cookie_name, secure).ok().flatten();
        let credential = credential.filter(|credential| credential.from_cookie)?;
        Some(match &credential.token {
            Some(token) => self.lockouts.print(token.to_text().expose().as_bytes()),
            None => self.lockouts.print(headers.get(COOKIE)?.as_bytes()),
        })
    }

    /// What whoever shows a token that is refused is told. Counts it where it may be a guess.
    pub(crate) fn refused(&self, guesses: &Guesses, peer: &Peer, refusal: Refusal, print: Option<u32>) -> Problem {
        let left = if refusal.may_be_guess() { guesses.note(peer, print) } else { None };
        left.map_or(refusal.into(), Problem::too_many)
    }
}
