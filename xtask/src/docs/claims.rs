//! The claims of docs/security.md and the invariants of ARCHITECTURE.md: each names the tests that show it, and those
//! are there.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::cargo::root;

const PAGE: &str = "docs/security.md";
/// The page whose numbered invariants are claims too.
const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// What shows an invariant that no test can.
const LAYERS: &str = "cargo xtask layers";
/// Where tests are.
const SOURCES: &[&str] = &["crates", "tests", "xtask"];
/// The heading of the column that names the tests.
const SHOWN_BY: &str = "shown by";

/// A test: the path of its module and its name, as `["gateway", "cors", "no_header_is_sent"]`.
#[derive(Debug, PartialEq, Eq)]
struct Test(Vec<String>);

impl Test {
    /// Whether a name that the page has in backticks is this test's: any end of its path that has a module.
    fn is(&self, name: &str) -> bool {
        let asked: Vec<&str> = name.split("::").collect();
        asked.len() > 1 && self.0.len() >= asked.len() && self.0[self.0.len() - asked.len()..] == asked
    }
}

/// Fails if a claim names no test, or one that is not there or does not run in ci.
pub(crate) fn check() -> Result<()> {
    let read = |page: &str| {
        let path = root().join(page);
        fs::read_to_string(&path).map_err(|error| format!("could not read {}: {error}", path.display()))
    };
    let mut tests = Vec::new();
    for source in SOURCES {
        collect(&root().join(source), &[], &mut tests)?;
    }
    let mut failed = Vec::new();
    for (page, (named, wrong)) in
        [(PAGE, examine(&read(PAGE)?, &tests)), (ARCHITECTURE, examine_invariants(&read(ARCHITECTURE)?, &tests))]
    {
        for line in &wrong {
            println!("{page}:{line}");
        }
        if wrong.is_empty() {
            println!("{page}: {named} tests named, all of {} looked through", tests.len());
        } else {
            failed.push(format!("{page} claims what no test shows, in {} places: name one, or write it", wrong.len()));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

/// How many names of tests the section of invariants has, and what is wrong with it, each with its line.
fn examine_invariants(page: &str, tests: &[Test]) -> (usize, Vec<String>) {
    let (mut named, mut wrong) = (0, Vec::new());
    let lines = (1..).zip(page.lines()).skip_while(|(_, line)| *line != "## Invariants").skip(1);
    let section: Vec<(usize, &str)> = lines.take_while(|(_, line)| !line.starts_with("## ")).collect();
    // Where each begins, and how much shows it.
    let mut invariants: Vec<(usize, &str, usize)> = Vec::new();
    for (number, line) in section {
        if line
            .split_once(". ")
            .is_some_and(|(count, _)| !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit()))
        {
            invariants.push((number, line, 0));
        }
        let Some((_, _, shown)) = invariants.last_mut() else { continue };
        for code in line.split('`').skip(1).step_by(2) {
            if code == LAYERS {
                *shown += 1;
            } else if is_test_name(code) {
                (named, *shown) = (named + 1, *shown + 1);
                if !tests.iter().any(|test| test.is(code)) {
                    wrong.push(format!("{number}: there is no test `{code}` that ci runs"));
                }
            }
        }
    }
    if invariants.is_empty() {
        wrong.push("0: there are no numbered invariants below `## Invariants`".to_owned());
    }
    let unshown = invariants.iter().filter(|(_, _, shown)| *shown == 0);
    wrong.extend(unshown.map(|(number, line, _)| format!("{number}: names neither a test nor `{LAYERS}`: {line}")));
    (named, wrong)
}

/// How many names of tests a page has, and what is wrong with it, each with its line.
fn examine(page: &str, tests: &[Test]) -> (usize, Vec<String>) {
    let (mut named, mut wrong) = (0, Vec::new());
    let (mut heads, mut before) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(page.lines()) {
        let names: Vec<&str> = line.split('`').skip(1).step_by(2).filter(|code| is_test_name(code)).collect();
        named += names.len();
        for name in &names {
            if !tests.iter().any(|test| test.is(name)) {
                wrong.push(format!("{number}: there is no test `{name}` that ci runs"));
            }
        }
        let cells: Vec<&str> = match line.strip_prefix('|').and_then(|rest| rest.trim_end().strip_suffix('|')) {
            Some(row) => row.split('|').map(str::trim).collect(),
            None => Vec::new(),
        };
        if !cells.is_empty() && cells.iter().all(|cell| cell.len() >= 3 && cell.bytes().all(|byte| byte == b'-')) {
            heads = std::mem::take(&mut before);
            if heads.last() != Some(&SHOWN_BY.to_owned()) {
                wrong.push(format!("{number}: the last column of this table is not `{SHOWN_BY}`"));
            }
        } else if cells.is_empty() {
            heads.clear();
        } else if !heads.is_empty() && is_claim(&heads, &cells) && names.is_empty() {
            wrong.push(format!("{number}: names no test: {}", cells.first().unwrap_or(&"")));
        }
        before = cells.iter().map(|cell| (*cell).to_owned()).collect();
    }
    (named, wrong)
}

/// Whether a row promises something: what is not met, or is somebody else's, does not. The table without verdicts is that of
/// who gets what, and promises in each row.
fn is_claim(heads: &[String], cells: &[&str]) -> bool {
    heads.len() < 4 || cells.get(1).is_some_and(|verdict| verdict.starts_with("met"))
}

/// `module::test`, as opposed to a path of a file or a command.
fn is_test_name(code: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    code.contains("::") && code.split("::").all(part)
}

/// The tests of the files below a directory.
fn collect(directory: &Path, above: &[String], tests: &mut Vec<Test>) -> Result<()> {
    let unreadable = |error| format!("could not read {}: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let mut module = above.to_vec();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        // A module has the tests of the file of its name, and those in its part or file `tests`.
        if !matches!(stem.as_str(), "src" | "tests" | "mod" | "main" | "lib") {
            module.push(stem);
        }
        if path.is_dir() {
            collect(&path, &module, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source =
                fs::read_to_string(&path).map_err(|error| format!("could not read {}: {error}", path.display()))?;
            tests.extend(tests_in(&source).into_iter().map(|name| {
                let mut path = module.clone();
                path.push(name);
                Test(path)
            }));
        }
    }
    Ok(())
}

/// The names of the tests in a source file that run without being asked for. `on_both_backends!` makes tests of the functions
/// that it is given.
fn tests_in(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut test, mut ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        // A promise of the conformance suite, of which `conformance!` makes a test for each store.
        if line.starts_with("pub async fn ") && line.ends_with("(fixture: &StoreFixture) {") {
            test = true;
        }
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            test = true;
        } else if line.starts_with("#[ignore") {
            ignored = true;
        } else if let Some(name) = function(line) {
            if test && !ignored {
                found.push(name.to_owned());
            }
            (test, ignored) = (false, false);
        }
    }
    if let Some((_, rest)) = source.split_once("\non_both_backends!(")
        && let Some((names, _)) = rest.split_once(");")
    {
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        found.extend(names.filter(|name| source.contains(&format!("\nfn {name}("))).map(str::to_owned));
    }
    found
}

/// The name of the function that begins in a line.
fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
    let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
    rest.split_once(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Test> {
        ["gateway it cors no_header_is_sent", "domain rules token a_secret_stays"]
            .map(|path| Test(path.split(' ').map(str::to_owned).collect()))
            .into()
    }

    fn wrong(page: &str) -> Vec<String> {
        examine(page, &known()).1
    }

    const TABLE: &str = "| # | | how | shown by |\n|---|---|---|---|\n";

    #[test]
    fn an_invariant_without_a_test_or_with_one_that_is_not_there_is_told() {
        let tests = [Test(vec!["cut".to_owned(), "it_ends".to_owned()])];
        let page = "# A\n\n1. not one\n\n## Invariants\n\n1. Shown over\n   lines by `cut::it_ends`.\n2. By `cargo xtask layers`.\n\n## B\n\n3. Not one\n";
        assert_eq!(examine_invariants(page, &tests), (1, Vec::new()));
        let (_, wrong) = examine_invariants(&page.replace("it_ends", "it_does_not"), &tests);
        assert_eq!(wrong, ["8: there is no test `cut::it_does_not` that ci runs"]);
        let (_, wrong) = examine_invariants(&page.replace("By `cargo xtask layers`", "By nothing"), &tests);
        assert_eq!(wrong, ["9: names neither a test nor `cargo xtask layers`: 2. By nothing."]);
        assert!(!examine_invariants("# A\n", &tests).1.is_empty());
    }

    #[test]
    fn a_claim_with_its_test_passes() {
        let page = format!("{TABLE}| 1 | met | by `a/b.rs` and `x::y z` | `cors::no_header_is_sent` |\n");
        assert_eq!(examine(&page, &known()), (1, vec![]));
        assert!(wrong(&page.replace("cors::", "it::cors::")).is_empty());
    }

    #[test]
    fn a_claim_without_a_test_is_told_with_its_line() {
        for verdict in ["met", "met, off by default", "met with TLS"] {
            assert_eq!(wrong(&format!("{TABLE}| 7.1 | {verdict} | so | |\n")), ["3: names no test: 7.1"]);
        }
        assert_eq!(wrong("| who | gets | shown by |\n|---|---|---|\n| a | b | |\n"), ["3: names no test: a"]);
    }

    #[test]
    fn what_is_not_claimed_needs_no_test() {
        for verdict in ["not met", "not applicable", "by the application", "in part", ""] {
            assert!(wrong(&format!("{TABLE}| 7.1 | {verdict} | so | |\n")).is_empty(), "{verdict}");
        }
    }

    #[test]
    fn a_test_that_is_not_there_is_told_wherever_it_is_named() {
        for name in
            ["cors::no_header_is_sen", "tls::no_header_is_sent", "rules::a_secret_stays", "x::cors::no_header_is_sent"]
        {
            let told = wrong(&format!("As `{name}` shows.\n"));
            assert_eq!(told, [format!("1: there is no test `{name}` that ci runs")]);
        }
    }

    #[test]
    fn every_table_has_the_column() {
        let told = wrong("| # | | how |\n|---|---|---|\n");
        assert_eq!(told, ["2: the last column of this table is not `shown by`"]);
    }

    #[test]
    fn tests_are_functions_with_the_attribute_that_are_not_ignored() {
        let source = "
#[test]
fn one() {}
#[tokio::test(flavor = \"multi_thread\")]
#[cfg(unix)]
// Why.
async fn two() {}
fn helper() {}
#[test]
#[ignore = \"slow\"]
fn three() {}
mod tests {
    #[test]
    fn four() {}
}
";
        assert_eq!(tests_in(source), ["one", "two", "four"]);
        let both = "\non_both_backends!(\n    five,\n    six,\n);\nfn five(home: Home) {}\nfn seven(home: Home) {}\n";
        assert_eq!(tests_in(both), ["five"]);
    }

    #[test]
    fn the_tests_of_this_workspace_are_found_by_their_modules() {
        let mut tests = Vec::new();
        collect(&root().join("xtask"), &["xtask".to_owned()], &mut tests).unwrap();
        assert!(tests.iter().any(|test| test.is("claims::the_tests_of_this_workspace_are_found_by_their_modules")));
        assert!(!tests.iter().any(|test| test.is("claims::collect")));
    }
}
