use super::*;

#[test]
fn ten_faults_are_ten_reports_with_line_and_key() {
    let text = r#"
[node]
shutdown_timeout = "ten seconds"
[server]
listen = "0.0.0.0:9470"
max_line = "2MiB"
tokens = [
    { name = "soc", role = "root", token = "0123456789abcdef" },
]
[queue]
engine = "jetstream"
dead_letters = { max_sise = "2GiB" }
[sources.http]
type = "alerts_file"
path = "/a"
[destinations.tickets]
type = "pigeon"
[destinations."so c"]
type = "stdout"
rate = "30"
[destinations.archive]
type = "file"
retry = { initial = "10m" }
"#;
    let expected = [
        (3, "node.shutdown_timeout", "\"ten seconds\" is not a number with a unit"),
        (5, "server.listen", "there is no TLS"),
        (6, "server.max_line", "2.0 MiB is not within 1.0 KiB to 1.0 MiB"),
        (8, "server.tokens[0].role", "\"root\" is not one of \"ingest\", \"read\", \"admin\""),
        (11, "queue.engine", "\"jetstream\" is not in this version"),
        (12, "queue.dead_letters.max_sise", "no such key here; allowed are: max_age, max_size"),
        (13, "sources.http", "take another"),
        (17, "destinations.tickets.type", "\"pigeon\" is not one of \"webhook\", "),
        (18, "destinations.so c", "\"so c\" does not fit: a name has 1 to 64 characters"),
        (20, "destinations.so c.rate", "\"30\" is not a number per s, min, h or day"),
        (21, "destinations.archive", "`path` is missing"),
        (23, "destinations.archive.retry.initial", "it is longer than `max`"),
    ];
    let faults = read(text).unwrap_err();
    for (fault, (line, key, problem)) in faults.iter().zip(expected) {
        assert_eq!((fault.line, fault.key.as_str()), (line, key), "{fault:?}");
        assert!(fault.problem.contains(problem), "{fault:?}");
    }
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
}

#[test]
fn a_key_that_nobody_knows_is_a_fault_wherever_it_is() {
    let text = r#"
x = 1
[node]
x = 1
[server]
x = 1
tokens = [{ name = "a", role = "read", token = "0123456789abcdef", x = 1 }]
[ingest]
x = 1
idempotency = { x = 1 }
[queue]
x = 1
dead_letters = { x = 1 }
[sources.s]
type = "alerts_file"
path = "/a"
x = 1
[destinations.d]
type = "stdout"
x = 1
batch = { x = 1 }
retry = { x = 1 }
breaker = { x = 1 }
when = { x = 1 }
"#;
    let faults = faults(text);
    let expected = [
        "2 x:",
        "4 node.x:",
        "6 server.x:",
        "7 server.tokens[0].x:",
        "9 ingest.x:",
        "10 ingest.idempotency.x:",
        "12 queue.x:",
        "13 queue.dead_letters.x:",
        "17 sources.s.x:",
        "20 destinations.d.x:",
        "21 destinations.d.batch.x:",
        "22 destinations.d.retry.x:",
        "23 destinations.d.breaker.x:",
        "24 destinations.d.when.x:",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, start) in faults.iter().zip(expected) {
        assert!(fault.starts_with(start) && fault.contains("there is no such key here"), "{fault}");
    }
    assert!(faults[0].ends_with("allowed are: destinations, ingest, node, queue, server, sources"));
}

