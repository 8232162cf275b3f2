//! The way to the upstream: who may, what it is told, and what comes back.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONNECTION, CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::bodies::{Upload, Watched, is_endless};
use crate::cookie::{self, CookieName};
use crate::credential::sets_token_cookie;
use crate::enforce::{Admitted, Gate};
use crate::fields::{TENURE_ROTATE, strip_claims};
use crate::headers::{
    Values, set_forwarding, set_host, set_identity, set_upstream_auth, strip_hop_by_hop, strip_token,
};
use crate::live::{Cut, Guard};
use crate::login;
use crate::metrics::Outcome;
use crate::openclaw;
use crate::options::{Limits, Options, Upstream};
use crate::peer::{Connection, Peer};
use crate::problem::Problem;
use crate::relay::bridge::{self, Bridge};
use crate::relay::{self, Opened, Shaken};
use crate::request_id::{self, X_REQUEST_ID};
use crate::rotation;
use crate::upstream::{self, Dial, Pools, Wire};
use crate::watch::{Exchange, Side};

/// What lets a request in.
enum Entry {
    /// Its path, which is open to everybody.
    Public,
    /// Its token.
    Admitted(Box<Admitted>),
    /// Its token is still to come, in the first frame of the WebSocket that it asks for.
    Later,
}

/// Forwards requests to the upstream.
pub(crate) struct Proxy {
    gate: Arc<Gate>,
    pools: Pools,
    dial: Dial,
    limits: Limits,
}

impl Proxy {
    pub(crate) fn new(gate: Arc<Gate>, connections: usize) -> Self {
        let limits = gate.options().limits;
        let dial = Dial::new(limits.connect, connections);
        Self { gate, pools: Pools::new(dial.clone(), connections), dial, limits }
    }

    /// Answers a request for the upstream. `end` ends the client's stream or connection, where the answer may not go
    /// on and nobody reads it.
    pub(crate) async fn answer(
        &self,
        connection: &Connection,
        end: &CancellationToken,
        request: Request<Incoming>,
        upstream: &Upstream,
        options: &Options,
    ) -> Response {
        let peer = match Peer::of(connection, request.headers(), options) {
            Ok(peer) => peer,
            Err(problem) => return self.failed(&problem),
        };
        let mut values = Values::new();
        let id = request_id::of(request.headers(), peer.trusted, &mut values);
        let mut response = match self.admit(&peer, &request, options).await {
            Ok(entry) => self.let_through(connection, end, &peer, request, upstream, options, entry, &id, values).await,
            Err(problem) => login::redirect(&request, &problem).unwrap_or_else(|| problem.into_response()),
        };
        cookie::settle(&mut response, &options.cookie_name, peer.secure);
        response.headers_mut().insert(X_REQUEST_ID, id);
        response
    }

    /// Who asks.
    async fn admit<B>(&self, peer: &Peer, request: &Request<B>, options: &Options) -> Result<Entry, Problem> {
        if openclaw::may_be_public(request.headers(), options) && options.is_public_uri(request.uri()) {
            self.gate.metrics().passed(Outcome::Public);
            return Ok(Entry::Public);
        }
        if openclaw::shows_later(request, options, peer.secure) {
            return Ok(Entry::Later);
        }
        self.gate
            .admit(peer, request.method(), request.headers())
            .await
            .map(|admitted| Entry::Admitted(admitted.into()))
    }

