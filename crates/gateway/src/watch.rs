//! An exchange: a request and its answer, both held to their session for as long as either is under way, whether
//! somebody reads or not.
//!
//! ```text
//! client ──Upload──> upstream      each asks the exchange before it passes anything
//! client <──Watched── upstream
//!              exchange ──young for 50 ms──> watched (live::Guard) ──session over──> both ends dropped
//! ```
//! Most exchanges are done before there is anything to watch: until then they are what their verification allowed.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper_util::client::legacy::connect::CaptureConnection;
use parking_lot::Mutex;
use slab::Slab;
use tenure_domain::Session;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::enforce::Gate;
use crate::live::{Cut, Guard};
use crate::upstream;

/// An exchange that is done sooner is not watched, and after twice as long each is.
const LASTING: Duration = Duration::from_millis(50);

type Asked = Pin<Box<dyn Future<Output = Result<(), Cut>> + Send>>;

/// Who waits for an exchange.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// Whoever waits for the answer's header.
    Wait,
    /// The request's body.
    Up,
    /// The answer's body.
    Down,
}

/// A question under way whether something may pass.
#[derive(Default)]
pub(crate) struct Asking(Option<Asked>);

/// What holds something that is to go when the session ends, though nobody reads it.
pub(crate) trait LetGo: Send + Sync {
    /// Drops it.
    fn let_go(&self);
}

/// A request and its answer.
pub(crate) struct Exchange {
    gate: Arc<Gate>,
    state: Mutex<State>,
    cut: OnceLock<Cut>,
    /// Its place among the young ones, or [`NOWHERE`].
    place: AtomicUsize,
    /// It has lasted long enough to be watched, or never will be.
    lasts: AtomicBool,
    /// Pieces of the request's body that have passed.
    pieces: AtomicU64,
    wakers: [AtomicWaker; 3],
}

struct State {
    held: Held,
    /// The answer has no end of its own, and so ends when the gateway stops.
    endless: bool,
    /// The gateway stops.
    stopping: bool,
    /// The upstream's connection, while the request's body goes there.
    up: Option<CaptureConnection>,
    /// Ends the client's stream or connection, while the answer's body goes there.
    down: Option<CancellationToken>,
    /// What else is to go.
    inner: Option<Weak<dyn LetGo>>,
}

enum Held {
    Young(Box<Session>),
    Watched(Arc<Guard>, #[expect(dead_code, reason = "ends the watching when it is dropped")] DropGuard),
    /// There is no session.
    Free,
}

const DONE: u64 = u64::MAX;
const NOWHERE: usize = usize::MAX;

impl Exchange {
    /// An exchange that was admitted with this session, just verified; `None` where the path is public.
    pub(crate) fn new(gate: &Arc<Gate>, session: Option<Session>) -> Arc<Self> {
        match session {
            Some(session) => {
                let exchange = Self::holding(gate, Held::Young(Box::new(session)));
                gate.young().add(&exchange);
                exchange
            }
            None => Self::holding(gate, Held::Free),
        }
    }

    /// One that a guard held until now.
    pub(crate) fn with(gate: &Arc<Gate>, guard: Option<Guard>) -> Arc<Self> {
        let exchange = Self::holding(gate, Held::Free);
        if let Some(guard) = guard {
            exchange.watch(&mut exchange.state.lock(), guard);
        }
        exchange
    }

    fn holding(gate: &Arc<Gate>, held: Held) -> Arc<Self> {
        let lasts = matches!(held, Held::Free).into();
        let state = State { held, endless: false, stopping: false, up: None, down: None, inner: None };
        Arc::new(Self {
            gate: gate.clone(),
            state: Mutex::new(state),
            cut: OnceLock::new(),
            place: AtomicUsize::new(NOWHERE),
            lasts,
            pieces: AtomicU64::new(0),
            wakers: Default::default(),
        })
    }

    /// Has a young exchange watched from now on.
    fn begin(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if let Held::Young(session) = &state.held {
            let guard = self.gate.live().register(session);
            self.watch(&mut state, guard);
            drop(state);
            self.wakers[Side::Wait as usize].wake();
        }
    }

    fn watch(self: &Arc<Self>, state: &mut State, guard: Guard) {
        let (guard, over) = (Arc::new(guard), CancellationToken::new());
        let (ends, exchange, done) = (guard.ended(), Arc::downgrade(self), over.clone());
        let dies = guard.over();
        state.held = Held::Watched(guard, over.drop_guard());
        self.lasts.store(true, Ordering::Release);
        tokio::spawn(async move {
            let watching = async {
                match ends.await {
                    // What has an end of its own may come to it, as long as its session holds.
                    Cut::Shutdown if exchange.upgrade().is_some_and(|exchange| !exchange.stop()) => dies.await,
                    cut => cut,
                }
            };
            tokio::select! {
                biased;
                () = done.cancelled() => {}
                cut = watching => {
                    if let Some(exchange) = exchange.upgrade() {
                        exchange.end(cut);
                    }
                }
            }
        });
    }

    /// The gateway stops; true where that ends this exchange.
    fn stop(&self) -> bool {
        let mut state = self.state.lock();
        state.stopping = true;
        state.endless
    }

    /// Ends both directions, whoever reads or does not.
    fn end(&self, cut: Cut) {
        // The first reason stands.
        let _ = self.cut.set(cut);
        let inner = if cut == Cut::Shutdown {
            // Its end is one that the client is to see.
            None
        } else {
            let mut state = self.state.lock();
            // Under the lock, so that neither connection serves another exchange by now.
            if let Some(up) = state.up.take() {
                upstream::sever(&up);
            }
            if let Some(down) = state.down.take() {
                down.cancel();
            }
            state.inner.take()
        };
        if let Some(inner) = inner.and_then(|inner| inner.upgrade()) {
            inner.let_go();
        }
        for waker in &self.wakers {
            waker.wake();
        }
    }