#[test]
fn a_wrong_type_is_one_fault_and_says_what_is_expected() {
    for (text, expected) in [
        ("node = 1", "1 node: it is a whole number, but must be a table"),
        ("sources = \"x\"", "1 sources: it is a text, but must be a table"),
        ("[destinations]\nx = true", "2 destinations.x: it is true or false, but must be a table"),
        (
            "[destinations.x]\ntype = 1",
            "2 destinations.x.type: it is a whole number, but must be a text in quotes",
        ),
        (
            "[server]\nlisten = 9470",
            "2 server.listen: it is a whole number, but must be a text in quotes",
        ),
        (
            "[server]\ninsecure = \"yes\"",
            "2 server.insecure: it is a text, but must be true or false",
        ),
        (
            "[server]\ntokens = { name = \"x\" }",
            "2 server.tokens: it is a table, but must be a list of tables",
        ),
        (
            "[queue]\nmax_size = 20",
            "2 queue.max_size: it is a whole number, but must be a text in quotes",
        ),
        (
            "[node]\nstate = \"\"",
            "2 node.state: \"\" must begin with `/`, or with `./` for the current directory",
        ),
        (
            "[queue]\npath = \"queue\"",
            "2 queue.path: \"queue\" must begin with `/`, or with `./` for the current directory",
        ),
        (
            "[queue]\nmax_size = \"20GB\"\nreserve = \"-1B\"",
            "3 queue.reserve: \"-1B\" is not a number with a unit: B, KiB, MiB, GiB or TiB, as in \"256MiB\"",
        ),
        ("[node]\nname = \"a b\"", "2 node.name: it must have 1 to 253 bytes without white space"),
    ] {
        assert_eq!(faults(text), [expected], "{text:?}");
    }
}

#[test]
fn the_listener_is_for_this_machine_unless_somebody_says_otherwise() {
    let listen = |rest: &str| format!("[server]\nlisten = {rest}");
    for local in
        ["\"127.0.0.1:9470\"", "\"127.8.8.8:0\"", "\"[::1]:9470\"", "\"[::ffff:127.0.0.1]:1\""]
    {
        assert!(!read(&listen(local)).unwrap().server.insecure, "{local}");
    }
    for reachable in ["\"0.0.0.0:9470\"", "\"[::]:9470\"", "\"192.0.2.1:9470\""] {
        let fault = faults(&listen(reachable)).concat();
        assert!(fault.contains("no TLS") && fault.contains("127.0.0.1:9470"), "{fault}");
        assert!(fault.contains("`insecure = true`"), "{fault}");
        assert!(read(&listen(&format!("{reachable}\ninsecure = true"))).is_ok(), "{reachable}");
    }
    for bad in ["\"localhost:9470\"", "\"127.0.0.1\"", "\":9470\"", "\"\""] {
        assert!(
            faults(&listen(bad)).concat().contains("is not an IP address with a port"),
            "{bad}"
        );
    }
    let callbacks = |rest: &str| format!("[server]\ncallbacks = {{ listen = {rest} }}\n");
    let fault = faults(&callbacks("\"0.0.0.0:9471\"")).concat();
    assert!(
        fault.starts_with("2 server.callbacks.listen: ") && fault.contains("no TLS"),
        "{fault}"
    );
    let config = read(&(callbacks("\"0.0.0.0:9471\"") + "insecure = true")).unwrap();
    assert_eq!(config.server.callbacks.map(|at| at.port()), Some(9471));
    let same = faults(&callbacks("\"127.0.0.1:9470\""));
    assert_eq!(same, ["2 server.callbacks: it is the address of `listen`"]);
}

#[test]
fn hosts_are_names_without_ports() {
    let config = read("[server]\nhosts = [\"Alerts.Example\"]").unwrap();
    assert_eq!(config.server.hosts, ["alerts.example"]);
    let faults = faults("[server]\nhosts = [\"a:1\", \"http://a\", \"\", \"*\"]");
    assert_eq!(faults.len(), 4, "{faults:?}");
}

#[test]
fn a_body_is_not_smaller_than_a_line() {
    let faults = faults("[server]\nmax_body = \"64KiB\"");
    assert_eq!(faults, ["2 server.max_body: it is less than `max_line`"]);
}