    #[expect(clippy::too_many_arguments, reason = "each is one fact about the request")]
    async fn let_through(
        &self,
        connection: &Connection,
        end: &CancellationToken,
        peer: &Peer,
        mut request: Request<Incoming>,
        upstream: &Upstream,
        options: &Options,
        entry: Entry,
        id: &HeaderValue,
        mut values: Values,
    ) -> Response {
        let upgrade = relay::is_upgrade(&request);
        if upgrade && !request.body().is_end_stream() {
            return self.failed(&Problem::BadRequest("a request for a WebSocket has no body".to_owned()));
        }
        let (later, admitted) = match entry {
            Entry::Admitted(admitted) => (false, Some(*admitted)),
            Entry::Public => (false, None),
            Entry::Later => (true, None),
        };
        if let Err(problem) = readdress(&mut request, upstream) {
            return problem.into_response();
        }
        let method = request.method().clone();
        let headers = request.headers_mut();
        strip_hop_by_hop(headers);
        strip_claims(headers, &method, options);
        strip_token(headers, &options.cookie_name);
        set_forwarding(headers, connection, peer, options, &mut values);
        set_host(headers, &upstream.authority);
        headers.insert(X_REQUEST_ID, id.clone());
        if let Some(admitted) = &admitted {
            set_identity(headers, &admitted.verified.session, options, &mut values);
            // A path that is open to everybody does not open what the upstream's own token guards.
            set_upstream_auth(headers, options);
        }
        let in_cookie = admitted.as_ref().is_some_and(|admitted| admitted.credential.in_cookie);
        let (session, due) = match admitted {
            Some(Admitted { verified, credential }) => {
                let due = verified.rotation_due.then_some((verified.session.id, credential));
                (Some(verified.session), due)
            }
            None => (None, None),
        };
        let outcome = if later {
            self.upgrade_before_the_token(peer, request).await
        } else if upgrade {
            let guard = session.map(|session| self.gate.live().register(&session));
            self.upgrade(request, end, guard, options).await
        } else {
            self.forward(request, end, Exchange::new(&self.gate, session), options).await
        };
        let mut response = outcome.unwrap_or_else(|problem| self.failed(&problem.of_cookie(in_cookie)));
        if let Some((session, credential)) = due {
            response.headers_mut().insert(TENURE_ROTATE, HeaderValue::from_static("due"));
            if options.auto_rotate_cookies && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                rotation::renew(&self.gate, session, &credential, peer.secure, response.headers_mut()).await;
            }
        }
        response
    }

    fn failed(&self, problem: &Problem) -> Response {
        self.gate.metrics().answered(problem);
        let mut response = problem.clone().into_response();
        // What is left of the request's body is not read to its end.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
        end: &CancellationToken,
        exchange: Arc<Exchange>,
        options: &Options,
    ) -> Result<Response, Problem> {
        let (mut parts, body) = request.into_parts();
        parts.extensions.clear();
        // What has no body and does the same when done twice (RFC 9110 section 9.2.2) can be sent again.
        let has_body = !body.is_end_stream();
        let again = (!has_body && parts.method.is_idempotent()).then(|| parts.clone());
        let is_safe = !has_body && parts.method.is_safe();
        let mut request = Request::from_parts(parts, Either::Left(Upload::new(body, exchange.clone())));
        if has_body {
            exchange.goes_up(capture_connection(&mut request));
        }
        let pool = self.pools.first(is_safe);
        let mut answer = self.wait(pool.request(request), &exchange).await;
        if let (Err(NoAnswer::Failed(error)), Some(parts)) = (&answer, again)
            && let Some(pool) = self.pools.next(pool, error)
        {
            let request = Request::from_parts(parts, Either::Right(Empty::new()));
            answer = self.wait(pool.request(request), &exchange).await;
        }
        let answer = answer.map_err(Problem::from)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Problem::BadGateway("the upstream switched protocols without being asked".to_owned()));
        }
        pass_on(answer, end, &options.cookie_name, exchange)
    }

    /// Waits for the header of the answer, as long as the request's body moves or the patience lasts, and the session
    /// holds.
    async fn wait(
        &self,
        answer: impl Future<Output = Result<http::Response<Incoming>, hyper_util::client::legacy::Error>>,
        exchange: &Exchange,
    ) -> Result<http::Response<Incoming>, NoAnswer> {
        let mut answer = pin!(answer);
        let mut patience: Option<Pin<Box<Sleep>>> = None;
        let mut seen = exchange.pieces();
        poll_fn(|cx| {
            // First, since it makes the other fail.
            if let Poll::Ready(cut) = exchange.poll_cut(Side::Wait, cx)
                && let Some(problem) = cut_short(cut)
            {
                return Poll::Ready(Err(problem.into()));
            }
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer.map_err(NoAnswer::Failed));
            }
            // Most answers come before there is anything to wait for.
            if !exchange.lasts() {
                return Poll::Pending;
            }
            let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limits.response)));
            while patience.as_mut().poll(cx).is_ready() {
                let now = exchange.pieces();
                if now == seen {
                    return Poll::Ready(Err(too_late(now).into()));
                }
                seen = now;
                patience.as_mut().reset(Instant::now() + self.limits.response);
            }
            Poll::Pending
        })
        .await
    }

    async fn upgrade(
        &self,
        request: Request<Incoming>,
        end: &CancellationToken,
        guard: Option<Guard>,
        options: &Options,
    ) -> Result<Response, Problem> {
        let io = self.dial.connect(request.uri()).await.map_err(|error| no_connection(&error))?;
        let request = request.map(Body::new);
        let Some(guard) = guard else { return self.upgrade_unguarded(request, end, io, options).await };
        match relay::open(&self.gate, request, io, guard).await? {
            Opened::Switched(mut response) => {
                strip_own(response.headers_mut(), &options.cookie_name);
                Ok(response)
            }
            Opened::Declined(answer, guard) => {
                pass_on(answer, end, &options.cookie_name, Exchange::with(&self.gate, guard))
            }
        }
    }

    /// Opens a WebSocket whose client shows its token in the first frame.
    async fn upgrade_before_the_token(&self, peer: &Peer, request: Request<Incoming>) -> Result<Response, Problem> {
        let io = self.dial.connect(request.uri()).await.map_err(|error| no_connection(&error))?;
        openclaw::open(&self.gate, peer, request.map(Body::new), io).await
    }

    /// Opens a WebSocket on a public path: there is no session that could end.
    async fn upgrade_unguarded(
        &self,
        request: Request<Body>,
        end: &CancellationToken,
        io: Wire,
        options: &Options,
    ) -> Result<Response, Problem> {
        let (switching, mut response) = match relay::shake_hands(request, io).await? {
            Shaken::Declined(answer) => {
                return pass_on(answer, end, &options.cookie_name, Exchange::with(&self.gate, None));
            }
            Shaken::Switching(switching, response) => (switching, response),
        };
        let closing = self.gate.closing().clone();
        self.gate.tasks().spawn(async move {
            let Ok((client, upstream)) = switching.finish().await else { return };
            bridge::run_unguarded(Bridge::new(client, upstream), &closing).await;
        });
        strip_own(response.headers_mut(), &options.cookie_name);
        Ok(response)
    }
}

