//! The guard of an exchange, which is a request and its response. Both are held to their session for as long as either
//! is in progress, whether anything reads them or not.
//!
//! ```text
//! client ──GuardedUpload──> upstream     each asks the exchange before it passes anything
//! client <──GuardedBody──── upstream
//!              exchange ──short for 50 ms──> registered (ConnectionGuard) ──session ended──> both ends dropped
//! ```
//! Most exchanges finish before they are registered. Until then, the verification of their token is enough.

pub mod body;
mod short_exchanges;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tenure_domain::Session;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection_registry::{CloseReason, ConnectionGuard, ConnectionRegistry};

use short_exchanges::{NOT_LISTED, ShortExchange, ShortExchanges};

/// The registry of connections, and the exchanges that are too short to be in it.
pub struct ResponseGuards {
    connections: ConnectionRegistry,
    short: ShortExchanges,
}

impl ResponseGuards {
    /// Makes guards that register exchanges here once they have lasted a while.
    #[must_use]
    pub fn new(connections: ConnectionRegistry) -> Self {
        Self { connections, short: ShortExchanges::default() }
    }

    /// Returns the registry of the connections that outlive a request.
    pub const fn connections(&self) -> &ConnectionRegistry {
        &self.connections
    }
}

type Check = Pin<Box<dyn Future<Output = Result<(), CloseReason>> + Send>>;

/// The part of an exchange that waits for the end of the session.
#[derive(Clone, Copy)]
pub enum Waiter {
    /// The task that waits for the head of the response.
    ResponseHead,
    /// The request's body.
    RequestBody,
    /// The response's body.
    ResponseBody,
}

/// A check in progress of whether something may pass.
#[derive(Default)]
pub struct PendingCheck(Option<Check>);

/// Something that is dropped when the session ends, even if nothing reads it.
pub trait Release: Send + Sync {
    /// Drops the value.
    fn release(&self);
}

/// The upstream's end of an exchange, which can be severed from outside.
pub trait Sever: Send + 'static {
    /// Severs the connection, both ways.
    fn sever(&self);
}

/// The upstream of an exchange that has none, because a service in the same process answers it.
pub enum NoUpstream {}

impl Sever for NoUpstream {
    fn sever(&self) {
        match *self {}
    }
}

/// A request and its response.
pub struct Exchange<U: Sever = NoUpstream> {
    guards: Arc<ResponseGuards>,
    state: Mutex<State<U>>,
    close_reason: OnceLock<CloseReason>,
    /// The exchange's slot in the list of short exchanges, or [`NOT_LISTED`].
    slot: AtomicUsize,
    /// Whether the exchange has lasted long enough to be registered, or needs no registration.
    is_long: AtomicBool,
    /// The number of pieces of the request's body that have passed.
    pieces: AtomicU64,
    wakers: [AtomicWaker; 3],
}

struct State<U> {
    guarding: Guarding,
    /// Whether the response has no end of its own, and so ends at shutdown.
    endless: bool,
    /// Whether the shutdown has begun.
    stopping: bool,
    /// The upstream's connection, while the request's body is sent there.
    upstream: Option<U>,
    /// Ends the client's stream or connection, while the response's body is sent there.
    client_stream: Option<CancellationToken>,
    /// What else is dropped when the session ends.
    inner: Option<Weak<dyn Release>>,
}

enum Guarding {
    /// The exchange is not registered yet.
    Short(Box<Session>),
    Registered(Arc<ConnectionGuard>, #[expect(dead_code, reason = "ends the watching when it is dropped")] DropGuard),
    /// The exchange has no session.
    Unguarded,
}

/// The value of [`Exchange::pieces`] once the whole body has passed.
const COMPLETE: u64 = u64::MAX;

impl<U: Sever> Exchange<U> {
    /// Makes an exchange of this session, which was just verified. It is `None` if the path is public.
    pub fn new(guards: &Arc<ResponseGuards>, session: Option<Session>) -> Arc<Self> {
        match session {
            Some(session) => {
                let exchange = Self::with_guarding(guards, Guarding::Short(Box::new(session)));
                guards.short.add(&exchange);
                exchange
            }
            None => Self::with_guarding(guards, Guarding::Unguarded),
        }
    }

    /// Makes an exchange that is already registered.
    pub fn with_guard(guards: &Arc<ResponseGuards>, guard: Option<ConnectionGuard>) -> Arc<Self> {
        let exchange = Self::with_guarding(guards, Guarding::Unguarded);
        if let Some(guard) = guard {
            exchange.watch(&mut exchange.state.lock(), guard);
        }
        exchange
    }

    fn with_guarding(guards: &Arc<ResponseGuards>, guarding: Guarding) -> Arc<Self> {
        let is_long = matches!(guarding, Guarding::Unguarded).into();
        let state =
            State { guarding, endless: false, stopping: false, upstream: None, client_stream: None, inner: None };
        Arc::new(Self {
            guards: guards.clone(),
            state: Mutex::new(state),
            close_reason: OnceLock::new(),
            slot: AtomicUsize::new(NOT_LISTED),
            is_long,
            pieces: AtomicU64::new(0),
            wakers: Default::default(),
        })
    }