#[test]
fn a_file_has_one_reader_or_one_writer() {
    let source =
        |name, path| format!("[sources.{name}]\ntype = \"alerts_file\"\npath = \"{path}\"\n");
    let file = |name, path| format!("[destinations.{name}]\ntype = \"file\"\npath = \"{path}\"\n");
    let table = [
        (
            source("a", "/x") + &source("b", "/x"),
            "6 sources.b.path: `sources.a` uses the same file",
        ),
        (
            file("a", "/x") + &file("b", "/x"),
            "6 destinations.b.path: `destinations.a` uses the same file",
        ),
        (
            source("a", "./x") + &file("b", "./x"),
            "6 destinations.b.path: `sources.a` uses the same file",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(faults(&text), [expected]);
    }
    assert!(read(&(source("a", "/x") + &file("a", "/y"))).is_ok(), "one may feed the other's name");
}

#[test]
fn a_name_twice_is_a_fault() {
    let twice = faults("[destinations.a]\ntype = \"stdout\"\n[destinations.a]\ntype = \"stdout\"");
    assert_eq!(twice, ["3 : it is not TOML: duplicate key `a`"]);
    let tokens = "[server]\ntokens = [\n\
        { name = \"soc\", role = \"read\", token = \"0123456789abcdef\" },\n\
        { name = \"soc\", role = \"admin\", token = \"fedcba9876543210\" },\n\
        { name = \"other\", role = \"admin\", token = \"0123456789abcdef\" },\n]";
    let expected = [
        "4 server.tokens[1].name: there is a token `soc` with another role already",
        "5 server.tokens[2].token: `soc` and `other` have the same token",
    ];
    assert_eq!(faults(tokens), expected);
}

#[test]
fn what_the_file_says_is_what_the_gateway_gets() {
    let config = read(
        r#"
[node]
name = "mgr-1"
state = "/s"
shutdown_timeout = "0s"
[server]
listen = "127.0.0.1:0"
tokens = [{ name = "soc", role = "ingest", token = "0123456789abcdef" }]
max_body = "2MiB"
[ingest]
idempotency = { window = "1h", max_keys = 7 }
[queue]
max_size = "1GiB"
reserve = "0B"
retention = "1s"
dead_letters = { max_age = "1d" }
[sources.wazuh]
type = "alerts_file"
path = "./alerts.json"
[destinations.z]
type = "stdout"
timeout = "1s"
[destinations.a]
type = "stdout"
batch = { max_events = 500 }
"#,
    )
    .unwrap();
    assert_eq!(config.node.name, "mgr-1");
    assert_eq!(config.server.tokens[0].role, Role::Ingest);
    assert_eq!(config.server.tokens[0].secret.current().expose(), "0123456789abcdef");
    assert_eq!(config.server.body_bytes_max, 2 << 20);
    assert_eq!(config.queue.path, Path::new("/s/queue"));
    assert_eq!(config.queue.reserve_bytes, 0);
    assert_eq!(config.queue.dead_bytes_max, 512 << 20, "no more than half of the queue");
    assert_eq!((config.queue.bytes_max, config.idempotency.keys_max), (1 << 30, 7));
    assert_eq!(config.queue.dead_age_max.as_secs(), 86_400);
    let here = std::env::current_dir().unwrap().join("alerts.json");
    assert_eq!(config.sources[0].1.position_key(), format!("alerts_file:{}", here.display()));
    let names: Vec<_> = config.destinations.iter().map(|lane| lane.name.as_str()).collect();
    assert_eq!(names, ["z", "a"], "in the order of the file");
    assert_eq!(config.destinations[0].dead_bytes_max, 512 << 20);
    assert_eq!(config.destinations[1].settings.batch.events_max, 500);
}

#[test]
fn a_missing_type_is_answered_with_all_there_are() {
    let kinds = holdfast_connectors::destinations::CATALOG;
    let names: Vec<_> = kinds.iter().map(|kind| format!("\"{}\"", kind.name)).collect();
    let expected = format!("1 destinations.x: `type` is missing: one of {}", names.join(", "));
    assert_eq!(faults("[destinations.x]"), [expected]);
}

#[test]
fn what_a_lane_may_hold_back_and_whose_heir_it_is_must_make_sense() {
    let of = |keys: &str| {
        faults(&format!(
            "[destinations.a]\ntype = \"stdout\"\n[destinations.b]\ntype = \"stdout\"\n{keys}"
        ))
    };
    #[rustfmt::skip]
    let table = [
        ("max_backlog = \"0%\"",       "5 destinations.b.max_backlog: \"0%\" is not a share like \"50%\""),
        ("max_backlog = \"101%\"",     "5 destinations.b.max_backlog: \"101%\" is not a share"),
        ("max_backlog = \"half\"",     "5 destinations.b.max_backlog: \"half\" is not a share"),
        ("max_backlog = \"1KiB\"",     "5 destinations.b.max_backlog: \"1KiB\" is not a share"),
        ("on_overflow = \"drop\"",     "5 destinations.b.on_overflow: \"drop\" is not one of \"block\", \"expire\""),
        ("canary = \"1ms\"",           "5 destinations.b.canary: 1ms is not within 1s to 7days"),
        ("renamed_from = \"a b\"",     "5 destinations.b.renamed_from: \"a b\" does not fit"),
        ("renamed_from = \"a\"",       "5 destinations.b.renamed_from: there is a destination `a`"),
        ("renamed_from = \"b\"",       "5 destinations.b.renamed_from: there is a destination `b`"),
        ("enrich = [\"x\"]",           "5 destinations.b.enrich: there is no destination `x`"),
        ("enrich = [\"a\"]",           "5 destinations.b.enrich: `a` is a stdout, which answers no questions"),
        ("enrich = \"b\"",             "5 destinations.b.enrich: it cannot ask itself"),
        ("enrich = [\"a b\"]",         "5 destinations.b.enrich: \"a b\" is no destination's name"),
        ("enrich_wait = \"2m\"",       "5 destinations.b.enrich_wait: 2m is not within 100ms to 1m"),
        ("loops = \"maybe\"",          "5 destinations.b.loops: \"maybe\" is not one of \"refuse\", \"allow\""),
    ];
    for (keys, expected) in table {
        let faults = of(keys);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with(expected), "{faults:?}");
    }
    let twice = "renamed_from = \"x\"\n[destinations.c]\ntype = \"stdout\"\nrenamed_from = \"x\"\n";
    assert_eq!(of(twice), ["8 destinations.c.renamed_from: `b` takes over `x` already"]);
    for keys in ["max_backlog = \"1%\"", "max_backlog = \"2GiB\"", "renamed_from = \"x\""] {
        read(&format!("[destinations.b]\ntype = \"stdout\"\n{keys}")).unwrap();
    }
}

