//! The modules of a crate, the file that each is in, and where the paths in them lead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::Result;
use crate::layers::source::{Sources, Token, without_tests};

/// The words before the name of an item.
const ITEMS: &[&str] = &["struct", "enum", "union", "trait", "fn", "const", "static", "type"];

/// Whether what is compiled for tests only is read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tests {
    Read,
    LeftOut,
}

/// A crate: its modules, the root first, and its files, the root's first.
pub(crate) struct Crate {
    modules: Vec<Module>,
    pub(crate) files: Vec<File>,
}

/// A source file of a crate.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// The path of its outermost module; the root's is empty.
    pub(crate) module: Vec<String>,
    pub(crate) tokens: Vec<Token>,
}

/// An import or a path that leads from one file to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) line: usize,
}

#[derive(Default)]
struct Module {
    file: usize,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// What this module brings in by `use`, by the name that it has here.
    imports: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    items: BTreeSet<String>,
    /// Every path that is written in it, with its line.
    paths: Vec<(Vec<String>, usize)>,
}

/// What a path names.
#[derive(Clone, Copy)]
enum Target {
    Module(usize),
    /// An item, by the module that defines it.
    Item(usize),
}

impl Target {
    fn module(self) -> usize {
        match self {
            Self::Module(module) | Self::Item(module) => module,
        }
    }
}

impl Crate {
    /// Reads the file at the root of a crate and those of all its modules.
    pub(crate) fn read(root: &Path, tests: Tests, sources: &Sources) -> Result<Self> {
        let mut this = Self { modules: vec![Module::default()], files: Vec::new() };
        let folder = root.parent().unwrap_or(root).to_owned();
        this.read_file(root, 0, Vec::new(), &folder, tests, sources)?;
        Ok(this)
    }

    /// `folder` is where the files of its modules are.
    fn read_file(
        &mut self,
        path: &Path,
        module: usize,
        name: Vec<String>,
        folder: &Path,
        tests: Tests,
        sources: &Sources,
    ) -> Result<()> {
        let tokens = sources.tokens(path)?;
        let tokens = match tests {
            Tests::Read => tokens.to_vec(),
            Tests::LeftOut => without_tests(&tokens),
        };
        self.modules[module].file = self.files.len();
        self.files.push(File { path: path.to_owned(), module: name.clone(), tokens: tokens.clone() });
        self.read_module(&tokens, module, &name, path, folder, tests, sources)
    }

    #[expect(clippy::too_many_arguments, reason = "a recursion, and this is its state")]
    fn read_module(
        &mut self,
        tokens: &[Token],
        module: usize,
        name: &[String],
        path: &Path,
        folder: &Path,
        tests: Tests,
        sources: &Sources,
    ) -> Result<()> {
        self.modules[module].items = items(tokens);
        let (mut rest, mut given) = (tokens, None);
        while let Some((token, after)) = rest.split_first() {
            rest = after;
            match (token, rest) {
                (Token::Sign('#'), [Token::Group('[', attribute), ..]) => {
                    if let [word, Token::Sign('='), Token::Literal(Some(file))] = attribute.as_slice()
                        && word.is_word("path")
                    {
                        given = Some(file.clone());
                    }
                }
                (Token::Word(word, _), [Token::Word(child, _), end, after @ ..]) if word == "mod" => {
                    if !matches!(end, Token::Sign(';') | Token::Group('{', _)) {
                        continue;
                    }
                    let file = self.modules[module].file;
                    let added = self.modules.len();
                    self.modules.push(Module { file, parent: Some(module), ..Module::default() });
                    self.modules[module].children.insert(child.clone(), added);
                    let inner: Vec<String> = name.iter().chain([child]).cloned().collect();
                    let below = folder.join(child);
                    if let Token::Group(_, inside) = end {
                        self.read_module(inside, added, &inner, path, &below, tests, sources)?;
                    } else if let Some(given) = given.take() {
                        let file = path.parent().unwrap_or(path).join(given);
                        let below = file.parent().unwrap_or(path).to_owned();
                        self.read_file(&file, added, inner, &below, tests, sources)?;
                    } else {
                        let flat = folder.join(format!("{child}.rs"));
                        let file = if flat.is_file() { flat } else { below.join("mod.rs") };
                        self.read_file(&file, added, inner, &below, tests, sources)?;
                    }
                    rest = after;
                }
                (Token::Word(word, _), _) if word == "use" => {
                    let (tree, after) = until_semicolon(rest);
                    self.add_use(tree, module);
                    rest = after;
                }
                _ => {
                    let (path, after) = path_at(token, rest);
                    self.modules[module].paths.extend(path);
                    rest = after;
                    if let Token::Group(_, inside) = token {
                        self.modules[module].paths.extend(paths(inside));
                    }
                }
            }
        }
        Ok(())
    }

    fn add_use(&mut self, tree: &[Token], module: usize) {
        for leaf in leaves(tree) {
            let module = &mut self.modules[module];
            module.paths.push((leaf.path.clone(), leaf.line));
            match leaf.name {
                Some(name) => _ = module.imports.insert(name, leaf.path),
                None => module.globs.push(leaf.path),
            }
        }
    }

