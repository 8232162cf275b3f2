//! Passwords and certificates that change while the store is open, and what a server that lets nobody in is told to say.

use std::error::Error as _;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;

use tenure_adapter_redis::{Options, RedisStore};
use tenure_conformance::SystemClock;
use tenure_domain::Policy;
use tenure_ports::{FindOptions, StoreError, prelude::*};
use tenure_redis_test_server::{Sentinels, Server, Tls, patient};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::support::{SOON, eventually, issue, keep, open};

async fn refusal(options: Options) -> String {
    match RedisStore::connect(options, Arc::new(SystemClock)).await {
        Ok(_) => panic!("it connected"),
        Err(error @ StoreError::Unavailable { .. }) => format!("{error} {error:?}"),
        Err(error) => panic!("{error:?}"),
    }
}

/// A connection past the store that stays signed in.
struct Admin(redis::aio::MultiplexedConnection);

impl Admin {
    async fn of(server: &Server) -> Self {
        Self(redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap())
    }

    async fn send(&mut self, words: &[&str]) {
        redis::cmd(words[0]).arg(&words[1..]).query_async::<redis::Value>(&mut self.0).await.unwrap();
    }

    /// Ends every connection but this one.
    async fn cut(&mut self) {
        self.send(&["CLIENT", "KILL", "SKIPME", "yes"]).await;
    }
}

