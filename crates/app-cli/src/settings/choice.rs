//! The settings that take one of several words. Flags take the same words, so nothing here depends on other settings code.

/// A type whose values each have a name.
pub(crate) trait Choice: Copy + 'static {
    /// The names, in the order in which users see them.
    const NAMES: &'static [&'static str];

    /// Returns the value with this name.
    fn from_name(name: &str) -> Option<Self>;
}

/// When Redis acknowledges a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Once the server has it.
    Local,
    /// Once a replica has it too.
    Replicated,
}

impl Choice for Durability {
    const NAMES: &'static [&'static str] = &["local", "replicated"];

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "local" => Some(Self::Local),
            "replicated" => Some(Self::Replicated),
            _ => None,
        }
    }
}

/// A service whose clients do not send the token in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// OpenClaw and its relatives.
    OpenClaw,
}

impl Profile {
    /// Returns the name, as the settings have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OpenClaw => "openclaw",
        }
    }
}

impl Choice for Profile {
    const NAMES: &'static [&'static str] = &[Self::OpenClaw.name()];

    fn from_name(name: &str) -> Option<Self> {
        (name == Self::OpenClaw.name()).then_some(Self::OpenClaw)
    }
}
