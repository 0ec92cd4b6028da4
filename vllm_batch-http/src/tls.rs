//! How is what goes over the network kept secret?
//!
//! rustls with ring. The files are read again at SIGHUP, so that a renewed certificate needs no restart.

use std::io;

use axum_server::tls_rustls::RustlsConfig;

use crate::settings::TlsConfig;

/// Reads the certificate and its key.
///
/// # Errors
/// What is wrong with the files.
pub(crate) async fn load(tls: &TlsConfig) -> io::Result<RustlsConfig> {
    use_ring();
    RustlsConfig::from_pem_file(&tls.certificate, &tls.key).await.map_err(|error| named(tls, &error))
}

/// Reads both again whenever the process is told to. A pair that does not do is logged, and the old one stays.
#[cfg(unix)]
pub(crate) fn reload_on_hangup(tls: TlsConfig, loaded: RustlsConfig) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match loaded.reload_from_pem_file(&tls.certificate, &tls.key).await {
                Ok(()) => tracing::info!(certificate = %tls.certificate.display(), "the certificate was read again"),
                Err(error) => tracing::error!(error = %named(&tls, &error), "the old certificate stays"),
            }
        }
    });
    Ok(())
}

/// There is no such signal here.
#[cfg(not(unix))]
pub(crate) fn reload_on_hangup(_: TlsConfig, _: RustlsConfig) -> io::Result<()> {
    Ok(())
}

/// Makes ring do the arithmetic. A second call changes nothing.
fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn named(tls: &TlsConfig, error: &io::Error) -> io::Error {
    let message = format!("{} with {}: {error}", tls.certificate.display(), tls.key.display());
    io::Error::new(error.kind(), message)
}
