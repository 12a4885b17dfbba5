//! Slack, by an incoming webhook or as a bot with `chat.postMessage`.
//!
//! Promises: what an alert says mentions nobody and breaks no mark-up; a message is within Slack's
//! limits; each message shows its key. As a bot also: a try in doubt is looked for in the channel
//! before it is sent again, and `group = "problem"` puts a problem's alerts into one thread.
//!
//! Quirks: `chat.postMessage` answers its errors with status 200. A webhook answers the word `ok`
//! and no id, so nothing can be looked for. Slack has no idempotency key; the key travels in the
//! message's metadata. All blocks together may hold about 13,000 characters, which is not
//! documented. Threads are remembered in memory: after a restart a problem begins a new one.
//!
//! Source: Slack developer docs, "chat.postMessage", "Sending messages using incoming webhooks",
//! "Message metadata", "Rate limits"; bolt-js issue 2509 for the sum of all blocks.

mod answer;
mod body;
mod buttons;
mod callback;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use holdfast_model::{
    CallbackRequest, Callbacks, DeliveryError, Destination, Heard, Member, Operators, Reason,
    Receipt, Refusal, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{Context, Kind};
use crate::{
    callback::{self as calls, Callback},
    chat, http,
    message::{self, Lifecycle, Message, Phase, Severities},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "slack",
    summary: "Posts to a Slack channel, by an incoming webhook or as a bot.",
    example: r#"
token = "xoxb-0123456789-abcdefghij"
channel = "C0123456789"
group = "problem"
resolved_by = { "504" = "503" }
"#,
    settings: &[
        &WEBHOOK_URL,
        &TOKEN,
        &CHANNEL,
        &API_URL,
        &SEVERITY,
        &vendor::SEARCH_LAG,
        &message::GROUP,
        &message::RESOLVED_BY,
        &message::TEMPLATE,
        &buttons::BUTTONS,
        &calls::SIGNED,
    ],
    batches: false,
    http: true,
    build,
};

const WEBHOOK_URL: Setting = Setting::optional(
    "webhook_url",
    "{ file = \"/etc/holdfast/secrets/slack\" }",
    "The address of an incoming webhook. Give it, or `token` and `channel`. A secret.",
);

const TOKEN: Setting = Setting::optional(
    "token",
    "{ file = \"/etc/holdfast/secrets/slack\" }",
    "A bot's token (`xoxb-…`) with the scope `chat:write`; with `channels:history` too, a try in doubt is looked for before it is sent again. A secret.",
);

const CHANNEL: Setting = Setting::optional(
    "channel",
    "\"C0123456789\"",
    "The channel's id (its name changes, the id does not). Only with `token`; a webhook has its own.",
);

const API_URL: Setting = Setting::new(
    "api_url",
    "\"https://slack.com/api\"",
    "Where Slack's methods are. Only with `token`; for GovSlack \"https://slack-gov.com/api\".",
);

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"good\", medium = \"warning\", high = \"danger\", critical = \"danger\" }",
    "The colour beside the message for each severity: \"good\" (green), \"warning\" (yellow) or \"danger\" (red). The default is the example.",
);

/// Problems whose threads are remembered; the oldest is forgotten first.
const THREADS_MAX: usize = 1000;

/// Messages that one search reads, the newest first. So many of the longest are still read whole.
const SEARCH_MESSAGES: &str = "40";

/// Slack's clock may be behind ours, in milliseconds.
const CLOCK_SLACK_MS: u64 = 60_000;

/// Slack warns when the charset is not said.
const JSON_UTF8: &str = "application/json; charset=utf-8";

#[derive(Debug)]
struct Slack {
    callback: Option<Callback>,
    transport: Transport,
    look: body::Look,
    lifecycle: Lifecycle,
    search_lag: Duration,
    /// Problem → `ts` of the message that began its thread.
    threads: Mutex<VecDeque<(String, String)>>,
}