    fn watch(self: &Arc<Self>, state: &mut State<U>, guard: ConnectionGuard) {
        let (guard, finished) = (Arc::new(guard), CancellationToken::new());
        let (closed, exchange, done) = (guard.closed(), Arc::downgrade(self), finished.clone());
        let aborted = guard.aborted();
        state.guarding = Guarding::Registered(guard, finished.drop_guard());
        self.is_long.store(true, Ordering::Release);
        tokio::spawn(async move {
            let watching = async {
                match closed.await {
                    // A body with an end of its own may reach it, as long as its session is active.
                    CloseReason::Shutdown if exchange.upgrade().is_some_and(|exchange| !exchange.on_shutdown()) => {
                        aborted.await
                    }
                    reason => reason,
                }
            };
            tokio::select! {
                biased;
                () = done.cancelled() => {}
                reason = watching => {
                    if let Some(exchange) = exchange.upgrade() {
                        exchange.close(reason);
                    }
                }
            }
        });
    }

    /// Records that the shutdown has begun. Returns whether it ends this exchange.
    fn on_shutdown(&self) -> bool {
        let mut state = self.state.lock();
        state.stopping = true;
        state.endless
    }

    /// Ends both directions, whether anything reads them or not.
    fn close(&self, reason: CloseReason) {
        // The first reason is kept.
        let _ = self.close_reason.set(reason);
        let inner = if reason == CloseReason::Shutdown {
            // The client is to see a regular end.
            None
        } else {
            let mut state = self.state.lock();
            // Under the lock, so that neither connection can serve another exchange already.
            if let Some(upstream) = state.upstream.take() {
                upstream.sever();
            }
            if let Some(stream) = state.client_stream.take() {
                stream.cancel();
            }
            state.inner.take()
        };
        if let Some(inner) = inner.and_then(|inner| inner.upgrade()) {
            inner.release();
        }
        for waker in &self.wakers {
            waker.wake();
        }
    }

    /// Ready once the session has ended. Nothing may pass after that.
    pub fn poll_closed(&self, waiter: Waiter, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.wakers[waiter as usize].register(cx.waker());
        self.close_reason.get().map_or(Poll::Pending, |reason| Poll::Ready(*reason))
    }

    /// Ready with whether data may pass now. If the clock may have ended the session, it waits for a recheck.
    pub fn poll_check(&self, check: &mut PendingCheck, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        if !self.is_long() {
            return Poll::Ready(Ok(()));
        }
        if check.0.is_none() {
            let state = self.state.lock();
            let Guarding::Registered(guard, _) = &state.guarding else { return Poll::Ready(Ok(())) };
            if guard.is_open() {
                return Poll::Ready(Ok(()));
            }
            let guard = guard.clone();
            check.0 = Some(Box::pin(async move { guard.check_open().await }));
        }
        let Some(pending) = &mut check.0 else { return Poll::Ready(Ok(())) };
        let polled = pending.as_mut().poll(cx);
        if polled.is_ready() {
            check.0 = None;
        }
        polled
    }

    /// Whether the exchange has lasted long enough to be registered, or needs no registration.
    pub fn is_long(&self) -> bool {
        self.is_long.load(Ordering::Acquire)
    }

    /// Returns how many pieces of the request's body have passed, or `None` once the whole body has.
    pub fn pieces(&self) -> Option<u64> {
        Some(self.pieces.load(Ordering::Relaxed)).filter(|pieces| *pieces != COMPLETE)
    }

    /// Records that one more piece of the request's body has passed.
    pub fn record_piece(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that all of the request's body has passed.
    pub fn record_complete(&self) {
        self.pieces.store(COMPLETE, Ordering::Relaxed);
    }

    /// Sets the connection over which the request's body goes to the upstream.
    pub fn set_upstream(&self, connection: U) {
        self.state.lock().upstream = Some(connection);
    }

    /// Clears the upstream's connection, because no more of the request's body is sent there.
    pub fn clear_upstream(&self) {
        self.state.lock().upstream = None;
    }

    /// Sets the client's stream, which receives the response's body and which `stream` can end.
    pub fn set_client_stream(&self, stream: Option<&CancellationToken>, endless: bool) {
        let mut state = self.state.lock();
        state.endless = endless;
        let (stops, reason) = (endless && state.stopping, self.close_reason.get().copied());
        state.client_stream = stream.cloned();
        drop(state);
        // The session may have ended before there was a stream to end.
        if let Some(reason) = reason.or(stops.then_some(CloseReason::Shutdown)) {
            self.close(reason);
        }
    }

    /// Clears the client's stream, because no more of the response's body is sent there.
    pub fn clear_client_stream(&self) {
        self.state.lock().client_stream = None;
    }

    /// Drops this too when the session ends.
    pub fn release_on_close(&self, inner: Weak<dyn Release>) {
        self.state.lock().inner = Some(inner);
    }
}

impl<U: Sever> ShortExchange for Exchange<U> {
    fn slot(&self) -> &AtomicUsize {
        &self.slot
    }

    fn register(self: Arc<Self>) {
        let mut state = self.state.lock();
        if let Guarding::Short(session) = &state.guarding {
            let guard = self.guards.connections.register(session);
            self.watch(&mut state, guard);
            drop(state);
            self.wakers[Waiter::ResponseHead as usize].wake();
        }
    }
}

impl<U: Sever> Drop for Exchange<U> {
    fn drop(&mut self) {
        let slot = *self.slot.get_mut();
        if slot != NOT_LISTED {
            self.guards.short.remove(slot);
        }
    }
}
