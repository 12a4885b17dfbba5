//! Everything a receiver can do to us, and what a lane makes of it (DESIGN 6).

use std::{fmt::Write as _, net::Ipv4Addr, time::Duration};

use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketAddrV4, SocketType, bind, getsockname, socket},
};
use serde_json::Value;

use crate::support::{Config, Gateway, Receiver, Reply, alerts, within_patience};

/// Few enough that permanent errors do not make the poison limit.
const ALERTS: u64 = 4;

/// What is expected of a lane at the end.
#[derive(Clone, Copy, Debug)]
enum End {
    Delivered,
    /// In this state, with everything pending and nothing dead.
    Pending(&'static str),
    /// Everything is dead for this reason, and the lane goes on.
    Dead(&'static str),
}

use End::{Dead, Delivered, Pending};

struct Case {
    name: &'static str,
    reply: Reply,
    end: End,
}

fn case(name: &'static str, reply: Reply, end: End) -> Case {
    Case { name, reply, end }
}

fn status(status: u16) -> Reply {
    Reply::text(status, "the receiver's own words")
}

fn raw(text: &str) -> Reply {
    Reply::Broken(text.as_bytes().to_vec())
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let huge = "x".repeat(10 << 20);
    let headers = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "y".repeat(2 << 20));
    let late = Reply::Later(Duration::from_secs(2), Box::new(Reply::ok()));
    vec![
        case("hangs",            Reply::Hang,                                   Pending("open")),
        case("answers-late",     late,                                          Pending("open")),
        case("resets",           Reply::Reset,                                  Pending("open")),
        case("resets-in-200",    raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), Delivered),
        case("resets-in-500",    raw("HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nhalf"), Pending("open")),
        case("bad-chunks",       raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"), Delivered),
        case("not-http",         raw("220 mail.example ESMTP ready\r\n"),       Pending("open")),
        case("zeros",            Reply::Broken(vec![0; 4096]),                  Pending("open")),
        case("endless-headers",  raw(&headers),                                 Pending("open")),
        case("half-a-head",      raw("HTTP/1.1 200 O"),                         Pending("open")),
        case("s201",             status(201),                                   Delivered),
        case("s204",             Reply::status(204),                            Delivered),
        case("ten-megabytes",    Reply::text(200, &huge),                       Delivered),
        case("ten-megabytes-500", Reply::text(500, &huge),                      Pending("open")),
        case("ten-megabytes-400", Reply::text(400, &huge),                      Dead("refused")),
        case("s301",             status(301).with("Location", "http://127.0.0.1:1/"), Pending("config_failed")),
        case("s307",             status(307).with("Location", "/"),             Pending("config_failed")),
        case("s400",             status(400),                                   Dead("refused")),
        case("s401",             status(401),                                   Pending("auth_failed")),
        case("s402",             status(402),                                   Pending("config_failed")),
        case("s403",             status(403),                                   Pending("auth_failed")),
        case("s404",             status(404),                                   Pending("config_failed")),
        case("s407",             status(407),                                   Pending("config_failed")),
        case("s408",             status(408),                                   Pending("open")),
        case("s409",             status(409),                                   Pending("open")),
        case("s410",             status(410),                                   Pending("config_failed")),
        case("s413",             status(413),                                   Dead("too_large")),
        case("s422",             status(422),                                   Dead("refused")),
        case("s425",             status(425),                                   Pending("open")),
        case("s429-seconds",     status(429).with("Retry-After", "3600"),       Pending("throttled")),
        case("s429-date",        status(429).with("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"), Pending("throttled")),
        case("s429-garbage",     status(429).with("Retry-After", "soon"),       Pending("throttled")),
        case("s429-negative",    status(429).with("Retry-After", "-5"),         Pending("throttled")),
        case("s500",             status(500),                                   Pending("open")),
        case("s503",             status(503),                                   Pending("open")),
        case("s503-seconds",     status(503).with("Retry-After", "3600"),       Pending("throttled")),
        case("s599",             status(599),                                   Pending("open")),
        case("s999",             status(999),                                   Pending("open")),
    ]
}

/// A port that nobody listens at and nobody else can take.
fn refusing() -> (OwnedFd, u16) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = SocketAddrV4::try_from(getsockname(&socket).expect("its name"));
    let port = address.expect("an IPv4 address").port();
    (socket, port)
}

