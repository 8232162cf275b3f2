//! No circle of imports: within a crate, no file needs another that needs it back, over however many files.
//!
//! An import is a `use` or a path that begins with `crate`, `self` or `super`, wherever it is in a file, in a macro's
//! arguments too. It leads to the file that defines the item: a re-export is followed to its source, so that a detour over
//! `lib.rs` hides nothing. Not counted are
//!
//! - imports between a module and one that it is in, in either direction and over any number of levels: `journal.rs` and
//!   `journal/follow.rs` are one thing in two files. Two files in one folder are not;
//! - what is compiled for tests only (`#[cfg(test)]`), and the crates below `tests/`, `benches/` and `examples/`;
//! - names that come by a glob (`use a::*`): only the glob itself counts, as an import of `a`.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use crate::Result;
use crate::layers::modules::{Crate, Import, Tests};
use crate::layers::source::Sources;

/// The imports that close a circle today: the file, and what it should not need. Take one away with the import; none is
/// added.
const KNOWN: &[(&str, &str)] = &[];

/// Every circle of the crates that begin with these files, one text each, and every known import that closes none any more.
pub(crate) fn violations(root: &Path, crates: &[impl AsRef<Path>], sources: &Sources) -> Result<Vec<String>> {
    check(root, crates, KNOWN, sources)
}

fn check(root: &Path, crates: &[impl AsRef<Path>], known: &[(&str, &str)], sources: &Sources) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut still = BTreeSet::new();
    for file in crates {
        let graph = Graph::read(root, file.as_ref(), sources)?;
        let is_known = |import: &&Import| known.contains(&(graph.name(import.from), graph.name(import.to)));
        for import in graph.imports.iter().filter(is_known) {
            if graph.way(import.to, import.from, &graph.imports).is_some() {
                still.insert((graph.name(import.from).to_owned(), graph.name(import.to).to_owned()));
            }
        }
        let rest = graph.imports.iter().filter(|import| !is_known(import)).cloned().collect();
        found.extend(graph.circles(rest));
    }
    for (from, to) in known {
        if !still.contains(&((*from).to_owned(), (*to).to_owned())) {
            found.push(format!(
                "{from} -> {to}: is no circle any more: remove it from KNOWN in xtask/src/layers/circles.rs"
            ));
        }
    }
    Ok(found)
}

/// The files of a crate and the imports that count.
struct Graph {
    names: Vec<String>,
    imports: Vec<Import>,
}

impl Graph {
    fn read(root: &Path, file: &Path, sources: &Sources) -> Result<Self> {
        let read = Crate::read(file, Tests::LeftOut, sources)?;
        let names = read.files.iter().map(|file| {
            let path = file.path.strip_prefix(root).unwrap_or(&file.path);
            path.to_string_lossy().into_owned()
        });
        let counts = |import: &Import| {
            let (from, to) = (&read.files[import.from].module, &read.files[import.to].module);
            !from.starts_with(to) && !to.starts_with(from)
        };
        Ok(Self { names: names.collect(), imports: read.imports().into_iter().filter(counts).collect() })
    }

    fn name(&self, file: usize) -> &str {
        &self.names[file]
    }

