//! The policy: the settings that decide how long sessions live and how many there may be, each with its range.

use crate::time::Millis;

/// The settings of a policy, before they are checked. `None` means "not set": some defaults depend on other settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// `session.token_ttl`: how long a token is valid after its issue or rotation. Default 24 h.
    pub token_ttl: Option<Millis>,
    /// `session.rotate_before_expiry`: how long before its expiry a token is due for rotation. Default 2 h, or a
    /// twelfth of the TTL if that is less.
    pub rotate_before_expiry: Option<Millis>,
    /// `session.max_sessions_per_device`: how many active sessions a device may have, 1 to 100. Default 10.
    pub max_sessions_per_device: Option<u64>,
    /// `session.idle_timeout`: how long a session may go unused. `None`, the default, is for as long as it is valid.
    pub idle_timeout: Option<Millis>,
    /// `session.max_lifetime`: how long a session can live in total, however often it is rotated. Default 30 d, or the
    /// TTL if that is longer.
    pub max_lifetime: Option<Millis>,
    /// `session.rotation_overlap`: how long the directly replaced token stays valid. Default 0.
    pub rotation_overlap: Option<Millis>,
    /// `session.replay_tolerance`: how long a replaced token counts as a late request after it stopped being valid. If
    /// it is used later than that, it was copied and the session ends. Default 10 s.
    pub replay_tolerance: Option<Millis>,
    /// `session.retention`: how long an ended or expired session stays readable. Default 24 h.
    pub retention: Option<Millis>,
}

/// The reason why a policy cannot be used: a setting outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}; it takes {allowed}")]
pub struct PolicyError {
    /// The setting's name.
    pub key: &'static str,
    /// The value that the setting has.
    pub value: String,
    /// The range of values that the setting takes.
    pub allowed: String,
}

/// The terms of a session, fixed when it is issued, so that every process decides alike whatever its own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How long each of the session's tokens is valid.
    pub ttl: Millis,
    /// How long the session may go unused. `None` is for as long as it is valid.
    pub idle_timeout: Option<Millis>,
    /// How long the session can live in total.
    pub max_lifetime: Millis,
    /// How long the session stays readable after its end.
    pub retention: Millis,
}

/// A policy, whose settings are all within their ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    token_ttl: Millis,
    rotate_before_expiry: Millis,
    max_sessions_per_device: usize,
    idle_timeout: Option<Millis>,
    max_lifetime: Millis,
    rotation_overlap: Millis,
    replay_tolerance: Millis,
    retention: Millis,
}

const MIN_TTL: Millis = Millis::seconds(1);
const MAX_TTL: Millis = Millis::hours(8_760);
const MAX_LIFETIME: Millis = Millis::days(3_650);
const MIN_IDLE: Millis = Millis::seconds(30);
const MAX_TOLERANCE: Millis = Millis::minutes(5);
const MAX_RETENTION: Millis = Millis::days(90);
const MAX_CAP: u64 = 100;
/// The default of `rotate_before_expiry` is a twelfth of a token's life: 2 h of 24 h.
const WINDOW_DIVISOR: u64 = 12;
/// How many ended sessions stay readable for each session that a device may have active.
const RETAINED_PER_ACTIVE: usize = 10;

impl Default for Policy {
    fn default() -> Self {
        let ttl = Millis::hours(24);
        Self {
            token_ttl: ttl,
            rotate_before_expiry: ttl.divided_by(WINDOW_DIVISOR),
            max_sessions_per_device: 10,
            idle_timeout: None,
            max_lifetime: Millis::days(30),
            rotation_overlap: Millis::ZERO,
            replay_tolerance: Millis::seconds(10),
            retention: Millis::hours(24),
        }
    }
}

fn within(key: &'static str, value: Millis, least: Millis, most: Millis) -> Result<Millis, PolicyError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(PolicyError { key, value: value.to_string(), allowed: format!("{least} to {most}") })
}

