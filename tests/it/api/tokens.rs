//! Tokens that expire, and tokens that are exchanged without a gap.

use crate::support::{
    Config, Gateway,
    binary::{self},
    config::{TOKEN, write_private},
    eventually,
    http::{Answer, Call},
};

const OLD: &str = "soc-old-token-0123456789";
const NEW: &str = "soc-new-token-0123456789";

fn ask(gateway: &Gateway, token: &str) -> Answer {
    Call::new(gateway.port, "GET", "/v1/destinations").bearer(token).send().unwrap()
}

#[test]
fn an_expired_token_is_refused_and_says_so_while_its_successor_works() {
    let tokens = format!(
        "tokens = [ {{ name = \"it\", role = \"admin\", token = \"{TOKEN}\" }},\n\
         {{ name = \"soc\", role = \"read\", token = \"{OLD}\", expires = \"2020-01-01T00:00:00Z\" }},\n\
         {{ name = \"soc\", role = \"read\", token = \"{NEW}\" }} ]"
    );
    let mut gateway = Gateway::start(Config::new().server(&tokens));
    let refused = ask(&gateway, OLD);
    assert_eq!((refused.status, refused.problem().as_str()), (401, "unauthorized"));
    assert!(refused.text.contains("has expired at 2020-01-01T00:00:00.000Z"), "{}", refused.text);
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(ask(&gateway, NEW).status, 200);
    let warning = "the token `soc` has expired at 2020-01-01T00:00:00.000Z";
    assert!(gateway.log().contains(warning), "{}", gateway.log());
    let path = gateway.config.file("holdfast.toml");
    let said = binary::run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "an expired token is no fault: {said:?}");
    assert!(said.err.contains(warning), "{said:?}");
    gateway.finish();
}

#[test]
fn a_token_in_a_file_is_exchanged_while_the_gateway_runs() {
    let config = Config::new();
    let path = config.secret("soc-token", OLD);
    let tokens = format!(
        "tokens = [ {{ name = \"it\", role = \"admin\", token = \"{TOKEN}\" }},\n\
         {{ name = \"soc\", role = \"read\", token = {{ file = \"{}\" }} }} ]",
        path.display()
    );
    let mut gateway = Gateway::start(config.server(&tokens));
    assert_eq!((ask(&gateway, OLD).status, ask(&gateway, NEW).status), (200, 401));
    write_private(&path, NEW);
    eventually("the new token works", || (ask(&gateway, NEW).status == 200).then_some(()));
    assert_eq!(ask(&gateway, OLD).status, 401, "the old one does not any more");
    gateway.finish();
}
