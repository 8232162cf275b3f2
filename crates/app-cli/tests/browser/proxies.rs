//! nginx and Caddy in front of the gateway.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep};

use crate::chromium::{HOST, PATIENCE};
use crate::house::certify;

/// A running proxy, which is stopped on drop.
pub(crate) struct Proxy {
    child: Child,
    address: SocketAddr,
    tls: bool,
    _folder: TempDir,
}

impl Proxy {
    /// Starts nginx with a header that many people add. It must not prevent the log-in.
    pub(crate) async fn nginx(behind: SocketAddr, tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, address) = (folder.path().display(), free());
        let (cert, key) = certify(folder.path());
        let listen = match tls {
            true => format!("listen {address} ssl; ssl_certificate {cert}; ssl_certificate_key {key};"),
            false => format!("listen {address};"),
        };
        let config = format!(
            "daemon off; pid {root}/pid; error_log stderr crit; events {{}}
             http {{ access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b;
             fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
             server {{ {listen} add_header Referrer-Policy no-referrer always;
             location / {{ proxy_pass http://{behind}; proxy_set_header Host $http_host;
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
             proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto $scheme; }} }} }}"
        );
        let at = folder.path().join("nginx.conf");
        std::fs::write(&at, config).unwrap();
        let mut command = Command::new(program("nginx", "TEST_NGINX"));
        command.args(["-e", "stderr", "-c"]).arg(at);
        Self::started(command, address, tls, folder).await
    }

    pub(crate) async fn caddy(behind: SocketAddr, tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free();
        let (cert, key) = certify(folder.path());
        let (scheme, with) = if tls { ("https", format!("tls {cert} {key}")) } else { ("http", String::new()) };
        let config = format!(
            "{{\n admin off\n auto_https off\n}}\n{scheme}://{HOST}:{} {{\n bind 127.0.0.1\n {with}\n reverse_proxy {behind}\n}}\n",
            address.port()
        );
        let at = folder.path().join("Caddyfile");
        std::fs::write(&at, config).unwrap();
        let mut command = Command::new(program("caddy", "TEST_CADDY"));
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(at);
        for name in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(name, folder.path());
        }
        Self::started(command, address, tls, folder).await
    }

    async fn started(mut command: Command, address: SocketAddr, tls: bool, folder: TempDir) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let proxy = Self { child, address, tls, _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "{command:?} does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        proxy
    }

    /// Returns the URL that a person types into a browser.
    pub(crate) fn url(&self) -> String {
        format!("{}://{HOST}:{}", if self.tls { "https" } else { "http" }, self.address.port())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // On SIGTERM, nginx also ends its workers.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

fn program(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let mut folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(|folder| Path::new(folder).to_owned()));
    let mut places = folders.iter().map(|folder| folder.join(name));
    places.find(|path| path.is_file()).unwrap_or_else(|| panic!("{name} is missing: install it, or set {variable}"))
}
