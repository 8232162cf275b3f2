//! `/_tenure/login`: a browser's way in and out.

use crate::support::{ApiFixture, Ask, ask};
use http::Method;
use tenure_domain::Millis;

const ORIGIN: &str = "http://127.0.0.1:8470";

fn post(path: &str) -> Ask {
    ask(Method::POST, path).header("origin", ORIGIN)
}

/// The cookie as the browser sends it back.
fn cookie_of(set: &str) -> &str {
    set.split(';').next().unwrap()
}

#[tokio::test]
async fn a_pasted_token_becomes_a_cookie_that_logs_out_again() {
    let house = ApiFixture::new();
    let (issued, token) = house.issue("laptop", "alice").await;
    house.clock.pass(Millis::new(1_500));
    let page = ask(Method::GET, "/_tenure/login?return=/board%3Fa%3D1").send(&house.api).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.text.contains("value=\"/board?a=1\""), "{}", page.text);

    let form = [("token", format!(" {token}\n")), ("return", "/board?a=1".to_owned())];
    let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let entered = post("/_tenure/login").form(&form).send(&house.api).await;
    assert_eq!((entered.status.as_u16(), entered.header("location")), (303, "/board?a=1"));
    assert_eq!(entered.header("cache-control"), "no-store");
    let set = entered.header("set-cookie");
    assert_eq!(set, format!("tenure={token}; Max-Age=86398; Path=/; HttpOnly; SameSite=Lax"));

    let page = ask(Method::GET, "/_tenure/login").header("cookie", cookie_of(set)).send(&house.api).await;
    let id = issued.session.id.to_string();
    assert!(page.text.contains(&id) && page.text.contains("laptop") && page.text.contains("23h 59m"), "{}", page.text);
    assert!(!page.text.contains(&token));

    let out = post("/_tenure/logout").header("cookie", cookie_of(set)).send(&house.api).await;
    assert_eq!((out.status.as_u16(), out.header("location")), (303, "/_tenure/login"));
    assert_eq!(out.all("set-cookie"), ["tenure=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"]);
    let session = house.sessions.get(issued.session.id).await.unwrap().unwrap();
    assert_eq!(session.end.as_ref().unwrap().reason.code(), "logged_out");
    // With a cookie that is over by now the page is what it is without one.
    let page = ask(Method::GET, "/_tenure/login").header("cookie", cookie_of(set)).send(&house.api).await;
    assert!(page.status == 200 && page.text.contains("name=\"token\""), "{page:?}");
    assert!(page.text.contains("you have logged out"), "{}", page.text);
}

#[tokio::test]
async fn over_tls_the_cookie_is_bound_to_the_host() {
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    let entered =
        ask(Method::POST, "/_tenure/login").header("origin", "https://127.0.0.1:8470").form(&[("token", &token)]);
    let entered = entered.header("x-test-tls", "1").send(&house.api).await;
    let set = entered.header("set-cookie");
    assert_eq!(set, format!("__Host-tenure={token}; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax; Secure"));
}

#[tokio::test]
async fn no_other_site_logs_a_browser_in_or_out() {
    let house = ApiFixture::new();
    let (issued, token) = house.issue("laptop", "alice").await;
    let foreign = [
        vec![],
        vec![("origin", "https://evil.test")],
        vec![("origin", "null")],
        vec![("sec-fetch-site", "cross-site"), ("origin", ORIGIN)],
        vec![("sec-fetch-site", "same-site"), ("origin", ORIGIN)],
    ];
    for headers in foreign {
        for (path, cookie) in [("/_tenure/login", "a=b".to_owned()), ("/_tenure/logout", format!("tenure={token}"))] {
            let ask = ask(Method::POST, path).form(&[("token", &token)]).header("cookie", &cookie);
            let ask = headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
            let answer = ask.send(&house.api).await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
            assert!(answer.all("set-cookie").is_empty(), "{answer:?}");
        }
    }
    let session = house.sessions.get(issued.session.id).await.unwrap().unwrap();
    assert_eq!((session.end.is_none(), session.last_activity), (true, issued.session.created_at));
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_told_why_and_gives_no_cookie() {
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    house.clock.pass(Millis::new(24 * 3_600_000));
    for (text, status, why) in
        [(token.as_str(), 401, "token expired"), ("nonsense", 401, "token malformed"), ("", 400, "paste a token first")]
    {
        let answer = post("/_tenure/login").form(&[("token", text), ("return", "/a")]).send(&house.api).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
        assert!(answer.text.contains(why) && answer.text.contains("value=\"/a\""), "{}", answer.text);
        assert!(answer.all("set-cookie").is_empty());
        assert!(text.is_empty() || !answer.text.contains(text), "what was pasted does not come back");
    }
    house.store.set_down(true);
    let answer = post("/_tenure/login").form(&[("token", &token)]).send(&house.api).await;
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn a_log_out_with_the_store_down_takes_the_cookie_and_says_that_the_session_may_be_there() {
    let house = ApiFixture::new();
    let (issued, token) = house.issue("laptop", "alice").await;
    let cookie = format!("tenure={token}");
    house.store.set_down(true);
    let answer = post("/_tenure/logout").header("cookie", &cookie).send(&house.api).await;
    assert_eq!(answer.status, 503);
    assert!(answer.all("set-cookie").iter().any(|set| set.starts_with("tenure=; Max-Age=0")), "{answer:?}");
    assert!(answer.text.contains("this browser is logged out, but the session may still exist"), "{answer:?}");
    let api = ask(Method::DELETE, "/_tenure/v1/session").header("origin", ORIGIN).header("cookie", &cookie);
    let answer = api.send(&house.api).await;
    answer.is_problem(503, "store_unavailable");
    house.store.set_down(false);
    let session = house.sessions.get(issued.session.id).await.unwrap().unwrap();
    assert!(session.end.is_none(), "nothing was ended, as was said");
    let again = post("/_tenure/logout").header("cookie", &cookie).send(&house.api).await;
    assert_eq!((again.status.as_u16(), again.header("location")), (303, "/_tenure/login"));
    let session = house.sessions.get(issued.session.id).await.unwrap().unwrap();
    assert_eq!(session.end.as_ref().unwrap().reason.code(), "logged_out");
}

#[tokio::test]
async fn the_page_runs_no_script_and_goes_to_no_other_host() {
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    let page = ask(Method::GET, "/_tenure/login?return=%2F%22%3E%3Cscript%3E").send(&house.api).await;
    assert!(!page.text.contains("<script") && page.text.contains("/&#34;&#62;&#60;script&#62;"), "{}", page.text);
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("referrer-policy"), "same-origin");
    for back in ["//evil.test", "/\\evil.test", "https://evil.test/", "javascript:alert(1)", "/a\r\nset-cookie: x=y"] {
        let answer = post("/_tenure/login").form(&[("token", &token), ("return", back)]).send(&house.api).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"), "{back}");
    }
    let style = ask(Method::GET, "/_tenure/login.css").send(&house.api).await;
    assert_eq!((style.status.as_u16(), style.header("content-type")), (200, "text/css; charset=utf-8"));
}
