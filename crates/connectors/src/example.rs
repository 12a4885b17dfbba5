//! The destination that `docs/adding-a-destination.md` walks through. Tests keep both equal.

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::Method;
use serde_json::json;

use crate::{
    destinations::{Context, Kind},
    message::{self, Message, clip},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "pager",
    summary: "Sends a text to the Example Pager.",
    example: r#"
url = "https://pager.example/v1/calls"
token = "0123456789"
"#,
    settings: &[&URL, &TOKEN, &message::TEMPLATE],
    batches: false,
    http: true,
    build,
};

const URL: Setting =
    Setting::optional("url", "\"https://pager.example/v1/calls\"", "Where calls go.");

const TOKEN: Setting = Setting::optional(
    "token",
    "{ file = \"/etc/holdfast/secrets/pager\" }",
    "The API's token. A secret.",
);

/// Example Pager API, "Limits".
const TEXT_CHARS_MAX: usize = 160;

#[derive(Debug)]
struct Pager {
    api: Api,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    // Everything is read before anything returns, so that every fault is reported at once.
    let address = vendor::address(section, &URL);
    let token = vendor::secret(section, &TOKEN);
    let template = message::Template::read(section);
    let name = reqwest::header::AUTHORIZATION;
    let auth = Auth::Header { name, prefix: "Bearer ", secret: token? };
    Some(Arc::new(Pager { api: Api::new(section, context, address?, auth)?, template: template? }))
}

#[async_trait]
impl Destination for Pager {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let message = Message::of(member);
        let text = self.template.render(&message).unwrap_or(message.title);
        // `client_ref` is what the vendor dedupes by: the same for every try.
        let body = json!({ "text": clip(&text, TEXT_CHARS_MAX), "client_ref": member.key });
        let answer = self.api.json(Method::POST, self.api.url()?, &body).await?;
        self.api.verdict(&answer)?;
        // This vendor says "no" with a 200 too.
        let said = self.api.read(&answer)?;
        if said["accepted"] != true {
            return Err(self.api.failure(Reason::Refused, &answer));
        }
        Ok(Delivered::All(Receipt {
            status: Some(answer.status.as_u16()),
            remote_id: said["id"].as_str().map(str::to_owned),
            duplicate: said["seen_before"] == true,
            ..Receipt::default()
        }))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::fake::{Act, Fake, answer},
        message::samples,
        testing::{build, context, shipment},
    };

    async fn deliver(body: &str) -> (Result<Delivered, DeliveryError>, Vec<serde_json::Value>) {
        let fake = Fake::start([Act::Say(answer("200 OK", "", body))]).await;
        let table = format!("url = \"{}/v1/calls\"\ntoken = \"0123456789\"", fake.url);
        let pager = build(&KIND, &table, &context()).unwrap();
        let mut results = Vec::new();
        for (_, member) in
            samples::all().into_iter().chain([("hostile".into(), samples::hostile())])
        {
            results.push(pager.deliver(&shipment([member])).await);
        }
        let seen = fake.seen();
        assert!(seen.iter().all(|seen| seen.header("authorization") == Some("Bearer 0123456789")));
        let bodies = seen.iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
        (results.pop().unwrap(), bodies)
    }

    #[tokio::test]
    async fn every_sample_is_sent_within_the_limits_and_with_its_key() {
        let (result, bodies) = deliver(r#"{"accepted":true,"id":"c-7","seen_before":true}"#).await;
        let Ok(Delivered::All(receipt)) = result else { panic!("{result:?}") };
        let expected = Receipt {
            status: Some(200),
            remote_id: Some("c-7".into()),
            duplicate: true,
            ..Receipt::default()
        };
        assert_eq!(receipt, expected);
        assert_eq!(bodies[0]["client_ref"], "abcdefghij-1.lane");
        for body in bodies {
            let chars = body["text"].as_str().unwrap().chars().count();
            assert!((1..=160).contains(&chars), "{body}");
        }
    }

    #[tokio::test]
    async fn a_no_inside_a_200_is_no_delivery() {
        for (body, expected) in
            [(r#"{"accepted":false}"#, Reason::Refused), ("<html>", Reason::BadAnswer)]
        {
            assert_eq!(deliver(body).await.0.unwrap_err().reason, expected, "{body}");
        }
    }

    #[test]
    fn the_walk_through_shows_this_file() {
        let file = include_str!("example.rs");
        let (_, code) = file.split_once("\n\n").unwrap();
        let (code, _) = code.split_once("\n#[cfg(test)]").unwrap();
        let page = include_str!("../../../docs/adding-a-destination.md");
        assert!(page.contains(code), "docs/adding-a-destination.md has another version");
    }
}
