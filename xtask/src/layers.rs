//! `cargo xtask layers`: how the code hangs together. Dependencies of crates point inward, as ARCHITECTURE.md draws them;
//! files of one crate do not import each other in a circle; old names stay away; no dependency is named and not used.

mod circles;
mod dependencies;
mod modules;
mod names;
mod rules;
pub(crate) mod source;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::Result;
use crate::cargo::{capture, cargo, root};
use source::Sources;

/// What one package of the workspace may depend on.
struct Rule {
    package: &'static str,
    /// Packages of the workspace that it may name, in tests and build scripts too.
    may_name: &'static [&'static str],
    /// Packages of the workspace that only its tests may name.
    may_test_with: &'static [&'static str],
    /// Other crates that it must not use, except in tests.
    must_not_use: &'static [&'static str],
    /// The rule in words, for whoever broke it.
    because: &'static str,
}

/// All crates that the binary is made of, outermost last.
const LIBRARIES: &[&str] =
    &["tenure-domain", "tenure-ports", "tenure-service", ANY_STORE, "tenure-tower", "tenure-gateway"];

/// In a list of packages: every adapter that is a store for users, so that a new one needs no row here.
const ANY_STORE: &str = "tenure-adapter-*";

/// The adapter that is for tests and examples alone.
const MEMORY: &str = "tenure-adapter-memory";

/// The servers that tests of the Redis store start.
const REDIS_SERVERS: &str = "tenure-redis-test-server";

/// Clocks, randomness, I/O, runtimes and serialisation, which the domain takes in as values or not at all.
const IMPURE: &[&str] = &[
    "async-trait",
    "chrono",
    "fastrand",
    "futures-core",
    "futures-util",
    "getrandom",
    "jiff",
    "libc",
    "rand",
    "rand_core",
    "redis",
    "rustix",
    "serde",
    "serde_json",
    "time",
    "tokio",
    "tracing",
];

const ADAPTER: &str = "an adapter implements the ports and sees neither the service nor another adapter: it may name tenure-domain and tenure-ports";

/// What tests of use cases and front ends stand on.
const DOUBLES: &[&str] = &["tenure-conformance", MEMORY];

/// What an adapter may depend on that has no rule of its own in [`RULES`].
const ADAPTER_RULE: Rule = Rule {
    package: ANY_STORE,
    may_name: &["tenure-domain", "tenure-ports"],
    may_test_with: DOUBLES,
    must_not_use: &[],
    because: ADAPTER,
};

