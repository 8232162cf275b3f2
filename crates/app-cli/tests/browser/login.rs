//! The log-in and the log-out in a browser.

use serde_json::json;

use crate::chromium::Browser;
use crate::house::{House, certify};
use crate::proxies::Proxy;

const TRUSTED: (&str, &str) = ("gateway.trusted_proxies", "127.0.0.1/32");

/// From a bookmark through the login page to the board, and the log-out.
async fn logs_in_and_out(house: &House, base: &str) {
    let mut browser = Browser::start().await;
    let token = house.home.issue("laptop");
    browser.go(&format!("{base}/board?a=1")).await;
    assert_eq!(browser.url().await, format!("{base}/_tenure/login?return=%2Fboard%3Fa%3D1"));
    browser.fill("#token", &token).await;
    browser.press("Log in").await;
    assert_eq!(browser.url().await, format!("{base}/board?a=1"), "{}", browser.text().await);
    assert!(browser.text().await.contains("the board"));

    let cookies = browser.cookies(base).await;
    let name = if base.starts_with("https") { "__Host-tenure" } else { "tenure" };
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert_eq!((&cookies[0]["name"], &cookies[0]["httpOnly"]), (&json!(name), &json!(true)), "{cookies:?}");
    assert_eq!(cookies[0]["secure"], base.starts_with("https"), "{cookies:?}");

    // The headers that the browser sends, and a change by a page of this host.
    let told = browser.eval("fetch('/echo', {method: 'POST'}).then(answer => answer.json())").await;
    assert_eq!(told["origin"], base, "{told}");
    assert_eq!(told["sec-fetch-site"].is_null(), base.starts_with("http:"), "{told}");
    assert!(!told.to_string().contains(&token), "{told}");

    browser.go(&format!("{base}/_tenure/login")).await;
    assert!(browser.text().await.contains("laptop"));
    browser.press("Log out").await;
    assert_eq!(browser.url().await, format!("{base}/_tenure/login"), "{}", browser.text().await);
    assert_eq!(browser.cookies(base).await, Vec::<serde_json::Value>::new());
    let session = &house.home.list(&["--all"])[0];
    assert_eq!(session["state"], "logged_out", "{session}");
    browser.go(&format!("{base}/board")).await;
    assert_eq!(browser.url().await, format!("{base}/_tenure/login?return=%2Fboard"));
}

#[tokio::test]
async fn over_http_under_a_name_of_the_local_network() {
    let house = House::with(&[]).await;
    logs_in_and_out(&house, &house.url()).await;
}

#[tokio::test]
async fn over_https() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certify(folder.path());
    let house = House::with(&[("gateway.tls_cert", &cert), ("gateway.tls_key", &key)]).await;
    logs_in_and_out(&house, &house.url()).await;
}

#[tokio::test]
async fn behind_nginx() {
    for tls in [false, true] {
        let house = House::with(&[TRUSTED]).await;
        let proxy = Proxy::nginx(house.clients, tls).await;
        logs_in_and_out(&house, &proxy.url()).await;
    }
}

#[tokio::test]
async fn behind_caddy() {
    for tls in [false, true] {
        let house = House::with(&[TRUSTED]).await;
        let proxy = Proxy::caddy(house.clients, tls).await;
        logs_in_and_out(&house, &proxy.url()).await;
    }
}

/// Logs a browser in with a new token, and returns the token.
async fn logged_in(browser: &mut Browser, house: &House, device: &str) -> String {
    let token = house.home.issue(device);
    browser.go(&format!("{}/_tenure/login", house.url())).await;
    browser.fill("#token", &token).await;
    browser.press("Log in").await;
    assert!(browser.text().await.contains("the board"), "{}", browser.text().await);
    token
}

#[tokio::test]
async fn a_form_that_hides_where_it_comes_from_is_a_strangers() {
    let house = House::with(&[]).await;
    let mut browser = Browser::start().await;
    logged_in(&mut browser, &house, "laptop").await;
    browser.go(&format!("{}/hidden", house.url())).await;
    browser.press("Log out").await;
    let text = browser.text().await;
    assert!(text.contains("the form must be sent from this page"), "{text}");
    assert_eq!(browser.cookies(&house.url()).await.len(), 1);
    assert_eq!(house.home.list(&[])[0]["state"], "active");
}

#[tokio::test]
async fn a_dead_cookie_leads_to_the_login_page_in_words_and_is_cleared() {
    let house = House::with(&[]).await;
    let mut browser = Browser::start().await;
    let token = logged_in(&mut browser, &house, "laptop").await;
    house.revoke(&token);
    browser.go(&format!("{}/board", house.url())).await;
    let (url, text) = (browser.url().await, browser.text().await);
    assert!(url.starts_with(&format!("{}/_tenure/login?return=%2Fboard", house.url())), "{url}");
    assert!(text.contains("your session was revoked"), "{text}");
    assert_eq!(browser.cookies(&house.url()).await, Vec::<serde_json::Value>::new());
    logged_in(&mut browser, &house, "laptop").await;
}

#[tokio::test]
async fn a_tab_that_polls_with_a_dead_cookie_locks_nobody_out() {
    let house = House::with(&[]).await;
    let mut browser = Browser::start().await;
    let token = logged_in(&mut browser, &house, "laptop").await;
    house.revoke(&token);
    // The browser may have dropped the cookie after the first response.
    let polls = "(async () => { const all = []; for (let n = 0; n < 40; n++) all.push((await fetch('/echo')).status); \
                 return all.every(status => status === 401) })()";
    assert_eq!(browser.eval(polls).await, true);
    let bearer = format!(
        "(async () => {{ const all = []; for (let n = 0; n < 40; n++) all.push((await fetch('/echo', {{headers: \
         {{authorization: 'Bearer {token}'}}}})).status); return all.every(status => status === 401) }})()"
    );
    assert_eq!(browser.eval(&bearer).await, true);
    let mut other = Browser::start().await;
    other.go(&format!("{}/board", house.url())).await;
    assert!(other.url().await.contains("/_tenure/login"), "{}", other.url().await);
    logged_in(&mut other, &house, "phone").await;
    browser.go(&format!("{}/board", house.url())).await;
    assert!(browser.text().await.contains("Log in"), "{}", browser.text().await);
}
