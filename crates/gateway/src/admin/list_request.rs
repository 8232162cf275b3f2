//! A request of an operator to list sessions.

use serde::Deserialize;
use tenure_domain::{DeviceId, Filter, Scope, Session, SortKey, State, Subject, Timestamp};
use utoipa::ToSchema;

use super::cursor::Cursor;
use tenure_tower::problem::Problem;

/// The default number of sessions on a page.
const DEFAULT_LIMIT: u32 = 100;
/// The most sessions on a page.
const MAX_LIMIT: u32 = 1_000;

/// The filters, the order and the cursor of a listing.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only sessions of this device.
    #[serde(default)]
    device_id: Option<String>,
    /// Only sessions of this subject.
    #[serde(default)]
    subject: Option<String>,
    /// Only those in this state; `all` for every one that is retained.
    #[serde(default)]
    #[param(inline)]
    state: StateFilter,
    /// Sort order: newest first, or soonest expiry first.
    #[serde(default)]
    #[param(inline)]
    sort: Sort,
    /// Show at most this many: 1 to 1000, 100 where it is not given.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Which states are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateFilter {
    #[default]
    Active,
    All,
    Expired,
    Idle,
    Revoked,
    Evicted,
    Replayed,
    LoggedOut,
}

/// What to sort by.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sort {
    #[default]
    LastActivity,
    Created,
    Expires,
}

/// A checked query.
pub(super) struct ListRequest {
    pub(super) filter: Filter,
    pub(super) state: StateFilter,
    pub(super) sort: SortKey,
    pub(super) limit: usize,
    pub(super) after: Option<Cursor>,
}

impl StateFilter {
    const fn includes(self, state: State) -> bool {
        use tenure_domain::EndReason::{Evicted, Idle, LoggedOut, Replayed, Revoked};
        match self {
            Self::All => true,
            Self::Active => matches!(state, State::Active),
            Self::Expired => matches!(state, State::Expired),
            Self::Idle => matches!(state, State::Idle | State::Ended(Idle)),
            Self::Revoked => matches!(state, State::Ended(Revoked)),
            Self::Evicted => matches!(state, State::Ended(Evicted)),
            Self::Replayed => matches!(state, State::Ended(Replayed)),
            Self::LoggedOut => matches!(state, State::Ended(LoggedOut)),
        }
    }
}

impl ListQuery {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`Problem::BadRequest`] that names the parameter.
    pub(super) fn check(self) -> Result<ListRequest, Problem> {
        let bad = |name: &str, text: &dyn std::fmt::Display| Problem::BadRequest(format!("{name}: {text}"));
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(bad("limit", &format_args!("{limit} is out of its range, 1 to {MAX_LIMIT}")));
        }
        let sort = match self.sort {
            Sort::LastActivity => SortKey::LastActivity,
            Sort::Created => SortKey::Created,
            Sort::Expires => SortKey::Expires,
        };
        let after = match self.cursor.as_deref() {
            Some(text) => {
                let foreign = "this is not a cursor for this order: pass `next` of the previous page unchanged";
                Some(Cursor::parse(text, sort).ok_or_else(|| bad("cursor", &foreign))?)
            }
            None => None,
        };
        let device = self.device_id.as_deref().map(DeviceId::recorded).transpose();
        let subject = self.subject.as_deref().map(Subject::recorded).transpose();
        Ok(ListRequest {
            filter: Filter {
                device: device.map_err(|error| bad("deviceId", &error))?,
                subject: subject.map_err(|error| bad("subject", &error))?,
                scope: if self.state == StateFilter::Active { Scope::Active } else { Scope::Retained },
            },
            state: self.state,
            sort,
            limit: limit as usize,
            after,
        })
    }
}

impl ListRequest {
    /// Whether the store's filter is enough: the listing starts at the beginning, and does not ask for one way of being
    /// inactive.
    pub(super) const fn is_plain_listing(&self) -> bool {
        self.after.is_none() && matches!(self.state, StateFilter::Active | StateFilter::All)
    }

    /// Whether `session` belongs on this page or a later one.
    pub(super) fn includes(&self, session: &Session, now: Timestamp) -> bool {
        self.state.includes(session.state(now)) && self.after.is_none_or(|cursor| cursor.is_before(session))
    }
}
