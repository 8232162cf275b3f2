//! Other programs with the configurations of docs/forward-auth: nginx, Caddy, Traefik and Envoy themselves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::site::{Reply, send, until};

/// A program that asks Tenure before it forwards a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Program {
    Nginx,
    Caddy,
    Traefik,
    Envoy,
}

impl Program {
    /// Its name, the variable that says where it is, and its file in docs/forward-auth.
    pub(crate) const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Nginx => ("nginx", "TEST_NGINX", "nginx.conf"),
            Self::Caddy => ("caddy", "TEST_CADDY", "Caddyfile"),
            Self::Traefik => ("traefik", "TEST_TRAEFIK", "traefik.yml"),
            Self::Envoy => ("envoy", "TEST_ENVOY", "envoy.yaml"),
        }
    }

    fn path(self) -> PathBuf {
        let (name, variable, _) = self.names();
        if let Some(path) = std::env::var_os(variable) {
            return path.into();
        }
        let mut folders: Vec<PathBuf> =
            std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap();
        folders.extend(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from));
        let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        found.unwrap_or_else(|| panic!("{name} is missing: install it, or set {variable} to its path"))
    }

    /// The command that runs it with this configuration, whose clients connect at `address`.
    fn command(self, config: &str, address: SocketAddr, folder: &Path) -> Command {
        let at = folder.join(self.names().2);
        let mut command = Command::new(self.path());
        let root = folder.display();
        match self {
            Self::Nginx => {
                // An `http` block that suits others: what the file needs it has to say itself.
                let whole = format!(
                    "daemon off; pid {root}/pid; error_log stderr crit; events {{}}
                     http {{ access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b;
                     fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
                     underscores_in_headers on; ignore_invalid_headers off; merge_slashes off;
                     proxy_http_version 1.0;\n{config}\n}}"
                );
                std::fs::write(&at, whole).unwrap();
                command.args(["-e", "stderr", "-c"]).arg(&at);
            }
            Self::Caddy => {
                std::fs::write(&at, config).unwrap();
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&at);
                command.env("HOME", folder).env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
                command.stderr(Stdio::null());
            }
            Self::Traefik => {
                std::fs::write(&at, config).unwrap();
                command.arg(format!("--entrypoints.web.address={address}"));
                command.arg(format!("--providers.file.filename={}", at.display()));
                command.arg("--log.level=ERROR");
                // What no file of the provider can say, it says in a comment.
                command.args(config.split_whitespace().filter(|word| word.starts_with("--entrypoints.web.http")));
            }
            Self::Envoy => {
                std::fs::write(&at, config).unwrap();
                command.arg("--config-path").arg(&at).args(["--use-dynamic-base-id", "--log-level", "error"]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// One that runs, stopped when it is dropped.
pub(crate) struct Other {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Where it takes HTTP/2 without TLS.
    pub(crate) http2: SocketAddr,
    _folder: TempDir,
}

impl Other {
    pub(crate) async fn start(program: Program, tenure: SocketAddr, app: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = [(), ()].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
        let [address, http2] = [&free[0], &free[1]].map(|free| free.local_addr().unwrap());
        drop(free);
        let (name, _, file) = program.names();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/forward-auth");
        let mut config = std::fs::read_to_string(docs.join(file)).unwrap();
        let port = |before: &str, address: SocketAddr| format!("{before}{}", address.port());
        let places = match program {
            Program::Nginx | Program::Caddy => vec![
                ("127.0.0.1:8470", tenure.to_string()),
                ("127.0.0.1:3000", app.to_string()),
                (":8080", port(":", address)),
            ],
            // Where its clients connect is said when it is started.
            Program::Traefik => vec![("127.0.0.1:8470", tenure.to_string()), ("127.0.0.1:3000", app.to_string())],
            Program::Envoy => vec![
                ("127.0.0.1:8470", tenure.to_string()),
                ("port_value: 8470", port("port_value: ", tenure)),
                ("port_value: 3000", port("port_value: ", app)),
                ("port_value: 8080", port("port_value: ", address)),
            ],
        };
        for (place, here) in places {
            assert!(config.contains(place), "{place} is not in {file}");
            config = config.replace(place, &here);
        }
        // Besides what the file says, so that clients of HTTP/2 can be tried without certificates.
        let http2 = match program {
            Program::Nginx => {
                config =
                    config.replace(&format!("listen {address};"), &format!("listen {address}; listen {http2} http2;"));
                http2
            }
            Program::Caddy => {
                let servers = format!("admin off\nservers {http2} {{\nprotocols h1 h2c\n}}");
                config = config.replace("admin off", &servers);
                let (one, two) = (port("http://:", address), port("http://:", http2));
                config = config.replace(&format!("{one} {{"), &format!("{one}, {two} {{"));
                http2
            }
            Program::Traefik | Program::Envoy => address,
        };
        let child = program.command(&config, address, folder.path()).spawn().unwrap();
        let other = Self { child, address, http2, _folder: folder };
        // Traefik listens before it has read its configuration.
        let ready =
            async || TcpStream::connect(address).await.is_ok() && other.get("/_tenure/login", &[]).await.status == 200;
        until(name, ready).await;
        other
    }

    pub(crate) async fn get(&self, path: &str, lines: &[&str]) -> Reply {
        self.ask("GET", path, lines).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, lines: &[&str]) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: tenure.test\r\nconnection: close\r\n");
        for line in lines {
            request += &format!("{line}\r\n");
        }
        Reply::parse(&send(self.address, &format!("{request}\r\n")).await)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Asked to end, nginx takes its workers along.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