impl Policy {
    /// Makes a policy from settings: checks each against its range, and fills in those that are not set.
    ///
    /// # Errors
    /// [`PolicyError`] with the key, the value and the allowed range of the first setting that is outside of it.
    pub fn new(settings: &PolicySettings) -> Result<Self, PolicyError> {
        let default = Self::default();
        let ttl = within("session.token_ttl", settings.token_ttl.unwrap_or(default.token_ttl), MIN_TTL, MAX_TTL)?;
        let window = settings
            .rotate_before_expiry
            .unwrap_or_else(|| default.rotate_before_expiry.min(ttl.divided_by(WINDOW_DIVISOR)));
        if window >= ttl {
            return Err(PolicyError {
                key: "session.rotate_before_expiry",
                value: window.to_string(),
                allowed: format!("0s to less than session.token_ttl ({ttl})"),
            });
        }
        let cap = settings.max_sessions_per_device.unwrap_or(default.max_sessions_per_device as u64);
        if !(1..=MAX_CAP).contains(&cap) {
            return Err(PolicyError {
                key: "session.max_sessions_per_device",
                value: cap.to_string(),
                allowed: format!("1 to {MAX_CAP}"),
            });
        }
        let idle = settings.idle_timeout.map(|idle| within("session.idle_timeout", idle, MIN_IDLE, ttl)).transpose();
        let idle = idle.map_err(|error| PolicyError {
            allowed: format!("off, or {MIN_IDLE} to session.token_ttl ({ttl})"),
            ..error
        })?;
        let lifetime = settings.max_lifetime.unwrap_or_else(|| default.max_lifetime.max(ttl));
        let tolerance = settings.replay_tolerance.unwrap_or(default.replay_tolerance);
        Ok(Self {
            token_ttl: ttl,
            rotate_before_expiry: window,
            max_sessions_per_device: usize::try_from(cap).unwrap_or(default.max_sessions_per_device),
            idle_timeout: idle,
            max_lifetime: within("session.max_lifetime", lifetime, ttl, MAX_LIFETIME)?,
            rotation_overlap: within(
                "session.rotation_overlap",
                settings.rotation_overlap.unwrap_or(default.rotation_overlap),
                Millis::ZERO,
                MAX_TOLERANCE,
            )?,
            replay_tolerance: within("session.replay_tolerance", tolerance, Millis::ZERO, MAX_TOLERANCE)?,
            retention: within(
                "session.retention",
                settings.retention.unwrap_or(default.retention),
                Millis::ZERO,
                MAX_RETENTION,
            )?,
        })
    }

    /// Returns `session.token_ttl`: how long a token is valid.
    #[must_use]
    pub const fn token_ttl(&self) -> Millis {
        self.token_ttl
    }

    /// Returns `session.rotate_before_expiry`: how long before its expiry a rotation is due.
    #[must_use]
    pub const fn rotate_before_expiry(&self) -> Millis {
        self.rotate_before_expiry
    }

    /// Returns `session.max_sessions_per_device`: how many active sessions a device may have.
    #[must_use]
    pub const fn cap(&self) -> usize {
        self.max_sessions_per_device
    }

    /// Returns `session.idle_timeout`: how long a session may go unused. `None` if that is off.
    #[must_use]
    pub const fn idle_timeout(&self) -> Option<Millis> {
        self.idle_timeout
    }

    /// Returns `session.max_lifetime`: how long a session can live in total.
    #[must_use]
    pub const fn max_lifetime(&self) -> Millis {
        self.max_lifetime
    }

    /// Returns `session.rotation_overlap`: how long the directly replaced token stays valid.
    #[must_use]
    pub const fn rotation_overlap(&self) -> Millis {
        self.rotation_overlap
    }

    /// Returns `session.replay_tolerance`: how long a replaced token counts as a late request.
    #[must_use]
    pub const fn replay_tolerance(&self) -> Millis {
        self.replay_tolerance
    }

    /// Returns `session.retention`: how long an ended or expired session stays readable.
    #[must_use]
    pub const fn retention(&self) -> Millis {
        self.retention
    }

    /// Returns how many ended and expired sessions of one device stay readable.
    #[must_use]
    pub const fn retained_per_device(&self) -> usize {
        self.max_sessions_per_device * RETAINED_PER_ACTIVE
    }

    /// Returns the terms of a session that is issued now. `ttl` replaces the policy's TTL.
    ///
    /// # Errors
    /// [`PolicyError`] for a TTL below 1 s or above `session.max_lifetime`.
    pub fn terms(&self, ttl: Option<Millis>) -> Result<Terms, PolicyError> {
        self.terms_up_to(ttl, self.max_lifetime)
    }

    /// Returns the terms of a session that a client enrols itself. `ttl` may only be less than the policy's TTL.
    ///
    /// # Errors
    /// [`PolicyError`] for a TTL below 1 s or above `session.token_ttl`.
    pub fn terms_for_enrolment(&self, ttl: Option<Millis>) -> Result<Terms, PolicyError> {
        self.terms_up_to(ttl, self.token_ttl)
    }

    fn terms_up_to(&self, ttl: Option<Millis>, most: Millis) -> Result<Terms, PolicyError> {
        Ok(Terms {
            ttl: within("ttl", ttl.unwrap_or(self.token_ttl), MIN_TTL, most)?,
            idle_timeout: self.idle_timeout,
            max_lifetime: self.max_lifetime,
            retention: self.retention,
        })
    }

    /// Returns how long before its expiry a rotation is due, for a session with this TTL.
    #[must_use]
    pub fn rotation_window(&self, ttl: Millis) -> Millis {
        if self.rotate_before_expiry < ttl { self.rotate_before_expiry } else { ttl.divided_by(WINDOW_DIVISOR) }
    }
}
