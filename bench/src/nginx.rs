//! nginx as upstream, as plain proxy, and as proxy that asks an auth service: each with a configuration and a directory of
//! its own, on loopback, as a child of this process.

use std::{fs, net::SocketAddr, path::Path, process::Stdio};

use system_tests::stack::{free_address, until};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

/// A running nginx. It ends when this is dropped.
pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    child: Child,
}

/// What an nginx does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    /// Answers everything with 200 bytes.
    Upstream,
    /// Permits everything, without a body: that of a subrequest is not read, and would cost the connection.
    Auth,
    /// Passes everything to the upstream.
    Proxy { upstream: SocketAddr },
    /// Asks `auth` about each request first.
    AuthRequest { upstream: SocketAddr, auth: SocketAddr },
}

/// Connections that an nginx takes; the idle ones of a measurement fit.
const CONNECTIONS: u32 = 12_000;

impl Nginx {
    /// Starts one and waits until it answers.
    pub(crate) async fn start(directory: &Path, name: &str, role: Role) -> Self {
        let address = free_address();
        let home = directory.join(name);
        fs::create_dir_all(&home).expect("a directory for nginx");
        let config = home.join("nginx.conf");
        fs::write(&config, configuration(address, role)).expect("nginx's configuration is written");
        let child = Command::new("nginx")
            .arg("-p")
            .arg(&home)
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(home.join("error.log"))
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx starts: is the package nginx-light installed?");
        let listens = || async { TcpStream::connect(address).await.is_ok() };
        until(&format!("nginx listens, see {}", home.display()), listens).await;
        Self { address, child }
    }

    /// The process that the others belong to.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("a running nginx")
    }
}

impl Drop for Nginx {
    /// The workers of a killed nginx would stay.
    fn drop(&mut self) {
        if let Some(pid) = self.child.id() {
            let _ = std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status();
        }
    }
}

fn configuration(address: SocketAddr, role: Role) -> String {
    let server = match role {
        Role::Upstream => {
            let body = "x".repeat(200);
            format!("location / {{ default_type text/plain; return 200 \"{body}\"; }}")
        }
        Role::Auth => "location / { return 204; }".to_owned(),
        Role::Proxy { .. } => format!("location / {{ {PASS} proxy_pass http://upstream; }}"),
        Role::AuthRequest { .. } => format!(
            "location / {{ auth_request /_auth; {PASS} proxy_pass http://upstream; }}
             location = /_auth {{ internal; proxy_pass http://auth; proxy_http_version 1.1;
               proxy_set_header Connection \"\"; proxy_pass_request_body off; proxy_set_header Content-Length \"\";
               proxy_set_header X-Original-URI $request_uri; }}"
        ),
    };
    let upstream = |name: &str, address: SocketAddr| {
        format!("upstream {name} {{ server {address}; keepalive 256; keepalive_requests 1000000000; }}\n")
    };
    let upstreams = match role {
        Role::Upstream | Role::Auth => String::new(),
        Role::Proxy { upstream: to } => upstream("upstream", to),
        Role::AuthRequest { upstream: to, auth } => upstream("upstream", to) + &upstream("auth", auth),
    };
    // As many workers as Tatami has threads; what answers is the same for all.
    let workers = if matches!(role, Role::Upstream | Role::Auth) { "1" } else { "auto" };
    format!(
        "daemon off; pid nginx.pid; user root; worker_processes {workers}; worker_rlimit_nofile {CONNECTIONS};
         events {{ worker_connections {CONNECTIONS}; }}
         http {{
           access_log off; keepalive_timeout 300; keepalive_requests 1000000000;
           client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
           uwsgi_temp_path uwsgi; scgi_temp_path scgi;
           {upstreams}
           server {{ listen {address} backlog=4096; {server} }}
         }}"
    )
}

/// What a gateway has to add, too.
const PASS: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host $host; \
                    proxy_set_header X-Request-Id $request_id;";
