//! Programs that the tests need and cargo cannot bring: found, or installed where this process may, or named as missing.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::cargo::stream;

/// A program, the version that the tests need, and what each package manager calls it. A new one is one more entry.
const TOOLS: &[Tool] = &[
    Tool {
        programs: &["redis-server", "valkey-server"],
        version_flag: "--version",
        minimum: Version(7, 0),
        variable: "TEST_REDIS_SERVER",
        packages: Packages { apt: "redis-server", apk: "redis", dnf: "redis", pacman: "valkey", brew: "redis" },
    },
    Tool {
        programs: &["nginx"],
        version_flag: "-v",
        minimum: Version(1, 18),
        variable: "TEST_NGINX",
        packages: Packages { apt: "nginx", apk: "nginx", dnf: "nginx", pacman: "nginx", brew: "nginx" },
    },
    Tool {
        programs: &["caddy"],
        version_flag: "version",
        minimum: Version(2, 6),
        variable: "TEST_CADDY",
        packages: Packages { apt: "caddy", apk: "caddy", dnf: "caddy", pacman: "caddy", brew: "caddy" },
    },
    // 7.82 is the first to know --json, which the examples of docs/http-api.md use.
    Tool {
        programs: &["curl"],
        version_flag: "--version",
        minimum: Version(7, 82),
        variable: "TEST_CURL",
        packages: Packages { apt: "curl", apk: "curl", dnf: "curl", pacman: "curl", brew: "curl" },
    },
    Tool {
        programs: &["chromium", "chromium-browser", "google-chrome"],
        version_flag: "--version",
        minimum: Version(120, 0),
        variable: "TEST_CHROMIUM",
        packages: Packages { apt: "chromium", apk: "chromium", dnf: "chromium", pacman: "chromium", brew: "chromium" },
    },
];

struct Tool {
    /// Names under which it is found, the preferred one first.
    programs: &'static [&'static str],
    version_flag: &'static str,
    minimum: Version,
    /// Tells the tests where it is. Where the developer has set it, that program is taken.
    variable: &'static str,
    packages: Packages,
}

struct Packages {
    apt: &'static str,
    apk: &'static str,
    dnf: &'static str,
    pacman: &'static str,
    brew: &'static str,
}

struct Manager {
    program: &'static str,
    package: fn(&Packages) -> &'static str,
    /// Fetches the lists of packages first, where installing does not.
    refresh: &'static [&'static str],
    install: &'static [&'static str],
    needs_root: bool,
    /// Whether its packages start their services when they are installed.
    starts_services: bool,
}

const MANAGERS: &[Manager] = &[
    Manager {
        program: "apt-get",
        package: |packages| packages.apt,
        refresh: &["update"],
        install: &["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"],
        needs_root: true,
        starts_services: true,
    },
    Manager {
        program: "apk",
        package: |packages| packages.apk,
        refresh: &[],
        install: &["add", "--no-cache"],
        needs_root: true,
        starts_services: false,
    },
    Manager {
        program: "dnf",
        package: |packages| packages.dnf,
        refresh: &[],
        install: &["install", "-y"],
        needs_root: true,
        starts_services: false,
    },
    Manager {
        program: "pacman",
        package: |packages| packages.pacman,
        refresh: &[],
        install: &["-Sy", "--noconfirm", "--needed"],
        needs_root: true,
        starts_services: false,
    },
    Manager {
        program: "brew",
        package: |packages| packages.brew,
        refresh: &[],
        install: &["install"],
        needs_root: false,
        starts_services: false,
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.0, self.1)
    }
}

/// Where programs are looked for, and what this process may do.
pub(crate) struct Host {
    path: OsString,
    root: bool,
}

