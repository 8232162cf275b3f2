//! Editing a settings file: comments and order stay, and only a file that holds together is answered.

use std::path::Path;

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use super::layers::{Source, problem};
use super::{Key, Settings, SettingsError};

/// The file's text with a key set.
///
/// # Errors
/// [`SettingsError`] for a value that the key does not take, or that does not go with the rest of the file.
pub(crate) fn set(path: &Path, text: &str, key: &'static Key, value: &str) -> Result<String, SettingsError> {
    let given = Source::Flag("as given");
    let value = key.kind.read(value).map_err(|error| SettingsError::one(problem(key, value, &given, &error)))?;
    let mut document = parse(path, text)?;
    let (section, name) = key.parts();
    let mut table: &mut dyn TableLike = document.as_table_mut();
    if let Some(section) = section {
        let item = table.entry(section).or_insert_with(|| Item::Table(Table::new()));
        table = item
            .as_table_like_mut()
            .ok_or_else(|| SettingsError::one(format!("{}: {section} is no section", path.display())))?;
    }
    put(table, name, value.to_toml());
    checked(path, &document)
}

/// The file's text with a key taken out; `None` where it does not set it.
///
/// # Errors
/// [`SettingsError`] where the rest of the file would not hold together.
pub(crate) fn unset(path: &Path, text: &str, key: &'static Key) -> Result<Option<String>, SettingsError> {
    let mut document = parse(path, text)?;
    let (section, name) = key.parts();
    let removed = match section {
        None => document.remove(name),
        Some(section) => {
            document.get_mut(section).and_then(Item::as_table_like_mut).and_then(|table| table.remove(name))
        }
    };
    removed.map(|_| checked(path, &document)).transpose()
}

/// A value in the place of another keeps the comment behind it.
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

fn parse(path: &Path, text: &str) -> Result<DocumentMut, SettingsError> {
    text.parse().map_err(|_| match Settings::of_file(path, text) {
        Err(error) => error,
        Ok(_) => SettingsError::one(format!("{}: not TOML", path.display())),
    })
}

fn checked(path: &Path, document: &DocumentMut) -> Result<String, SettingsError> {
    let text = document.to_string();
    Settings::of_file(path, &text).map(|_| text)
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;

    const FILE: &str = "# mine\n[session] # rules\ntoken_ttl = \"12h\" # half a day\n";

    #[test]
    fn comments_stay() {
        let path = Path::new("/c.toml");
        let text = set(path, FILE, find("session.token_ttl").unwrap(), "36s").unwrap();
        assert_eq!(text, "# mine\n[session] # rules\ntoken_ttl = \"36s\" # half a day\n");
        let text = set(path, &text, find("redis.near_cache").unwrap(), "true").unwrap();
        assert!(text.ends_with("\n[redis]\nnear_cache = true\n"), "{text}");
        let text = unset(path, &text, find("session.token_ttl").unwrap()).unwrap().unwrap();
        assert!(text.starts_with("# mine\n[session] # rules\n"));
        assert_eq!(unset(path, &text, find("session.token_ttl").unwrap()).unwrap(), None);
    }

    #[test]
    fn what_does_not_go_together_is_refused_as_a_whole() {
        let error = set(Path::new("/c.toml"), FILE, find("session.rotate_before_expiry").unwrap(), "12h").unwrap_err();
        assert_eq!(
            error.to_string(),
            "session.rotate_before_expiry is 12h (/c.toml:4): it takes 0s to less than session.token_ttl (12h)"
        );
    }
}
