//! No dependency that nothing uses: neither one of the workspace that no member names, nor one of a member that its
//! source does not mention.
//!
//! A dependency is mentioned where a path begins with its name (`serde::Serialize`, `use redis;`, `#[tokio::main]`). So
//! one whose name a local module has too is not missed when it goes. Where it has to be mentioned depends on its kind: a
//! normal one in a library or program outside of its tests, one for development in anything of the package, one for the
//! build in the build script.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Result;
use crate::layers::modules::{Crate, Tests};
use crate::layers::source::{Sources, Token};

/// Dependencies that no source mentions and that are needed all the same: package, dependency, why.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("tenure-conformance", "tenure-adapter-memory", "the example in its documentation runs as a test")];

/// Every dependency that is not used, one text each.
pub(crate) fn violations(root: &Path, metadata: &Value, sources: &Sources) -> Result<Vec<String>> {
    let manifest = root.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .map_err(|error| format!("could not read {}: {error}", manifest.display()))?;
    check(&text, metadata, EXCEPTIONS, sources)
}

fn check(
    manifest: &str,
    metadata: &Value,
    exceptions: &[(&str, &str, &str)],
    sources: &Sources,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut named = BTreeSet::new();
    let mut excused = BTreeSet::new();
    for package in array(metadata, "packages")? {
        let name = text(package, "name")?;
        let mentions = Mentions::read(package, sources)?;
        for dependency in array(package, "dependencies")? {
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            // A package that is renamed has the name of the manifest in the source.
            let key = dependency["rename"].as_str().map_or_else(|| text(dependency, "name"), Ok)?;
            named.insert(key);
            // Its own features, for its own tests.
            if key == name || mentions.has(kind, &key.replace('-', "_")) {
                continue;
            }
            if exceptions.iter().any(|(of, what, _)| *of == name && *what == key) {
                excused.insert((name, key));
                continue;
            }
            let place = if kind == "normal" { "outside of tests" } else { "anywhere" };
            found.push(format!("{name} -> {key} ({kind}): its source does not mention it {place}: remove it"));
        }
    }
    for key in workspace_dependencies(manifest)? {
        if !named.contains(key.as_str()) {
            found.push(format!("{key}: no member of the workspace names it: remove it from [workspace.dependencies]"));
        }
    }
    for (of, what, _) in exceptions {
        if !excused.contains(&(*of, *what)) {
            found.push(format!("{of} -> {what}: needs no exception: remove it from xtask/src/layers/dependencies.rs"));
        }
    }
    Ok(found)
}

/// The names in `[workspace.dependencies]`.
fn workspace_dependencies(manifest: &str) -> Result<Vec<String>> {
    let manifest: toml_edit::DocumentMut =
        manifest.parse().map_err(|error| format!("the workspace's Cargo.toml is no valid TOML: {error}"))?;
    let table = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(toml_edit::Item::as_table_like)
        .ok_or("the workspace's Cargo.toml has no [workspace.dependencies]")?;
    Ok(table.iter().map(|(key, _)| key.to_owned()).collect())
}

/// What the source of a package mentions, for each kind of dependency.
#[derive(Default)]
struct Mentions {
    normal: BTreeSet<String>,
    dev: BTreeSet<String>,
    build: BTreeSet<String>,
}

impl Mentions {
    fn read(package: &Value, sources: &Sources) -> Result<Self> {
        let mut this = Self::default();
        for target in array(package, "targets")? {
            let kinds: Vec<&str> = array(target, "kind")?.iter().filter_map(Value::as_str).collect();
            let is_product = kinds.iter().any(|kind| kind.ends_with("lib") || matches!(*kind, "bin" | "proc-macro"));
            let file = PathBuf::from(text(target, "src_path")?);
            let read = |tests, mentions: &mut BTreeSet<String>| -> Result<()> {
                for file in Crate::read(&file, tests, sources)?.files {
                    add_mentions(&file.tokens, mentions);
                }
                Ok(())
            };
            if kinds.contains(&"custom-build") {
                read(Tests::LeftOut, &mut this.build)?;
                continue;
            }
            read(Tests::Read, &mut this.dev)?;
            if is_product {
                read(Tests::LeftOut, &mut this.normal)?;
            }
        }
        Ok(this)
    }

    fn has(&self, kind: &str, ident: &str) -> bool {
        match kind {
            "dev" => self.dev.contains(ident),
            "build" => self.build.contains(ident),
            _ => self.normal.contains(ident),
        }
    }
}

/// Adds each name with which a path begins.
fn add_mentions(tokens: &[Token], mentions: &mut BTreeSet<String>) {
    let mut before: [Option<&Token>; 2] = [None, None];
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Group(_, inside) => add_mentions(inside, mentions),
            Token::Word(word, _) => {
                let next = tokens.get(at + 1);
                let is_start =
                    !matches!(before, [Some(Token::Word(..) | Token::Sign('>')), Some(Token::PathSeparator)]);
                let is_path = next == Some(&Token::PathSeparator);
                let is_import = before[1].is_some_and(|before| before.is_word("use") || before.is_word("crate"))
                    && (next == Some(&Token::Sign(';')) || next.is_some_and(|next| next.is_word("as")));
                if is_start && (is_path || is_import) {
                    mentions.insert(word.clone());
                }
            }
            _ => {}
        }
        before = [before[1], Some(token)];
    }
}

fn array<'a>(value: &'a Value, member: &str) -> Result<&'a Vec<Value>> {
    value[member].as_array().ok_or_else(|| format!("cargo metadata has no `{member}`: its format has changed"))
}

