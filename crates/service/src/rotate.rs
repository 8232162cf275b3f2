//! Rotating tokens.

use tenure_domain::{Decision, Refusal, RotationSecret, Token};

use crate::Sessions;
use crate::change::Rotated;
use crate::error::{RotateError, Unacknowledged};
use crate::retry::{DeviceRef, Outcome};

/// A prepared rotation. Its new token can be stored before the old one stops being valid.
#[derive(Debug)]
pub struct PreparedRotation {
    old: Token,
    rotation_secret: RotationSecret,
}

impl PreparedRotation {
    /// Returns the token that will be valid once the rotation is made.
    #[must_use]
    pub fn token(&self) -> Token {
        self.old.successor(&self.rotation_secret)
    }
}

impl Sessions {
    /// Prepares a rotation of `token`: draws the random bytes that it needs. Changes nothing.
    ///
    /// # Errors
    /// [`RotateError::Random`] if the random source fails.
    pub fn prepare_rotation(&self, token: &Token) -> Result<PreparedRotation, RotateError> {
        Ok(PreparedRotation { old: token.clone(), rotation_secret: RotationSecret::new(self.random_bytes()?) })
    }

    /// Replaces the token by the prepared one, which is valid for the session's TTL from now, but not past its maximum
    /// lifetime. Of several simultaneous rotations of one token exactly one succeeds. The others are refused as
    /// rotated.
    ///
    /// # Errors
    /// [`RotateError`]. If the outcome is unknown, the prepared token comes with the error.
    pub async fn rotate_prepared(&self, prepared: &PreparedRotation) -> Result<Rotated, RotateError> {
        let PreparedRotation { old, rotation_secret } = prepared;
        let policy = self.policy();
        let answer = self
            .commit_with_retry(DeviceRef::Session(old.session()), |device, now| {
                let retained = device
                    .filter(|device| device.session(old.session()).is_some_and(|session| session.is_retained(now)));
                match retained.map(|device| device.rotate(old, rotation_secret, &policy, now)) {
                    None => Outcome::Answer(Err(Refusal::Unknown)),
                    Some(Decision::Reject(refusal)) => Outcome::Answer(Err(refusal)),
                    Some(Decision::EndSession(reason, commit)) => Outcome::Commit(commit, Err(Refusal::Ended(reason))),
                    Some(Decision::Accept(rotation)) => Outcome::Commit(
                        rotation.commit,
                        Ok(Rotated { session: rotation.session, token: rotation.token }),
                    ),
                }
            })
            .await;
        match answer {
            Ok(rotated) => Ok(rotated?),
            Err(Unacknowledged { error, intended }) => {
                let intended = intended.and_then(|answer| answer.ok()).map(Box::new);
                Err(RotateError::Write(Unacknowledged { error, intended }))
            }
        }
    }

    /// Prepares a rotation of `token`, and makes it.
    ///
    /// # Errors
    /// As [`Sessions::rotate_prepared`].
    pub async fn rotate(&self, token: &Token) -> Result<Rotated, RotateError> {
        self.rotate_prepared(&self.prepare_rotation(token)?).await
    }
}