fn holds(lane: &Value, end: End) -> bool {
    let (ledger, state) = (&lane["ledger"], lane["state"].as_str().unwrap_or_default());
    match end {
        Delivered => ledger["delivered"] == ALERTS && state == "active",
        Dead(_) => ledger["dead"] == ALERTS && state == "active",
        Pending(expected) => Gateway::all_wait(lane, ALERTS) && state == expected,
    }
}

#[test]
fn whatever_a_receiver_does_the_lane_ends_as_the_design_says() {
    let (_socket, closed) = refusing();
    let receivers: Vec<(Case, Receiver)> = cases()
        .into_iter()
        .map(|case| {
            let reply = case.reply.clone();
            (case, Receiver::start(move |_| reply.clone()))
        })
        .collect();
    let keys = "timeout = \"400ms\"\nretry = { initial = \"20ms\", max = \"200ms\" }";
    let mut config = Config::new().node("shutdown_timeout = \"1s\"");
    config = config.webhook("refuses", &format!("http://127.0.0.1:{closed}/"), keys);
    config = config.webhook("no-such-name", "http://nothing.invalid/", keys);
    for (case, receiver) in &receivers {
        config = config.webhook(case.name, &receiver.url("/hook"), keys);
    }
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..ALERTS));

    let ends = receivers.iter().map(|(case, _)| (case.name, case.end));
    let ends: Vec<_> =
        ends.chain([("refuses", Pending("open")), ("no-such-name", Pending("open"))]).collect();
    let mut wrong = String::new();
    for (name, end) in &ends {
        let mut last = Value::Null;
        let as_expected = within_patience(15, || {
            last = gateway.lane(name);
            holds(&last, *end).then_some(())
        });
        if as_expected.is_none() {
            writeln!(wrong, "{name}: expected {end:?}, but it is {last}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    check_dead_letters(&gateway, &ends);
    mend(&gateway, &receivers);
    gateway.finish();
}

fn check_dead_letters(gateway: &Gateway, ends: &[(&str, End)]) {
    for (name, end) in ends {
        let dead = gateway.dead_letters(&format!("destination={name}"));
        let Dead(reason) = end else {
            assert!(dead.is_empty(), "{name}: {dead:?}");
            continue;
        };
        for letter in dead {
            assert_eq!(letter["reason"], *reason, "{name}");
            // An earlier one may have taken too long on a slow machine.
            let last = letter["attempts"].as_array().and_then(|attempts| attempts.last());
            let excerpt = last.unwrap()["excerpt"].as_str().unwrap();
            assert!(excerpt.len() <= 8 * 1024, "{name}: an excerpt of {} bytes", excerpt.len());
            assert!(excerpt.contains("own words") || excerpt.contains("xxx"), "{name}: {excerpt}");
        }
    }
}

/// All that was only pending is delivered once the receivers are well.
fn mend(gateway: &Gateway, receivers: &[(Case, Receiver)]) {
    for (_, receiver) in receivers {
        receiver.behave(|_| Reply::ok());
    }
    for (case, _) in receivers {
        match case.end {
            // An hour, or longer, was asked for.
            Pending("throttled") if !case.name.contains("garbage") => {}
            Pending(_) => gateway.wait_for_term(case.name, "delivered", ALERTS),
            Delivered | Dead(_) => {}
        }
    }
}

#[test]
fn a_413_for_a_batch_halves_it_until_it_fits() {
    let receiver = Receiver::start(|request| {
        if alerts::numbers(&request.body).len() > 5 { status(413) } else { Reply::ok() }
    });
    let keys = "batch = { max_events = 64, max_wait = \"100ms\" }";
    let mut gateway = Gateway::start(Config::new().webhook("small", &receiver.url("/"), keys));
    gateway.accept(&alerts::ndjson(0..200));
    gateway.wait_for_term("small", "delivered", 200);
    assert_eq!(gateway.lane("small")["ledger"]["dead"], 0);
    let mut taken = receiver.taken();
    taken.sort_unstable();
    assert_eq!(taken, (0..200).collect::<Vec<_>>());
    gateway.finish();
}
