//! Settings: one table for the file, the environment and the flags. A flag overrides the environment, which overrides the
//! file, which overrides the default.

mod choice;
mod edit;
mod error;
mod from_setting;
mod layers;
mod masked;
mod schema;
mod template;
mod value;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use tenure_domain::{Policy, PolicySettings};

pub(crate) use choice::{Choice, Durability, Profile};
pub(crate) use edit::{set, unset};
pub(crate) use error::SettingsError;
pub(crate) use from_setting::FromSetting;
pub(crate) use layers::{Source, unknown_key};
pub(crate) use masked::masked;
pub(crate) use schema::{GATEWAY, GatewaySettings, Key, REDIS, RedisSettings, SESSION, find, keys};
pub(crate) use template::{json_schema, template};
pub(crate) use value::Value;

use layers::{Problems, Setting};
use schema::{BACKEND, Fallback, JSON};

use crate::backends::BackendKind;
use crate::global::Global;
use crate::output::Output;

/// Checked settings, each with its source.
#[derive(Debug)]
pub(crate) struct Settings {
    set: Vec<Setting>,
    policy: Policy,
    warnings: Problems,
}

/// A setting, the flag that sets it, and the value of the flag if it was given.
pub(crate) type FlagValue<'a> = (&'static Key, &'static str, Option<&'a str>);

/// The value of a setting that is in force, and its source.
pub(crate) struct Effective<'a> {
    pub(crate) key: &'static Key,
    pub(crate) value: Option<Value>,
    pub(crate) source: &'a Source,
}

/// The path of the settings file, and whether a flag or the environment names it.
pub(crate) struct ConfigPath {
    pub(crate) path: PathBuf,
    pub(crate) asked: bool,
}

impl ConfigPath {
    /// Finds the settings file: by `--config`, by `TENURE_CONFIG`, or at its default path.
    pub(crate) fn find(global: &Global) -> Result<Self, SettingsError> {
        let asked = global.config.clone().or_else(|| std::env::var_os("TENURE_CONFIG").map(PathBuf::from));
        match asked {
            Some(path) if path.as_os_str().is_empty() => {
                Err(SettingsError::one("TENURE_CONFIG is empty; unset it, or name a file"))
            }
            Some(path) => Ok(Self { path, asked: true }),
            None => Ok(Self { path: directories()?.config_dir().join("tenure").join("config.toml"), asked: false }),
        }
    }

    /// Reads the settings file. Returns `None` if the default path has no file.
    pub(crate) fn read(&self) -> Result<Option<String>, SettingsError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound && !self.asked => Ok(None),
            Err(error) => {
                Err(SettingsError::one(format!("could not read the settings {}: {error}", self.path.display())))
            }
        }
    }
}

fn directories() -> Result<etcetera::base_strategy::Xdg, SettingsError> {
    etcetera::base_strategy::Xdg::new().map_err(|_| no_home())
}

fn no_home() -> SettingsError {
    SettingsError::one("there is no home directory: set HOME, or name the files with --config and --store")
}

impl Settings {
    /// Reads and checks all layers.
    pub(crate) fn load(global: &Global) -> Result<Self, SettingsError> {
        Self::load_with(global, &[])
    }

