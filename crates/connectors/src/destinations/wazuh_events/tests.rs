use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    testing::{self, alert, context, shipment},
};

const TOKEN: &str = r#"{"data":{"token":"jwt-one-0123456789"},"error":0}"#;

fn ok(body: impl AsRef<str>) -> Act {
    Act::Say(answer("200 OK", "", body.as_ref()))
}

fn built(fake: &Fake) -> Arc<dyn Destination> {
    let table = format!(
        "url = \"{}\"\nuser = \"me\"\npassword = \"pass-word\"\ntemplate = \"{{{{ alert.t }}}}\"",
        fake.url
    );
    testing::build(&KIND, &table, &context()).unwrap()
}

fn outcomes(delivered: Result<Delivered, DeliveryError>) -> Vec<Result<(), Reason>> {
    match delivered.unwrap() {
        Delivered::Each(all) => {
            all.into_iter().map(|one| one.map(drop).map_err(|e| e.reason)).collect()
        }
        Delivered::All(_) => panic!("each has its own"),
    }
}

fn texts(texts: &[&str]) -> Shipment {
    let member = |(at, text): (usize, &&str)| alert(at as u64, json!({ "t": text }).to_string());
    shipment(texts.iter().enumerate().map(member).collect::<Vec<_>>())
}

#[tokio::test]
async fn each_event_has_its_own_outcome_and_equal_texts_are_counted() {
    let said = json!({ "error": 2, "data": {
        "affected_items": ["a", "same"],
        "failed_items": [
            { "error": { "code": 1014, "message": "socket" }, "id": ["same"] },
            { "error": { "code": 1012, "message": "long" }, "id": ["b"] },
        ],
    }});
    let fake = Fake::start([ok(TOKEN), ok(said.to_string())]).await;
    let long = "x".repeat(EVENT_BYTES_MAX);
    // The template cuts at 64 KiB, which is still too long here.
    let sent = built(&fake).deliver(&texts(&["a", "same", "same", "b", "lost", &long])).await;
    let expected =
        [Ok(()), Ok(()), Err(Reason::ServerFault), Err(Reason::TooLarge), Err(Reason::BadAnswer)];
    let found = outcomes(sent);
    assert_eq!(found[..5], expected);
    let seen = fake.seen();
    assert_eq!(seen[0].line, "POST /security/user/authenticate HTTP/1.1");
    assert!(seen[0].header("authorization").unwrap().starts_with("Basic "));
    assert_eq!(seen[1].line, "POST /events HTTP/1.1");
    assert_eq!(seen[1].header("authorization"), Some("Bearer jwt-one-0123456789"));
}

#[tokio::test]
async fn an_expired_token_is_renewed_once_and_kept() {
    let no = || Act::Say(answer("401 Unauthorized", "", "{}"));
    let yes = || ok(r#"{"error":0,"data":{"affected_items":["a"],"failed_items":[]}}"#);
    let new = r#"{"data":{"token":"jwt-two-0123456789"}}"#;
    let fake = Fake::start([ok(TOKEN), yes(), no(), ok(new), yes(), yes()]).await;
    let destination = built(&fake);
    for _ in 0..3 {
        assert_eq!(outcomes(destination.deliver(&texts(&["a"])).await), [Ok(())]);
    }
    let lines: Vec<_> = fake.seen().iter().map(|seen| seen.line.contains("authenticate")).collect();
    assert_eq!(lines, [true, false, false, true, false, false]);
    let fake = Fake::start([ok(TOKEN), no(), ok(new), no()]).await;
    let error = built(&fake).deliver(&texts(&["a"])).await.unwrap_err();
    assert_eq!(error.reason, Reason::Unauthorized);
    assert_eq!(fake.seen().len(), 4, "once, and then a person is told");
}

#[tokio::test]
async fn too_many_at_once_are_halved_before_anything_is_sent() {
    let fake = Fake::start([ok(TOKEN)]).await;
    let many = vec!["a"; EVENTS_MAX + 1];
    assert_eq!(built(&fake).deliver(&texts(&many)).await.unwrap_err().reason, Reason::TooLarge);
    let long = "é".repeat(20_000);
    let many = vec![long.as_str(); 60];
    assert_eq!(built(&fake).deliver(&texts(&many)).await.unwrap_err().reason, Reason::TooLarge);
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_role_without_the_permission_parks_the_lane_and_a_blocked_login_waits() {
    let denied = r#"{"title":"Permission Denied","error":4000}"#;
    let fake = Fake::start([ok(TOKEN), Act::Say(answer("403 Forbidden", "", denied))]).await;
    let error = built(&fake).deliver(&texts(&["a"])).await.unwrap_err();
    assert_eq!(error.reason, Reason::Unauthorized);
    let fake = Fake::start([Act::Say(answer("403 Forbidden", "", "{}"))]).await;
    let error = built(&fake).deliver(&texts(&["a"])).await.unwrap_err();
    assert_eq!(error.reason, Reason::Throttled);
    assert_eq!(error.retry_after.map(|wait| wait.as_secs()), Some(300));
}
