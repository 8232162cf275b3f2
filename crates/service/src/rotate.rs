//! Rotating a token.

use tenure_domain::{Decision, Refusal, RotationSecret, Session, Token};

use crate::Sessions;
use crate::error::{Interrupted, RotateError};
use crate::settle::{Key, Step};

/// A rotation that was made.
#[derive(Debug)]
pub struct Rotated {
    /// The session with its new expiry.
    pub session: Session,
    /// Its new token: the only time that it is told.
    pub token: Token,
}

/// A rotation that is prepared: its new token can be put in a safe place before the old one stops working.
#[derive(Debug)]
pub struct Rotating {
    old: Token,
    rotation_secret: RotationSecret,
}

impl Rotating {
    /// The token that will hold once the rotation is made.
    #[must_use]
    pub fn token(&self) -> Token {
        self.old.successor(&self.rotation_secret)
    }
}

impl Sessions {
    /// Draws what a rotation of `token` needs. Changes nothing.
    ///
    /// # Errors
    /// [`RotateError::Entropy`].
    pub fn prepare_rotation(&self, token: &Token) -> Result<Rotating, RotateError> {
        Ok(Rotating { old: token.clone(), rotation_secret: RotationSecret::new(self.draw()?) })
    }

    /// Gives the token's session the prepared token, and its own TTL again. Of several rotations of one token
    /// exactly one is made; the others are refused as rotated.
    ///
    /// # Errors
    /// [`RotateError`]; where the outcome is unknown, the prepared token comes with the error.
    pub async fn rotate_prepared(&self, rotating: &Rotating) -> Result<Rotated, RotateError> {
        let Rotating { old, rotation_secret } = rotating;
        let policy = self.policy();
        let answer = self
            .settle(Key::Session(old.session()), |device, now| {
                let retained = device
                    .filter(|device| device.session(old.session()).is_some_and(|session| session.is_retained(now)));
                match retained.map(|device| device.rotate(old, rotation_secret, &policy, now)) {
                    None => Step::Answer(Err(Refusal::Unknown)),
                    Some(Decision::Reject(refusal)) => Step::Answer(Err(refusal)),
                    Some(Decision::EndSession(reason, commit)) => Step::Commit(commit, Err(Refusal::Ended(reason))),
                    Some(Decision::Accept(rotation)) => {
                        Step::Commit(rotation.commit, Ok(Rotated { session: rotation.session, token: rotation.token }))
                    }
                }
            })
            .await;
        match answer {
            Ok(rotated) => Ok(rotated?),
            Err(Interrupted { error, intended }) => {
                let intended = intended.and_then(|answer| answer.ok()).map(Box::new);
                Err(RotateError::Write(Interrupted { error, intended }))
            }
        }
    }

    /// Prepares and makes a rotation.
    ///
    /// # Errors
    /// As [`Sessions::rotate_prepared`].
    pub async fn rotate(&self, token: &Token) -> Result<Rotated, RotateError> {
        self.rotate_prepared(&self.prepare_rotation(token)?).await
    }
}
