//! Pages with background requests: those of another origin, and the operators' page.

use serde_json::{Value, json};

use crate::chromium::{Browser, HOST, STRANGER};
use crate::house::{House, app};

/// Returns what a page can read of a response: its status and its code, or that the browser blocked it.
async fn fetched(browser: &mut Browser, url: &str, options: &Value) -> Value {
    let script = format!(
        "fetch({}, {options}).then(async answer => [answer.status, (await answer.json()).code ?? null], () => 'kept away')",
        json!(url)
    );
    browser.eval(&script).await
}

#[tokio::test]
async fn of_a_named_origin_read_answers_and_refusals_and_of_others_nothing() {
    let (named, other) = (app().await, app().await);
    let origin = format!("http://{STRANGER}:{}", named.port());
    let house = House::with(&[("gateway.cors_origins", &origin)]).await;
    let token = house.home.issue("laptop");
    let bearer = json!({"method": "PUT", "headers": {"authorization": format!("Bearer {token}")}});
    let echo = format!("{}/echo", house.url());
    let mut browser = Browser::start().await;
    browser.go(&format!("{origin}/board")).await;
    assert_eq!(fetched(&mut browser, &echo, &bearer).await, json!([200, null]));
    assert_eq!(fetched(&mut browser, &echo, &json!({})).await, json!([401, "token_required"]));
    assert_eq!(fetched(&mut browser, &echo, &json!({"credentials": "include"})).await, "kept away");
    house.revoke(&token);
    assert_eq!(fetched(&mut browser, &echo, &bearer).await, json!([401, "revoked"]));
    let (token, echo) = (house.home.issue("laptop"), format!("{echo}?other"));
    let bearer = json!({"method": "PUT", "headers": {"authorization": format!("Bearer {token}")}});
    browser.go(&format!("http://{STRANGER}:{}/board", other.port())).await;
    assert_eq!(fetched(&mut browser, &echo, &bearer).await, "kept away");
    assert_eq!(fetched(&mut browser, &echo, &json!({})).await, "kept away");
}

#[tokio::test]
async fn of_the_operators_show_and_end_sessions_under_a_name_of_the_local_network() {
    let house = House::with(&[("gateway.admin_hosts", HOST)]).await;
    house.home.issue("laptop");
    let mut browser = Browser::start().await;
    browser.go(&format!("http://{HOST}:{}/", house.operators.port())).await;
    browser.wait_until("!document.querySelector('#enter').hidden").await;
    browser.fill("#secret", &house.admin_secret).await;
    browser.eval("window.confirm = () => true; document.querySelector('#enter button').click()").await;
    browser.wait_until("document.querySelector('#rows').innerText.includes('laptop')").await;
    browser.wait_until("getComputedStyle(document.querySelector('#enter')).display === 'none'").await;
    browser.eval("document.querySelector('#rows button').click()").await;
    browser.wait_until("!document.querySelector('#rows').innerText.includes('laptop')").await;
    let session = &house.home.list(&["--all"])[0];
    assert_eq!(session["state"], "revoked", "{session}");
}
