//! Several processes on one store: what one was told has ended, none accepts; and of many rotations one is made.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;
use tenure_redis_test_server::Server;

/// A process, stopped when it is dropped.
struct Agent {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Agent {
    fn start(store: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
        let mut child = command.arg(store).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn tell(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the process ended");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.hear()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn id_of(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}

/// Runs a test with as many processes, on a store of each kind.
fn on_each_store<const N: usize>(test: impl Fn([Agent; N])) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.jsonl").display().to_string();
    test([(); N].map(|()| Agent::start(&path)));
    let server = Server::start();
    test([(); N].map(|()| Agent::start(&server.url())));
}

/// Verifications that begin after a revocation was acknowledged, in all.
const LATER: usize = 10_000;
/// Of each process, after each revocation.
const EACH: usize = 8;

#[test]
fn no_process_accepts_what_was_revoked() {
    on_each_store(|mut agents: [Agent; 3]| {
        let (mut later, mut accepted, mut meanwhile) = (0, 0, [0, 0]);
        for round in 0.. {
            if later >= LATER {
                break;
            }
            let token = agents[round % 3].ask(&format!("issue device-{}", round % 50));
            let verify = format!("verify {token}");
            for agent in &mut agents {
                assert_eq!(agent.ask(&verify), "active");
            }
            // While the two others go on verifying, the third revokes.
            let revoker = (round + 1) % 3;
            let others = [(round + 2) % 3, round % 3];
            for at in others {
                agents[at].tell(&verify);
            }
            assert_eq!(agents[revoker].ask(&format!("revoke {}", id_of(&token))), "ended 1");
            for at in others {
                match agents[at].hear().as_str() {
                    "active" => meanwhile[0] += 1,
                    "revoked" => meanwhile[1] += 1,
                    other => panic!("{other}"),
                }
            }
            for _ in 0..EACH {
                for agent in &mut agents {
                    agent.tell(&verify);
                }
            }
            for _ in 0..EACH {
                for agent in &mut agents {
                    let answer = agent.hear();
                    later += 1;
                    accepted += usize::from(answer == "active");
                    assert!(matches!(answer.as_str(), "active" | "revoked"), "{answer}");
                }
            }
        }
        println!("{later} later verifications, {accepted} accepted; meanwhile {meanwhile:?} accepted and refused");
        assert_eq!(accepted, 0);
    });
}

#[test]
fn of_64_rotations_in_four_processes_one_is_made_and_nobody_is_a_thief() {
    on_each_store(|mut agents: [Agent; 4]| {
        for round in 0..10 {
            let token = agents[0].ask(&format!("issue device-{round}"));
            for agent in &mut agents {
                agent.tell(&format!("rotate 16 {token}"));
            }
            let (mut made, mut refused, mut new) = (0, 0, String::new());
            for agent in &mut agents {
                let answer = agent.hear();
                let words: Vec<&str> = answer.split(' ').collect();
                made += words[0].parse::<u32>().unwrap();
                refused += words[1].parse::<u32>().unwrap();
                if words[2] != "-" {
                    new = words[2].to_owned();
                }
            }
            assert_eq!((made, refused), (1, 63));
            for agent in &mut agents {
                assert_eq!(agent.ask(&format!("verify {new}")), "active");
                assert_eq!(agent.ask(&format!("verify {token}")), "rotated");
                assert_eq!(agent.ask(&format!("verify {new}")), "active");
            }
        }
    });
}