#[test]
fn a_destination_asks_lookups_that_are_there_each_once_and_not_too_many() {
    let lookup = |name: &str| {
        format!(
            "[destinations.{name}]\ntype = \"process\"\ncommand = [\"/bin/true\"]\nlookup = true\n"
        )
    };
    let asks = "[destinations.c]\ntype = \"stdout\"\nenrich = [\"x\", \"y\"]\nloops = \"refuse\"\n";
    let config = read(&format!("{asks}{}{}", lookup("x"), lookup("y"))).unwrap();
    let names: Vec<_> = config.destinations[0].settings.enrich.iter().map(Name::as_str).collect();
    assert_eq!(names, ["x", "y"]);
    let twice = "[destinations.c]\ntype = \"stdout\"\nenrich = [\"x\", \"x\"]\n";
    let twice = faults(&format!("{twice}{}", lookup("x")));
    assert_eq!(twice, ["3 destinations.c.enrich: \"x\" stands there twice"]);
    let names: Vec<String> = (0..9).map(|n| format!("\"x{n}\"")).collect();
    let lookups: String = (0..9).map(|n| lookup(&format!("x{n}"))).collect();
    let many =
        format!("[destinations.c]\ntype = \"stdout\"\nenrich = [{}]\n{lookups}", names.join(", "));
    let expected = "3 destinations.c.enrich: it names 9 lookups, but at most 8 may be";
    assert_eq!(faults(&many), [expected]);
    // A lookup that has faults of its own is there all the same.
    let broken = "[destinations.x]\ntype = \"process\"\nlookup = true\n";
    let found = faults(&format!("{broken}[destinations.c]\ntype = \"stdout\"\nenrich = \"x\"\n"));
    assert!(found.len() == 1 && found[0].contains("`command` is missing"), "{found:?}");
}
