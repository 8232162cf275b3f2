//! Issuing sessions.

use std::sync::Arc;

use tenure_domain::{
    ClientInfo, Device, DeviceId, EndCause, Family, Issue, Millis, NewSession, RotationSecret, Subject, Terms,
    Timestamp, Token,
};
use tenure_ports::RandomSourceError;

use crate::Sessions;
use crate::change::Issued;
use crate::error::{IssueError, Unacknowledged};
use crate::retry::{DeviceRef, Outcome};

/// A request for a session.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// The device that the session belongs to.
    pub device: DeviceId,
    /// The subject that the session belongs to.
    pub subject: Subject,
    /// What is known about the client.
    pub client: ClientInfo,
    /// The session's TTL. `None` is the policy's.
    pub ttl: Option<Millis>,
}

/// A prepared issue of a session. Its token can be stored before the session exists.
#[derive(Clone, Debug)]
pub struct PreparedIssue {
    device: DeviceId,
    new_session: NewSession,
    take_over: Option<EndCause>,
}

impl PreparedIssue {
    /// Returns the token that will be valid once the issue is made.
    #[must_use]
    pub fn token(&self) -> Token {
        self.new_session.token(&self.device)
    }

    /// Returns the device that the session will belong to.
    #[must_use]
    pub const fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Limits the first token's expiry, for a session that replaces another credential.
    #[must_use]
    pub const fn expiring_by(mut self, at: Timestamp) -> Self {
        self.new_session.expires_by = Some(at);
        self
    }

    /// Takes the device over: the issue also ends the active sessions of other subjects there, for this cause, in one
    /// step.
    #[must_use]
    pub fn taking_over(mut self, cause: EndCause) -> Self {
        self.take_over = Some(cause);
        self
    }
}

impl Sessions {
    /// Issues a session. If more sessions than the cap would be active, it evicts the subject's oldest ones.
    ///
    /// # Errors
    /// [`IssueError`]: [`IssueError::Refused`] if the device belongs to another subject. If the outcome is unknown, the
    /// session and its token come with the error.
    pub async fn issue(&self, request: IssueRequest) -> Result<Issued, IssueError> {
        let terms = self.policy().terms(request.ttl)?;
        let prepared = self.prepare(request, terms)?;
        self.issue_prepared(prepared).await
    }

    /// Issues a session for a client that enrols itself. Its TTL may only be shorter than the policy's.
    ///
    /// # Errors
    /// As [`Sessions::issue`].
    pub async fn enrol(&self, request: IssueRequest) -> Result<Issued, IssueError> {
        let terms = self.policy().terms_for_enrolment(request.ttl)?;
        let prepared = self.prepare(request, terms)?;
        self.issue_prepared(prepared).await
    }

    /// Prepares the issue of a session: draws the random bytes that it needs. Changes nothing.
    ///
    /// # Errors
    /// [`IssueError::Policy`] if the TTL is out of range; [`IssueError::Random`] if the random source fails.
    pub fn prepare_issue(&self, request: IssueRequest) -> Result<PreparedIssue, IssueError> {
        let terms = self.policy().terms(request.ttl)?;
        Ok(self.prepare(request, terms)?)
    }

    fn prepare(&self, request: IssueRequest, terms: Terms) -> Result<PreparedIssue, RandomSourceError> {
        let new_session = NewSession {
            id: self.random_bytes()?,
            family: Family::new(self.random_bytes()?),
            rotation_secret: RotationSecret::new(self.random_bytes()?),
            subject: request.subject,
            client: Arc::new(request.client),
            terms,
            expires_by: None,
        };
        Ok(PreparedIssue { device: request.device, new_session, take_over: None })
    }

    /// Issues the prepared session. Like every issue, it is one atomic commit and durable once the call returns.
    ///
    /// # Errors
    /// [`IssueError::Refused`] if the device belongs to another subject; [`IssueError::Write`] if the change was not
    /// acknowledged.
    pub async fn issue_prepared(&self, prepared: PreparedIssue) -> Result<Issued, IssueError> {
        let PreparedIssue { device, new_session, take_over } = prepared;
        let policy = self.policy();
        let answer = self
            .commit_with_retry(DeviceRef::Device(&device), |loaded, now| {
                let unknown = Device::unknown(device.clone());
                let (device, new_session) = (loaded.unwrap_or(&unknown), new_session.clone());
                let decided = match &take_over {
                    Some(cause) => Ok(device.take_over(new_session, cause, &policy, now)),
                    None => device.issue(new_session, &policy, now),
                };
                match decided {
                    Ok(Issue { session, token, evicted, revoked, commit }) => {
                        Outcome::Commit(commit, Ok(Issued { session, token, evicted, revoked }))
                    }
                    Err(refusal) => Outcome::Answer(Err(refusal)),
                }
            })
            .await;
        match answer {
            Ok(issued) => Ok(issued?),
            Err(Unacknowledged { error, intended }) => {
                let intended = intended.and_then(|answer| answer.ok()).map(Box::new);
                Err(IssueError::Write(Unacknowledged { error, intended }))
            }
        }
    }
}
