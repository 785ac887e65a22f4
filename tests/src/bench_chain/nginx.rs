//! nginx stream → nginx stream.

use std::process::Command;

use super::topology::{Peer, Topology, version_line};
use super::world::World;
use crate::harness::{Process, Trouble, free_port};

const PROGRAM: &str = "nginx";
/// Where Debian has the stream module.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// What it says of its version.
pub fn version() -> Result<String, Trouble> {
    if !std::fs::exists(MODULE).unwrap_or(false) {
        return Err(Trouble(format!("{MODULE} is not installed")));
    }
    version_line(PROGRAM, &["-v"], "nginx version")
}

/// Starts both hops.
pub fn start(world: &World) -> Result<Topology, Trouble> {
    let (outer_port, inner_port) = (free_port()?, free_port()?);
    let file = |name: &str| world.file(name).display().to_string();
    let ca = file("ca.pem");
    let outer = format!(
        "listen 127.0.0.1:{outer_port} ssl;
        ssl_certificate {}; ssl_certificate_key {};
        ssl_client_certificate {ca}; ssl_verify_client on; ssl_crl {};
        ssl_protocols TLSv1.2 TLSv1.3;
        proxy_pass 127.0.0.1:{inner_port};
        proxy_ssl on; proxy_ssl_certificate {}; proxy_ssl_certificate_key {};
        proxy_ssl_trusted_certificate {ca}; proxy_ssl_verify on; proxy_ssl_name localhost;
        proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse off;",
        file("proxy.crt"),
        file("proxy.key"),
        file("crl.pem"),
        file("outer.crt"),
        file("outer.key"),
    );
    let inner = format!(
        "listen 127.0.0.1:{inner_port} ssl;
        ssl_certificate {}; ssl_certificate_key {};
        ssl_client_certificate {ca}; ssl_verify_client on;
        ssl_protocols TLSv1.3;
        proxy_pass {};",
        file("inner.crt"),
        file("inner.key"),
        world.sink.address,
    );
    let mut hops = Vec::new();
    for (name, server) in [("inner", inner), ("outer", outer)] {
        let directory = world.scratch.directory(&format!("nginx-{name}"))?.display().to_string();
        let config = world.scratch.write(&format!("nginx-{name}.conf"), config(&directory, &server))?;
        let mut command = Command::new(PROGRAM);
        command.arg("-p").arg(&directory).arg("-e").arg("stderr").arg("-c").arg(config);
        hops.push(Process::start(PROGRAM, &mut command)?);
    }
    Ok(Topology::of_hops(Peer::Nginx, ([127, 0, 0, 1], outer_port).into(), hops))
}

fn config(directory: &str, server: &str) -> String {
    format!(
        "load_module {MODULE};
daemon off;
pid {directory}/nginx.pid;
error_log stderr notice;
worker_processes auto;
events {{ worker_connections 20000; }}
stream {{
    log_format session '$remote_addr $status $bytes_received $bytes_sent $session_time';
    access_log {directory}/access.log session;
    server {{
        {server}
        ssl_session_cache off; ssl_session_tickets off;
        proxy_buffer_size 64k; proxy_timeout 1h; tcp_nodelay on;
    }}
}}
"
    )
}
