//! Several processes on one store: revocation, and the cap.

use std::process::Stdio;

use crate::on_both_backends;
use crate::support::home::{Home, id_of};
use crate::support::model::{InProcess, open};

on_both_backends!(a_revocation_is_seen_by_a_process_that_verified_the_token, parallel_issues_never_exceed_the_cap);

fn a_revocation_is_seen_by_a_process_that_verified_the_token(home: Home) {
    let InProcess { runtime, sessions } = open(&home);
    let tokens: Vec<String> = (0..5).map(|at| home.issue(&format!("device-{at}"))).collect();
    for token in &tokens {
        let verify = || runtime.block_on(sessions.verify_text(token, tenure_service::ActivityMode::Record));
        verify().unwrap();
        home.run(&["sessions", "revoke", id_of(token)]).succeeds();
        assert_eq!(verify().unwrap_err().to_string(), "token revoked");
        // Activity that was recorded earlier does not revive the session.
        runtime.block_on(sessions.flush_activity()).unwrap();
        home.feed(&["token", "verify"], token).fails(4, "error: token revoked");
    }
}

fn parallel_issues_never_exceed_the_cap(home: Home) {
    let InProcess { runtime, sessions } = open(&home);
    home.issue("laptop");
    let mut children: Vec<_> = (0..32)
        .map(|_| {
            let mut command = home.command(&["token", "issue", "--device-id", "laptop"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let filter =
        tenure_domain::Filter { device: Some(tenure_domain::DeviceId::new("laptop").unwrap()), ..Default::default() };
    let mut most = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        let listed = runtime.block_on(sessions.list(&filter, tenure_domain::SortKey::Created, 100)).unwrap();
        most = most.max(listed.len());
    }
    let mut issued = Vec::new();
    for child in children {
        let ran = crate::support::home::Ran::from(child.wait_with_output().unwrap());
        issued.push(ran.succeeds().out.clone());
    }
    assert!(most <= 10, "{most}");
    assert_eq!(home.list(&["--device-id", "laptop"]).len(), 10);
    let holding = issued.iter().filter(|token| home.feed(&["token", "verify"], token).code == Some(0)).count();
    assert_eq!(holding, 10);
}