    /// Every import and path that leads out of its file, each pair of files once, by the first line.
    pub(crate) fn imports(&self) -> Vec<Import> {
        let mut found: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (at, module) in self.modules.iter().enumerate() {
            for (path, line) in &module.paths {
                let Some(target) = self.resolve(at, path, &mut BTreeSet::new()) else { continue };
                let (from, to) = (module.file, self.modules[target.module()].file);
                if from != to {
                    found.entry((from, to)).and_modify(|first| *first = *line.min(first)).or_insert(*line);
                }
            }
        }
        found.into_iter().map(|((from, to), line)| Import { from, to, line }).collect()
    }

    /// What a path in a module leads to, through re-exports, or nothing where it leaves the crate. `seen` ends circles of
    /// re-exports.
    fn resolve(&self, module: usize, path: &[String], seen: &mut BTreeSet<(usize, String)>) -> Option<Target> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(module),
            "super" => Target::Module(self.modules[module].parent?),
            name => self.find(module, name, seen)?,
        };
        while let (Target::Module(module), Some((name, after))) = (at, rest.split_first()) {
            rest = after;
            at = match name.as_str() {
                "super" => Target::Module(self.modules[module].parent?),
                "self" => at,
                // What is not found is made by a macro, or comes from another crate: this module gives it.
                name => self.find(module, name, seen).unwrap_or(Target::Item(module)),
            };
        }
        Some(at)
    }

    /// What a name means in a module.
    fn find(&self, module: usize, name: &str, seen: &mut BTreeSet<(usize, String)>) -> Option<Target> {
        if !seen.insert((module, name.to_owned())) {
            return None;
        }
        let here = &self.modules[module];
        if let Some(child) = here.children.get(name) {
            return Some(Target::Module(*child));
        }
        if here.items.contains(name) {
            return Some(Target::Item(module));
        }
        if let Some(path) = here.imports.get(name) {
            return self.resolve(module, path, seen);
        }
        here.globs.iter().find_map(|glob| match self.resolve(module, glob, seen)? {
            Target::Module(from) if from != module => self.find(from, name, seen),
            _ => None,
        })
    }
}

/// The items that a list of tokens defines, not those within them.
fn items(tokens: &[Token]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pair in tokens.windows(2) {
        if let [Token::Word(word, _), Token::Word(name, _)] = pair
            && ITEMS.contains(&word.as_str())
            && !ITEMS.contains(&name.as_str())
        {
            found.insert(name.clone());
        }
    }
    for triple in tokens.windows(3) {
        if let [Token::Word(word, _), Token::Sign('!'), Token::Word(name, _)] = triple
            && word == "macro_rules"
        {
            found.insert(name.clone());
        }
    }
    found
}

/// Every `crate::`, `self::` and `super::` path and every `use` inside an item.
fn paths(tokens: &[Token]) -> Vec<(Vec<String>, usize)> {
    let mut found = Vec::new();
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        if token.is_word("use") {
            let (tree, after) = until_semicolon(rest);
            found.extend(leaves(tree).into_iter().map(|leaf| (leaf.path, leaf.line)));
            rest = after;
        } else if let Token::Group(_, inside) = token {
            found.extend(paths(inside));
        } else {
            let (path, after) = path_at(token, rest);
            found.extend(path);
            rest = after;
        }
    }
    found
}

/// The path that begins with a token, where that is `crate`, `self` or `super`, and what is behind it.
fn path_at<'a>(token: &Token, mut rest: &'a [Token]) -> (Option<(Vec<String>, usize)>, &'a [Token]) {
    let Token::Word(first, line) = token else { return (None, rest) };
    if !matches!(first.as_str(), "crate" | "self" | "super") {
        return (None, rest);
    }
    let mut path = vec![first.clone()];
    while let [Token::PathSeparator, Token::Word(next, _), after @ ..] = rest {
        path.push(next.clone());
        rest = after;
    }
    ((path.len() > 1).then_some((path, *line)), rest)
}

fn until_semicolon(tokens: &[Token]) -> (&[Token], &[Token]) {
    let end = tokens.iter().position(|token| *token == Token::Sign(';')).unwrap_or(tokens.len());
    (&tokens[..end], tokens.get(end + 1..).unwrap_or_default())
}

/// One path of a `use`; without a name it is a glob.
struct Leaf {
    path: Vec<String>,
    name: Option<String>,
    line: usize,
}

/// The paths of a `use` tree.
fn leaves(tree: &[Token]) -> Vec<Leaf> {
    let mut found = Vec::new();
    grow(tree, &[], 0, &mut found);
    found
}

fn grow(tree: &[Token], above: &[String], above_line: usize, found: &mut Vec<Leaf>) {
    for branch in tree.split(|token| *token == Token::Sign(',')) {
        let (mut path, mut line, mut name) = (above.to_vec(), above_line, None);
        let mut tokens = branch.iter();
        while let Some(token) = tokens.next() {
            match token {
                Token::Word(word, _) if word == "as" => name = tokens.next().and_then(Token::word).map(str::to_owned),
                Token::Word(word, at) => {
                    line = *at;
                    // `a::{self}` is `a`.
                    if word != "self" || path.is_empty() {
                        path.push(word.clone());
                    }
                }
                Token::Group(_, inside) => grow(inside, &path, line, found),
                _ => {}
            }
        }
        match branch.last() {
            Some(Token::Sign('*')) => found.push(Leaf { path, name: None, line }),
            Some(Token::Word(..)) => {
                let name = name.or_else(|| path.last().cloned());
                found.push(Leaf { path, name, line });
            }
            _ => {}
        }
    }
}