#[derive(Debug)]
enum Transport {
    Webhook(Api),
    Bot { api: Api, channel: String },
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let webhook = section.node(WEBHOOK_URL.name).map(|_| vendor::address(section, &WEBHOOK_URL));
    let token = section.node(TOKEN.name).map(|_| vendor::secret(section, &TOKEN));
    let channel = section.text(&CHANNEL);
    let api_url = vendor::address(section, &API_URL);
    let colours = ["good", "warning", "danger"];
    let severities = Severities::read(section, ["good", "warning", "danger", "danger"], &colours);
    let search_lag = vendor::search_lag(section);
    let lifecycle = Lifecycle::read(section);
    let template = message::Template::read(section);
    let buttons = buttons::read(section);
    let callback = Callback::read(section, &callback::VENDOR);
    let transport = match (webhook, token) {
        (Some(address), None) => {
            for name in [CHANNEL.name, API_URL.name, message::GROUP.name, message::RESOLVED_BY.name]
            {
                if section.has(name) {
                    section
                        .fault(name, "it needs `token`; a webhook has one channel and no threads");
                    return None;
                }
            }
            Transport::Webhook(Api::new(section, context, address?, Auth::None)?)
        }
        (None, Some(token)) => {
            let channel = channel_id(section, channel);
            let auth =
                Auth::Header { name: header::AUTHORIZATION, prefix: "Bearer ", secret: token? };
            let api = Api::new(section, context, api_url?, auth)?;
            Transport::Bot { api, channel: channel? }
        }
        (Some(_), Some(_)) => {
            section.fault(TOKEN.name, "give `webhook_url` or `token`, not both");
            return None;
        }
        (None, None) => {
            section.fault("", "`webhook_url` is missing, or `token` and `channel`");
            return None;
        }
    };
    Some(Arc::new(Slack {
        callback: callback?,
        transport,
        look: body::Look { severities: severities?, template: template?, buttons: buttons? },
        lifecycle: lifecycle?,
        search_lag,
        threads: Mutex::default(),
    }))
}

fn channel_id(section: &Section<'_>, given: Option<&str>) -> Option<String> {
    let Some(channel) = given else {
        if !section.has(CHANNEL.name) {
            section.fault("", format!("`{}` is missing: {}", CHANNEL.name, CHANNEL.doc));
        }
        return None;
    };
    let is_id = channel.len() >= 2
        && channel.starts_with(['C', 'G', 'D'])
        && channel.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if !is_id {
        section.fault(CHANNEL.name, "it must be the channel's id, as \"C0123456789\"");
        return None;
    }
    Some(channel.to_owned())
}

#[async_trait]
impl Destination for Slack {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let receipt = match &self.transport {
            Transport::Webhook(api) => self.by_webhook(api, member).await,
            Transport::Bot { api, channel } => self.as_bot(api, channel, member).await,
        };
        receipt.map(Delivered::All)
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let Transport::Bot { api, .. } = &self.transport else { return None };
        let asked = async {
            let answer = api.get(api.at("auth.test")?).await?;
            answer::judge_bot(api, &answer).map(drop)
        };
        Some(asked.await)
    }

    fn search_lag(&self) -> Option<Duration> {
        matches!(self.transport, Transport::Bot { .. }).then_some(self.search_lag)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let callback = calls::refresh(self.callback.as_ref());
        let api = self.transport.api().refresh();
        Ok(callback? | api?)
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        // What a person is told needs the way out.
        self.callback.is_some().then_some(self as &dyn Callbacks)
    }

    fn take_template_errors(&self) -> u64 {
        self.look.template.take_errors()
    }
}

#[async_trait]
impl Callbacks for Slack {
    fn hear(&self, request: &CallbackRequest<'_>) -> Result<Heard, Refusal> {
        self.callback.as_ref().ok_or(Refusal::Signature)?.hear(request)
    }

    fn operators(&self) -> Operators {
        self.callback.as_ref().map(Callback::operators).unwrap_or_default()
    }

    async fn tell(&self, request: &CallbackRequest<'_>, text: &str) {
        let api = self.transport.api();
        let Some(url) = callback::response_url(request.body) else { return };
        if !api.url().is_ok_and(|own| callback::is_slacks(&url, &own)) {
            tracing::warn!("a callback's `response_url` is not Slack's own; nobody is told");
            return;
        }
        let body = json!({
            "response_type": "ephemeral", "replace_original": false, "text": text,
        });
        if let Err(error) = api.json_as_nobody(url, &body).await {
            // The address is a secret, and the error names none.
            tracing::debug!(%error, "whoever pressed a button was not told");
        }
    }
}

// === impl Transport ===

impl Transport {
    fn api(&self) -> &Api {
        match self {
            Self::Webhook(api) | Self::Bot { api, .. } => api,
        }
    }
}

// === impl Slack ===

impl Slack {
    async fn by_webhook(&self, api: &Api, member: &Member) -> Result<Receipt, DeliveryError> {
        let url = api.url()?;
        let secrets = chat::parts(&url, &[]);
        let body = self.look.message(&Message::of(member));
        let answer = api.json(Method::POST, url, &body).await?;
        answer::judge_webhook(api, &answer).map_err(|error| http::masked(error, &secrets))
    }

