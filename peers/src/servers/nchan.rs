//! nginx with nchan: messages over HTTP, kept in memory.

use std::path::Path;

use anyhow::Result;

use super::{Broker, Served, bound_to_us, free_port, start_on, version_of};
use crate::load::http::{self, Paths};

const PROGRAM: &str = "nginx";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// nginx with one worker, which is nchan at its best on this kind of machine.
#[derive(Debug)]
pub struct Nchan;

impl Broker for Nchan {
    fn name(&self) -> &'static str {
        "nchan"
    }

    fn version(&self) -> Result<String> {
        let how = "apt-get install nginx libnginx-mod-nchan";
        let version = version_of(Path::new(PROGRAM), "-v", how)?;
        std::fs::metadata(MODULE).map_err(|_| anyhow::anyhow!("{MODULE}: {how}"))?;
        Ok(version.replace("nginx version: ", "") + " with nchan, 1 worker")
    }

    fn start(&self, data: &Path) -> Result<Served> {
        let port = free_port()?;
        let config = format!(
            "load_module {MODULE};\nuser root;\nworker_processes 1;\ndaemon off;\npid nginx.pid;\n\
             error_log error.log;\nevents {{ worker_connections 4096; }}\n\
             http {{\n access_log off;\n keepalive_requests 100000000;\n\
             nchan_shared_memory_size 256M;\n\
             client_body_temp_path body;\n proxy_temp_path proxy;\n fastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi;\n scgi_temp_path scgi;\n\
             server {{\n listen 127.0.0.1:{port};\n\
             location = /bench {{ nchan_publisher; nchan_channel_id bench; \
             nchan_message_buffer_length 1000; }}\n\
             location = /bench/one {{ nchan_subscriber longpoll; nchan_channel_id bench; \
             nchan_subscriber_first_message oldest; }}\n }}\n}}\n"
        );
        std::fs::write(data.join("nginx.conf"), config)?;
        let mut command = bound_to_us(Path::new(PROGRAM));
        command.arg("-p").arg(data).args(["-c", "nginx.conf"]);
        let served = start_on(port, &mut command, data)?;
        // The parent listens before it has a worker; whoever counts the processes must find both.
        http::ask(&served.http, "POST", "/bench", b"")?;
        Ok(served)
    }

    fn http(&self) -> Option<Paths> {
        Some(Paths {
            subscribe: None,
            publish: "/bench",
            fetch: "/bench/one",
            // A long-poll without a place to go on from is answered with the oldest message.
            is_consumed: false,
        })
    }
}
