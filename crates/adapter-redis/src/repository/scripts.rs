//! The Lua scripts, which are called by digest.

use std::sync::LazyLock;

/// A script and its digest, as `SCRIPT LOAD` would return it.
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

/// Makes a script that a server refuses when it is out of memory.
fn strict(body: &str) -> Script {
    Script::new(format!("#!lua\n{SETTLED}\n{SHARED}\n{body}"))
}

/// Makes a script that a server also runs when it is out of memory: ending, removing and touching must always work.
fn always(body: &str) -> Script {
    Script::new(format!("#!lua flags=allow-oom\n{SETTLED}\n{SHARED}\n{body}"))
}

/// Applies a commit that adds sessions.
pub(crate) static COMMIT: LazyLock<Script> = LazyLock::new(|| strict(include_str!("scripts/commit.lua")));
/// Applies a commit that only changes or ends sessions.
pub(crate) static COMMIT_ALWAYS: LazyLock<Script> = LazyLock::new(|| always(include_str!("scripts/commit.lua")));
/// Moves sessions' activity forward.
pub(crate) static TOUCH: LazyLock<Script> = LazyLock::new(|| always(include_str!("scripts/touch.lua")));
/// Removes records of one device.
pub(crate) static PURGE: LazyLock<Script> = LazyLock::new(|| always(include_str!("scripts/purge.lua")));
/// Reads a device as of one instant.
pub(crate) static LOAD: LazyLock<Script> =
    LazyLock::new(|| Script::new(format!("#!lua flags=no-writes\n{SETTLED}\n{}", include_str!("scripts/load.lua"))));
/// Writes to a bucket what it already holds, so that `WAIT` covers all earlier writes.
pub(crate) static BARRIER: LazyLock<Script> = LazyLock::new(|| always(include_str!("scripts/barrier.lua")));
/// Does nothing, but is refused by a server that does not accept writes.
pub(crate) static PROBE: LazyLock<Script> = LazyLock::new(|| Script::new("#!lua\nreturn 1".to_owned()));