    async fn as_bot(
        &self,
        api: &Api,
        channel: &str,
        member: &Member,
    ) -> Result<Receipt, DeliveryError> {
        let message = Message::of(member);
        let (problem, ends) = match self.lifecycle.phase(&message) {
            // Its own key is no problem that others could join.
            Phase::Open { key } if key == message.key => (None, false),
            Phase::Open { key } => (Some(key), false),
            Phase::Resolve { keys } => {
                let open = keys.into_iter().find(|key| self.thread(key).is_some());
                (open, true)
            }
        };
        let thread = problem.as_deref().and_then(|problem| self.thread(problem));
        if member.in_doubt
            && let Some(ts) = self.search(api, channel, member, thread.as_deref()).await?
        {
            self.follow(problem, ends, thread.as_deref().unwrap_or(&ts));
            let remote_id = Some(format!("{channel}/{ts}"));
            return Ok(Receipt {
                status: Some(200),
                remote_id,
                duplicate: true,
                ..Receipt::default()
            });
        }
        let body = self.look.post(&message, channel, thread.as_deref());
        let body = body.to_string().into_bytes();
        let url = api.at("chat.postMessage")?;
        let answer = api.send(Method::POST, url, JSON_UTF8, body, &[]).await?;
        let said = answer::judge_bot(api, &answer).inspect_err(|_| {
            // The thread may be locked or its beginning gone: the next try begins another.
            if answer::is_about_thread(api, &answer) {
                self.forget(thread.as_deref());
            }
        })?;
        let Some(ts) = said["ts"].as_str().filter(|ts| !ts.is_empty()) else {
            return Err(api.failure(Reason::BadAnswer, &answer));
        };
        self.follow(problem, ends, thread.as_deref().unwrap_or(ts));
        let place = said["channel"].as_str().unwrap_or(channel);
        Ok(Receipt {
            status: Some(answer.status.as_u16()),
            remote_id: Some(format!("{place}/{ts}")),
            duplicate: false,
            ..Receipt::default()
        })
    }

    /// The `ts` of the message an earlier try made, if there is one among the newest. A bot that
    /// may not read the channel finds nothing: the alert matters more than a repeat.
    async fn search(
        &self,
        api: &Api,
        channel: &str,
        member: &Member,
        thread: Option<&str>,
    ) -> Result<Option<String>, DeliveryError> {
        let since = member.event.received_at.0.saturating_sub(CLOCK_SLACK_MS) / 1000;
        let places = [("conversations.history", None), ("conversations.replies", thread)];
        for (method, ts) in places {
            if method == "conversations.replies" && ts.is_none() {
                continue;
            }
            let mut url = api.at(method)?;
            url.query_pairs_mut()
                .append_pair("channel", channel)
                .append_pair("include_all_metadata", "true")
                .append_pair("oldest", &since.to_string())
                .append_pair("limit", SEARCH_MESSAGES)
                .extend_pairs(ts.map(|ts| ("ts", ts)));
            let answer = api.get(url).await?;
            let said = match answer::judge_bot(api, &answer) {
                Ok(said) => said,
                Err(_) if answer::is_search_denied(api, &answer) => continue,
                Err(error) => return Err(error),
            };
            let messages = said["messages"].as_array().map_or(&[][..], Vec::as_slice);
            let is_ours = |message: &&Value| {
                message["metadata"]["event_payload"][body::KEY_FIELD] == *member.key
            };
            if let Some(ts) = messages.iter().find(is_ours).and_then(|found| found["ts"].as_str()) {
                return Ok(Some(ts.to_owned()));
            }
        }
        Ok(None)
    }

    fn thread(&self, problem: &str) -> Option<String> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.iter().find(|(known, _)| known == problem).map(|(_, ts)| ts.clone())
    }

    /// After a message: its problem's thread goes on, or ends with it.
    fn follow(&self, problem: Option<String>, ends: bool, ts: &str) {
        let Some(problem) = problem else { return };
        if ends {
            return self.forget(Some(ts));
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.iter().any(|(known, _)| *known == problem) {
            return;
        }
        if threads.len() == THREADS_MAX {
            threads.pop_front();
        }
        threads.push_back((problem, ts.to_owned()));
    }

    fn forget(&self, ts: Option<&str>) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|(_, known)| Some(known.as_str()) != ts);
    }
}
