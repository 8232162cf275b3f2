//! The layers that settings come from: flags, the environment, the file. Each is read into a list of values.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml_edit::{Item, TableLike};

use super::FlagValue;
use super::masked::masked;
use super::schema::{self, Key, keys};
use super::value::{Kind, Value};

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A command-line flag.
    Flag(&'static str),
    /// An environment variable.
    Environment(String),
    /// A line of the settings file.
    File { path: PathBuf, line: usize },
    /// The default, since no layer sets the value.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => f.write_str(name),
            Self::Environment(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting, its value in one layer, and the source.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    pub(crate) value: Value,
    pub(crate) source: Source,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key.name, shown(self.key.kind, &self.value.to_string()), self.source)
    }
}

/// Problems with the settings, each as a sentence.
pub(crate) type Problems = Vec<String>;

/// The environment variables of this program that are not settings.
const OTHER_VARIABLES: [&str; 2] = ["TENURE_CONFIG", "TENURE_TOKEN"];

/// Returns a value as an error shows it: at most 80 characters, and without the secrets of a URL.
pub(crate) fn shown(kind: Kind, text: &str) -> String {
    let text = if kind.is_url() { masked(text) } else { text.to_owned() };
    let mut clipped: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

/// Returns the problem with a value, with its source and what the setting takes.
pub(crate) fn problem(key: &Key, value: &str, source: Option<&Source>, problem: &str) -> String {
    let more = if problem.is_empty() { String::new() } else { format!("{problem}; ") };
    let source = source.map_or_else(String::new, |source| format!(" ({source})"));
    let value = if value.is_empty() { "empty".to_owned() } else { shown(key.kind, value) };
    format!("{} is {value}{source}: {more}it takes {}", key.name, key.kind.allowed())
}

fn unknown(what: &str, name: &str, names: &[String]) -> String {
    let near = schema::near(name, names.iter().map(String::as_str));
    let hint = match near[..] {
        [] => "tenure config schema lists all settings".to_owned(),
        _ => format!("did you mean {}?", near.join(" or ")),
    };
    format!("{what}; {hint}")
}

/// Returns the problem with a setting that does not exist, with similar names.
pub(crate) fn unknown_key(name: &str, place: &str) -> String {
    let names: Vec<String> = keys().map(|key| key.name.to_owned()).collect();
    let name: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
    unknown(&format!("there is no setting {name}{place}"), &name, &names)
}

/// Reads the values that flags set.
pub(crate) fn from_flags(flags: &[FlagValue<'_>], problems: &mut Problems) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (key, flag, text) in flags {
        if let Some(text) = text {
            take(key, text, Source::Flag(flag), &mut settings, problems);
        }
    }
    settings
}

fn take(key: &'static Key, text: &str, source: Source, settings: &mut Vec<Setting>, problems: &mut Problems) {
    match key.kind.read(text) {
        Ok(value) => settings.push(Setting { key, value, source }),
        Err(error) => problems.push(problem(key, text, Some(&source), &error)),
    }
}

/// Reads the values that the environment sets. An unknown variable whose name has a section is a mistyped setting, which
/// is a problem. Any other unknown variable gets a warning only, since orchestrators name variables after services.
pub(crate) fn from_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    for (name, text) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("TENURE_")) else {
            continue;
        };
        if OTHER_VARIABLES.contains(&name) {
            continue;
        }
        let Some(key) = keys().find(|key| key.short == Some(name) || key.variable() == name) else {
            if !is_service_link(name) {
                let names: Vec<String> =
                    keys().flat_map(|key| [Some(key.variable()), key.short.map(str::to_owned)]).flatten().collect();
                let problem = unknown(&format!("the environment variable {name} is not a setting"), name, &names);
                if name.contains("__") { problems.push(problem) } else { warnings.push(problem) }
            }
            continue;
        };
        let Some(text) = text.to_str() else {
            problems.push(format!("{name} is not UTF-8"));
            continue;
        };
        let source = Source::Environment(name.to_owned());
        let before = settings.iter().find(|setting| setting.key.name == key.name);
        if let Some(before) = before.filter(|before| before.value.to_string() != text) {
            problems.push(format!("{name} and {} set {} to different values", before.source, key.name));
            continue;
        }
        take(key, text, source, &mut settings, problems);
    }
    settings
}

/// Returns whether Kubernetes (or Docker before it) sets this variable in containers for a service called `tenure` or
/// `tenure-…`. Its name ends in `_SERVICE_HOST`, `_SERVICE_PORT`, `_SERVICE_PORT_NAME`, `_PORT`, or `_PORT_8470_TCP`, which
/// may be followed by `_PROTO`, `_PORT` or `_ADDR`. No setting has such a name; after a section, settings have two
/// underscores.
fn is_service_link(name: &str) -> bool {
    let is_port = |rest: &str| {
        let mut parts = rest.splitn(3, '_');
        let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
        number
            && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
            && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
    };
    let behind = |part: &'static str| {
        name.match_indices(part).filter_map(move |(at, _)| name[at + part.len()..].strip_prefix('_'))
    };
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.ends_with("_PORT")
            || behind("_SERVICE_PORT").any(|port| !port.is_empty())
            || behind("_PORT").any(is_port))
}

