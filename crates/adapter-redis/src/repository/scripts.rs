//! The Lua scripts, called by digest.

use std::sync::LazyLock;

/// A script and what `SCRIPT LOAD` would answer for it.
pub(crate) struct Script {
    pub(crate) code: String,
    pub(crate) digest: String,
}

impl Script {
    fn new(code: String) -> Self {
        let digest = redis::Script::new(&code).get_hash().to_owned();
        Self { code, digest }
    }
}

const SETTLED: &str = include_str!("scripts/settled.lua");
const SHARED: &str = include_str!("scripts/shared.lua");

/// Refused by a server that is out of memory.
fn strict(body: &str) -> Script {
    Script::new(format!("#!lua\n{SETTLED}\n{SHARED}\n{body}"))
}

/// Runs on a server that is out of memory: what ends, removes or only moves things must always work.
fn always(body: &str) -> Script {
    Script::new(format!("#!lua flags=allow-oom\n{SETTLED}\n{SHARED}\n{body}"))
}

/// For decisions that add sessions.
pub(crate) static COMMIT: LazyLock<Script> = LazyLock::new(|| strict(include_str!("scripts/commit.lua")));
/// For decisions that only change or end some.
pub(crate) static COMMIT_ALWAYS: LazyLock<Script> = LazyLock::new(|| always(include_str!("scripts/commit.lua")));
pub(crate) static TOUCH: LazyLock<Script> = LazyLock::new(|| always(include_str!("scripts/touch.lua")));
pub(crate) static PURGE: LazyLock<Script> = LazyLock::new(|| always(include_str!("scripts/purge.lua")));
pub(crate) static LOAD: LazyLock<Script> =
    LazyLock::new(|| Script::new(format!("#!lua flags=no-writes\n{SETTLED}\n{}", include_str!("scripts/load.lua"))));
pub(crate) static BARRIER: LazyLock<Script> = LazyLock::new(|| always(include_str!("scripts/barrier.lua")));
/// Does nothing, on a server that would take a write.
pub(crate) static PROBE: LazyLock<Script> = LazyLock::new(|| Script::new("#!lua\nreturn 1".to_owned()));
