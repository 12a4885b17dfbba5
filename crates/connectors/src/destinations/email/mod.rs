//! Mail, by SMTP.
//!
//! Promises: TLS, or nothing is sent, unless `tls = "none"`, and a password never without TLS; the
//! same `Message-ID` on every try, so that a mailbox can drop a repeat; no text of an alert can
//! become a header; nobody gets a mail while the server puts off one of the recipients.
//!
//! Quirks: a server's 250 after the message means that it is responsible now, not that it was
//! read. A connection lost between the message's end and that 250 leaves it in doubt, and the
//! repeat is a second mail where nobody drops it. What is refused before the message (sender, all
//! recipients) cannot be the event's fault, so it parks the lane.
//!
//! Source: RFC 5321 (SMTP), RFC 5322 (messages), RFC 3207 (STARTTLS), RFC 8314 (TLS on 465), RFC
//! 4954 (AUTH), RFC 3834 (`Auto-Submitted`).

mod compose;
mod settings;
mod smtp;
mod stream;
#[cfg(test)]
mod tests;

use std::{error::Error, fmt, time::Duration};

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine};
use holdfast_model::{
    DeliveryError, Destination, Receipt, Secret, Shipment,
    delivery::{Delivered, EXCERPT_BYTES_MAX},
};
use lettre::transport::smtp::{client::TlsParameters, extension::ClientId};
use tokio::time::{Instant, timeout_at};

use self::{compose::Mailbox, smtp::Stage};
use super::Kind;
use crate::{
    http::mask,
    message::{Message, Template},
    secrets::LiveSecret,
};

pub(super) const KIND: Kind = Kind {
    name: "email",
    summary: "Mails by SMTP.",
    example: r#"
host = "smtp.example.org"
from = "Holdfast <holdfast@example.org>"
to = ["soc@example.org"]
user = "holdfast@example.org"
password = "replace-me"
"#,
    settings: settings::ALL,
    batches: false,
    http: false,
    build: settings::build,
};

/// How the connection is made secret.
enum Security {
    /// From the first byte.
    Tls(TlsParameters),
    /// After a greeting in the clear; without it nothing is sent.
    StartTls(TlsParameters),
    None,
}

#[derive(Debug)]
struct Login {
    user: String,
    password: LiveSecret,
}

#[derive(Debug)]
struct Email {
    host: String,
    port: u16,
    security: Security,
    login: Option<Login>,
    hello: ClientId,
    from: Mailbox,
    to: Vec<Mailbox>,
    template: Template,
    timeout: Duration,
}

#[async_trait]
impl Destination for Email {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let message = Message::of(member);
        let mail = self.compose(&message, member.event.received_at);
        self.within_time(async |stage: &mut Stage| self.send(&mail, stage).await).await?;
        let id = self.message_id(&message.key);
        Ok(Delivered::All(Receipt {
            status: Some(250),
            remote_id: Some(id),
            duplicate: false,
            ..Receipt::default()
        }))
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let greeted = async |stage: &mut Stage| {
            let connection = self.connect(stage).await?;
            smtp::part(connection).await;
            Ok(())
        };
        Some(self.within_time(greeted).await)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        Ok(self.login.as_ref().map_or(Ok(false), |login| login.password.refresh())?)
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

// === impl Email ===

impl Email {
    /// Gives up when the time is over; how far it got decides what that means.
    async fn within_time(
        &self,
        exchange: impl AsyncFnOnce(&mut Stage) -> Result<(), DeliveryError>,
    ) -> Result<(), DeliveryError> {
        let mut stage = Stage::Connecting;
        let deadline = Instant::now() + self.timeout;
        let result = match timeout_at(deadline, exchange(&mut stage)).await {
            Ok(result) => result,
            Err(elapsed) => Err(DeliveryError::caused_by(stage.when_lost(), elapsed)),
        };
        result.map_err(|error| self.masked(error))
    }

    fn masked(&self, mut error: DeliveryError) -> DeliveryError {
        if let Some(Login { user, password }) = &self.login {
            let password = password.current();
            let plain = BASE64_STANDARD.encode(format!("\0{user}\0{}", password.expose()));
            let login = BASE64_STANDARD.encode(password.expose());
            let secrets = [password, Secret::new(plain), Secret::new(login)];
            error.excerpt = mask(&error.excerpt, &secrets);
        }
        error.excerpt.truncate(error.excerpt.floor_char_boundary(EXCERPT_BYTES_MAX));
        error
    }
}

// === impl Security ===

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls(_) => "Tls",
            Self::StartTls(_) => "StartTls",
            Self::None => "None",
        })
    }
}
