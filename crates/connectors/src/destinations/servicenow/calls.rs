//! One request and its answer: who sends it, and what its status says.

use holdfast_model::{DeliveryError, Reason};
use reqwest::{
    Method, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use serde_json::Value;

use super::{ServiceNow, auth::bearer};
use crate::http::Answer;

// === impl ServiceNow ===

impl ServiceNow {
    /// The rows of the table that fit.
    pub(super) async fn ask(&self, pairs: &[(&str, &str)]) -> Result<Vec<Value>, DeliveryError> {
        let mut url = self.api.at(&self.records())?;
        url.query_pairs_mut()
            .extend_pairs(pairs)
            .append_pair("sysparm_fields", "sys_id,number,state,correlation_id,description");
        let answer = self.call(Method::GET, url, Vec::new()).await?;
        // Older releases answer 404 where nothing is found.
        if answer.status.as_u16() == 404 && complaint(&answer).contains("no record found") {
            return Ok(Vec::new());
        }
        self.judge(&answer)?;
        match self.api.read(&answer)?["result"].take() {
            Value::Array(rows) => Ok(rows),
            _ => Err(self.api.failure(Reason::BadAnswer, &answer)),
        }
    }

    /// Sends JSON; a status that is no success is the error.
    pub(super) async fn write(
        &self,
        method: Method,
        url: Url,
        body: &Value,
    ) -> Result<Answer, DeliveryError> {
        let answer = self.call(method, url, body.to_string().into_bytes()).await?;
        self.judge(&answer)?;
        Ok(answer)
    }

    /// Sends once, and once more with a new token where the old one was refused: what is answered
    /// 401 was not done.
    async fn call(&self, method: Method, url: Url, body: Vec<u8>) -> Result<Answer, DeliveryError> {
        let json = "application/json";
        let mut headers = vec![(ACCEPT, HeaderValue::from_static(json))];
        let Some(oauth) = &self.oauth else {
            return self.api.send(method, url, json, body, &headers).await;
        };
        let unfit = || DeliveryError::new(Reason::BadAnswer);
        let token = oauth.token(&self.api).await?;
        headers.push((AUTHORIZATION, bearer(token.expose()).ok_or_else(unfit)?));
        let first =
            self.api.send(method.clone(), url.clone(), json, body.clone(), &headers).await?;
        if first.status.as_u16() != 401 {
            return Ok(first);
        }
        oauth.drop_token(&token);
        let token = oauth.token(&self.api).await?;
        headers.pop();
        headers.push((AUTHORIZATION, bearer(token.expose()).ok_or_else(unfit)?));
        let second = self.api.send(method, url, json, body, &headers).await?;
        if second.status.as_u16() == 401 {
            oauth.drop_token(&token);
        }
        Ok(second)
    }

    fn judge(&self, answer: &Answer) -> Result<(), DeliveryError> {
        self.api.verdict(answer).map_err(|mut error| {
            // A table that does not exist is wrong for every event.
            if error.reason == Reason::Refused && complaint(answer).contains("invalid table") {
                error.reason = Reason::Misconfigured;
            }
            error
        })
    }
}

/// The words of an error, in lower case.
fn complaint(answer: &Answer) -> String {
    let said = answer.body().ok().and_then(|body| serde_json::from_slice(body).ok());
    let said: Value = said.unwrap_or_default();
    let text = |name: &str| said["error"][name].as_str().unwrap_or("").to_ascii_lowercase();
    format!("{} {}", text("message"), text("detail"))
}
