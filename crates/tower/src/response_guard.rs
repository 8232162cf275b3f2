//! The guard of an exchange: a request and its response, both held to their session for as long as either is in progress,
//! whether somebody reads or not.
//!
//! ```text
//! client ──GuardedUpload──> upstream     each asks the exchange before it passes anything
//! client <──GuardedBody──── upstream
//!              exchange ──short for 50 ms──> registered (ConnectionGuard) ──session ended──> both ends dropped
//! ```
//! Most exchanges are done before there is anything to watch: until then they may do what their verification allowed.

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

    /// The registry of the connections that outlive a request.
    pub const fn connections(&self) -> &ConnectionRegistry {
        &self.connections
    }
}

type Check = Pin<Box<dyn Future<Output = Result<(), CloseReason>> + Send>>;

/// Which part of an exchange waits for its end.
#[derive(Clone, Copy)]
pub enum Waiter {
    /// Whoever waits for the head of the response.
    ResponseHead,
    /// The request's body.
    RequestBody,
    /// The response's body.
    ResponseBody,
}

/// A check in progress of whether something may pass.
#[derive(Default)]
pub struct PendingCheck(Option<Check>);

/// Something that is released when the session ends, though nobody reads it.
pub trait Release: Send + Sync {
    /// Drops what is held.
    fn release(&self);
}

/// The upstream's end of an exchange, which can be severed from outside.
pub trait Sever: Send + 'static {
    /// Severs the connection, both ways.
    fn sever(&self);
}

/// The upstream of an exchange that has none: a service in the same process answers it.
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
    /// Its slot among the short exchanges, or [`NOT_LISTED`].
    slot: AtomicUsize,
    /// It has lasted long enough to be guarded, or never will be.
    is_long: AtomicBool,
    /// Pieces of the request's body that have passed.
    pieces: AtomicU64,
    wakers: [AtomicWaker; 3],
}

struct State<U> {
    guarding: Guarding,
    /// The response has no end of its own, and so ends at shutdown.
    endless: bool,
    /// The shutdown has begun.
    stopping: bool,
    /// The upstream's connection, while the request's body goes there.
    upstream: Option<U>,
    /// Ends the client's stream or connection, while the response's body goes there.
    client_stream: Option<CancellationToken>,
    /// What else is released.
    inner: Option<Weak<dyn Release>>,
}

enum Guarding {
    /// Not yet: the exchange is short so far.
    Short(Box<Session>),
    Registered(Arc<ConnectionGuard>, #[expect(dead_code, reason = "ends the watching when it is dropped")] DropGuard),
    /// There is no session.
    Unguarded,
}

/// The value of [`Exchange::pieces`] once the whole body has passed.
const COMPLETE: u64 = u64::MAX;

impl<U: Sever> Exchange<U> {
    /// An exchange that was admitted with this session, just verified; `None` where the path is public.
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

    /// An exchange that a guard held until now.
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
                    // What has an end of its own may come to it, as long as its session is valid.
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

    /// Takes note of the shutdown; true where it ends this exchange.
    fn on_shutdown(&self) -> bool {
        let mut state = self.state.lock();
        state.stopping = true;
        state.endless
    }

    /// Ends both directions, whoever reads or does not.
    fn close(&self, reason: CloseReason) {
        // The first reason stands.
        let _ = self.close_reason.set(reason);
        let inner = if reason == CloseReason::Shutdown {
            // Its end is one that the client is to see.
            None
        } else {
            let mut state = self.state.lock();
            // Under the lock, so that neither connection serves another exchange by now.
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

    /// Ready with whether something may pass now. Where the clock may have ended the session, the answer waits for a
    /// recheck.
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

    /// Whether it has lasted long enough to be guarded, or never will be.
    pub fn is_long(&self) -> bool {
        self.is_long.load(Ordering::Acquire)
    }

    /// How many pieces of the request's body have passed; `None` once all have.
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

    /// Clears the upstream's connection: the request's body goes there no more.
    pub fn clear_upstream(&self) {
        self.state.lock().upstream = None;
    }

    /// Sets the client's stream, to which the response's body goes until `stream` ends it.
    pub fn set_client_stream(&self, stream: Option<&CancellationToken>, endless: bool) {
        let mut state = self.state.lock();
        state.endless = endless;
        let (stops, reason) = (endless && state.stopping, self.close_reason.get().copied());
        state.client_stream = stream.cloned();
        drop(state);
        // It may have ended before there was anything to end.
        if let Some(reason) = reason.or(stops.then_some(CloseReason::Shutdown)) {
            self.close(reason);
        }
    }

    /// Clears the client's stream: the response's body goes there no more.
    pub fn clear_client_stream(&self) {
        self.state.lock().client_stream = None;
    }

    /// Has this released too when the session ends.
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
