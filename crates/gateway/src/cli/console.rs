//! `console`: a one-time sign-in link.

use serde_json::json;

use super::{Exit, Gateway, client::Client, output};

pub(crate) fn run(gateway: &Gateway) -> Exit {
    let client = match Client::new(gateway) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let answer = match client.post("/v1/console/links", &json!({}), None) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let url = format!("{}{}", client.url(), answer["path"].as_str().unwrap_or("/"));
    let seconds = answer["expires_in_s"].as_u64().unwrap_or(0);
    if gateway.json {
        output::line(format_args!("{}", json!({ "url": url, "expires_in_s": seconds })));
        return Exit::Done;
    }
    output::line(format_args!("{url}"));
    output::complain(format_args!(
        "open it within {} minutes; it works once. The console itself comes later: the page shows \
         the lanes",
        seconds / 60
    ));
    Exit::Done
}
