//! An answer under way, held to its session: one that lasts is watched, and cut when its session ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tenure_domain::Session;
use tokio::time::Sleep;

use crate::enforce::Gate;
use crate::live::{Cut, Guard};

/// An answer that is done sooner is not watched. Until then it is what its verification allowed.
const LASTING: Duration = Duration::from_millis(50);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The watch over one answer.
pub(crate) struct Watch {
    gate: Arc<Gate>,
    state: State,
}

enum State {
    /// Nobody waited yet.
    Fresh(Option<Box<Session>>),
    /// Somebody waits, and it may be short.
    Waiting(Option<Box<Session>>, Pin<Box<Sleep>>),
    /// It lasts.
    Watching { guard: Arc<Guard>, ended: Boxed<Cut>, passing: Option<Boxed<Result<(), Cut>>> },
    /// It lasts, and nothing is to be watched: no session, or the gateway is stopping and lets it end.
    Off,
}

impl Watch {
    /// Watches over an answer to a request that was admitted with this session, just verified; `None` where the path
    /// is public.
    pub(crate) fn new(gate: &Arc<Gate>, session: Option<Session>) -> Self {
        Self { gate: gate.clone(), state: State::Fresh(session.map(Box::new)) }
    }

    /// Watches on over what a guard held.
    pub(crate) fn with(gate: &Arc<Gate>, guard: Option<Guard>) -> Self {
        Self { gate: gate.clone(), state: guard.map_or(State::Off, State::watching) }
    }

    /// Watches from now on, whether somebody waits or not.
    pub(crate) fn begin(&mut self) {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Fresh(session) | State::Waiting(session, _) => {
                if let Some(session) = session {
                    self.state = State::watching(self.gate.live().register(&session));
                }
            }
            other => self.state = other,
        }
    }

    /// The guard for a connection that lasts from the start.
    pub(crate) fn into_guard(self) -> Option<Guard> {
        match self.state {
            State::Fresh(session) | State::Waiting(session, _) => {
                session.map(|session| self.gate.live().register(&session))
            }
            State::Watching { guard, .. } => Arc::into_inner(guard),
            State::Off => None,
        }
    }

    /// Asked whenever there is nothing to do but wait: ready once the session has ended.
    pub(crate) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        loop {
            match std::mem::replace(&mut self.state, State::Off) {
                State::Fresh(session) => {
                    self.state = State::Waiting(session, Box::pin(tokio::time::sleep(LASTING)));
                }
                State::Waiting(session, mut sleep) => {
                    if sleep.as_mut().poll(cx).is_pending() {
                        self.state = State::Waiting(session, sleep);
                        return Poll::Pending;
                    }
                    let Some(session) = session else { return Poll::Pending };
                    self.state = State::watching(self.gate.live().register(&session));
                }
                State::Watching { guard, mut ended, passing } => {
                    let polled = ended.as_mut().poll(cx);
                    if polled.is_pending() {
                        self.state = State::Watching { guard, ended, passing };
                    }
                    return polled;
                }
                State::Off => return Poll::Pending,
            }
        }
    }

    /// Asked before something passes: ready with whether it may. Where the clock may have ended the session, that
    /// takes a look at it.
    pub(crate) fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let State::Watching { guard, passing, .. } = &mut self.state else { return Poll::Ready(Ok(())) };
        if passing.is_none() && guard.is_open() {
            return Poll::Ready(Ok(()));
        }
        let asked = passing.get_or_insert_with(|| {
            let guard = guard.clone();
            Box::pin(async move { guard.pass().await })
        });
        let polled = asked.as_mut().poll(cx);
        if polled.is_ready() {
            *passing = None;
        }
        polled
    }

    /// Whether it has lasted long enough to be watched.
    pub(crate) const fn lasts(&self) -> bool {
        matches!(self.state, State::Watching { .. } | State::Off)
    }
}

impl State {
    fn watching(guard: Guard) -> Self {
        let ended = Box::pin(guard.ended());
        Self::Watching { guard: Arc::new(guard), ended, passing: None }
    }
}
