//! Reaching a hub: the TCP connection, through a proxy if there is one, TLS where it comes first, and
//! WebSocket. What follows is the link's own business.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use petiole_core::config::model::{Proxy, ProxyKind, Remote, Url, Way};
use petiole_core::link::uplink::Attempt;
use petiole_core::wire::VERSION;
use petiole_net::dial::dial;
use petiole_net::listen::join;
use petiole_net::proxy::{self, Credentials};
use petiole_net::tls::ClientTls;
use petiole_net::transport::{Side, Transport};
use petiole_net::ws;
use smol::future::FutureExt as _;

use crate::explain::explain;
use crate::file_error::FileError;

/// What each way of a remote needs for TLS: made once, so that sessions can be resumed.
pub struct Reach {
    ways: Vec<(Arc<Way>, ClientTls)>,
}

impl Reach {
    /// Reads the files that the remote names.
    pub fn new(remote: &Remote) -> Result<Self, FileError> {
        let mut ways = Vec::new();
        for way in &remote.ways {
            let block = way.tls.as_ref();
            let tls = ClientTls::new(block).map_err(|error| FileError::of(block, error))?;
            ways.push((way.clone(), tls));
        }
        Ok(Reach { ways })
    }

    /// What to say at the start.
    pub fn warn(&self) {
        for (way, _) in &self.ways {
            if way.tls.as_ref().is_some_and(|tls| tls.insecure) {
                log::warn!(
                    "Leafnode remote {}: insecure is set, whoever answers is taken for the hub. Do not use \
                     it in production",
                    way.urls
                        .first()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                );
            }
        }
    }

    /// Goes all the way up to where the hub says INFO. The error is the cause, in words.
    pub async fn connect(&self, attempt: &Attempt) -> Result<Transport, String> {
        let Some((way, tls)) = self.ways.get(attempt.way) else {
            return Err("there is no such way".into());
        };
        let url = &attempt.url;
        let socket = match &way.proxy {
            Some(proxy) if !proxy::is_excepted(&url.host, url.port, &proxy.except) => {
                through(proxy, way, url).await?
            }
            _ => dial(&url.host, url.port, way.dial_timeout)
                .await
                .map_err(|error| error.to_string())?,
        };
        let name = self.verified_name(url);
        let mut transport = Transport::new(socket, Side::Client(tls.clone(), name));
        if way.is_secure_from_the_start(url.scheme) {
            let limit = way.tls_timeout();
            let what = "the TLS handshake did not end";
            within(limit, what, transport.secure())
                .await
                .map_err(|error| explain(&error, way))?;
        }
        if url.scheme.is_websocket() {
            let options = ws::Options {
                compression: way.ws_compression,
                no_masking: way.ws_no_masking,
            };
            let host = join(&url.host, url.port);
            let path = ws::leaf_path(&url.path);
            let request = ws::Request::new(&host, &path, &agent(), options, &ws::key())
                .map_err(|error| error.to_string())?;
            let what = "no answer to the WebSocket request";
            within(
                way.dial_timeout,
                what,
                transport.upgrade_to_websocket(&request),
            )
            .await
            .map_err(|error| explain(&error, way))?;
        }
        Ok(transport)
    }

    /// The name that the hub's certificate has to show: the URL's host. An address that the hub
    /// listed may not be in its certificate: then the first configured name counts.
    fn verified_name(&self, url: &Url) -> Arc<str> {
        let configured = || self.ways.iter().flat_map(|(way, _)| &way.urls);
        let is_address = |host: &str| host.parse::<std::net::IpAddr>().is_ok();
        let known = configured().any(|one| one.host == url.host);
        if !known && is_address(&url.host) {
            let named = configured().find(|one| !is_address(&one.host));
            if let Some(one) = named {
                return one.host.as_str().into();
            }
        }
        url.host.as_str().into()
    }
}

fn agent() -> String {
    format!(
        "nats-server/{VERSION} petiole/{}",
        env!("CARGO_PKG_VERSION")
    )
}

async fn through(
    proxy: &Proxy,
    way: &Way,
    url: &Url,
) -> Result<async_io::Async<std::net::TcpStream>, String> {
    let limit = proxy.timeout.unwrap_or(way.dial_timeout);
    let failed = |error: &dyn std::fmt::Display| format!("proxy {proxy}: {error}");
    let mut socket = dial(&proxy.host, proxy.port, limit)
        .await
        .map_err(|error| failed(&error))?;
    let credentials = proxy
        .credentials
        .as_ref()
        .map(|(user, password)| Credentials {
            user,
            password: password.reveal(),
        });
    let tunnel = async {
        match proxy.kind {
            ProxyKind::Http => {
                let target = join(&url.host, url.port);
                proxy::http_connect(&mut socket, &target, &agent(), credentials).await
            }
            ProxyKind::Socks5 => proxy::socks5(&mut socket, &url.host, url.port, credentials).await,
        }
        .map_err(io::Error::other)
    };
    within(limit, "no answer", tunnel)
        .await
        .map_err(|error| failed(&error))?;
    Ok(socket)
}

/// Ends a wait with words about what was waited for.
async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    work.or(async {
        Timer::after(limit).await;
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{what} within {limit:?}"),
        ))
    })
    .await
}
