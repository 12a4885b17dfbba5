//! What the operator says about requests and the way they take, seen from outside.

use crate::support::{Config, Gateway, Receiver, alerts, eventually, wait::holds};

#[test]
fn a_name_that_leads_to_this_machine_parks_the_lane_before_a_connection() {
    let receiver = Receiver::willing();
    let url = format!("http://localhost:{}/hook", receiver.port());
    let config = Config::new()
        .webhook("by-name", &url, "allow_addresses = [\"localhost\"]")
        .webhook("elsewhere", &url, "allow_addresses = [\"10.0.0.0/8\"]")
        .webhook("listed", &url, "allow_addresses = [\"127.0.0.0/8\", \"::1\"]");
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..5));
    gateway.wait_for_term("listed", "delivered", 5);
    let count = receiver.count();
    for lane in ["by-name", "elsewhere"] {
        gateway.wait_for_state(lane, "config_failed");
        let lane = gateway.lane(lane);
        let reason = lane["reason"].as_str().unwrap();
        assert!(reason.contains("which `allow_addresses` does not let through"), "{reason}");
        assert_eq!((&lane["ledger"]["delivered"], &lane["ledger"]["dead"]), (&0.into(), &0.into()));
    }
    assert_eq!((receiver.count(), count), (5, 5), "nothing came by another lane");
    gateway.finish();
}

#[test]
fn a_template_that_errs_is_counted_and_the_alert_arrives() {
    let receiver = Receiver::willing();
    let config = Config::new().webhook(
        "own",
        &receiver.url("/hook"),
        "body = '{\"number\": {{ alert.number // (alert.number - 1) }}}'",
    );
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..4));
    gateway.wait_for_term("own", "delivered", 4);
    let noted =
        |body: &[u8]| body.starts_with(b"{\"holdfast_note\":\"the template of body failed: ");
    let bodies: Vec<_> =
        receiver.exchanges().into_iter().map(|exchange| exchange.request.body).collect();
    assert_eq!(bodies.iter().filter(|body| noted(body)).count(), 1, "the one of number 1");
    let line = "holdfast_template_errors_total{destination=\"own\"} 1";
    eventually("it is counted", || holds(gateway.get("/metrics").text.contains(line)));
    gateway.finish();
}
