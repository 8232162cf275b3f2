//! `POST /_tenure/v1/sessions`: a client that holds the enrolment secret makes itself a session.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tenure_domain::{ClientField, ClientInfo, DeviceId, Millis, TextError};
use tenure_service::{IssueError, IssueRequest, Issued, SessionView};
use utoipa::ToSchema;

use super::{Api, token};
use crate::endpoint::extract::{self, JsonBody};
use crate::endpoint::respond;
use tenure_tower::Outcome;
use tenure_tower::client_info;
use tenure_tower::problem::{Problem, ProblemBody};

/// A request for a session.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EnrolBody {
    /// The device that the session belongs to: 1 to 128 characters, none of them invisible, no space at an end.
    device_id: String,
    /// The client's description of itself.
    #[serde(default)]
    client_info: ClientSays,
    /// How long the token is valid, at most `session.token_ttl`: `36s`, `90m`, `1h 30m`.
    #[serde(default)]
    ttl: Option<String>,
}

/// A client's description of itself. The gateway records its address and user agent on its own.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct ClientSays {
    /// The program's identifier: 1 to 128 characters.
    id: Option<String>,
    /// The name shown to people: 1 to 256 characters, like all that follow; otherwise like the device.
    display_name: Option<String>,
    /// The operating system or device class.
    platform: Option<String>,
    /// The program's version.
    version: Option<String>,
    /// The identity key of the device.
    device_key: Option<String>,
}

/// A session and its token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Enrolled {
    /// The token: shown only this once.
    token: String,
    /// The session.
    session: SessionView,
    /// The ids of the sessions that were evicted from its device, oldest first.
    evicted: Vec<String>,
}

/// Enrol: create a session for a device. Off until `gateway.enrol_secret_file` is set.
///
/// The session belongs to `gateway.enrol_subject`. If the device then has more than `session.max_sessions_per_device`
/// active sessions, the oldest of that subject are evicted. A device that has only other subjects' active sessions is
/// refused.
#[utoipa::path(
    post,
    path = "/_tenure/v1/sessions",
    operation_id = "enrol",
    tag = "client",
    security(("enrolment_secret" = [])),
    request_body = EnrolBody,
    responses(
        (status = 201, description = "The session and its token.", body = Enrolled),
        (status = 400, description = "A field is out of bounds; `detail` names it.", body = ProblemBody),
        (status = 401, description = "The enrolment secret is missing or wrong.", body = ProblemBody),
        (status = 404, description = "Clients cannot enrol themselves here.", body = ProblemBody),
        (status = 409, description = "The device belongs to another subject; nothing was changed.", body = ProblemBody),
        (status = 413, description = "The body is larger than 16 KiB.", body = ProblemBody),
        (status = 415, description = "The body is not `application/json`.", body = ProblemBody),
        (status = 429, description = "Too many failed attempts from that address.", body = ProblemBody),
        (status = 500, description = "The outcome is uncertain: `token` may be valid.", body = ProblemBody),
        (status = 503, description = "The store cannot be used; nothing was changed.", body = ProblemBody),
    )
)]
pub(super) async fn enrol(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let outcome = try_enrol(&api, request).await;
    match &outcome {
        Ok(_) => api.gateway.enforcer().record_outcome(Outcome::Admitted),
        Err(problem) => api.gateway.enforcer().record_problem(problem),
    }
    outcome
}

async fn try_enrol(api: &Api, request: axum::extract::Request) -> Result<Response, Problem> {
    let options = api.gateway.options();
    let Some(enrolment) = &options.enrolment else {
        let text = "clients cannot enrol themselves here: gateway.enrol_secret_file is not set";
        return Err(Problem::NotFound(text.to_owned()));
    };
    let peer = extract::peer(request.extensions())?;
    enrolment.secret.check(extract::bearer(request.headers()), &peer, |peer| {
        api.gateway.enforcer().lockouts().enrolment.record(peer, None)
    })?;
    let headers = request.headers().clone();
    // Only now: the body of a client that may not enrol is not read.
    let JsonBody(body) = <JsonBody<EnrolBody> as axum::extract::FromRequest<()>>::from_request(request, &()).await?;
    let request = IssueRequest {
        device: DeviceId::new(&body.device_id).map_err(|error| field("deviceId", &error))?,
        subject: enrolment.subject.clone(),
        client: body.client_info.check()?.updated_by(&client_info(&peer, &headers)),
        ttl: body.ttl.map(|text| text.parse::<Millis>()).transpose().map_err(|error| field("ttl", &error))?,
    };
    match api.gateway.sessions().enrol(request).await {
        Ok(issued) => Ok(respond::json(StatusCode::CREATED, &enrolled(api, &issued))),
        Err(IssueError::Policy(error)) => Err(Problem::BadRequest(error.to_string())),
        // Clients are not told whose the device is; operators are.
        Err(IssueError::Refused(refusal)) => Err(Problem::Conflict(format!(
            "{refusal}, so nothing was issued: use another deviceId, or ask an operator to end those sessions"
        ))),
        Err(IssueError::Write(unacknowledged)) => match unacknowledged.intended {
            Some(issued) => {
                let problem = token::uncertain("the session", &unacknowledged.error);
                Ok(problem.with_extension(token::with_token(&issued.token)).map(axum::body::Body::new))
            }
            None => Err(unacknowledged.error.into()),
        },
        Err(error) => Err(Problem::Internal(error.to_string())),
    }
}

fn enrolled(api: &Api, issued: &Issued) -> Enrolled {
    Enrolled {
        token: issued.token.to_text().expose().to_owned(),
        session: SessionView::new(&issued.session, api.gateway.sessions().now()),
        evicted: issued.evicted.iter().map(ToString::to_string).collect(),
    }
}

fn field(name: &str, error: &dyn std::fmt::Display) -> Problem {
    Problem::BadRequest(format!("{name}: {error}"))
}

impl ClientSays {
    fn check(self) -> Result<ClientInfo, Problem> {
        let says = [
            (ClientField::Id, self.id),
            (ClientField::DisplayName, self.display_name),
            (ClientField::Platform, self.platform),
            (ClientField::Version, self.version),
            (ClientField::DeviceKey, self.device_key),
        ];
        says.into_iter().try_fold(ClientInfo::default(), |info, (name, text)| match text {
            Some(text) => {
                info.with(name, &text).map_err(|error: TextError| field(&format!("clientInfo.{}", name.name()), &error))
            }
            None => Ok(info),
        })
    }
}
