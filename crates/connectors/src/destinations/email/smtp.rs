//! The dialogue, and what its end means.

use std::{error::Error as _, time::Duration};

use holdfast_model::{DeliveryError, Reason};
use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, Mechanism},
    client::AsyncSmtpConnection,
    commands::{Data, Mail, Rcpt},
};
use tokio::{net::TcpStream, time::timeout};

use super::{Email, Login, Security, stream::LineStream};
use crate::http::tls_reason;

/// How long the goodbye may take; nothing depends on it.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// How far an exchange got. Before [`Self::Message`] nobody can have the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    /// The greeting, TLS and the credentials.
    Greeting,
    /// Sender and recipients: nothing of the event was said yet.
    Envelope,
    /// The message is on its way, or its answer is awaited.
    Message,
}

// === impl Stage ===

impl Stage {
    /// What a lost connection or the end of the time means.
    pub(super) fn when_lost(self) -> Reason {
        match self {
            Self::Connecting => Reason::Connect,
            Self::Greeting | Self::Envelope => Reason::ServerFault,
            Self::Message => Reason::InDoubt,
        }
    }

    /// What a reply means that is no success (RFC 5321 section 4.2.1, RFC 4954 section 6).
    fn when_refused(self, code: u16) -> Reason {
        match code {
            400..=499 => Reason::ServerFault,
            530 | 534 | 535 | 538 => Reason::Unauthorized,
            552 => Reason::TooLarge,
            // Nothing of the event was said yet, so every event would fail the same way.
            500..=599 if self != Self::Message => Reason::Misconfigured,
            500..=599 => Reason::Refused,
            _ => Reason::BadAnswer,
        }
    }

    fn failure(self, error: Error) -> DeliveryError {
        let said = error.source().map(ToString::to_string).unwrap_or_default();
        let code = error.status().and_then(|code| code.to_string().parse::<u16>().ok());
        if let Some(code) = code {
            return DeliveryError::new(self.when_refused(code))
                .with_status(code)
                .with_excerpt(said);
        }
        let reason = match tls_reason(&error) {
            Some(reason) if self != Self::Message => reason,
            // No STARTTLS, no mechanism that we know: so it will be next time.
            None if error.is_client() => Reason::Misconfigured,
            _ => self.when_lost(),
        };
        DeliveryError::caused_by(reason, error)
    }
}

// === impl Email ===

impl Email {
    /// A connection that is greeted, secret and logged in.
    pub(super) async fn connect(
        &self,
        stage: &mut Stage,
    ) -> Result<AsyncSmtpConnection, DeliveryError> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let addresses = found.map_err(|error| DeliveryError::caused_by(Reason::Dns, error))?;
        let addresses: Vec<_> = addresses.collect();
        let addresses = addresses.as_slice();
        let patience = self.timeout / 2;
        let made = if let Security::Tls(tls) = &self.security {
            let tls = Some(tls.clone());
            let patience = Some(patience);
            AsyncSmtpConnection::connect_tokio1(addresses, patience, &self.hello, tls, None).await
        } else {
            let lost = |error: std::io::Error| DeliveryError::caused_by(Reason::Connect, error);
            let socket = timeout(patience, TcpStream::connect(addresses)).await;
            let socket = socket.map_err(|elapsed| lost(elapsed.into()))?.map_err(lost)?;
            socket.set_nodelay(true).map_err(lost)?;
            let stream = Box::new(LineStream(socket));
            AsyncSmtpConnection::connect_with_transport(stream, &self.hello).await
        };
        let mut connection = made.map_err(|error| stage.failure(error))?;
        *stage = Stage::Greeting;
        if let Security::StartTls(tls) = &self.security {
            let secret = connection.starttls(tls.clone(), &self.hello).await;
            secret.map_err(|error| stage.failure(error))?;
        }
        if let Some(Login { user, password }) = &self.login {
            let password = password.current().expose().to_owned();
            let credentials = Credentials::new(user.clone(), password);
            let known = [Mechanism::Plain, Mechanism::Login];
            let login = connection.auth(&known, &credentials).await;
            login.map_err(|error| stage.failure(error))?;
        }
        Ok(connection)
    }

    /// Returns when the server has taken the message.
    pub(super) async fn send(&self, mail: &str, stage: &mut Stage) -> Result<(), DeliveryError> {
        let mut connection = self.connect(stage).await?;
        *stage = Stage::Envelope;
        let sender = Mail::new(Some(self.from.email.clone()), Vec::new());
        connection.command(sender).await.map_err(|error| stage.failure(error))?;
        let mut refused = Vec::new();
        for mailbox in &self.to {
            let answer = connection.command(Rcpt::new(mailbox.email.clone(), Vec::new())).await;
            match answer {
                Ok(_) => {}
                // The others get theirs: this one will not be taken tomorrow either.
                Err(error) if error.is_permanent() => refused.push(stage.failure(error)),
                // Put off: later for all, so that nobody gets it twice.
                Err(error) => return Err(stage.failure(error)),
            }
        }
        for error in &refused {
            tracing::warn!(host = %self.host, status = error.status, answer = %error.excerpt, "a recipient is refused");
        }
        if refused.len() == self.to.len() {
            return Err(refused.remove(0));
        }
        connection.command(Data).await.map_err(|error| stage.failure(error))?;
        *stage = Stage::Message;
        let taken = connection.message(mail.as_bytes()).await;
        taken.map_err(|error| stage.failure(error))?;
        part(connection).await;
        Ok(())
    }
}

/// Says goodbye. Whatever becomes of it, the answer before it stands.
pub(super) async fn part(mut connection: AsyncSmtpConnection) {
    drop(timeout(QUIT_TIMEOUT, connection.quit()).await);
}
