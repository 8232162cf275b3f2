//! Verifying tokens, the hot path.

use tenure_domain::{Decision, Refusal, Session, SessionId, Timestamp, Token, TokenMatch, Verdict};

use tenure_ports::FindOptions;

use crate::error::VerifyError;
use crate::retry::{DeviceRef, Outcome};
use crate::{ActivityMode, Sessions};

/// The result of verifying a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The token's session.
    pub session: Session,
    /// Whether the token is the current one, or the previous one within its overlap.
    pub token_match: TokenMatch,
    /// Whether the token should be rotated now.
    pub rotation_due: bool,
    /// The time of the verification, on the store's clock.
    pub at: Timestamp,
}

impl Sessions {
    /// Verifies a token. The clock is read after the record has arrived.
    ///
    /// It takes one look-up in the store, or none if this process has the session in its cache and the token is valid
    /// by that record. A cached record never makes it refuse a token or end a session. If a rule ends the session (a
    /// replaced token was used again, or the session was idle), the end is durable before it is reported.
    ///
    /// # Errors
    /// [`VerifyError::Refused`] with the reason; [`VerifyError::Write`] if the token cannot be verified.
    pub async fn verify(&self, token: &Token, mode: ActivityMode) -> Result<Verified, VerifyError> {
        if let Some(verified) = self.verify_from_cache(token, mode) {
            return Ok(verified);
        }
        let options = match mode {
            ActivityMode::Record => FindOptions::FOR_USE,
            ActivityMode::Ignore => FindOptions::EXACT,
        };
        let Some(session) = self.repository.find(token.session(), options).await? else {
            return Err(Refusal::Unknown.into());
        };
        let now = self.clock.now();
        if !session.is_retained(now) {
            return Err(Refusal::Unknown.into());
        }
        match session.verdict(token, now) {
            Verdict::Valid(token_match) => Ok(self.accept(session, token_match, mode, now)),
            Verdict::Refused(refusal) => Err(refusal.into()),
            Verdict::EndRequired(_) => self.authenticate_and_commit(token, mode).await,
        }
    }

    /// Verifies a token's text.
    ///
    /// # Errors
    /// As [`Sessions::verify`]. A text that is not a token is [`Refusal::Malformed`].
    pub async fn verify_text(&self, text: &str, mode: ActivityMode) -> Result<Verified, VerifyError> {
        let token = Token::parse(text).map_err(|_| Refusal::Malformed)?;
        self.verify(&token, mode).await
    }

    /// Verifies a token by the cached record, if there is one. The record may be older than a rotation by another
    /// process or than the latest use, so it may only accept a token.
    fn verify_from_cache(&self, token: &Token, mode: ActivityMode) -> Option<Verified> {
        let session = self.repository.cache()?.find_cached(token.session())?;
        let now = self.clock.now();
        match session.verdict(token, now) {
            Verdict::Valid(token_match) => Some(self.accept(session, token_match, mode, now)),
            Verdict::Refused(_) | Verdict::EndRequired(_) => None,
        }
    }

    fn accept(&self, session: Session, token_match: TokenMatch, mode: ActivityMode, now: Timestamp) -> Verified {
        if mode == ActivityMode::Record {
            self.activity.note(session.id, now);
        }
        let rotation_due = token_match == TokenMatch::Current && session.is_rotation_due(&self.policy.read(), now);
        let session = if mode == ActivityMode::Record { session.touched(now) } else { session };
        Verified { session, token_match, rotation_due, at: now }
    }

    /// Decides again with the whole device, and commits the end if the session must be ended. First it writes the
    /// activity that this process has noted, because the session may not be idle after all.
    async fn authenticate_and_commit(&self, token: &Token, mode: ActivityMode) -> Result<Verified, VerifyError> {
        self.flush_activity().await?;
        let policy = self.policy();
        let mut judged_at = Timestamp::EPOCH;
        let answer = self
            .commit_with_retry(DeviceRef::Session(token.session()), |device, now| {
                judged_at = now;
                match device.map(|device| device.authenticate(token, &policy, now)) {
                    None => Outcome::Answer(Err(Refusal::Unknown)),
                    Some(Decision::Reject(refusal)) => Outcome::Answer(Err(refusal)),
                    Some(Decision::Accept((token_match, session))) => {
                        Outcome::Answer(Ok((token_match, session.clone())))
                    }
                    Some(Decision::EndSession(reason, commit)) => {
                        tracing::info!(session = %token.session(), %reason, "ending the session");
                        Outcome::Commit(commit, Err(Refusal::Ended(reason)))
                    }
                }
            })
            .await
            .map_err(|unacknowledged| VerifyError::Write(unacknowledged.error))?;
        let (token_match, session) = answer?;
        Ok(self.accept(session, token_match, mode, judged_at))
    }

    /// Returns a session if it is still active, for a connection that was admitted with it. It costs one look-up, like
    /// a verification.
    ///
    /// # Errors
    /// [`VerifyError::Refused`] with the reason; [`VerifyError::Write`] if the session cannot be checked.
    pub async fn check_active(&self, id: SessionId) -> Result<Session, VerifyError> {
        let session = self.get(id).await?.ok_or(Refusal::Unknown)?;
        session.check_active(self.clock.now())?;
        Ok(session)
    }
}
