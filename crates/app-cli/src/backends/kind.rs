//! The names of the backends. Flags and settings need them, and must not depend on the code that opens a store.

/// A backend that keeps sessions. Its name is also the section of its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackendKind {
    Json,
    Redis,
}

impl BackendKind {
    /// All backends, in the order in which users see them.
    const ALL: [Self; 2] = [Self::Json, Self::Redis];

    /// The names of all backends.
    pub(crate) const NAMES: [&str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].name();
            at += 1;
        }
        names
    };

    /// Returns the name of the backend, as `--backend` takes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Redis => "redis",
        }
    }

    /// Returns the backend with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
