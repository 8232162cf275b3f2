//! An OAuth library as a client of `tenure gateway`: introspection and revocation.

use std::convert::Infallible;

use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenType};
use oauth2::http::HeaderName;
use oauth2::{
    AccessToken, AuthType, ClientId, ClientSecret, EmptyExtraTokenFields, HttpRequest, HttpResponse, IntrospectionUrl,
    RefreshToken, RequestTokenError, RevocationErrorResponseType, RevocationUrl, StandardRevocableToken,
    StandardTokenIntrospectionResponse, TokenIntrospectionResponse as _,
};
use serde_json::Value;

use crate::gateway::{Gateway, request};
use crate::on_both_backends;
use crate::support::home::{Home, id_of};

on_both_backends!(a_library_introspects_and_revokes, a_library_is_told_what_it_does_wrong,);

type Found = StandardTokenIntrospectionResponse<EmptyExtraTokenFields, BasicTokenType>;
type Client = oauth2::Client<
    oauth2::basic::BasicErrorResponse,
    oauth2::basic::BasicTokenResponse,
    oauth2::basic::BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    oauth2::basic::BasicRevocationErrorResponse,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointSet,
    oauth2::EndpointSet,
    oauth2::EndpointNotSet,
>;

fn client(secret: &str, way: AuthType) -> Client {
    // The library accepts only this scheme for revocation. The transport below connects without TLS, over loopback.
    let url = |path: &str| format!("https://tenure.internal/oauth2/{path}");
    BasicClient::new(ClientId::new("dash board".to_owned()))
        .set_client_secret(ClientSecret::new(secret.to_owned()))
        .set_auth_type(way)
        .set_introspection_url(IntrospectionUrl::new(url("introspect")).unwrap())
        .set_revocation_url(RevocationUrl::new(url("revoke")).unwrap())
}

/// Sends the library's request unchanged to the gateway's admin listener.
fn transport(gateway: &Gateway) -> impl Fn(HttpRequest) -> Result<HttpResponse, Infallible> {
    let address = gateway.operators.clone();
    move |asked| {
        let mut text =
            format!("{} {} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n", asked.method(), asked.uri().path());
        for (name, value) in asked.headers() {
            text += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
        text += &format!("content-length: {}\r\n\r\n{}", asked.body().len(), String::from_utf8_lossy(asked.body()));
        let answer = request(&address, &text);
        let mut response = HttpResponse::new(answer.body.into_bytes());
        *response.status_mut() = answer.status.try_into().unwrap();
        for line in answer.head.lines().skip(1) {
            let (name, value) = line.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            response.headers_mut().append(name, value.parse().unwrap());
        }
        Ok(response)
    }
}

fn introspect(gateway: &Gateway, client: &Client, token: &str) -> Found {
    client.introspect(&AccessToken::new(token.to_owned())).request(&transport(gateway)).unwrap()
}

fn a_library_introspects_and_revokes(home: Home) {
    let gateway = Gateway::start(&home, &[]);
    for way in [AuthType::BasicAuth, AuthType::RequestBody] {
        let client = client(&gateway.admin_secret, way);
        let token = home.issue("laptop");
        let found = introspect(&gateway, &client, &token);
        assert!(found.active());
        assert_eq!((found.username(), found.sub()), (Some("operator"), Some("operator")));
        assert_eq!(found.jti(), Some(id_of(&token)));
        assert_eq!(found.token_type(), Some(&BasicTokenType::Bearer));
        let life = found.exp().unwrap() - found.iat().unwrap();
        assert_eq!(life.num_hours(), 24);

        let shown: Value = home.run(&["sessions", "show", id_of(&token), "--json"]).succeeds().json();
        assert_eq!(shown["lastActivity"], shown["createdAt"], "to be asked about is no use");

        let revocable = StandardRevocableToken::AccessToken(AccessToken::new(token.clone()));
        client.revoke_token(revocable.clone()).unwrap().request(&transport(&gateway)).unwrap();
        client.revoke_token(revocable).unwrap().request(&transport(&gateway)).unwrap();
        assert!(!introspect(&gateway, &client, &token).active());
        home.feed(&["token", "verify"], &token).fails(4, "token revoked");
        let shown: Value = home.run(&["sessions", "show", id_of(&token), "--json"]).succeeds().json();
        assert_eq!(shown["endActor"], "dash board");
    }
}

fn a_library_is_told_what_it_does_wrong(home: Home) {
    let gateway = Gateway::start(&home, &[]);
    let token = home.issue("laptop");
    let stranger = client("some other secret", AuthType::BasicAuth);
    match stranger.introspect(&AccessToken::new(token.clone())).request(&transport(&gateway)) {
        Err(RequestTokenError::ServerResponse(error)) => {
            assert_eq!(error.error(), &BasicErrorResponseType::InvalidClient);
        }
        other => panic!("{other:?}"),
    }
    let known = client(&gateway.admin_secret, AuthType::BasicAuth);
    let refresh = StandardRevocableToken::RefreshToken(RefreshToken::new("8xLOxBtZp8".to_owned()));
    match known.revoke_token(refresh).unwrap().request(&transport(&gateway)) {
        Err(RequestTokenError::ServerResponse(error)) => {
            assert_eq!(error.error(), &RevocationErrorResponseType::UnsupportedTokenType);
        }
        other => panic!("{other:?}"),
    }
    assert!(!introspect(&gateway, &known, "8xLOxBtZp8").active());
    assert!(introspect(&gateway, &known, &token).active());
}
