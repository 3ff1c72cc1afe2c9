//! The listener: workers, limits and time-outs, TLS or plain HTTP, orderly shutdown.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    http::KeepAlive,
    middleware::{Compress, from_fn},
    web,
};

use super::{
    assets,
    context::Web,
    input::BODY_MAX,
    road,
    routes::Routes,
    tls::{Certificate, TlsError},
};

/// Why the console cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the server ended: {0}")]
    Ended(std::io::Error),
}

/// A listener that is bound but not yet serving.
pub struct Bound {
    server: Server,
    certificate: Option<Arc<Certificate>>,
    pub address: SocketAddr,
    pub scheme: &'static str,
    /// SHA-256 of our certificate, when TLS is ours.
    pub fingerprint: Option<String>,
}

/// Connections at once; the next wait in the kernel's queue. Keeps memory and descriptors bounded under a flood.
const CONNECTIONS_MAX: usize = 4_096;

/// Binds the configured address. `state` adds what rooms keep beside the kernel.
pub fn bind(
    web: Web,
    routes: Arc<Routes>,
    state: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
) -> Result<Bound, ServeError> {
    let config = web.kernel.config.clone();
    let data = web::Data::new(web);
    let factory = move || {
        let routes = routes.clone();
        let state = state.clone();
        App::new()
            .app_data(data.clone())
            .app_data(web::PayloadConfig::new(BODY_MAX))
            .configure(move |app| state(app))
            .route("/static/{path:.*}", web::get().to(assets::file))
            .configure(move |app| routes.configure(app))
            .default_service(web::to(|| async { HttpResponse::NotFound().finish() }))
            .wrap(Compress::default())
            .wrap(from_fn(road::travel))
    };
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 8);
    let server = HttpServer::new(factory)
        .workers(workers)
        .max_connections(CONNECTIONS_MAX / workers)
        .keep_alive(KeepAlive::Timeout(Duration::from_secs(60)))
        .client_request_timeout(Duration::from_secs(10))
        .client_disconnect_timeout(Duration::from_secs(2))
        .shutdown_timeout(10)
        .disable_signals();
    let listen = |source| ServeError::Listen { address: config.listen, source };
    let (server, certificate, scheme) = if config.plain_http {
        (server.bind(config.listen).map_err(listen)?, None, "http")
    } else {
        let certificate = Certificate::open(&config)?;
        let server = server
            .tls_handshake_timeout(Duration::from_secs(5))
            .bind_rustls_0_23(config.listen, certificate.server_config()?)
            .map_err(listen)?;
        (server, Some(certificate), "https")
    };
    let address = server.addrs().first().copied().unwrap_or(config.listen);
    let fingerprint = certificate.as_ref().map(|certificate| certificate.fingerprint());
    Ok(Bound { server: server.run(), certificate, address, scheme, fingerprint })
}

/// Serves until SIGTERM or SIGINT; SIGHUP, or a new file, loads the certificate again.
pub async fn run(bound: Bound) -> Result<(), ServeError> {
    use tokio::signal::unix::{SignalKind, signal};
    let ended = ServeError::Ended;
    let mut terminate = signal(SignalKind::terminate()).map_err(ended)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ended)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(ended)?;
    let mut every = tokio::time::interval(Duration::from_secs(30));
    let certificate = bound.certificate;
    let mut seen = certificate.as_ref().and_then(|certificate| certificate.modified());
    let handle = bound.server.handle();
    let mut server = bound.server;
    loop {
        tokio::select! {
            result = &mut server => return result.map_err(ended),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if let Some(certificate) = &certificate {
                    certificate.reload();
                    seen = certificate.modified();
                }
            }
            _ = every.tick() => {
                if let Some(certificate) = &certificate {
                    let now = certificate.modified();
                    if now.is_some() && now != seen {
                        certificate.reload();
                        seen = now;
                    }
                }
            }
        }
    }
    tracing::info!("stopping: open requests are finished first");
    // The server works only while it is polled, on its own end too.
    let ((), ended_with) = tokio::join!(handle.stop(true), server);
    ended_with.map_err(ended)
}
