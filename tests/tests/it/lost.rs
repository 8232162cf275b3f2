//! Answers that are lost between a commit and whoever asked for it: the connection breaks at the worst moment.

use std::sync::Arc;
use std::time::Duration;

use tenure_adapter_redis::{Options, RedisStore};
use tenure_conformance::{SystemClock, SystemRandom};
use tenure_domain::{ClientInfo, DeviceId, EndReason, Policy, Refusal, Subject, Token};
use tenure_ports::prelude::*;
use tenure_redis_test_server::{Lost, Proxy, Server, patient};
use tenure_service::{ActivityMode, IssueRequest, RotateError, Sessions, Target, VerifyError, WriteError};

/// More often than any use case sends a commit.
const ALWAYS: u64 = 1_000;

struct Setting {
    server: Server,
    proxy: Proxy,
    /// Through the proxy.
    sessions: Sessions,
    /// Beside it.
    direct: Sessions,
}

async fn connect(options: Options) -> Sessions {
    let store = RedisStore::connect(options, Arc::new(SystemClock)).await.unwrap();
    let clock = store.clock();
    Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default())
}

fn request(device: &str) -> IssueRequest {
    let (device, subject) = (DeviceId::new(device).unwrap(), Subject::default());
    IssueRequest { device, subject, client: ClientInfo::default(), ttl: None }
}

impl Setting {
    async fn new() -> Self {
        let server = Server::start();
        let proxy = Proxy::start(server.port());
        let (sessions, direct) = (connect(patient(&proxy.url())).await, connect(patient(&server.url())).await);
        // From here on the server knows the scripts.
        let issued = direct.issue(request("warm-up")).await.unwrap();
        direct.rotate(&issued.token).await.unwrap();
        Self { server, proxy, sessions, direct }
    }

    async fn issue(&self) -> Token {
        self.direct.issue(request("laptop")).await.unwrap().token
    }

    async fn refusal(&self, token: &Token) -> Option<Refusal> {
        match self.direct.verify(token, ActivityMode::Ignore).await {
            Ok(_) => None,
            Err(VerifyError::Refused(refusal)) => Some(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    async fn revoke(&self, token: &Token) -> Result<tenure_service::Revoked, tenure_service::RevokeError> {
        let target = Target::Ids(vec![token.session()]);
        self.sessions.revoke(&target, None, &Sessions::revocation(None, None)).await
    }
}

/// A lost answer to a rotation is found out: the owner gets the new token, and is never taken for a thief.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_whose_answer_or_request_is_lost_is_made_once() {
    let setting = Setting::new().await;
    for (round, lost) in [Lost::Answer, Lost::Request, Lost::Answer].into_iter().enumerate() {
        let old = setting.issue().await;
        setting.proxy.lose(lost, "rotated", 1);
        let rotated = setting.sessions.rotate(&old).await.unwrap();
        assert_eq!(setting.proxy.lost(), round as u64 + 1, "the answer was lost");
        assert_eq!(rotated.session.generation, 2);
        assert_eq!(setting.refusal(&rotated.token).await, None);
        assert_eq!(setting.refusal(&old).await, Some(Refusal::Rotated));
        assert_eq!(setting.refusal(&rotated.token).await, None, "nobody was taken for a thief");
    }
}

/// Where every answer is lost, the outcome is said to be unknown, and the token that may hold now is handed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_whose_answers_all_are_lost_is_of_unknown_outcome_and_its_token_is_kept() {
    for lost in [Lost::Answer, Lost::Request] {
        let setting = Setting::new().await;
        let old = setting.issue().await;
        setting.proxy.lose(lost, "rotated", ALWAYS);
        let Err(RotateError::Write(interrupted)) = setting.sessions.rotate(&old).await else {
            panic!("acknowledged, or refused");
        };
        assert!(matches!(interrupted.error, WriteError::OutcomeUnknown { .. }), "{:?}", interrupted.error);
        let new = interrupted.intended.expect("the new token comes with the error").token;
        let (made, not) = (lost == Lost::Answer, Some(Refusal::Unknown));
        assert_eq!(setting.refusal(&new).await, if made { None } else { not });
        assert_eq!(setting.refusal(&old).await, made.then_some(Refusal::Rotated));
        // Whoever tries one after the other is in, and goes on.
        let holds = if made { new } else { old };
        assert_eq!(setting.direct.rotate(&holds).await.unwrap().session.end, None);
    }
}

/// A lost answer to a revocation is found out; where it cannot be, that is said, and nobody gets in by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_whose_answer_is_lost_is_found_out_or_of_unknown_outcome() {
    let setting = Setting::new().await;
    for lost in [Lost::Answer, Lost::Request] {
        let token = setting.issue().await;
        setting.proxy.lose(lost, "revoked", 1);
        let revoked = setting.revoke(&token).await.unwrap();
        assert_eq!(revoked.ended.len(), 1);
        assert_eq!(setting.refusal(&token).await, Some(Refusal::Ended(EndReason::Revoked)));
    }
    assert_eq!(setting.proxy.lost(), 2);
    let token = setting.issue().await;
    setting.proxy.lose(Lost::Answer, "revoked", ALWAYS);
    let error = setting.revoke(&token).await.unwrap_err().error;
    assert!(error.to_string().starts_with("outcome unknown: "), "{error}");
    assert_eq!(setting.refusal(&token).await, Some(Refusal::Ended(EndReason::Revoked)));
    // The same again, once the connection holds, says that it is so.
    setting.proxy.lose(Lost::Answer, "revoked", 0);
    let again = setting.revoke(&token).await.unwrap();
    assert_eq!((again.ended.len(), again.already_ended.len()), (0, 1));
}

/// A server that stops answering and goes on later takes neither of the two tokens away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_through_a_server_that_hangs_is_not_lost() {
    let setting = Setting::new().await;
    let old = setting.issue().await;
    let impatient = connect(Options::new(&setting.server.url())).await;
    let rotating = impatient.prepare_rotation(&old).unwrap();
    setting.server.freeze();
    let outcome = impatient.rotate_prepared(&rotating).await;
    setting.server.thaw();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while setting.direct.check_writable().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the server does not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It was never sent, or nobody knows; either way one of the two tokens holds.
    assert!(matches!(outcome, Err(RotateError::Write(_))), "{outcome:?}");
    let (by_new, by_old) = (setting.refusal(&rotating.token()).await, setting.refusal(&old).await);
    assert!(
        matches!((by_new, by_old), (None, Some(Refusal::Rotated)) | (Some(Refusal::Unknown), None)),
        "new {by_new:?}, old {by_old:?}"
    );
}