const RULES: &[Rule] = &[
    Rule {
        package: "tenure-domain",
        may_name: &[],
        may_test_with: &[],
        must_not_use: IMPURE,
        because: "the domain is pure: it names no package of the workspace and uses no runtime, clock, randomness, I/O or serialisation",
    },
    Rule {
        package: "tenure-ports",
        may_name: &["tenure-domain"],
        may_test_with: &[],
        must_not_use: &[],
        because: "the ports speak of the domain alone: they may name tenure-domain",
    },
    Rule {
        package: "tenure-service",
        may_name: &["tenure-domain", "tenure-ports"],
        may_test_with: DOUBLES,
        must_not_use: &[],
        because: "the use cases know ports, not what is behind them: they may name tenure-domain and tenure-ports",
    },
    Rule {
        package: "tenure-adapter-json",
        may_name: &["tenure-domain", "tenure-ports"],
        // Its tests simulate faults of a disk.
        may_test_with: &["tenure-conformance", MEMORY, "tenure-json-test-storage"],
        must_not_use: &[],
        because: ADAPTER,
    },
    Rule {
        package: "tenure-json-test-storage",
        may_name: &["tenure-domain", "tenure-ports", "tenure-adapter-json"],
        may_test_with: &[],
        must_not_use: &[],
        because: "the simulated storage is for tests of the JSON store alone: it may name tenure-domain, tenure-ports and tenure-adapter-json",
    },
    Rule {
        package: "tenure-adapter-redis",
        may_name: &["tenure-domain", "tenure-ports"],
        // Its tests run against real servers.
        may_test_with: &["tenure-conformance", MEMORY, REDIS_SERVERS],
        must_not_use: &[],
        because: ADAPTER,
    },
    Rule {
        package: REDIS_SERVERS,
        may_name: &["tenure-domain", "tenure-adapter-redis"],
        may_test_with: &[],
        must_not_use: &[],
        because: "the test servers are for tests of the Redis store alone: they may name tenure-domain and tenure-adapter-redis",
    },
    Rule {
        package: MEMORY,
        may_name: &["tenure-domain", "tenure-ports"],
        may_test_with: &["tenure-conformance"],
        must_not_use: &[],
        because: ADAPTER,
    },
    Rule {
        package: "tenure-conformance",
        may_name: &["tenure-domain", "tenure-ports", "tenure-service"],
        may_test_with: &[MEMORY],
        must_not_use: &[],
        because: "the conformance suite is over the port: it may name tenure-domain, tenure-ports and tenure-service, and no adapter",
    },
    Rule {
        package: "tenure-tower",
        may_name: &["tenure-domain", "tenure-ports", "tenure-service"],
        may_test_with: DOUBLES,
        // A server is the user's.
        must_not_use: &["hyper", "hyper-util", "metrics", "metrics-exporter-prometheus"],
        because: "enforcement is handed its store and knows no server: it may name tenure-domain, tenure-ports and tenure-service, and no adapter, and uses no hyper",
    },
    Rule {
        package: "tenure-gateway",
        may_name: &["tenure-domain", "tenure-ports", "tenure-service", "tenure-tower"],
        may_test_with: DOUBLES,
        must_not_use: &[],
        because: "the gateway is handed its store: it may name tenure-domain, tenure-ports, tenure-service and tenure-tower, and no adapter",
    },
    Rule {
        package: "tenure",
        may_name: LIBRARIES,
        may_test_with: &["tenure-conformance", MEMORY, REDIS_SERVERS],
        must_not_use: &[],
        because: "the command wires everything up: it may name every library of the product, and no test or development package",
    },
    Rule {
        package: "tenure-tests",
        may_name: &[
            "tenure-domain",
            "tenure-ports",
            "tenure-service",
            ANY_STORE,
            MEMORY,
            "tenure-conformance",
            REDIS_SERVERS,
            "tenure-tower",
            "tenure-gateway",
            "tenure",
        ],
        may_test_with: &[],
        must_not_use: &[],
        because: "the tests are about the product: they may name all of it and the packages for tests, and no development command",
    },
    Rule {
        package: "xtask",
        may_name: &[],
        may_test_with: &[],
        must_not_use: &[],
        because: "the development commands build and run while the product does not: they name no package of the workspace",
    },
];

