//! The documentation: its links lead somewhere, and the list of settings is complete.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Returns the Markdown files in the root of the repository and in `docs`.
fn pages() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("docs")]);
    let markdown = |path: &Path| path.extension().is_some_and(|extension| extension == "md");
    found.extend(fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| markdown(path)));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if markdown(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// Returns the lines of a page outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Returns the anchors of a page, as forges derive them from its headings.
fn anchors(text: &str) -> Vec<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = shown(heading).to_lowercase().replace(' ', "-");
            let anchor: String = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
            let before = seen.entry(anchor.clone()).or_default();
            *before += 1;
            if *before == 1 { anchor } else { format!("{anchor}-{}", *before - 1) }
        })
        .collect()
}

/// Returns a heading with its links replaced by their texts.
fn shown(heading: &str) -> String {
    let (mut text, mut rest) = (String::new(), heading);
    while let Some((before, after)) = rest.split_once("](") {
        text += before;
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text + rest
}

/// Returns the targets of the links and images of a page.
fn links(text: &str) -> Vec<&str> {
    let targets = prose(text).flat_map(|line| line.split("](").skip(1));
    targets.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// Returns the problem with a link, if there is one.
fn fault(page: &Path, text: &str, link: &str) -> Option<&'static str> {
    if link.contains("://") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { page.to_owned() } else { page.parent().unwrap().join(path) };
    if !target.exists() {
        return Some("there is no such file");
    }
    let found = if path.is_empty() { text.to_owned() } else { fs::read_to_string(&target).unwrap_or_default() };
    (!anchor.is_empty() && !anchors(&found).iter().any(|known| known == anchor)).then_some("no heading has that anchor")
}

#[test]
fn every_link_of_every_page_leads_somewhere() {
    let (mut checked, mut wrong) = (0, Vec::new());
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            checked += 1;
            if let Some(fault) = fault(&page, &text, link) {
                wrong.push(format!("{}: {link}: {fault}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 100, "only {checked} links were found");
}

#[test]
fn links_and_anchors_are_read_as_forges_read_them() {
    let text =
        "# One, `two`\n```sh\n# no heading [x](y)\n```\n## A [b](c.md) c\n## Same\n## Same\n[d](#e) ![f](g.png)\n";
    assert_eq!(anchors(text), ["one-two", "a-b-c", "same", "same-1"]);
    assert_eq!(links(text), ["c.md", "#e", "g.png"]);
    let page = root().join("README.md");
    assert_eq!(fault(&page, text, "#same-1"), None);
    assert_eq!(fault(&page, text, "#other"), Some("no heading has that anchor"));
    assert_eq!(fault(&page, text, "docs/no-such-page.md"), Some("there is no such file"));
}

#[test]
fn the_page_of_settings_has_each_of_them_with_its_default() {
    let text = fs::read_to_string(root().join("docs/settings.md")).unwrap();
    let schema = fs::read_to_string(root().join("docs/settings.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut settings = Vec::new();
    for (name, value) in schema["properties"].as_object().unwrap() {
        match value["properties"].as_object() {
            Some(keys) => settings.extend(keys.iter().map(|(key, value)| (format!("{name}.{key}"), value))),
            None => settings.push((name.clone(), value)),
        }
    }
    assert!(settings.len() > 40, "the schema lists {} settings only", settings.len());
    for (name, value) in settings {
        let row = text.lines().find(|line| {
            line.starts_with('|') && line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`")))
        });
        let row = row.unwrap_or_else(|| panic!("docs/settings.md has no row for {name}"));
        let default = match &value["default"] {
            Value::String(text) => text.clone(),
            Value::Null | Value::Array(_) => String::new(),
            other => other.to_string(),
        };
        let told = row.split('|').nth(2).unwrap().replace('`', "");
        assert!(
            told.trim().starts_with(&default),
            "docs/settings.md says {told:?} of {name}, whose default is {default:?}"
        );
    }
}