    /// Ready once the session has ended. Whoever is told so goes no further.
    pub(crate) fn poll_cut(&self, side: Side, cx: &mut Context<'_>) -> Poll<Cut> {
        self.wakers[side as usize].register(cx.waker());
        self.cut.get().map_or(Poll::Pending, |cut| Poll::Ready(*cut))
    }

    /// Asked before something passes: ready with whether it may. Where the clock may have ended the session, that
    /// takes a look at it.
    pub(crate) fn poll_pass(&self, asking: &mut Asking, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        if !self.lasts() {
            return Poll::Ready(Ok(()));
        }
        if asking.0.is_none() {
            let state = self.state.lock();
            let Held::Watched(guard, _) = &state.held else { return Poll::Ready(Ok(())) };
            if guard.is_open() {
                return Poll::Ready(Ok(()));
            }
            let guard = guard.clone();
            asking.0 = Some(Box::pin(async move { guard.pass().await }));
        }
        let Some(asked) = &mut asking.0 else { return Poll::Ready(Ok(())) };
        let polled = asked.as_mut().poll(cx);
        if polled.is_ready() {
            asking.0 = None;
        }
        polled
    }

    /// Whether it has lasted long enough to be watched, or never will be.
    pub(crate) fn lasts(&self) -> bool {
        self.lasts.load(Ordering::Acquire)
    }

    /// How many pieces of the request's body have passed; `None` once all have.
    pub(crate) fn pieces(&self) -> Option<u64> {
        Some(self.pieces.load(Ordering::Relaxed)).filter(|pieces| *pieces != DONE)
    }

    /// One more piece of the request's body has passed.
    pub(crate) fn passed(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }

    /// All of the request's body has passed.
    pub(crate) fn all_passed(&self) {
        self.pieces.store(DONE, Ordering::Relaxed);
    }

    /// The request's body goes to the upstream over this connection.
    pub(crate) fn goes_up(&self, connection: CaptureConnection) {
        self.state.lock().up = Some(connection);
    }

    /// The request's body goes nowhere any more.
    pub(crate) fn up_is_over(&self) {
        self.state.lock().up = None;
    }

    /// The answer's body goes to the client, until `end` ends its stream or connection.
    pub(crate) fn goes_down(&self, end: Option<&CancellationToken>, endless: bool) {
        let mut state = self.state.lock();
        state.endless = endless;
        let (stops, cut) = (endless && state.stopping, self.cut.get().copied());
        state.down = end.cloned();
        drop(state);
        // It may have ended before there was anything to end.
        if let Some(cut) = cut.or(stops.then_some(Cut::Shutdown)) {
            self.end(cut);
        }
    }

    /// The answer's body goes nowhere any more.
    pub(crate) fn down_is_over(&self) {
        self.state.lock().down = None;
    }

    /// Has this go too when the session ends.
    pub(crate) fn takes_along(&self, inner: Weak<dyn LetGo>) {
        self.state.lock().inner = Some(inner);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let place = *self.place.get_mut();
        if place != NOWHERE {
            self.gate.young().remove(place);
        }
    }
}

/// Exchanges that are too young to be watched. One that is over leaves at once, and its memory with it.
#[derive(Default)]
pub(crate) struct Young {
    shared: Arc<Ages>,
    started: AtomicBool,
}

#[derive(Default)]
struct Ages {
    exchanges: Mutex<Slab<Age>>,
    wake: Notify,
    closed: CancellationToken,
}

struct Age {
    exchange: Weak<Exchange>,
    /// It was here a while ago.
    old: bool,
}

impl Young {
    fn add(&self, exchange: &Arc<Exchange>) {
        if !self.started.swap(true, Ordering::AcqRel) {
            tokio::spawn(grow_up(self.shared.clone()));
        }
        let mut exchanges = self.shared.exchanges.lock();
        let first = exchanges.is_empty();
        let place = exchanges.insert(Age { exchange: Arc::downgrade(exchange), old: false });
        exchange.place.store(place, Ordering::Relaxed);
        drop(exchanges);
        if first {
            self.shared.wake.notify_one();
        }
    }

    fn remove(&self, place: usize) {
        self.shared.exchanges.lock().remove(place);
    }
}

impl Drop for Young {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

impl Ages {
    /// Takes out those that were here at the last call; whether there are others.
    fn take_old(&self) -> (Vec<Arc<Exchange>>, bool) {
        let mut exchanges = self.exchanges.lock();
        let old = exchanges.iter_mut().filter_map(|(_, age)| std::mem::replace(&mut age.old, true).then_some(age));
        // One that is just being dropped takes itself out.
        let grown: Vec<_> = old.filter_map(|age| age.exchange.upgrade()).collect();
        for exchange in &grown {
            exchanges.remove(exchange.place.swap(NOWHERE, Ordering::Relaxed));
        }
        (grown, !exchanges.is_empty())
    }
}

/// Has every exchange watched that is still under way after a while.
async fn grow_up(ages: Arc<Ages>) {
    loop {
        tokio::select! {
            () = ages.closed.cancelled() => return,
            () = ages.wake.notified() => {}
        }
        loop {
            tokio::time::sleep(LASTING).await;
            let (grown, others) = ages.take_old();
            for exchange in grown {
                exchange.begin();
            }
            if !others {
                break;
            }
        }
    }
}