/// Every tool as the variable that names it to the tests and the path of the program.
///
/// All of them are tried, so that one run names everything that is missing.
pub(crate) fn ensure_all() -> Result<Vec<(&'static str, PathBuf)>> {
    let host = Host::this();
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for tool in TOOLS {
        match ensure(tool, &host, std::env::var_os(tool.variable).as_deref()) {
            Ok((path, version)) => {
                println!("{} {version} at {}", tool.programs[0], path.display());
                found.push((tool.variable, path));
            }
            Err(error) => missing.push(error),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(missing.join("\nerror: ")) }
}

fn ensure(tool: &Tool, host: &Host, named: Option<&OsStr>) -> Result<(PathBuf, Version)> {
    let path = match named {
        Some(named) => PathBuf::from(named),
        None => match host.find(tool.programs) {
            Some(path) => path,
            None => install(tool, host)?,
        },
    };
    let version = version(tool, &path)?;
    if version < tool.minimum {
        return Err(format!(
            "{} is version {version}, but the tests need {} or later: upgrade it, or set {} to the path of another",
            path.display(),
            tool.minimum,
            tool.variable
        ));
    }
    Ok((path, version))
}

/// Installs the tool with the first package manager that this process may use.
fn install(tool: &Tool, host: &Host) -> Result<PathBuf> {
    let program = tool.programs[0];
    let wanted = format!("{program} {} or later is missing, which the tests need", tool.minimum);
    let instead = format!("or set {} to its path", tool.variable);
    let present: Vec<(&Manager, PathBuf)> =
        MANAGERS.iter().filter_map(|manager| Some((manager, host.find(&[manager.program])?))).collect();
    let usable = present.iter().find(|(manager, _)| host.root || !manager.needs_root);
    let Some((manager, path)) = usable else {
        return Err(match present.first() {
            Some((manager, _)) => format!(
                "{wanted}, and only root may install it: run `sudo {} {} {}`, {instead}",
                manager.program,
                manager.install.join(" "),
                (manager.package)(&tool.packages)
            ),
            None => {
                format!("{wanted}, and there is no package manager that xtask knows: install it by hand, {instead}")
            }
        });
    };
    let package = (manager.package)(&tool.packages);
    println!("{program} is missing: installing {package}");
    if !manager.refresh.is_empty()
        && let Err(error) = stream(host.command(path).args(manager.refresh))
    {
        // The lists may be good enough all the same; if they are not, the next command fails.
        println!("{error}: going on with the package lists there are");
    }
    let installed = stream(
        host.command(path)
            .args(manager.install)
            .arg(package)
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Where there is no systemd, this keeps the package from starting its service: a user who runs the tests
            // did not ask for a server.
            .env("RUNLEVEL", "1"),
    );
    if manager.starts_services {
        stop_service(host, package);
    }
    installed.map_err(|error| format!("{wanted}: {error}: install it by hand, {instead}"))?;
    host.find(tool.programs)
        .ok_or_else(|| format!("{wanted}: {package} was installed, but {program} is not in PATH: {instead}"))
}

/// Stops the service that our own installation may have started. That it was not running is no error.
fn stop_service(host: &Host, service: &str) {
    let Some(path) = host.find(&["service"]) else {
        return;
    };
    let _not_running = host
        .command(&path)
        .args([service, "stop"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn version(tool: &Tool, path: &Path) -> Result<Version> {
    let output = Command::new(path).arg(tool.version_flag).stdin(Stdio::null()).output().map_err(|error| {
        format!("could not start {}: {error}: set {} to the path of one that runs", path.display(), tool.variable)
    })?;
    // nginx tells its version on standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    parse_version(&text).ok_or_else(|| {
        format!("no version in what `{} {}` printed: {}", path.display(), tool.version_flag, text.trim())
    })
}

/// The first `major.minor` in a text.
fn parse_version(text: &str) -> Option<Version> {
    text.split(|character: char| !(character.is_ascii_digit() || character == '.')).find_map(|word| {
        let mut parts = word.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(Version(major, minor))
    })
}

impl Host {
    pub(crate) fn this() -> Self {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        // Servers often live where only root looks.
        path.push(":/usr/local/sbin:/usr/sbin:/sbin");
        let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
        Self { path, root }
    }

    /// The first of these programs that is in the path.
    pub(crate) fn find(&self, programs: &[&str]) -> Option<PathBuf> {
        programs.iter().find_map(|program| {
            std::env::split_paths(&self.path)
                .filter(|directory| directory.is_absolute())
                .map(|directory| directory.join(program))
                .find(|path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0))
        })
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.path).stdin(Stdio::null());
        command
    }
}

#[cfg(test)]
mod tests;
