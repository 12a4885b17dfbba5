//! What of the server is read anew while it runs: certificates, and tokens that live in files.

use std::{sync::Arc, time::Duration};

use holdfast_model::Chain;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{auth::Access, tls::Tls};
use crate::config::{TlsError, TlsFiles, Token};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// See the module header.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) access: Arc<Access>,
    pub(crate) tls: Option<Arc<Tls>>,
}

impl Live {
    /// Reads what changed. For a reload too; what is unfit changes nothing and is logged.
    pub(crate) async fn refresh(&self) {
        let live = self.clone();
        let read = move || {
            live.access.refresh();
            match live.tls.as_ref().map(|tls| tls.refresh()) {
                Some(Ok(true)) => tracing::info!("new certificates are in use"),
                None | Some(Ok(false)) => {}
                Some(Err(error)) => {
                    let error = Chain(&error).to_string();
                    tracing::error!(
                        error,
                        "the new certificates cannot be used; the old ones stay"
                    );
                }
            }
        };
        if tokio::task::spawn_blocking(read).await.is_err() {
            tracing::error!("certificates and tokens could not be read anew");
        }
    }

    /// Takes the tokens and certificates of a new configuration; on an error nothing is changed.
    /// A listener keeps to what it began with: TLS or none.
    pub(crate) fn adopt(
        &self,
        tokens: Vec<Token>,
        files: Option<TlsFiles>,
    ) -> Result<(), TlsError> {
        if let (Some(tls), Some(files)) = (&self.tls, files) {
            tls.replace(files)?;
        }
        self.access.replace(tokens);
        Ok(())
    }

    /// Looks once a minute.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // They have just been read.
        ticks.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.refresh().await,
            }
        }
    }
}