    /// The shortest circle, then the shortest of those that share no import with it, until there is none.
    fn circles(&self, mut imports: Vec<Import>) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let circles = imports.iter().filter_map(|import| {
                let mut circle = vec![import.clone()];
                circle.extend(self.way(import.to, import.from, &imports)?);
                Some(circle)
            });
            let Some(circle) = circles.min_by_key(Vec::len) else { return found };
            let mut text = "a circle of imports: ".to_owned();
            for import in &circle {
                text += &format!("{}:{} -> ", self.name(import.from), import.line);
            }
            found.push(text + self.name(circle[0].from));
            imports.retain(|import| !circle.contains(import));
        }
    }

    /// The shortest way over these imports from one file to another.
    fn way(&self, from: usize, to: usize, imports: &[Import]) -> Option<Vec<Import>> {
        let mut came_by: Vec<Option<&Import>> = vec![None; self.names.len()];
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            for import in imports.iter().filter(|import| import.from == at) {
                if import.to != from && came_by[import.to].is_none() {
                    came_by[import.to] = Some(import);
                    queue.push_back(import.to);
                }
            }
        }
        let (mut way, mut at) = (Vec::new(), to);
        while at != from {
            let import = came_by[at]?;
            way.insert(0, import.clone());
            at = import.from;
        }
        Some(way)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// What the check says of a crate of these files, the first of which is its root.
    fn found(files: &[(&str, &str)], known: &[(&str, &str)]) -> Vec<String> {
        let folder = TempDir::new().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        check(folder.path(), &[folder.path().join(files[0].0)], known, &Sources::default()).unwrap()
    }

    const NONE: &[String] = &[];

    #[test]
    fn files_that_need_each_other_are_a_circle() {
        let ways = [
            ("use crate::a::A;", "use crate::b::B;"),
            ("use super::a::A;", "use super::b::B;"),
            ("use super::{c, a::{self, A as X}};", "pub(crate) use crate::b;"),
            ("fn f() -> crate::a::A { todo() }", "fn g() { let x = super::b::make(); }"),
            ("fn f() { use crate::a::A; }", "fn g() { m!(1, crate::b::B); }"),
            ("struct B { a: Option<crate::a::A> }", "mod inner { use super::super::b::B; }"),
            ("#[derive(crate::a::A)] struct B;", "use crate::b::*;"),
            ("use crate::a::A;\n#[cfg(not(test))] fn f() {}", "#[cfg(any(test, unix))] use crate::b::B;"),
        ];
        for (b, a) in ways {
            let files = [("lib.rs", "mod a; mod b; mod c;"), ("a.rs", a), ("b.rs", b), ("c.rs", "")];
            let found = found(&files, &[]);
            assert_eq!(found, ["a circle of imports: a.rs:1 -> b.rs:1 -> a.rs"], "{a} {b}");
        }
    }

    #[test]
    fn a_longer_circle_is_shown_whole_with_its_lines() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "\nuse crate::b::B;"),
            ("b.rs", "\n\nuse crate::c::C;"),
            ("c.rs", "use crate::a::A;"),
        ];
        assert_eq!(found(&files, &[]), ["a circle of imports: a.rs:2 -> b.rs:3 -> c.rs:1 -> a.rs"]);
    }

    #[test]
    fn a_module_and_one_in_it_are_no_circle_but_two_beside_each_other_are() {
        let files = [
            ("lib.rs", "mod a; pub(crate) use a::A; pub(crate) fn shared() {}"),
            ("a.rs", "mod b; mod c; pub(crate) use b::B; use c::d::D;"),
            ("a/b.rs", "use super::A; use crate::shared;"),
            ("a/c.rs", "pub(crate) mod d;"),
            ("a/c/d.rs", "use crate::a::A;"),
        ];
        assert_eq!(found(&files, &[]), NONE);
        let mut siblings = files;
        siblings[2].1 = "use super::c::C;";
        siblings[3].1 = "pub(crate) mod d; use super::b::B;";
        assert_eq!(found(&siblings, &[]), ["a circle of imports: a/b.rs:1 -> a/c.rs:1 -> a/b.rs"]);
    }

    #[test]
    fn a_re_export_is_followed_to_its_source() {
        for (root, b, a) in [
            ("pub(crate) use a::A; pub(crate) use b::B;", "use crate::A;", "use crate::B;"),
            ("pub(crate) use a::*; pub(crate) use b::{B as C};", "use crate::A;", "use super::C;"),
            ("pub(crate) mod all { pub(crate) use crate::a::A; }", "use crate::all::A;", "use crate::b::B;"),
        ] {
            let root = format!("mod a; mod b; {root}");
            let (a, b) = (format!("{a} struct A;"), format!("{b} struct B;"));
            let files = [("lib.rs", root.as_str()), ("a.rs", &a), ("b.rs", &b)];
            assert_eq!(found(&files, &[]), ["a circle of imports: a.rs:1 -> b.rs:1 -> a.rs"], "{root}");
        }
    }

    #[test]
    fn re_exports_that_lead_to_each_other_come_to_an_end() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub use crate::b::*; pub use crate::b::X;"),
            ("b.rs", "pub use crate::a::*; pub use crate::a::X;"),
        ];
        assert_eq!(found(&files, &[]).len(), 1);
    }

    #[test]
    fn tests_and_words_that_are_no_code_do_not_count() {
        for b in [
            "#[cfg(test)] mod tests { use crate::a::A; }",
            "#[cfg(test)] mod tests;",
            "// use crate::a::A;\nconst X: &str = \"crate::a::A\";",
            "/// [`crate::a::A`]\nstruct B;",
            "pub(in crate::c) struct B;",
            "use other::a::A;",
            "use a::A;",
        ] {
            let files = [
                ("lib.rs", "mod a; mod b; mod c;"),
                ("a.rs", "use crate::b::B;"),
                ("b.rs", b),
                ("b/tests.rs", "use crate::a::A;"),
                ("c.rs", ""),
            ];
            assert_eq!(found(&files, &[]), NONE, "{b}");
        }
    }

    #[test]
    fn a_known_import_excuses_its_circle_and_has_to_close_one() {
        let circle = [("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", "use crate::a::A;")];
        assert_eq!(found(&circle, &[("b.rs", "a.rs")]), NONE);
        let broken = [("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", "")];
        for known in [("b.rs", "a.rs"), ("a.rs", "b.rs"), ("old.rs", "a.rs")] {
            let found = found(&broken, &[known]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{} -> {}: is no circle any more", known.0, known.1)), "{found:?}");
        }
    }

    #[test]
    fn a_file_that_is_missing_is_an_error_not_a_pass() {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("lib.rs");
        fs::write(&root, "mod a;").unwrap();
        assert!(check(folder.path(), &[root], &[], &Sources::default()).is_err());
    }
}
