//! What an examination of the server found.

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, with a risk.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that an examination of a store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it; empty where there is nothing to do.
    pub advice: String,
}
