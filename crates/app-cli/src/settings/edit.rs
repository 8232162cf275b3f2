//! Edits a settings file. Comments and order stay, and the result is a valid settings file.

use std::path::Path;

use toml_edit::{Document, DocumentMut, Item, Table, TableLike, Value};

use super::layers::problem;
use super::{Key, Settings, SettingsError};

/// Sets keys in the text of a settings file.
///
/// # Errors
/// [`SettingsError`] for a value that its key does not take, or that contradicts the rest of the file.
pub(crate) fn set(path: &Path, text: &str, pairs: &[(&'static Key, &str)]) -> Result<String, SettingsError> {
    let edited = pairs.iter().try_fold(text.to_owned(), |text, (key, value)| set_one(path, &text, key, value))?;
    checked(path, edited)
}

fn set_one(path: &Path, text: &str, key: &'static Key, value: &str) -> Result<String, SettingsError> {
    let value = key.kind.read(value).map_err(|error| SettingsError::one(problem(key, value, None, &error)))?;
    let mut document = parse(path, text)?;
    let (section, name) = key.parts();
    let mut table: &mut dyn TableLike = document.as_table_mut();
    if let Some(section) = section {
        let item = table.entry(section).or_insert_with(|| Item::Table(Table::new()));
        table = item
            .as_table_like_mut()
            .ok_or_else(|| SettingsError::one(format!("{}: {section} is not a section", path.display())))?;
    }
    if !table.contains_key(name)
        && let Some(edited) = in_place_of_its_example(text, section, name, &value.to_toml())
    {
        return Ok(edited);
    }
    put(table, name, value.to_toml());
    Ok(document.to_string())
}

/// The result of removing keys from a settings file.
pub(crate) struct Unset {
    /// The text of the file without them.
    pub(crate) text: String,
    /// The keys that the file did not set.
    pub(crate) missing: Vec<&'static Key>,
}

/// Removes keys from the text of a settings file.
///
/// # Errors
/// [`SettingsError`] if the rest of the file would not be valid.
pub(crate) fn unset(path: &Path, text: &str, keys: &[&'static Key]) -> Result<Unset, SettingsError> {
    let mut unset = Unset { text: text.to_owned(), missing: Vec::new() };
    for &key in keys {
        match unset_one(path, &unset.text, key)? {
            Some(text) => unset.text = text,
            None => unset.missing.push(key),
        }
    }
    if unset.missing.len() < keys.len() {
        unset.text = checked(path, unset.text)?;
    }
    Ok(unset)
}

fn unset_one(path: &Path, text: &str, key: &'static Key) -> Result<Option<String>, SettingsError> {
    let mut document = parse(path, text)?;
    let (section, name) = key.parts();
    if let Some(edited) = without_its_lines(text, section, name) {
        return Ok(Some(edited));
    }
    let removed = match section {
        None => document.remove(name),
        Some(section) => {
            document.get_mut(section).and_then(Item::as_table_like_mut).and_then(|table| table.remove(name))
        }
    };
    Ok(removed.map(|_| document.to_string()))
}

/// Sets a value in a table. If it replaces another, the comment after that stays.
fn put(table: &mut dyn TableLike, name: &str, mut value: Value) {
    match table.get_mut(name).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            table.insert(name, Item::Value(value));
        }
    }
}

/// Replaces the line `# key = example`, which a file from `config init` has for each key, by the value. Returns `None` if
/// there is no such line.
fn in_place_of_its_example(text: &str, section: Option<&str>, name: &str, value: &Value) -> Option<String> {
    let example = format!("# {name} = ");
    let header = |line: &str| line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::to_owned);
    let mut within = None;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        within = header(line).or(within);
        if within.as_deref() == section && line.starts_with(&example) {
            let (before, after) = (&text[..offset], &text[offset + line.len()..]);
            return Some(format!("{before}{name} = {value}\n{after}"));
        }
        offset += line.len();
    }
    None
}

/// Removes the lines of a key, but not the comments above. Returns `None` if a line also has something else.
fn without_its_lines(text: &str, section: Option<&str>, name: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let table: &dyn TableLike = match section {
        None => document.as_table(),
        Some(section) => document.get(section)?.as_table_like()?,
    };
    let (key, item) = table.get_key_value(name)?;
    let (from, to) = (key.span()?.start, item.span()?.end);
    let start = text[..from].rfind('\n').map_or(0, |at| at + 1);
    let end = text[to..].find('\n').map_or(text.len(), |at| to + at + 1);
    let alone = !text[start..from].contains(['{', ',', '[']) && {
        let behind = text[to..end].trim();
        behind.is_empty() || behind.starts_with('#')
    };
    alone.then(|| format!("{}{}", &text[..start], &text[end..]))
}

