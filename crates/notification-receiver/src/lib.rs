//! notification-receiver: shows the notifications that would have left the machine.
//!
//! It stands where Slack, a mail server and a webhook receiver would stand, speaks
//! their protocols, and keeps the last messages in memory for a page and an API.
//!
//! | module | what |
//! |---|---|
//! | [`notification`] | what one message says, whatever it came by: pure |
//! | [`wire`] | whether its medium would take it: pure |
//! | [`store`] | the last of them, bounded in number and bytes |
//! | [`smtp`] | a small mail server: pure session, then sockets |
//! | [`http`] | Slack and webhook intake, API, page |

pub mod config;
pub mod http;
pub mod metrics;
pub mod notification;
pub mod smtp;
pub mod store;
pub mod wire;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
};

use anyhow::Context;
pub use config::Config;
use telemetry::{Runtime, config::Secret, metrics::HttpMetrics};
use tokio::net::TcpListener;

use crate::{metrics::Metrics, store::Store};

/// What HTTP and SMTP share.
pub struct Inbox {
    /// The last notifications.
    pub store: Store,
    /// The counters.
    pub metrics: Metrics,
    /// What signs the webhooks that come.
    pub webhook_secret: Option<Secret>,
    /// Messages posted by Slack's API.
    sent: AtomicU64,
}

/// A receiver that listens and does not yet serve.
pub struct App {
    http: TcpListener,
    mail: TcpListener,
    router: axum::Router,
    inbox: Arc<Inbox>,
    config: Config,
    rt: Runtime,
}

impl App {
    /// Binds both listeners.
    ///
    /// # Errors
    /// An address is taken.
    pub async fn build(config: Config, rt: Runtime) -> anyhow::Result<Self> {
        let bind = async |variable: &str, address: SocketAddr| {
            TcpListener::bind(address).await.with_context(|| format!("{variable}: cannot listen on {address}"))
        };
        let http = bind("LISTEN_ADDR", config.listen_addr).await?;
        let mail = bind("SMTP_ADDR", config.smtp_addr).await?;
        let inbox = Arc::new(Inbox {
            store: Store::new(config.keep, config.keep_bytes),
            metrics: Metrics::new(&rt.registry)?,
            webhook_secret: config.webhook_secret()?,
            sent: AtomicU64::new(1),
        });
        let router = telemetry::http::instrument_with_limit(
            http::router(inbox.clone()),
            HttpMetrics::new(&rt.registry)?,
            config.max_body,
        );
        Ok(Self { http, mail, router, inbox, config, rt })
    }

    /// Where HTTP and SMTP listen.
    ///
    /// # Errors
    /// A listener has no address.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.http.local_addr()?, self.mail.local_addr()?))
    }

    /// Serves until shutdown.
    ///
    /// # Errors
    /// A server failed.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self { http, mail, router, inbox, config, rt } = self;
        let mail = smtp::serve(mail, inbox, config.max_body, rt.shutdown.clone());
        let http = telemetry::http::serve(http, router, rt.shutdown, *config.common.shutdown_grace);
        let ((), served) = tokio::join!(mail, http);
        Ok(served?)
    }
}

/// Runs the receiver until shutdown.
///
/// # Errors
/// It could not start, or a server failed.
pub async fn run(config: Config, rt: Runtime) -> anyhow::Result<()> {
    App::build(config, rt).await?.run().await
}
