//! The table of settings as a commented settings file and as a JSON Schema.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::schema::{Key, keys};
use super::value::{Kind, Value};

const HEADER: &str =
    "# Settings of Tenure. Flags override environment variables (TENURE_SESSION__TOKEN_TTL), which override this file.
# Lines that start with # show the default or an example. Check changes with: tenure config validate
";
const WIDTH: usize = 100;

/// Returns a settings file that explains every setting, with some of them set.
pub(crate) fn template(set: &[(&'static Key, Value)]) -> String {
    let mut text = HEADER.to_owned();
    let mut section = None;
    for key in keys() {
        let (own, name) = key.parts();
        if own != section {
            section = own;
            let _ = write!(text, "\n[{}]", own.unwrap_or_default());
            text.push('\n');
        }
        text.push('\n');
        for line in wrapped(key.doc) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "# Takes {}.", key.kind.allowed());
        match set.iter().find(|(wanted, _)| wanted.name == key.name) {
            Some((_, value)) => {
                let _ = writeln!(text, "{name} = {}", value.to_toml());
            }
            None => {
                let _ = writeln!(text, "# {name} = {}", example(key));
            }
        }
    }
    text
}

fn example(key: &Key) -> String {
    let shown = key.default.shown();
    match shown.as_deref().and_then(|text| key.kind.read(text).ok()) {
        Some(value) => value.to_toml().to_string().trim().to_owned(),
        None => "\"\"".to_owned(),
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| !line.is_empty() && line.len() + word.len() >= WIDTH) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Returns the JSON Schema (2020-12) of the settings file.
pub(crate) fn json_schema() -> Json {
    let mut top = Map::new();
    for key in keys() {
        let (section, name) = key.parts();
        let properties = match section {
            None => &mut top,
            Some(section) => {
                let entry = top
                    .entry(section)
                    .or_insert_with(|| json!({ "type": "object", "additionalProperties": false, "properties": {} }));
                match entry["properties"].as_object_mut() {
                    Some(properties) => properties,
                    None => continue,
                }
            }
        };
        properties.insert(name.to_owned(), property(key));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tenure settings",
        "description": "The settings file of Tenure (config.toml). Durations are written with units: 250ms, 36s, 90m, 24h, 30d, 1h 30m.",
        "type": "object",
        "additionalProperties": false,
        "properties": top,
    })
}

const DURATION: &str = r"^\s*([0-9]+(ms|s|m|h|d)\s*)+$";

fn property(key: &Key) -> Json {
    let mut property = match key.kind {
        Kind::Span { off: false, .. } => json!({ "type": "string", "pattern": DURATION }),
        Kind::Span { off: true, .. } => {
            json!({ "anyOf": [{ "const": "off" }, { "type": "string", "pattern": DURATION }] })
        }
        Kind::Count { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Networks | Kind::UrlPaths | Kind::Origins | Kind::Hosts => {
            json!({ "type": "array", "items": { "type": "string" } })
        }
        Kind::Path
        | Kind::RedisUrl
        | Kind::KeyPrefix
        | Kind::HttpUrl
        | Kind::Address
        | Kind::IpAddress
        | Kind::Subject
        | Kind::Header
        | Kind::HeaderScheme => json!({ "type": "string", "minLength": 1 }),
        Kind::CookieName => json!({ "type": "string", "pattern": "^(?!__)[A-Za-z0-9_-]{1,64}$" }),
    };
    let mut variables = vec![key.variable()];
    variables.extend(key.short.map(str::to_owned));
    property["description"] =
        format!("{} Takes {}. Environment: {}.", key.doc, key.kind.allowed(), variables.join(" or ")).into();
    if let Some(text) = key.default.shown() {
        property["default"] = key.kind.read(&text).map_or_else(|_| text.into(), |value| value.to_json());
    }
    property
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Settings;
    use super::*;

    #[test]
    fn the_template_is_a_settings_file_and_so_it_is_with_every_example_taken() {
        let path = Path::new("/c.toml");
        assert!(Settings::of_file(path, &template(&[])).is_ok());
        let taken: String = template(&[])
            .lines()
            .map(|line| match line.strip_prefix("# ").filter(|rest| rest.contains(" = ") && !rest.ends_with("\"\"")) {
                Some(example) => format!("{example}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        assert!(taken.contains("\ntoken_ttl = \"24h\"\n"));
        Settings::of_file(path, &taken).unwrap();
    }
}