fn parse(path: &Path, text: &str) -> Result<DocumentMut, SettingsError> {
    text.parse().map_err(|_| match Settings::of_file(path, text) {
        Err(error) => error,
        Ok(_) => SettingsError::one(format!("{}: not TOML", path.display())),
    })
}

fn checked(path: &Path, text: String) -> Result<String, SettingsError> {
    Settings::of_file(path, &text).map(|_| text)
}

#[cfg(test)]
mod tests {
    use super::super::{find, template};
    use super::*;

    const FILE: &str = "# mine\n[session] # rules\n# not long\ntoken_ttl = \"12h\" # half a day\n";

    fn key(name: &str) -> &'static Key {
        find(name).unwrap()
    }

    #[test]
    fn comments_stay() {
        let path = Path::new("/c.toml");
        let text = set(path, FILE, &[(key("session.token_ttl"), "36s")]).unwrap();
        assert_eq!(text, FILE.replace("12h", "36s"));
        let text = set(path, &text, &[(key("redis.near_cache"), "true")]).unwrap();
        assert!(text.ends_with("\n[redis]\nnear_cache = true\n"), "{text}");
        let text = unset(path, &text, &[key("session.token_ttl")]).unwrap().text;
        assert!(text.starts_with("# mine\n[session] # rules\n# not long\n\n[redis]"), "{text}");
        let again = unset(path, &text, &[key("session.token_ttl")]).unwrap();
        assert_eq!((again.text, again.missing.len()), (text, 1));
    }

    #[test]
    fn other_ways_to_write_a_table_are_edited_too() {
        let path = Path::new("/c.toml");
        let inline = "session = { token_ttl = \"12h\", retention = \"1h\" }\n";
        let text = unset(path, inline, &[key("session.token_ttl")]).unwrap().text;
        assert!(!text.contains("token_ttl") && text.contains("retention"), "{text}");
        let dotted = "session.token_ttl = \"12h\"\nsession.retention = \"1h\"\n";
        let text = unset(path, dotted, &[key("session.token_ttl")]).unwrap().text;
        assert_eq!(text, "session.retention = \"1h\"\n");
        let list = "[gateway]\npublic_paths = [\n  \"/a\", # one\n  \"/b\",\n]\nuser_header = \"X-User\"\n";
        let text = unset(path, list, &[key("gateway.public_paths")]).unwrap().text;
        assert_eq!(text, "[gateway]\nuser_header = \"X-User\"\n");
    }

    #[test]
    fn in_an_explained_file_a_value_goes_where_its_example_was() {
        let path = Path::new("/c.toml");
        let text = set(path, &template(&[]), &[(key("session.token_ttl"), "36s")]).unwrap();
        assert_eq!(text, template(&[]).replace("# token_ttl = \"24h\"", "token_ttl = \"36s\""));
        let text = set(path, &template(&[]), &[(key("backend"), "redis")]).unwrap();
        assert_eq!(text, template(&[]).replace("# backend = \"json\"", "backend = \"redis\""));
    }

    #[test]
    fn what_does_not_go_together_is_refused_as_a_whole() {
        let error = set(Path::new("/c.toml"), FILE, &[(key("session.rotate_before_expiry"), "12h")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "session.rotate_before_expiry is 12h (/c.toml:5): it takes 0s to less than session.token_ttl (12h)"
        );
    }

    #[test]
    fn what_only_goes_together_is_set_and_unset_together() {
        let path = Path::new("/c.toml");
        let (cert, tls_key) = (key("gateway.tls_cert"), key("gateway.tls_key"));
        for text in ["", FILE, &template(&[])] {
            let error = set(path, text, &[(cert, "c.pem")]).unwrap_err().to_string();
            assert!(error.contains("belong together") && error.contains("several pairs"), "{error}");
            let both = set(path, text, &[(cert, "c.pem"), (tls_key, "k.pem")]).unwrap();
            assert!(both.contains("tls_cert = \"c.pem\"") && both.contains("tls_key = \"k.pem\""), "{both}");
            assert!(unset(path, &both, &[cert]).is_err());
            let neither = unset(path, &both, &[cert, tls_key]).unwrap();
            assert!(!neither.text.contains(".pem\"") && neither.missing.is_empty(), "{}", neither.text);
            assert!(set(path, text, &[(cert, "c.pem"), (tls_key, "k.pem"), (key("backend"), "x")]).is_err());
        }
    }
}