fn write(server: &Server, name: &str, text: &str) -> PathBuf {
    let file = server.dir().join(name);
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn a_password_that_was_changed_is_used_for_the_next_connection() {
    for user in ["default", "tenure"] {
        let server = Server::start();
        let mut admin = Admin::of(&server).await;
        let set = |word: &str| format!(">{word}");
        let grant = ["ACL", "SETUSER", user, "on", "resetpass", "~*", "&*", "+@all", &set("one")];
        admin.send(&grant).await;
        let file = write(&server, "password", "one\n");
        let url = server.url().replace("://", &format!("://{user}@"));
        let options = Options { password_file: Some(file), near_cache: user == "default", ..patient(&url) };
        let store = open(options).await;
        let (session, _) = issue(&store, "laptop", &Policy::default()).await;
        for next in ["two", "three"] {
            admin.send(&["ACL", "SETUSER", user, "resetpass", &set(next)]).await;
            admin.cut().await;
            eventually("the old password is refused", SOON, async || {
                store.find(session.id, FindOptions::EXACT).await.is_err_and(|error| {
                    let told = error.to_string();
                    assert!(!told.contains("one") && !told.contains("two"), "{told}");
                    let is_refused = told.contains("WRONGPASS") && told.contains("redis.password_file");
                    assert!(!is_refused || error.source().is_some_and(|source| source.is::<redis::RedisError>()));
                    is_refused
                })
            })
            .await;
            write(&server, "password", next);
            eventually("the new one is used", SOON, async || store.find(session.id, FindOptions::EXACT).await.is_ok())
                .await;
        }
        if user == "default" {
            keep(&store, session.id).await;
        }
        // A file that is gone is named, and found again when it is back.
        std::fs::remove_file(server.dir().join("password")).unwrap();
        admin.cut().await;
        eventually("the file is missed", SOON, async || {
            store
                .find(session.id, FindOptions::EXACT)
                .await
                .is_err_and(|error| error.to_string().contains("redis.password_file: could not read"))
        })
        .await;
        write(&server, "password", "three\n");
        eventually("it is read again", SOON, async || store.find(session.id, FindOptions::EXACT).await.is_ok()).await;
    }
}

#[tokio::test]
async fn certificates_that_were_changed_are_used_for_the_next_connection() {
    let tls = Tls::start_asking_for_certificates();
    let (certificate, key) = tls.certificates().client();
    let options = Options {
        tls_ca: Some(tls.certificates().ca()),
        tls_cert: Some(certificate),
        tls_key: Some(key),
        ..patient(&tls.url())
    };
    let store = open(options).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    // Another authority, server and client, in the same files.
    let before = std::fs::read(tls.certificates().ca()).unwrap();
    tls.renew();
    let after = std::fs::read(tls.certificates().ca()).unwrap();
    let mut admin = Admin::of(tls.server()).await;
    std::fs::write(tls.certificates().ca(), before).unwrap();
    admin.cut().await;
    eventually("the new server is not trusted by the old authority", SOON, async || {
        store.find(session.id, FindOptions::EXACT).await.is_err_and(|error| error.to_string().contains("redis.tls_ca"))
    })
    .await;
    std::fs::write(tls.certificates().ca(), after).unwrap();
    eventually("the new authority is read", SOON, async || store.find(session.id, FindOptions::EXACT).await.is_ok())
        .await;
    assert_eq!(store.find(session.id, FindOptions::EXACT).await.unwrap(), Some(session));
}

#[tokio::test]
async fn sentinels_have_a_password_of_their_own() {
    let sentinels = Sentinels::start();
    for number in [0, 1] {
        sentinels.server(number).ask::<()>(&["CONFIG", "SET", "masterauth", "of-servers"]);
        sentinels.server(number).ask::<()>(&["CONFIG", "SET", "requirepass", "of-servers"]);
    }
    sentinels.tell(&["SENTINEL", "SET", "main", "auth-pass", "of-servers"]);
    sentinels.tell(&["SENTINEL", "CONFIG", "SET", "sentinel-pass", "of-sentinels"]);
    sentinels.tell(&["ACL", "SETUSER", "default", "resetpass", ">of-sentinels"]);
    let (servers, own) = (write(sentinels.server(0), "a", "of-servers"), write(sentinels.server(0), "b", "wrong"));
    let with = |sentinel_password_file| Options {
        password_file: Some(servers.clone()),
        sentinel_password_file,
        ..patient(&sentinels.url())
    };
    for (file, word) in [(None, "WRONGPASS"), (Some(own.clone()), "WRONGPASS")] {
        let told = refusal(with(file)).await;
        assert!(told.contains("sentinel at 127.0.0.1:") && told.contains(word), "{told}");
        assert!(told.contains("redis.sentinel_password_file") && !told.contains("of-servers"), "{told}");
    }
    let told = refusal(patient(&sentinels.url())).await;
    assert!(told.contains("NOAUTH") && told.contains("set redis.sentinel_password_file"), "{told}");
    std::fs::write(&own, "of-sentinels\n").unwrap();
    let store = open(with(Some(own.clone()))).await;
    issue(&store, "laptop", &Policy::default()).await;
    let gone = Options { sentinel_password_file: Some("/nowhere/password".into()), ..patient(&sentinels.url()) };
    let told = refusal(gone).await;
    assert!(told.contains("redis.sentinel_password_file: could not read /nowhere/password"), "{told}");
}

#[tokio::test]
async fn a_server_that_lets_nobody_in_is_quoted_with_what_to_do() {
    let server = Server::start();
    let mut admin = Admin::of(&server).await;
    let wrong = write(&server, "wrong", "hunter2\n");
    let told = |near_cache: bool, url: String, password: Option<&PathBuf>| {
        refusal(Options { near_cache, password_file: password.cloned(), ..patient(&url) })
    };
    let at = |user: &str| server.url().replace("://", &format!("://{user}@"));
    let check = |told: String, words: &[&str]| {
        assert!(words.iter().all(|word| told.contains(word)), "{words:?} in {told}");
        assert!(!told.contains("hunter2"), "{told}");
    };
    let none = told(false, server.url(), Some(&wrong)).await;
    check(none, &["without any password configured", "take the password out of redis.url and redis.password_file"]);
    check(told(false, server.url() + "/99", None).await, &["DB index is out of range", "databases"]);
    check(told(false, at("nobody:x"), None).await, &["WRONGPASS", "check the user in redis.url"]);
    admin.send(&["ACL", "SETUSER", "weak", "on", ">hunter2", "+hello", "+auth", "+ping", "+info"]).await;
    check(told(false, at("weak"), Some(&wrong)).await, &["NOPERM", "time", "the rights that the documentation lists"]);
    admin.send(&["CONFIG", "SET", "requirepass", "correct horse"]).await;
    check(told(true, server.url(), None).await, &["NOAUTH", "set redis.password_file"]);
    check(told(true, server.url(), Some(&wrong)).await, &["WRONGPASS", "redis.password_file"]);
    admin.send(&["ACL", "SETUSER", "default", "nopass"]).await;
    admin.send(&["CONFIG", "SET", "maxclients", "1"]).await;
    for password in [None, Some(&wrong)] {
        let full = told(false, server.url(), password).await;
        check(full, &["max number of clients reached", "raise its maxclients"]);
    }
}

#[tokio::test]
async fn a_server_in_protected_mode_is_quoted_in_one_sentence() {
    const DENIED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set \
                          for the default user. In this mode connections are only accepted from the loopback interface. If \
                          you want to connect from external computers to Redis you may adopt one of the following solutions: \
                          1) Just disable protected mode\r\n";
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut places = vec![format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port())];
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            client.write_all(DENIED.as_bytes()).await.unwrap();
        }
    });
    // A real one says so to whoever comes from another address than loopback, where this machine has one.
    let server = Server::start_with(&["--bind", "0.0.0.0", "--protected-mode", "yes"]);
    let outward = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    places.extend(
        outward.ok().filter(|at| !at.ip().is_loopback()).map(|at| format!("redis://{}:{}", at.ip(), server.port())),
    );
    println!("{places:?}");
    for location in places {
        for url in [location.clone(), location.replace("://", "://:word@")] {
            let told = refusal(patient(&url)).await;
            assert!(told.contains("DENIED") && told.contains("no password is set for the default user"), "{told}");
            assert!(told.contains("requirepass") && !told.contains("Just disable"), "{told}");
        }
    }
}

/// Servers quote the arguments of a command that they do not know, such as `AUTH` where it was renamed.
#[tokio::test]
async fn a_server_that_does_not_know_auth_is_quoted_without_the_password() {
    let server = Server::start_with(&["--requirepass", "hunter2", "--rename-command", "AUTH", ""]);
    let file = write(&server, "password", "hunter2\n");
    for near_cache in [false, true] {
        let options = Options { near_cache, password_file: Some(file.clone()), ..patient(&server.url()) };
        let error = RedisStore::connect(options, Arc::new(SystemClock)).await.err().expect("it connected");
        let told = format!("{error} {error:?} {:?}", error.source().map(ToString::to_string));
        assert!(told.contains("unknown command 'AUTH'") && !told.contains("hunter2"), "{told}");
    }
}