fn text<'a>(value: &'a Value, member: &str) -> Result<&'a str> {
    value[member].as_str().ok_or_else(|| format!("cargo metadata has no `{member}`: its format has changed"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::layers::source::parse;

    fn says(source: &str, ident: &str) -> bool {
        let mut mentions = BTreeSet::new();
        add_mentions(&parse(source).unwrap(), &mut mentions);
        mentions.contains(ident)
    }

    #[test]
    fn a_path_that_begins_with_the_name_mentions_it() {
        for source in [
            "use serde::Serialize;",
            "use {http::Uri, serde::{Serialize, ser}};",
            "pub use serde;",
            "use serde as s;",
            "extern crate serde;",
            "#[serde::derive] struct A;",
            "fn f(x: &dyn ::serde::Serialize) { m!(a, serde::to(b)) }",
        ] {
            assert!(says(source, "serde"), "{source}");
        }
    }

    #[test]
    fn the_word_in_any_other_place_does_not() {
        for source in [
            "// serde::Serialize",
            "/// [`serde::Serialize`]\nfn f() { \"serde::x\"; }",
            "use crate::serde::Serialize;",
            "mod serde; fn f(serde: u8) { serde.x() }",
            "use serde_json::Value;",
            "#[serde(default)] struct A;",
        ] {
            assert!(!says(source, "serde"), "{source}");
        }
    }

    /// A package with these files, whose dependencies are these, each of its kind.
    fn check_package(
        files: &[(&str, &str, &str)],
        dependencies: &[(&str, Option<&str>)],
        manifest: &str,
    ) -> Vec<String> {
        check_with(files, dependencies, manifest, &[])
    }

    fn check_with(
        files: &[(&str, &str, &str)],
        dependencies: &[(&str, Option<&str>)],
        manifest: &str,
        exceptions: &[(&str, &str, &str)],
    ) -> Vec<String> {
        let folder = TempDir::new().unwrap();
        let mut targets = Vec::new();
        for (kind, name, source) in files {
            let path = folder.path().join(name);
            fs::write(&path, source).unwrap();
            if !kind.is_empty() {
                targets.push(json!({ "kind": [kind], "src_path": path }));
            }
        }
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({ "name": name, "kind": kind, "rename": null })).collect();
        let metadata =
            json!({ "packages": [{ "name": "tenure-x", "dependencies": dependencies, "targets": targets }] });
        check(manifest, &metadata, exceptions, &Sources::default()).unwrap()
    }

    const EMPTY: &str = "[workspace.dependencies]\n";

    #[test]
    fn each_kind_is_looked_for_where_it_belongs() {
        let files = [
            ("lib", "lib.rs", "mod inner; #[cfg(test)] mod tests { use of_tests::x; }"),
            ("", "inner.rs", "use of_inner::x;"),
            ("test", "it.rs", "use of_it::x;"),
            ("custom-build", "build.rs", "use of_build::x;"),
        ];
        let good = [("of-inner", None), ("of-tests", Some("dev")), ("of-it", Some("dev")), ("of-build", Some("build"))];
        assert_eq!(check_package(&files, &good, EMPTY), Vec::<String>::new());
        for (name, kind) in [
            ("of-tests", None),
            ("of-it", None),
            ("of-build", None),
            ("of-build", Some("dev")),
            ("of-inner", Some("build")),
            ("of-nobody", Some("dev")),
        ] {
            let found = check_package(&files, &[(name, kind)], EMPTY);
            assert_eq!(found.len(), 1, "{name} {kind:?}: {found:?}");
            assert!(found[0].starts_with(&format!("tenure-x -> {name} ({})", kind.unwrap_or("normal"))), "{found:?}");
        }
    }

    #[test]
    fn a_dependency_of_the_workspace_that_nobody_names_is_told() {
        let files = [("lib", "lib.rs", "use used::x;")];
        let manifest =
            "[workspace.dependencies]\nused = \"1\"\n# Not used.\nunused = { version = \"1\" }\n[profile.dev]\nx = 1\n";
        let found = check_package(&files, &[("used", None)], manifest);
        assert_eq!(found, ["unused: no member of the workspace names it: remove it from [workspace.dependencies]"]);
    }

    #[test]
    fn an_exception_excuses_and_has_to() {
        let files = [("lib", "lib.rs", "use used::x;")];
        let dependencies = [("used", None), ("linked", None)];
        let exceptions = [("tenure-x", "linked", "it is linked")];
        assert_eq!(check_with(&files, &dependencies, EMPTY, &exceptions), Vec::<String>::new());
        let exceptions = [("tenure-x", "linked", "it is linked"), ("tenure-x", "used", "not so")];
        let found = check_with(&files, &dependencies, EMPTY, &exceptions);
        assert_eq!(found, ["tenure-x -> used: needs no exception: remove it from xtask/src/layers/dependencies.rs"]);
    }

    #[test]
    fn a_package_may_name_itself_for_its_own_tests() {
        let files = [("lib", "lib.rs", "")];
        assert_eq!(check_package(&files, &[("tenure-x", Some("dev"))], EMPTY), Vec::<String>::new());
    }

    #[test]
    fn another_shape_is_an_error_not_a_pass() {
        let sources = Sources::default();
        assert!(check(EMPTY, &json!({}), &[], &sources).is_err());
        assert!(check("[workspace]\n", &json!({ "packages": [] }), &[], &sources).is_err());
        assert!(check("=", &json!({ "packages": [] }), &[], &sources).is_err());
    }
}