    /// Reads and checks all layers, with a command's own flags above the others.
    pub(crate) fn load_with(global: &Global, more: &[FlagValue<'_>]) -> Result<Self, SettingsError> {
        let mut problems = Problems::new();
        let config = ConfigPath::find(global)?;
        let mut flags = vec![
            (&BACKEND, "--backend", global.backend.as_deref()),
            (&JSON.store, "--store", global.store.as_deref()),
            (&REDIS.url, "--redis-url", global.redis_url.as_deref()),
            (&REDIS.durability, "--durability", global.durability.as_deref()),
        ];
        flags.extend(more);
        let mut set = layers::from_flags(&flags, &mut problems);
        let mut warnings = Problems::new();
        set.extend(layers::from_environment(std::env::vars_os(), &mut problems, &mut warnings));
        if let Some(text) = config.read()? {
            set.extend(layers::from_file(&config.path, &text, &mut problems));
        }
        Ok(Self { warnings, ..Self::check(set, problems)? })
    }

    /// Returns warnings about environment variables that may be mistyped settings.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Prints the warnings.
    pub(crate) fn warn(&self, out: Output) {
        self.warnings.iter().for_each(|warning| out.warn(warning));
    }

    /// Reads and checks a settings file without the other layers.
    pub(crate) fn of_file(path: &Path, text: &str) -> Result<Self, SettingsError> {
        let mut problems = Problems::new();
        let set = layers::from_file(path, text, &mut problems);
        Self::check(set, problems)
    }

    fn check(set: Vec<Setting>, mut problems: Problems) -> Result<Self, SettingsError> {
        let mut settings = Self { set, policy: Policy::default(), warnings: Problems::new() };
        if problems.is_empty() {
            match Policy::new(&settings.policy_settings()) {
                Ok(policy) => settings.policy = policy,
                Err(error) => {
                    let source = settings.source(error.key);
                    problems.push(format!("{} is {} ({source}): it takes {}", error.key, error.value, error.allowed));
                }
            }
            problems.extend(settings.contradictions());
        }
        if problems.is_empty() { Ok(settings) } else { Err(SettingsError(problems)) }
    }

    fn contradictions(&self) -> Problems {
        let mut problems = Problems::new();
        for (one, other) in [(&REDIS.tls_cert, &REDIS.tls_key), (&GATEWAY.tls_cert, &GATEWAY.tls_key)] {
            if self.text(one).is_some() != self.text(other).is_some() {
                problems.push(format!(
                    "{one} and {other} belong together; only one of them is set (tenure config set takes several pairs)"
                ));
            }
        }
        let (admin_tls, tls_cert) = (&GATEWAY.admin_tls, &GATEWAY.tls_cert);
        if self.value(admin_tls) == Some(Value::Flag(true)) && self.text(tls_cert).is_none() {
            problems.push(format!("{admin_tls} is true, but {tls_cert} is not set: name a certificate"));
        }
        for Setting { key, source, .. } in &self.set {
            let Source::Flag(flag) = source else { continue };
            let owner = key.parts().0.and_then(BackendKind::from_name);
            if let Some(owner) = owner.filter(|owner| *owner != self.backend()) {
                problems.push(format!("{flag} has no effect on this backend; add --backend {}", owner.name()));
            }
        }
        problems
    }

    /// Returns the settings of the policy that a layer sets. The domain has the defaults.
    fn policy_settings(&self) -> PolicySettings {
        let span = |key| self.given(key);
        PolicySettings {
            token_ttl: span(&SESSION.token_ttl),
            rotate_before_expiry: span(&SESSION.rotate_before_expiry),
            max_sessions_per_device: self.given(&SESSION.max_sessions_per_device),
            idle_timeout: span(&SESSION.idle_timeout),
            max_lifetime: span(&SESSION.max_lifetime),
            rotation_overlap: span(&SESSION.rotation_overlap),
            replay_tolerance: span(&SESSION.replay_tolerance),
            retention: span(&SESSION.retention),
        }
    }

    /// Returns the value that a layer sets; `None` if the default applies or the value is `off`.
    fn given<T: FromSetting>(&self, key: &'static Key) -> Option<T> {
        self.set(key.name).and_then(|setting| T::from_setting(Some(setting.value.clone())))
    }

    fn set(&self, name: &str) -> Option<&Setting> {
        self.set.iter().find(|setting| setting.key.name == name)
    }

    fn source(&self, name: &str) -> &Source {
        self.set(name).map_or(&Source::Default, |setting| &setting.source)
    }

    /// Returns the policy, which the session rules follow.
    pub(crate) const fn policy(&self) -> Policy {
        self.policy
    }

    /// Returns the backend that keeps the sessions.
    pub(crate) fn backend(&self) -> BackendKind {
        self.text(&BACKEND).and_then(|name| BackendKind::from_name(&name)).unwrap_or(BackendKind::Json)
    }

    /// Returns the file of the json backend.
    ///
    /// # Errors
    /// [`SettingsError`] if it is not set and there is no home directory.
    pub(crate) fn store(&self) -> Result<PathBuf, SettingsError> {
        self.read::<Option<PathBuf>>(&JSON.store)?.ok_or_else(no_home)
    }

    /// Returns the value of a setting that is in force; `None` if it has none.
    fn value(&self, key: &'static Key) -> Option<Value> {
        if let Some(setting) = self.set(key.name) {
            return Some(setting.value.clone());
        }
        match key.default {
            Fallback::Policy(_, of) => Some(Value::Span(of(&self.policy))),
            Fallback::Is(text) => key.kind.read(text).ok(),
            Fallback::State(name) => state_file(name).ok().map(|path| Value::Text(path.display().to_string())),
            Fallback::Unset => None,
        }
    }

    /// Returns the value of a setting that is in force, with its source.
    pub(crate) fn effective(&self, key: &'static Key) -> Effective<'_> {
        Effective { key, value: self.value(key), source: self.source(key.name) }
    }

    /// Reads the value of a setting that is in force as a type.
    ///
    /// # Errors
    /// [`SettingsError`] that names a setting without the value that it needs.
    pub(crate) fn read<T: FromSetting>(&self, key: &'static Key) -> Result<T, SettingsError> {
        let value = self.value(key);
        let problem = match &value {
            None => format!("{} is not set", key.name),
            Some(value) => {
                format!("{} is {}, which cannot be used", key.name, layers::shown(key.kind, &value.to_string()))
            }
        };
        T::from_setting(value).ok_or_else(|| SettingsError::one(problem))
    }

    /// Returns the value of a setting that is in force as text; `None` if it has none.
    pub(crate) fn text(&self, key: &'static Key) -> Option<String> {
        self.value(key).map(|value| value.to_string())
    }
}

fn state_file(name: &str) -> Result<PathBuf, SettingsError> {
    let directories = directories()?;
    let state = directories.state_dir().unwrap_or_else(|| directories.data_dir());
    Ok(state.join("tenure").join(name))
}
