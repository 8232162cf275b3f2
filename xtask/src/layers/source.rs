//! Rust source as a tree of tokens, which is what the checks of the layers read: without comments and without the text of
//! literals, so that a word in a sentence is never taken for code.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

use crate::Result;

/// One token, or all that is between two brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier or a keyword, with its line. A raw identifier is without its `r#`.
    Word(String, usize),
    /// `::`
    PathSeparator,
    /// Any other sign. Lifetimes are left out.
    Sign(char),
    /// A number or a text: its value is left out.
    Literal(Option<String>),
    /// `{}`, `()` or `[]`, by the sign that opens it.
    Group(char, Vec<Token>),
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(text, _) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_word(&self, text: &str) -> bool {
        self.word() == Some(text)
    }

    pub(crate) fn group(&self, open: char) -> Option<&[Self]> {
        match self {
            Self::Group(sign, inside) if *sign == open => Some(inside),
            _ => None,
        }
    }
}

/// The source files that were read, each parsed once.
#[derive(Default)]
pub(crate) struct Sources {
    parsed: RefCell<HashMap<PathBuf, Rc<Vec<Token>>>>,
}

impl Sources {
    pub(crate) fn tokens(&self, path: &Path) -> Result<Rc<Vec<Token>>> {
        if let Some(tokens) = self.parsed.borrow().get(path) {
            return Ok(Rc::clone(tokens));
        }
        let text = fs::read_to_string(path).map_err(|error| format!("could not read {}: {error}", path.display()))?;
        let tokens = parse(&text).map_err(|error| format!("{}:{error}", path.display()))?;
        let tokens = Rc::new(tokens);
        self.parsed.borrow_mut().insert(path.to_owned(), Rc::clone(&tokens));
        Ok(tokens)
    }
}

/// The tokens of a source text. The error begins with the line.
pub(crate) fn parse(text: &str) -> Result<Vec<Token>> {
    let stream: TokenStream =
        text.parse().map_err(|error: proc_macro2::LexError| format!("{}: {error}", error.span().start().line))?;
    Ok(convert(stream))
}

fn convert(stream: TokenStream) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut stream = stream.into_iter().peekable();
    while let Some(tree) = stream.next() {
        match tree {
            TokenTree::Ident(ident) => {
                let text = ident.to_string();
                tokens.push(Token::Word(text.trim_start_matches("r#").to_owned(), ident.span().start().line));
            }
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                tokens.push(Token::Literal(text.map(str::to_owned)));
            }
            TokenTree::Group(group) => match group.delimiter() {
                Delimiter::Brace => tokens.push(Token::Group('{', convert(group.stream()))),
                Delimiter::Parenthesis => tokens.push(Token::Group('(', convert(group.stream()))),
                Delimiter::Bracket => tokens.push(Token::Group('[', convert(group.stream()))),
                Delimiter::None => tokens.extend(convert(group.stream())),
            },
            TokenTree::Punct(sign) if sign.as_char() == '\'' => {
                stream.next();
            }
            TokenTree::Punct(sign) if sign.as_char() == ':' && sign.spacing() == Spacing::Joint => {
                match stream.next_if(|next| matches!(next, TokenTree::Punct(next) if next.as_char() == ':')) {
                    Some(_) => tokens.push(Token::PathSeparator),
                    None => tokens.push(Token::Sign(':')),
                }
            }
            TokenTree::Punct(sign) => tokens.push(Token::Sign(sign.as_char())),
        }
    }
    tokens
}

/// The tokens without what is compiled for tests only: every item with `#[cfg(test)]`, `#[cfg(all(test, …))]` or
/// `#[test]`, and all of a file that says so of itself.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match (&tokens[at], tokens.get(at + 1), tokens.get(at + 2)) {
            (Token::Sign('#'), Some(Token::Sign('!')), Some(Token::Group('[', attribute))) if is_test(attribute) => {
                return Vec::new();
            }
            (Token::Sign('#'), Some(Token::Group('[', attribute)), _) if is_test(attribute) => {
                at = end_of_item(tokens, at);
                continue;
            }
            (Token::Group(open, inside), ..) => kept.push(Token::Group(*open, without_tests(inside))),
            (token, ..) => kept.push(token.clone()),
        }
        at += 1;
    }
    kept
}

fn is_test(attribute: &[Token]) -> bool {
    match attribute {
        [test] => test.is_word("test"),
        [cfg, Token::Group('(', condition)] if cfg.is_word("cfg") => match condition.as_slice() {
            [test] => test.is_word("test"),
            [all, Token::Group('(', all_of)] if all.is_word("all") => all_of.iter().any(|token| token.is_word("test")),
            _ => false,
        },
        _ => false,
    }
}

/// Where the item ends whose attributes begin at `at`: behind its body, its `;`, or the `,` of a field.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    while let (Some(Token::Sign('#')), Some(Token::Group('[', _))) = (tokens.get(at), tokens.get(at + 1)) {
        at += 2;
    }
    // The braces of `use a::{b, c};` are no body.
    let is_use = tokens[at..].iter().take(3).any(|token| token.is_word("use"));
    for (offset, token) in tokens[at..].iter().enumerate() {
        match token {
            Token::Sign(';') => return at + offset + 1,
            Token::Sign(',') | Token::Group('{', _) if !is_use => return at + offset + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(tokens: &[Token]) -> Vec<&str> {
        let mut found = Vec::new();
        for token in tokens {
            match token {
                Token::Word(text, _) => found.push(text.as_str()),
                Token::Group(_, inside) => found.extend(words(inside)),
                _ => {}
            }
        }
        found
    }

    #[test]
    fn words_of_comments_and_texts_and_lifetimes_are_no_words() {
        let text = "
// crate::a
/* crate::b /* crate::c */ */
fn f<'d>(x: &'d str) -> char { let _ = (\"crate::e \\\" \", r#\"crate::g\"#, b\"h\", 'i', '\\''); r#type }
";
        let tokens = parse(text).unwrap();
        assert_eq!(words(&tokens), ["fn", "f", "x", "str", "char", "let", "_", "type"]);
        assert!(matches!(&tokens[0], Token::Word(word, 4) if word == "fn"));
    }

    #[test]
    fn what_is_no_rust_is_an_error_with_its_line() {
        assert!(parse("fn f() {}\n}").unwrap_err().starts_with("2: "));
    }

    #[test]
    fn items_for_tests_only_are_left_out() {
        let text = "
#[cfg(test)]
#[derive(Debug)]
use crate::{a, b};
use c;
#[cfg(all(test, unix))]
mod d;
mod e {
    #[test]
    fn f() -> [u8; 2] { g }
    fn h() {}
}
#[cfg(any(test, feature = \"x\"))]
mod i;
struct J { #[cfg(test)] k: u8, l: u8 }
#[cfg(not(test))]
mod m;
#[cfg(test)]
pub(crate) const N: u8 = o;
const P: u8 = q;
";
        let kept = without_tests(&parse(text).unwrap());
        let kept = words(&kept).join(" ");
        assert_eq!(kept, "use c mod e fn h cfg any test feature mod i struct J l u8 cfg not test mod m const P u8 q");
    }

    #[test]
    fn a_file_for_tests_only_is_empty() {
        assert_eq!(without_tests(&parse("#![cfg(test)]\nuse crate::a;").unwrap()), []);
    }
}
