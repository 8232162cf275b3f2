//! Rules live in the domain: no other crate compares a time with an expiry, or a count with the cap.
//!
//! What is found is a comparison whose operand ends in one of [`VALUES`]. A rule that hides behind another name is not
//! found; a reviewer has to see that one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::layers::source::{Sources, Token, without_tests};

/// Fields and methods whose comparison is a rule.
const VALUES: &[&str] = &[
    "active_until",
    "cap",
    "expires_at",
    "family",
    "idle_at",
    "inactive_since",
    "max_sessions_per_device",
    "retained_until",
    "stops_at",
];

/// Crates that may hold rules, or are only tests.
const EXEMPT: &[&str] = &["domain", "conformance", "json-test-storage", "redis-test-server"];

/// Comparisons that are no rule: file, value, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "crates/adapter-json/src/query.rs",
    "expires_at",
    "the order of a listing, on packed rows, so that those which come later are not unpacked; the domain sorts the rest",
)];

/// Every comparison that is a rule outside the domain, one text each.
pub(crate) fn violations(root: &Path, sources: &Sources) -> Result<Vec<String>> {
    let crates = root.join("crates");
    let mut found = Vec::new();
    let mut used = Vec::new();
    for name in names(&crates)? {
        if !EXEMPT.contains(&name.as_str()) {
            search(root, &crates.join(&name).join("src"), sources, &mut found, &mut used)?;
        }
    }
    for (file, value, _) in EXCEPTIONS {
        if !used.contains(&(*file, *value)) {
            found.push(format!(
                "{file}: does not compare `{value}` any more: remove the exception in xtask/src/layers/rules.rs"
            ));
        }
    }
    Ok(found)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> =
        entries(folder)?.into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error| format!("could not read {}: {error}", folder.display());
    fs::read_dir(folder).map_err(unreadable)?.map(|entry| entry.map(|entry| entry.path()).map_err(unreadable)).collect()
}

fn search(
    root: &Path,
    folder: &Path,
    sources: &Sources,
    found: &mut Vec<String>,
    used: &mut Vec<(&'static str, &'static str)>,
) -> Result<()> {
    let mut paths = entries(folder)?;
    paths.sort();
    for path in paths {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if stem == "tests" || stem == "fuzz" || stem == "faults" || stem == "testing" {
            continue;
        }
        if path.is_dir() {
            search(root, &path, sources, found, used)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            for (line, value) in comparisons(&without_tests(&sources.tokens(&path)?)) {
                match EXCEPTIONS.iter().find(|(known, excused, _)| *known == file && *excused == value) {
                    Some((known, excused, _)) => used.push((known, excused)),
                    None => found.push(format!(
                        "{file}:{line}: compares `{value}`: that is a rule, and rules live in crates/domain"
                    )),
                }
            }
        }
    }
    Ok(())
}

/// Where one of [`VALUES`] is compared, at any depth.
fn comparisons(tokens: &[Token]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Group(_, inside) => found.extend(comparisons(inside)),
            Token::Word(word, line) if VALUES.contains(&word.as_str()) => {
                let called = usize::from(tokens.get(at + 1).is_some_and(|next| next.group('(').is_some()));
                if begins_comparison(&tokens[at + 1 + called..]) || ends_comparison(&tokens[..start(tokens, at)]) {
                    found.push((*line, word.clone()));
                }
            }
            _ => {}
        }
    }
    found
}

/// Where the expression `a.b().value` that ends at `at` begins.
fn start(tokens: &[Token], at: usize) -> usize {
    let mut start = at;
    while start >= 2 && tokens[start - 1] == Token::Sign('.') {
        start -= 2;
        if tokens[start].group('(').is_some() && start > 0 && tokens[start - 1].word().is_some() {
            start -= 1;
        }
    }
    while start > 0 && matches!(tokens[start - 1], Token::Sign('&' | '*')) {
        start -= 1;
    }
    start
}

fn begins_comparison(rest: &[Token]) -> bool {
    match rest {
        [Token::Sign('='), Token::Sign('>'), ..] => false,
        [Token::Sign('<' | '>'), ..] => true,
        [Token::Sign('=' | '!'), Token::Sign('='), ..] => true,
        _ => false,
    }
}

fn ends_comparison(before: &[Token]) -> bool {
    match before {
        [.., Token::Sign('-' | '='), Token::Sign('>')] => false,
        [.., Token::Sign('<' | '>')] => true,
        [.., Token::Sign('=' | '!' | '<' | '>'), Token::Sign('=')] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::source::parse;

    fn found(text: &str) -> Vec<String> {
        comparisons(&parse(text).unwrap()).into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn a_comparison_with_an_expiry_or_the_cap_is_found_on_either_side() {
        for text in [
            "fn f() { if now >= session.expires_at {} }",
            "fn f() { if session.expires_at <= now {} }",
            "fn f() { while *self.at > record.session().retained_until() {} }",
            "fn f() { a == &policy.cap() }",
            "fn f() { matches!(x, y if policy().cap() != count) }",
        ] {
            assert_eq!(found(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn what_only_passes_such_a_value_on_is_none() {
        for text in [
            "fn expires_at(&self) -> Timestamp { self.expires_at }",
            "fn f() { match x { expires_at => expires_at.plus(a < b), _ => session.expires_at } }",
            "struct S { expires_at: Option<Timestamp>, cap: usize }",
            "fn f() { let expires_at = a; let x = if b > c { session.expires_at } else { d }; }",
            "fn f() { put(cap, a < b) }",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
    }
}
