//! Names that were given up for the field's terms and must not come back.
//!
//! An entry is a path prefix, a kind and a name. It is broken where Rust source below the prefix, tests included, defines
//! an item of that kind and name. Another kind may use the word, a local variable too.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::layers::source::{Sources, Token};

/// What a name can be the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A struct, an enum, a union, a trait or a type alias.
    Type,
    /// A function or a method.
    Function,
    /// A constant or a static.
    Constant,
    /// A module, and so a file.
    Module,
    /// A variant of an enum.
    Variant,
    /// A named field of a struct or of a variant.
    Field,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Type => "type",
            Self::Function => "function",
            Self::Constant => "constant",
            Self::Module => "module",
            Self::Variant => "variant",
            Self::Field => "field",
        })
    }
}

/// Where, what, the old name, and the name in its place.
type Entry = (&'static str, Kind, &'static str, &'static str);

/// The entries, one a line: prefix, kind, old name, new name. `#` begins a comment.
const OLD: &str = include_str!("../old_names.txt");

/// Reads the entries. One that cannot be read is an error, since it would guard nothing.
fn entries(text: &'static str) -> Result<Vec<Entry>> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let entry = |(number, line): (usize, &'static str)| {
        let kinds = [Kind::Type, Kind::Function, Kind::Constant, Kind::Module, Kind::Variant, Kind::Field];
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [prefix, kind, old, new] => {
                kinds.into_iter().find(|known| known.to_string() == kind).map(|kind| (prefix, kind, old, new))
            }
            _ => None,
        }
        .ok_or_else(|| format!("old_names.txt:{number}: {line:?} is no entry: a prefix, a kind, an old and a new name"))
    };
    lines.map(entry).collect()
}

/// Where Rust source is.
const SOURCES: &[&str] = &["crates", "fuzz", "tests", "xtask"];

/// An item that a source file defines.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    kind: Kind,
    name: String,
    line: usize,
}

/// Every item that has an old name again.
pub(crate) fn violations(root: &Path, sources: &Sources) -> Result<Vec<String>> {
    check(root, SOURCES, &entries(OLD)?, sources)
}

fn check(root: &Path, folders: &[&str], old: &[Entry], sources: &Sources) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (prefix, ..) in old {
        // An entry that guards nothing would pass for ever.
        if !root.join(prefix).exists() {
            found.push(format!(
                "{prefix}: has old names in xtask/src/layers/names.rs but is not there (rename the entry)"
            ));
        }
    }
    let mut files = Vec::new();
    for folder in folders {
        collect(&root.join(folder), &mut files)?;
    }
    for path in files {
        let place = path.strip_prefix(root).unwrap_or(&path);
        let here: Vec<&Entry> = old.iter().filter(|(prefix, ..)| place.starts_with(prefix)).collect();
        if here.is_empty() {
            continue;
        }
        for Item { kind, name, line } in items(&sources.tokens(&path)?) {
            for (_, _, _, new) in here.iter().filter(|(_, old_kind, old, _)| *old_kind == kind && *old == name) {
                found
                    .push(format!("{}:{line}: the {kind} `{name}` is an old name: it is `{new}` now", place.display()));
            }
        }
    }
    Ok(found)
}

/// The source files below a folder, in order.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |error| format!("could not read {}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            // What cargo builds, where a folder has its own workspace.
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Every item that these tokens define, at any depth.
fn items(tokens: &[Token]) -> Vec<Item> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if let Token::Group(_, inside) = token {
            found.extend(items(inside));
        }
        let (Token::Word(word, _), Some(Token::Word(name, line))) = (token, tokens.get(at + 1)) else { continue };
        let kind = match word.as_str() {
            "struct" | "enum" | "union" | "trait" | "type" => Kind::Type,
            "fn" => Kind::Function,
            // `*const T` is a type, `<const N: u8>` a parameter, `const fn` a function.
            "const" | "static"
                if at.checked_sub(1).is_none_or(|before| !matches!(tokens[before], Token::Sign('*' | '<' | ','))) =>
            {
                match (name.as_str(), tokens.get(at + 2)) {
                    ("mut", Some(Token::Word(name, line))) => {
                        found.push(Item { kind: Kind::Constant, name: name.clone(), line: *line });
                        continue;
                    }
                    ("fn" | "unsafe" | "async" | "extern", _) => continue,
                    _ => Kind::Constant,
                }
            }
            "mod" => Kind::Module,
            _ => continue,
        };
        found.push(Item { kind, name: name.clone(), line: *line });
        match word.as_str() {
            "struct" | "union" => found.extend(body(&tokens[at..]).map(fields).unwrap_or_default()),
            "enum" => found.extend(body(&tokens[at..]).map(variants).unwrap_or_default()),
            _ => {}
        }
    }
    found
}

/// What is in the braces of a type's definition.
fn body(tokens: &[Token]) -> Option<&[Token]> {
    tokens.iter().take_while(|token| **token != Token::Sign(';')).find_map(|token| token.group('{'))
}

