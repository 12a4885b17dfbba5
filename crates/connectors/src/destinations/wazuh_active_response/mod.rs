//! Wazuh's active responses: has one agent run one command against one address.
//!
//! Promises: agent and address are the alert's own; of what a callback or a lookup says nothing is
//! used but the request's name. Exactly one agent is named in each request: without one, and for
//! "all" or the manager unless it is allowed, nothing is sent. Only listed commands are run, never
//! against an address that must not be blocked. A callback is obeyed only when the gateway has
//! marked it as authorized. Each refusal is a dead letter that says why; each receipt says what was
//! done to whom.
//!
//! Does not promise that the script ran: Wazuh answers when it has handed the command on. An agent
//! that is not active gets nothing and is not waited for: late, the address may be another's.
//!
//! Source: Wazuh 4.14 server API reference, `PUT /active-response`;
//! `framework/wazuh/core/active_response.py`.

mod order;
mod refusal;
mod settings;
mod spared;
#[cfg(test)]
mod tests;

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use holdfast_model::{DeliveryError, Destination, Reason, Receipt, Shipment, delivery::Delivered};
use reqwest::Method;
use serde_json::{Value, json};

use self::{order::Order, settings::Policy};
use super::{Context, Kind};
use crate::{
    http,
    wazuh_api::{self, Failed, WazuhApi},
};

pub(super) const KIND: Kind = Kind {
    name: "wazuh_active_response",
    summary: "Has the alert's agent run an active response of Wazuh's against the alert's address.",
    example: r#"
url = "https://manager.example:55000"
user = "holdfast"
password = "0123456789"
commands = ["!firewall-drop"]
requests = { block = "!firewall-drop" }
"#,
    settings: settings::ALL,
    batches: false,
    http: true,
    build,
};

#[derive(Debug)]
struct ActiveResponse {
    api: WazuhApi,
    policy: Policy,
}

fn build(
    section: &holdfast_model::settings::Section<'_>,
    context: &Context,
) -> Option<Arc<dyn Destination>> {
    let api = WazuhApi::read(section, context);
    let policy = Policy::read(section);
    Some(Arc::new(ActiveResponse { api: api?, policy: policy? }))
}

#[async_trait]
impl Destination for ActiveResponse {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let order = Order::of(member, &self.policy)?;
        if !http::is_rehearsal() {
            spared::check(order.address, &self.policy.never_block, self.api.host()?).await?;
        }
        let told = order.to_string();
        if self.policy.dry_run {
            let remote_id = Some(format!("dry run, nothing was sent: {told}"));
            return Ok(Delivered::All(Receipt { remote_id, ..Receipt::default() }));
        }
        let mut url = self.api.at("active-response")?;
        url.query_pairs_mut().append_pair("agents_list", &order.agent);
        let data = json!({ "srcip": order.address.to_string(), "holdfast_key": member.key });
        let body = json!({ "command": order.command, "alert": { "data": data } });
        let said = self.api.call(Method::PUT, url, body.to_string().into_bytes()).await?;
        self.judge(&order, &said)?;
        Ok(Delivered::All(Receipt {
            status: Some(200),
            remote_id: Some(told),
            ..Receipt::default()
        }))
    }

    fn acts_on_wazuh(&self) -> bool {
        true
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }
}

// === impl ActiveResponse ===

impl ActiveResponse {
    /// A 200 says only that the question was understood.
    fn judge(&self, order: &Order, said: &Value) -> Result<(), DeliveryError> {
        let failures = wazuh_api::failures(said);
        let ours = failures.iter().find(|(_, agents)| agents.contains(&order.agent));
        if let Some((Failed { code, message }, _)) = ours {
            let text = format!("{order}: Wazuh's code {code}: {message}");
            return Err(DeliveryError::new(reason(*code)).with_status(200).with_excerpt(text));
        }
        let done = wazuh_api::affected(said).contains(&order.agent);
        if done { Ok(()) } else { Err(self.api.failure(Reason::BadAnswer, said)) }
    }
}

fn reason(code: i64) -> Reason {
    match code {
        // No command, or one that the manager does not have: a setting.
        1650 | 1652 => Reason::Misconfigured,
        // The manager's own socket.
        1010 | 1011 | 1013 | 1014 => Reason::ServerFault,
        // This user may not command this agent.
        4000 => Reason::Forbidden,
        // No such agent, not active, the manager itself, or active responses are off there.
        _ => Reason::Refused,
    }
}
