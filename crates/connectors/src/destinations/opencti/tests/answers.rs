use super::*;

#[tokio::test]
async fn each_code_has_its_meaning() {
    use Reason::{BadAnswer, Misconfigured, Refused, ServerFault, Unauthorized};
    #[rustfmt::skip]
    let table = [
        // code, reason at the first try, reason at the ninth
        ("AUTH_REQUIRED", Unauthorized, Unauthorized),
        ("AUTH_FAILURE", Unauthorized, Unauthorized),
        ("OTP_REQUIRED", Unauthorized, Unauthorized),
        ("OTP_REQUIRED_ACTIVATION", Unauthorized, Unauthorized),
        ("FORBIDDEN_ACCESS", Unauthorized, Unauthorized),
        ("FUNCTIONAL_ERROR", Refused, Refused),
        ("VALIDATION_ERROR", Refused, Refused),
        ("ALREADY_DELETED_ERROR", Refused, Refused),
        ("UNSUPPORTED_ERROR", Refused, Refused),
        ("BAD_USER_INPUT", Refused, Refused),
        ("DRAFT_LOCKED", Refused, Refused),
        ("GRAPHQL_VALIDATION_FAILED", Misconfigured, Misconfigured),
        ("GRAPHQL_PARSE_FAILED", Misconfigured, Misconfigured),
        ("RESOURCE_NOT_FOUND", ServerFault, Refused),
        ("MISSING_REFERENCE_ERROR", ServerFault, Refused),
        ("COMPLEX_SEARCH_ERROR", ServerFault, Refused),
        ("CONFIGURATION_ERROR", ServerFault, Refused),
        ("LOCK_ERROR", ServerFault, ServerFault),
        ("DATABASE_ERROR", ServerFault, ServerFault),
        ("FILESYSTEM_ERROR", ServerFault, ServerFault),
        ("UNKNOWN_ERROR", ServerFault, ServerFault),
        ("INTERNAL_SERVER_ERROR", ServerFault, ServerFault),
        ("A_NEW_ONE", BadAnswer, BadAnswer),
        ("", BadAnswer, BadAnswer),
    ];
    // With `create = "indicator"` nothing is searched first.
    for (code, first, ninth) in table {
        for (attempt, expected) in [(1, first), (9, ninth)] {
            let acts = match code {
                // The system is added, and it is still missing.
                "RESOURCE_NOT_FOUND" | "MISSING_REFERENCE_ERROR" => {
                    vec![failed(code), made("identityAdd", "s1"), failed(code)]
                }
                _ => vec![failed(code)],
            };
            let member = Member { attempt, ..alert(1, WITH_INDICATORS) };
            let (_, result) = tell(acts, "create = \"indicator\"", member).await;
            let error = result.unwrap_err();
            assert_eq!(error.reason, expected, "{code} at try {attempt}");
            assert_eq!(error.status, Some(200));
        }
    }
}

#[tokio::test]
async fn each_status_has_its_meaning() {
    let code = |code: &str| json!({ "errors": [{ "name": code }] }).to_string();
    #[rustfmt::skip]
    let table = [
        ("200 OK", "<html>".to_owned(), Reason::BadAnswer),
        ("200 OK", "{}".to_owned(), Reason::BadAnswer),
        ("200 OK", r#"{"data":null}"#.to_owned(), Reason::BadAnswer),
        ("200 OK", r#"{"data":{"incidentAdd":null}}"#.to_owned(), Reason::BadAnswer),
        ("200 OK", r#"{"data":{"incidentAdd":{"id":""}}}"#.to_owned(), Reason::BadAnswer),
        ("200 OK", code("LOCK_ERROR"), Reason::ServerFault),
        ("400 Bad Request", code("GRAPHQL_VALIDATION_FAILED"), Reason::Misconfigured),
        ("500 Internal Server Error", code("FUNCTIONAL_ERROR"), Reason::Refused),
        ("401 Unauthorized", String::new(), Reason::Unauthorized),
        ("404 Not Found", String::new(), Reason::Misconfigured),
        ("413 Too Large", String::new(), Reason::TooLarge),
        ("429 Too Many Requests", r#"{"message":"Too many requests"}"#.to_owned(), Reason::Throttled),
        ("502 Bad Gateway", String::new(), Reason::ServerFault),
        ("301 Moved Permanently", String::new(), Reason::Misconfigured),
    ];
    for (status, body, expected) in table {
        let (_, result) = tell([answer(status, "", &body)], "", alert(1, "{}")).await;
        assert_eq!(result.unwrap_err().reason, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn the_token_is_checked_and_masked() {
    let check = async |act: Vec<u8>| {
        let fake = Fake::start([Act::Say(act)]).await;
        let result = destination(&fake, "").check().await.unwrap();
        assert_eq!(names(&fake.seen()), ["me"]);
        result
    };
    check(said(json!({ "me": { "id": "u1", "name": "holdfast" } }))).await.unwrap();
    let error = check(said(json!({ "me": null }))).await.unwrap_err();
    assert_eq!(error.reason, Reason::BadAnswer);
    let body =
        json!({ "errors": [{ "message": format!("bad {TOKEN}"), "name": "AUTH_REQUIRED" }] });
    let error = check(answer("200 OK", "", &body.to_string())).await.unwrap_err();
    assert_eq!(error.reason, Reason::Unauthorized);
    assert!(error.excerpt.contains("bad [masked]"), "{}", error.excerpt);
}

#[test]
fn wrong_settings_are_faults() {
    let twenty_one = vec!["\"a\""; 21].join(",");
    for (more, expected) in [
        ("create = \"case\"", "lane.create: "),
        ("create = \"bundle\"", "lane.connector_id: a bundle needs the id of a connector"),
        ("create = \"bundle\"\nconnector_id = \" \"", "lane.connector_id: a bundle needs"),
        ("identity = \" x \"", "lane.identity: it must have 2 to 250"),
        ("tlp = \"white\"", "lane.tlp: "),
        ("score = 101", "lane.score: 101 is not within"),
        ("labels = [\" \"]", "lane.labels: at most 20"),
        (&format!("labels = [{twenty_one}]"), "lane.labels: at most 20"),
        ("severity = { low = \"info\" }", "lane.severity.low: it must be one of"),
        ("template = \"{{\"", "lane.template: it does not compile"),
    ] {
        let table = format!("url = \"https://a\"\ntoken = \"t\"\n{more}");
        let problem = fault(&KIND, &table, &context());
        assert!(problem.contains(expected), "{problem}");
    }
    let problem = fault(&KIND, "url = \"https://a\"", &context());
    assert!(problem.contains("`token` is missing"), "{problem}");
}