/// Makes a request of a client one for the upstream: its address, and the path as it stands.
fn readdress(request: &mut Request<Incoming>, upstream: &Upstream) -> Result<(), Problem> {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let builder = Uri::builder().scheme(upstream.scheme.clone()).authority(upstream.authority.clone());
    *request.uri_mut() =
        builder.path_and_query(path).build().map_err(|_| Problem::BadRequest("the path is invalid".to_owned()))?;
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// Why there is no answer to pass on.
enum NoAnswer {
    /// The upstream gave none.
    Failed(hyper_util::client::legacy::Error),
    /// It is not waited for.
    Ended(Problem),
}

impl From<Problem> for NoAnswer {
    fn from(problem: Problem) -> Self {
        Self::Ended(problem)
    }
}

impl From<NoAnswer> for Problem {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Failed(error) => no_answer(&error),
            NoAnswer::Ended(problem) => problem,
        }
    }
}

/// The upstream's answer as the client gets it.
///
/// # Errors
/// [`Problem::BadGateway`] where it is not clear where the answer ends.
fn pass_on(
    answer: http::Response<Incoming>,
    end: &CancellationToken,
    name: &CookieName,
    exchange: Arc<Exchange>,
) -> Result<Response, Problem> {
    let (mut parts, body) = answer.into_parts();
    ends_clearly(&parts.headers)?;
    parts.extensions.clear();
    parts.version = Version::HTTP_11;
    strip_hop_by_hop(&mut parts.headers);
    strip_own(&mut parts.headers, name);
    let endless = is_endless(&parts.headers);
    if body.is_end_stream() {
        return Ok(Response::from_parts(parts, Body::new(body)));
    }
    Ok(Response::from_parts(parts, Body::new(Watched::new(body, exchange, Some(end), endless))))
}

/// Whether every server finds the end of an answer in the same place (RFC 9112 section 6.3), which is framed anew here.
fn ends_clearly(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let (coding, codings) = (codings.next(), codings.next().is_some());
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (length, lengths) = (lengths.next(), lengths.next().is_some());
    let what = if codings || coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        "in a transfer coding other than one chunked"
    } else if lengths || length.is_some_and(|length| !length.as_bytes().iter().all(u8::is_ascii_digit)) {
        "with more than one Content-Length"
    } else if coding.is_some() && length.is_some() {
        "with a Content-Length and a Transfer-Encoding"
    } else {
        return Ok(());
    };
    tracing::warn!("the upstream answered {what}");
    Err(Problem::BadGateway(format!("the upstream answered {what}")))
}

/// Removes from an answer what only the gateway says: that a token is due, and its cookies.
fn strip_own(headers: &mut HeaderMap, name: &CookieName) {
    headers.remove(TENURE_ROTATE);
    let ours = |value: &HeaderValue| sets_token_cookie(value, name);
    if headers.get_all(SET_COOKIE).iter().any(ours) {
        let kept: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().filter(|value| !ours(value)).cloned().collect();
        headers.remove(SET_COOKIE);
        for value in kept {
            headers.append(SET_COOKIE, value);
        }
    }
}

/// What a client is told whose answer may not come any more; `None` where it may after all.
fn cut_short(cut: Cut) -> Option<Problem> {
    match cut {
        Cut::Ended(refusal) => Some(refusal.into()),
        Cut::StoreLost => Some(Problem::Store("the sessions cannot be read at the moment: try again".to_owned())),
        // Requests under way may end.
        Cut::Shutdown => None,
    }
}

fn too_late(pieces: Option<u64>) -> Problem {
    match pieces {
        None => Problem::GatewayTimeout("the upstream did not answer in time".to_owned()),
        Some(_) => Problem::BadRequest("the request body did not arrive, or was not accepted, in time".to_owned()),
    }
}

fn no_answer(error: &hyper_util::client::legacy::Error) -> Problem {
    // Whoever feeds hyper its request is the client.
    if upstream::cause(error).is_some_and(hyper::Error::is_user) {
        return Problem::BadRequest("the request body was cut off, or is framed wrongly".to_owned());
    }
    if error.is_connect() {
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return no_connection(error);
            }
            cause = error.source();
        }
    }
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, cause, "the upstream gave no answer");
    Problem::BadGateway("the upstream closed the connection without a response".to_owned())
}

fn no_connection(error: &io::Error) -> Problem {
    tracing::warn!(%error, "the upstream cannot be reached");
    if error.kind() == io::ErrorKind::TimedOut {
        Problem::GatewayTimeout("the upstream cannot be reached in time".to_owned())
    } else {
        Problem::BadGateway("the upstream cannot be reached".to_owned())
    }
}