/// Reads the values that a settings file sets. Relative paths in it start from the directory of the file.
pub(crate) fn from_file(path: &Path, text: &str, problems: &mut Problems) -> Vec<Setting> {
    let document = match toml_edit::Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            problems.push(format!("{}:{line}: not TOML: {}", path.display(), error.message().trim()));
            return Vec::new();
        }
    };
    let mut settings = Vec::new();
    let mut walk = Walk { path, text, settings: &mut settings, problems };
    walk.table(document.as_table(), "");
    settings
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

struct Walk<'a> {
    path: &'a Path,
    text: &'a str,
    settings: &'a mut Vec<Setting>,
    problems: &'a mut Problems,
}

impl Walk<'_> {
    fn table(&mut self, table: &dyn TableLike, within: &str) {
        for (name, item) in table.iter() {
            let name = if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") };
            let line = line_of(self.text, item.span().map_or(0, |span| span.start));
            let source = Source::File { path: self.path.to_owned(), line };
            match (schema::find(&name), item) {
                (Some(key), Item::Value(value)) => self.value(key, value, source),
                (Some(key), _) => self.problems.push(problem(key, "a table", Some(&source), "")),
                (None, item) => match item.as_table_like().filter(|_| is_section(&name)) {
                    Some(table) => self.table(table, &name),
                    None => self.problems.push(unknown_key(&name, &format!(" ({source})"))),
                },
            }
        }
    }

    fn value(&mut self, key: &'static Key, value: &toml_edit::Value, source: Source) {
        match key.kind.read_toml(value) {
            Ok(value) => {
                let value = match (key.kind, value) {
                    (Kind::Path, Value::Text(path)) => Value::Text(self.beside_the_file(&path)),
                    (_, value) => value,
                };
                self.settings.push(Setting { key, value, source });
            }
            Err(error) => {
                let text = value.as_str().map_or_else(|| value.to_string().trim().to_owned(), str::to_owned);
                self.problems.push(problem(key, &text, Some(&source), &error));
            }
        }
    }

    fn beside_the_file(&self, path: &str) -> String {
        match self.path.parent() {
            Some(directory) => directory.join(path).to_string_lossy().into_owned(),
            None => path.to_owned(),
        }
    }
}

fn is_section(name: &str) -> bool {
    keys().any(|key| key.parts().0 == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_url_is_not_debugged() {
        let url = "unix:///run/r.sock?pass=hunter2";
        let mut problems = Problems::new();
        let set = from_flags(&[(&schema::REDIS.url, "--redis-url", Some(url))], &mut problems);
        assert_eq!(format!("{set:?} {problems:?}"), "[redis.url = unix:///run/r.sock?*** (--redis-url)] []");
        from_flags(&[(&schema::GATEWAY.upstream, "--upstream", Some("http://u:hunter2@h"))], &mut problems);
        assert!(problems.len() == 1 && !format!("{problems:?}").contains("hunter2"), "{problems:?}");
    }

    #[test]
    fn the_short_and_the_long_form_may_not_disagree() {
        let variables = [("TENURE_STORE", "/a"), ("TENURE_JSON__STORE", "/b"), ("PATH", "/bin")];
        let (mut problems, mut warnings) = (Problems::new(), Problems::new());
        from_environment(variables.into_iter().map(|(a, b)| (a.into(), b.into())), &mut problems, &mut warnings);
        assert_eq!(problems, ["TENURE_JSON__STORE and TENURE_STORE set json.store to different values"]);
        assert_eq!(warnings, Problems::new());
    }

    #[test]
    fn service_links_are_told_from_settings() {
        for name in [
            "TENURE_PORT",
            "TENURE_SERVICE_HOST",
            "TENURE_SERVICE_PORT",
            "TENURE_SERVICE_PORT_HTTP",
            "TENURE_SERVICE_PORT_HTTP_ADMIN",
            "TENURE_PORT_8470_TCP",
            "TENURE_PORT_8470_TCP_PROTO",
            "TENURE_PORT_8470_TCP_PORT",
            "TENURE_PORT_8470_TCP_ADDR",
            "TENURE_PORT_53_UDP_ADDR",
            "TENURE_REDIS_SERVICE_HOST",
            "TENURE_STORE_PORT",
            "TENURE_STORE_PORT_6379_TCP",
            "TENURE_PORT_PORT_1_SCTP",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        let known = keys().flat_map(|key| [Some(key.variable()), key.short.map(str::to_owned)]).flatten();
        let others =
            ["TENURE_REDIS_URLS", "TENURE_PORTS", "TENURE_PORT_8470", "TENURE_PORT_X_TCP", "TENURE_GATEWAY__PORT"];
        for name in known.chain(others.map(str::to_owned)).chain(OTHER_VARIABLES.map(str::to_owned)) {
            assert!(!is_service_link(&name), "{name}");
        }
    }

    #[test]
    fn a_line_is_named() {
        let mut problems = Problems::new();
        from_file(Path::new("/c.toml"), "# x\n[session]\ntoken_ttl = \"0s\"\nttl = 3\n", &mut problems);
        assert_eq!(problems[0], "session.token_ttl is 0s (/c.toml:3): it takes 1s to 365d");
        assert!(problems[1].starts_with("there is no setting session.ttl (/c.toml:4); did you mean session.token_ttl"));
    }
}