fn fields(body: &[Token]) -> Vec<Item> {
    let mut found = Vec::new();
    for (at, token) in body.iter().enumerate() {
        if let (Token::Word(name, line), Some(Token::Sign(':'))) = (token, body.get(at + 1)) {
            found.push(Item { kind: Kind::Field, name: name.clone(), line: *line });
        }
    }
    found
}

fn variants(body: &[Token]) -> Vec<Item> {
    let mut found = Vec::new();
    for variant in body.split(|token| *token == Token::Sign(',')) {
        // Attributes are groups, so that the first word is the name.
        if let Some(Token::Word(name, line)) = variant.iter().find(|token| token.word().is_some()) {
            found.push(Item { kind: Kind::Variant, name: name.clone(), line: *line });
        }
        found.extend(variant.iter().filter_map(|token| token.group('{')).flat_map(fields));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::source::parse;

    #[test]
    fn an_entry_that_cannot_be_read_is_an_error() {
        let read = entries("# a comment\ncrates/a type Old New\n").unwrap();
        assert_eq!(read, [("crates/a", Kind::Type, "Old", "New")]);
        for wrong in ["crates/a type Old", "crates/a thing Old New", "crates/a type Old New more"] {
            assert!(entries(wrong).unwrap_err().contains("old_names.txt:1: "), "{wrong}");
        }
    }

    fn of(kind: Kind, text: &str) -> Vec<String> {
        let found = items(&parse(text).unwrap());
        found.into_iter().filter(|item| item.kind == kind).map(|item| item.name).collect()
    }

    const TEXT: &str = "
//! struct Comment;
pub mod inner {
    pub(crate) struct Plain<'a, const N: usize> where u8: Copy { pub(crate) first: &'a str, #[serde(rename = \"x\")] second: a::B<u8> }
    struct Tuple(u8);
    struct Unit;
    union Either { left: u8, right: i8 }
}
mod file;
enum Choice {
    /// Said.
    One,
    #[default]
    Two { inside: u8 },
    Three(Plain<u8, u8>),
    Four = 4,
}
trait Port { type Answer; const LIMIT: u8; fn ask(&self) -> *const u8; }
type Alias = u8;
static mut COUNT: u8 = 0;
const fn make() -> Plain { let local = 1; Plain { first: local, second: local } }
impl Port for u8 { async fn ask(&self) { struct Local { deep: u8 } match x { Choice::One => {} } } }
";

    #[test]
    fn every_kind_of_item_is_found_and_no_use_of_one() {
        let kinds = [
            (Kind::Type, "Alias Answer Choice Either Local Plain Port Tuple Unit"),
            (Kind::Function, "ask ask make"),
            (Kind::Constant, "COUNT LIMIT"),
            (Kind::Module, "file inner"),
            (Kind::Variant, "Four One Three Two"),
            (Kind::Field, "deep first inside left right second"),
        ];
        for (kind, names) in kinds {
            let mut found = of(kind, TEXT);
            found.sort();
            assert_eq!(found.join(" "), names, "{kind}");
        }
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn an_old_name_that_is_back_is_told_with_its_place_and_the_new_one() {
        let root = tree(&[
            ("crates/a/src/lib.rs", "fn f() {}\n\nenum Holds { Yes }\n"),
            ("crates/a/tests/it.rs", "trait Holds {}\n"),
            ("crates/a/target/old.rs", "struct Holds;\n"),
            ("crates/ab/src/lib.rs", "struct Holds;\n"),
            ("tests/x.rs", "struct Holds;\n"),
        ]);
        let old = [("crates/a", Kind::Type, "Holds", "TokenMatch"), ("crates/a", Kind::Field, "yes", "no")];
        let found = check(root.path(), &["crates", "tests"], &old, &Sources::default()).unwrap();
        assert_eq!(
            found,
            [
                "crates/a/src/lib.rs:3: the type `Holds` is an old name: it is `TokenMatch` now",
                "crates/a/tests/it.rs:1: the type `Holds` is an old name: it is `TokenMatch` now",
            ]
        );
    }

    #[test]
    fn another_kind_may_use_the_word() {
        let root = tree(&[("crates/a/src/lib.rs", "fn holds() { let Holds = 1; } mod holds {}\n")]);
        let old = [("crates/a/src/lib.rs", Kind::Variant, "holds", "x"), ("crates", Kind::Type, "Holds", "x")];
        assert_eq!(check(root.path(), &["crates"], &old, &Sources::default()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn an_entry_for_a_place_that_is_not_there_is_told() {
        let root = tree(&[("crates/a/src/lib.rs", "")]);
        let old = [("crates/b", Kind::Type, "Holds", "TokenMatch")];
        let found = check(root.path(), &["crates"], &old, &Sources::default()).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("crates/b: has old names"), "{found:?}");
    }

    #[test]
    fn the_kinds_of_this_workspace_are_read() {
        // That the check reads what is there at all, by the names that it must find.
        let root = crate::cargo::root();
        let old = [("xtask/src/layers/names.rs", Kind::Type, "Kind", "x"), ("xtask", Kind::Variant, "Variant", "x")];
        let found = check(&root, &["xtask"], &old, &Sources::default()).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