/// Checks the workspace as cargo sees it; prints each violation.
pub(crate) fn run() -> Result<()> {
    let json = capture(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata =
        serde_json::from_slice(&json).map_err(|error| format!("cargo metadata printed no valid JSON: {error}"))?;
    let (root, sources) = (root(), Sources::default());
    let checks = [
        ("the dependency rules", violations(&metadata)?, "remove the dependency, or change the rule in layers.rs"),
        (
            "imports without circles",
            circles::violations(&root, &crates(&metadata)?, &sources)?,
            "move what both need into a file of its own, or to where it is decided",
        ),
        ("rules in the domain alone", rules::violations(&root, &sources)?, "ask the domain"),
        ("no old names", names::violations(&root, &sources)?, "use the new name"),
        ("no unused dependencies", dependencies::violations(&root, &metadata, &sources)?, "remove them"),
    ];
    let mut broken = Vec::new();
    for (what, found, instead) in &checks {
        for violation in found {
            println!("{violation}");
        }
        if found.is_empty() {
            println!("kept: {what}");
        } else {
            broken.push(format!("{what}: {} broken, listed above: {instead}", found.len()));
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
}

/// The files with which the libraries and programs of the workspace begin.
fn crates(metadata: &Value) -> Result<Vec<PathBuf>> {
    let changed = || "cargo metadata has no target with a `src_path`: its format has changed".to_owned();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().ok_or_else(changed)? {
        for target in package["targets"].as_array().ok_or_else(changed)? {
            let kinds = target["kind"].as_array().ok_or_else(changed)?;
            if kinds.iter().any(|kind| kind == "lib" || kind == "bin") {
                found.push(PathBuf::from(target["src_path"].as_str().ok_or_else(changed)?));
            }
        }
    }
    if found.is_empty() { Err(changed()) } else { Ok(found) }
}

/// Every dependency that breaks a rule, one line each.
fn violations(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().ok_or("cargo metadata has no `packages`: its format has changed")?;
    let mut members = BTreeSet::new();
    for package in packages {
        members.insert(name(package)?);
    }
    let mut found = Vec::new();
    for rule in RULES {
        // A rule that guards nothing would pass for ever.
        if !members.contains(rule.package) {
            found.push(format!(
                "{}: has a rule but is no package of the workspace (rename or remove the rule)",
                rule.package
            ));
        }
    }
    for package in packages {
        let from = name(package)?;
        let Some(rule) = rule_of(from) else {
            found.push(format!("{from}: has no rule (say in xtask/src/layers.rs what it may depend on)"));
            continue;
        };
        let dependencies = package["dependencies"]
            .as_array()
            .ok_or_else(|| format!("cargo metadata has no `dependencies` for {from}: its format has changed"))?;
        for dependency in dependencies {
            // The name of the package, also where the manifest renames it.
            let to = name(dependency)?;
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            let broken = if members.contains(to) {
                // A package's own tests may ask for its own features.
                let for_tests = kind == "dev" && lists(rule.may_test_with, to);
                to != from && !for_tests && !lists(rule.may_name, to)
            } else {
                kind != "dev" && rule.must_not_use.contains(&to)
            };
            if broken {
                found.push(format!("{from} -> {to} ({kind}): {}", rule.because));
            }
        }
    }
    Ok(found)
}

/// The rule for a package: its own, or that of all adapters.
fn rule_of(package: &str) -> Option<&'static Rule> {
    let own = RULES.iter().find(|rule| rule.package == package);
    own.or_else(|| is_store(package).then_some(&ADAPTER_RULE))
}

/// Whether a list of packages has this one, or has [`ANY_STORE`] and it is one.
fn lists(packages: &[&str], package: &str) -> bool {
    packages.contains(&package) || (packages.contains(&ANY_STORE) && is_store(package))
}

fn is_store(package: &str) -> bool {
    package.starts_with(ANY_STORE.trim_end_matches('*')) && package != MEMORY
}

fn name(value: &Value) -> Result<&str> {
    value["name"]
        .as_str()
        .ok_or_else(|| "cargo metadata has a package without a name: its format has changed".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The violations where each of these packages depends on what stands beside it, and the others on nothing.
    fn check(edges: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        // An adapter that is new has no rule of its own.
        let stores = ["tenure-adapter-new"];
        let packages: Vec<Value> = RULES
            .iter()
            .map(|rule| rule.package)
            .chain(stores)
            .map(|package| {
                let dependencies: Vec<Value> = edges
                    .iter()
                    .filter(|(from, ..)| *from == package)
                    .map(|(_, to, kind)| json!({ "name": to, "kind": kind, "rename": null }))
                    .collect();
                json!({ "name": package, "dependencies": dependencies })
            })
            .collect();
        violations(&json!({ "packages": packages })).unwrap()
    }

    #[test]
    fn what_the_rules_allow_passes() {
        let allowed = [
            ("tenure-domain", "sha2", None),
            ("tenure-domain", "serde_json", Some("dev")),
            ("tenure-ports", "tenure-domain", None),
            ("tenure-service", "tenure-ports", Some("dev")),
            ("tenure-adapter-redis", "redis", None),
            ("tenure-adapter-redis", "tenure-ports", None),
            ("tenure-adapter-redis", "tenure-redis-test-server", Some("dev")),
            ("tenure-redis-test-server", "tenure-adapter-redis", None),
            ("tenure", "tenure-redis-test-server", Some("dev")),
            ("tenure-tests", "tenure-redis-test-server", None),
            ("tenure-gateway", "tenure-service", None),
            ("tenure-gateway", "tenure-tower", None),
            ("tenure-tower", "tenure-adapter-memory", Some("dev")),
            ("tenure-tower", "hyper", Some("dev")),
            ("tenure", "tenure-adapter-json", None),
            ("tenure", "tenure-adapter-new", None),
            ("tenure-tests", "tenure-adapter-new", None),
            ("tenure-adapter-new", "tenure-ports", None),
            ("tenure-adapter-new", "tenure-conformance", Some("dev")),
            ("tenure", "tenure-gateway", None),
            ("tenure-tests", "tenure-adapter-redis", None),
            ("tenure-service", "tenure-conformance", Some("dev")),
            ("tenure-adapter-memory", "tenure-conformance", Some("dev")),
            ("xtask", "serde_json", None),
        ];
        assert_eq!(check(&allowed), Vec::<String>::new());
    }

    #[test]
    fn each_forbidden_dependency_is_caught_and_named_with_its_rule() {
        let forbidden = [
            ("tenure-domain", "tenure-ports", None),
            ("tenure-domain", "tenure-ports", Some("dev")),
            ("tenure-domain", "tokio", None),
            ("tenure-domain", "serde", None),
            ("tenure-domain", "serde_json", Some("build")),
            ("tenure-domain", "getrandom", None),
            ("tenure-domain", "rand", None),
            ("tenure-domain", "redis", None),
            ("tenure-domain", "async-trait", None),
            ("tenure-domain", "jiff", None),
            ("tenure-ports", "tenure-service", None),
            ("tenure-service", "tenure-adapter-json", None),
            ("tenure-service", "tenure-adapter-json", Some("dev")),
            ("tenure-adapter-json", "tenure-adapter-redis", None),
            ("tenure-adapter-redis", "tenure-adapter-json", Some("dev")),
            ("tenure-adapter-json", "tenure-service", None),
            ("tenure-adapter-redis", "tenure-redis-test-server", None),
            ("tenure-adapter-new", "tenure-redis-test-server", Some("dev")),
            ("tenure", "tenure-redis-test-server", None),
            ("tenure-redis-test-server", "tenure-adapter-json", None),
            ("tenure-adapter-new", "tenure-service", None),
            ("tenure-adapter-new", "tenure-adapter-json", Some("dev")),
            ("tenure", "tenure-adapter-memory", None),
            ("tenure-gateway", "tenure-adapter-redis", None),
            ("tenure-gateway", "tenure", None),
            ("tenure-tower", "tenure-gateway", None),
            ("tenure-tower", "tenure-adapter-memory", None),
            ("tenure-tower", "hyper", None),
            ("tenure", "tenure-tests", Some("dev")),
            ("tenure-tests", "xtask", None),
            ("tenure-service", "tenure-conformance", None),
            ("tenure-gateway", "tenure-adapter-memory", None),
            ("tenure-conformance", "tenure-adapter-json", Some("dev")),
            ("xtask", "tenure-domain", None),
        ];
        for edge in forbidden {
            let found = check(&[edge]);
            assert_eq!(found.len(), 1, "{edge:?}");
            let expected = format!("{} -> {} ({})", edge.0, edge.1, edge.2.unwrap_or("normal"));
            let rule = rule_of(edge.0).unwrap();
            assert_eq!(found[0], format!("{expected}: {}", rule.because));
        }
    }

    #[test]
    fn every_violation_is_listed() {
        let found =
            check(&[("tenure-domain", "tokio", None), ("tenure-domain", "serde", None), ("xtask", "tenure", None)]);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_package_without_a_rule_is_caught() {
        let mut packages: Vec<Value> =
            RULES.iter().map(|rule| json!({ "name": rule.package, "dependencies": [] })).collect();
        packages.push(json!({ "name": "tenure-extra", "dependencies": [] }));
        let found = violations(&json!({ "packages": packages })).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("tenure-extra: has no rule"));
    }

    #[test]
    fn a_rule_without_a_package_is_caught() {
        let found = violations(&json!({ "packages": [] })).unwrap();
        assert_eq!(found.len(), RULES.len());
    }

    #[test]
    fn metadata_of_another_shape_is_an_error_not_a_pass() {
        assert!(violations(&json!({})).is_err());
        assert!(violations(&json!({ "packages": [{}] })).is_err());
        assert!(violations(&json!({ "packages": [{ "name": "tenure" }] })).is_err());
    }
}
