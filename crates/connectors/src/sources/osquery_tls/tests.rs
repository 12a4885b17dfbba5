//! A strict osqueryd against the endpoint, TLS included. As the real one it looks at no status: a
//! body with `error` is a failure, one with `node_invalid` a lost enrolment, all else success.

use std::{
    cell::RefCell,
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Mutex, atomic::Ordering},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use holdfast_model::{Accepted, Name, settings::Section};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{fleet, testing::tree};

#[derive(Debug, Default)]
struct Store {
    bodies: Vec<String>,
    rejects: usize,
    position: Option<Bytes>,
    refuse: bool,
}

#[derive(Debug, Default)]
struct FakeIntake(Mutex<Store>);

#[async_trait]
impl Intake for FakeIntake {
    async fn append(&self, _: &Arc<str>, batch: IntakeBatch) -> Result<Accepted, IntakeError> {
        let mut store = self.0.lock().unwrap();
        if store.refuse {
            let retry_after = AGAIN;
            return Err(IntakeError::Full { bytes_live: 9, bytes_max: 9, retry_after });
        }
        if batch.events.len() > 2 {
            return Err(IntakeError::TooLarge { bytes: 9 });
        }
        let text = |body: &Bytes| String::from_utf8(body.to_vec()).unwrap();
        store.bodies.extend(batch.events.iter().map(|event| text(&event.body)));
        store.rejects += batch.rejects.len();
        store.position = batch.position.or(store.position.take());
        Ok(Accepted { accepted: 0, rejected: 0, first: None, last: None })
    }

    async fn position(&self, _: &str) -> Result<Option<Bytes>, IntakeError> {
        Ok(self.0.lock().unwrap().position.clone())
    }
}

/// Certificate and secret, which outlive an endpoint.
struct Place {
    folder: TempDir,
    made: CertifiedKey<KeyPair>,
    intake: Arc<FakeIntake>,
}

struct Endpoint {
    address: SocketAddr,
    health: Arc<SourceHealth>,
    fleet: Arc<fleet::Fleet>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        private(&folder.path().join("cert"), &made.cert.pem());
        private(&folder.path().join("key"), &made.signing_key.serialize_pem());
        Self { folder, made, intake: Arc::default() }
    }

    fn table(&self, more: &str) -> String {
        let path = |name: &str| self.folder.path().join(name);
        format!(
            "listen = \"127.0.0.1:0\"\nenroll_secret = \"open sesame\"\n{more}\n\
             tls = {{ cert = {:?}, key = {:?} }}",
            path("cert"),
            path("key")
        )
    }

    async fn start(&self, more: &str) -> Endpoint {
        let (entries, faults) = (tree(&self.table(more)), RefCell::default());
        let options = settings::read(&Section::new("sources.osquery", 1, &entries, &faults));
        let options = Arc::new(options.unwrap_or_else(|| panic!("{faults:?}")));
        let source = OsqueryTls { name: "osquery".into(), options: Arc::clone(&options) };
        let (health, stop) = (Arc::new(SourceHealth::default()), CancellationToken::new());
        let intake: Arc<dyn Intake> = Arc::<FakeIntake>::clone(&self.intake);
        let keys = source.keys(&intake, &health, &stop).await.unwrap();
        let listener = source.listener(&health, &stop).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = fleet::serve(&format!("osquery-{address}"), options.hosts_max);
        let fleet = served.fleet();
        let door = Door::new(
            source.name,
            Arc::clone(&options),
            intake,
            Arc::clone(&health),
            served.fleet(),
            keys,
        );
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            listen::serve(listener, Arc::new(door), &options, stopped).await;
            drop(served);
        });
        Endpoint { address, health, fleet, stop, task }
    }

    /// What osqueryd makes of an answer.
    async fn post(&self, endpoint: &Endpoint, path: &str, body: &Value) -> Result<Value, Value> {
        let (_, said) = self.send(endpoint, path, "", body.to_string().as_bytes()).await;
        let failed = said.get("error").is_some() || said["node_invalid"] == true;
        if failed { Err(said) } else { Ok(said) }
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> (u16, Value) {
        let mut roots = RootCertStore::empty();
        roots.add(self.made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Released versions of osquery speak 1.2.
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(endpoint.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await.unwrap();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: osquery/5.12.1\r\n\
             Content-Type: application/json\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A body that is too large is not read to its end.
        drop(stream.write_all(body).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    async fn enroll(&self, endpoint: &Endpoint, id: &str, host: &str) -> String {
        let body = json!({
            "enroll_secret": "open sesame", "host_identifier": id, "platform_type": "9",
            "host_details": { "system_info": { "hostname": host, "uuid": id }, "os_version": {} },
        });
        let said = self.post(endpoint, "/enroll", &body).await.unwrap();
        said["node_key"].as_str().filter(|key| !key.is_empty()).unwrap().to_owned()
    }
}

impl Endpoint {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    fn refused(&self) -> u64 {
        self.health.refused.load(Ordering::Relaxed)
    }
}

fn log(key: &str, data: &Value) -> Value {
    json!({ "node_key": key, "log_type": "result", "data": data })
}

#[tokio::test]
async fn a_host_enrolls_once_and_its_key_outlives_a_restart() {
    let place = Place::new();
    let endpoint = place.start("").await;
    let key = place.enroll(&endpoint, "uuid-1", "web-01").await;
    let body = json!({ "node_key": key });
    assert_eq!(place.post(&endpoint, "/config", &body).await, Ok(json!({ "node_invalid": false })));
    endpoint.stop().await;
    let endpoint = place.start("").await;
    assert!(place.post(&endpoint, "/config", &body).await.is_ok());
    endpoint.stop().await;
    let endpoint = place.start("key_epoch = 2").await;
    let invalid = json!({ "node_invalid": true });
    assert_eq!(place.post(&endpoint, "/config", &body).await, Err(invalid.clone()));
    assert_eq!(place.post(&endpoint, "/log", &log(&key, &json!([{}]))).await, Err(invalid));
    assert_eq!(endpoint.refused(), 2);
    assert!(place.intake.0.lock().unwrap().bodies.is_empty());
    endpoint.stop().await;
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_counted_and_soon_its_address() {
    let place = Place::new();
    let endpoint = place.start("").await;
    let body = |secret: &str| json!({ "enroll_secret": secret, "host_identifier": "x" });
    for secret in ["", "open sesam", "open sesame "] {
        let said = place.post(&endpoint, "/enroll", &body(secret)).await;
        assert_eq!(said, Err(json!({ "node_invalid": true })), "{secret}");
    }
    assert_eq!(endpoint.refused(), 3);
    let unnamed = json!({ "enroll_secret": "open sesame" });
    assert!(place.post(&endpoint, "/enroll", &unnamed).await.unwrap_err()["error"].is_string());
    let mut last = Value::Null;
    for _ in 0..40 {
        last = place.post(&endpoint, "/enroll", &body("no")).await.unwrap_err();
        if last["error"] == "too many requests" {
            break;
        }
    }
    assert_eq!(last["error"], "too many requests");
    endpoint.stop().await;
}

#[tokio::test]
async fn logs_are_events_before_they_are_answered() {
    let place = Place::new();
    let endpoint = place.start("").await;
    let key = place.enroll(&endpoint, "uuid-1", "web-01").await;
    let lines = json!([{ "name": "a", "unixTime": 1 }, { "name": "b" }, { "name": "c" }, 7]);
    place.intake.0.lock().unwrap().refuse = true;
    let said = place.post(&endpoint, "/log", &log(&key, &lines)).await.unwrap_err();
    assert!(said["error"].is_string(), "osqueryd keeps what it has: {said}");
    assert!(endpoint.health.trouble().is_some());
    place.intake.0.lock().unwrap().refuse = false;
    assert!(place.post(&endpoint, "/log", &log(&key, &lines)).await.is_ok());
    assert_eq!(endpoint.health.trouble(), None);
    // The answer was lost: it comes again, with more behind it.
    let more = json!([{ "name": "a", "unixTime": 1 }, { "name": "b" }, { "name": "c" }, 7, { "name": "d" }]);
    assert!(place.post(&endpoint, "/log", &log(&key, &more)).await.is_ok());
    let status = json!({ "node_key": key, "log_type": "status", "data": [{ "severity": 2 }] });
    assert!(place.post(&endpoint, "/log", &status).await.is_ok());
    {
        let store = place.intake.0.lock().unwrap();
        assert_eq!((store.bodies.len(), store.rejects), (5, 1), "{:?}", store.bodies);
        let first: Value = serde_json::from_str(&store.bodies[0]).unwrap();
        assert_eq!(first["data"]["osquery"], json!({ "name": "a", "unixTime": 1 }));
        assert_eq!(first["agent"], json!({ "name": "web-01", "ip": "127.0.0.1" }));
        assert!(store.bodies[4].contains("\"log_type\":\"status\""));
    }
    let odd = json!({ "node_key": key, "log_type": "other", "data": [{}] });
    assert!(place.post(&endpoint, "/log", &odd).await.is_err());
    endpoint.stop().await;
}

#[tokio::test]
async fn bodies_may_be_gzip_and_have_a_limit() {
    let place = Place::new();
    let endpoint = place.start("max_body = \"64KiB\"").await;
    let key = place.enroll(&endpoint, "uuid-1", "web-01").await;
    let pack = |body: &Value| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body.to_string().as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let gzip = "Content-Encoding: gzip\r\n";
    let body = log(&key, &json!([{ "name": "packed" }]));
    let (status, said) = place.send(&endpoint, "/log", gzip, &pack(&body)).await;
    assert_eq!((status, said), (200, json!({ "node_invalid": false })));
    let bomb = log(&key, &json!([{ "pad": "x".repeat(65_536) }]));
    for (headers, body) in [(gzip, pack(&bomb)), ("", bomb.to_string().into_bytes())] {
        let (status, said) = place.send(&endpoint, "/log", headers, &body).await;
        assert_eq!(status, 413, "{said}");
        assert!(said["error"].is_string());
    }
    let (status, said) = place.send(&endpoint, "/log", gzip, b"plain").await;
    assert!(status == 400 && said["error"].is_string(), "{said}");
    assert_eq!(place.intake.0.lock().unwrap().bodies.len(), 1);
    endpoint.stop().await;
}

#[tokio::test]
async fn a_question_goes_to_its_host_and_its_rows_come_back() {
    let place = Place::new();
    let endpoint = place.start("").await;
    let web = place.enroll(&endpoint, "uuid-1", "web-01").await;
    let db = place.enroll(&endpoint, "uuid-2", "db-01").await;
    let wanted = fleet::Wanted { name: Some("web-01".into()), address: None };
    let asked = endpoint.fleet.ask(&wanted, "SELECT 1 AS one").unwrap();
    let nothing = place.post(&endpoint, "/distributed_read", &json!({ "node_key": db })).await;
    assert_eq!(nothing.unwrap()["queries"], json!({}));
    let read = place.post(&endpoint, "/distributed_read", &json!({ "node_key": web })).await;
    let read = read.unwrap();
    let (id, query) = read["queries"].as_object().unwrap().iter().next().unwrap();
    assert_eq!((query, &read["accelerate"]), (&json!("SELECT 1 AS one"), &json!(60)));
    let answer = |key: &str, rows: Value| {
        let mut body = json!({ "node_key": key, "queries": {}, "statuses": {}, "messages": {} });
        body["queries"][id] = rows;
        body["statuses"][id] = "0".into();
        body
    };
    let forged = answer(&db, json!([{ "one": "2" }]));
    assert!(place.post(&endpoint, "/distributed_write", &forged).await.is_ok());
    let good = answer(&web, json!([{ "one": "1" }]));
    assert!(place.post(&endpoint, "/distributed_write", &good).await.is_ok());
    let reply = asked.reply.await.unwrap();
    assert_eq!((reply.status, reply.rows), (0, vec![json!({ "one": "1" })]));
    let read = place.post(&endpoint, "/distributed_read", &json!({ "node_key": web })).await;
    assert_eq!(read.unwrap()["queries"], json!({}));
    endpoint.stop().await;
}

#[tokio::test]
async fn the_configuration_is_handed_out_as_it_is_now() {
    let place = Place::new();
    let path = place.folder.path().join("osquery.json");
    fs::write(&path, r#"{"schedule":{"users":{"query":"SELECT * FROM users","interval":60}}}"#)
        .unwrap();
    let endpoint = place.start(&format!("config = {path:?}")).await;
    let body = json!({ "node_key": place.enroll(&endpoint, "uuid-1", "web-01").await });
    let said = place.post(&endpoint, "/config", &body).await.unwrap();
    assert_eq!(said["schedule"]["users"]["interval"], 60);
    fs::write(&path, "{}").unwrap();
    let said = place.post(&endpoint, "/config", &body).await.unwrap();
    assert_eq!(said, json!({ "node_invalid": false }));
    fs::write(&path, "[").unwrap();
    let said = place.post(&endpoint, "/config", &body).await.unwrap_err();
    assert!(said["error"].is_string(), "osqueryd goes on with what it has: {said}");
    endpoint.stop().await;
    let table = "config = { options = { distributed_interval = 10, utc = true }, packs = {} }";
    let endpoint = place.start(table).await;
    let said = place.post(&endpoint, "/config", &body).await.unwrap();
    assert_eq!(said["options"], json!({ "distributed_interval": 10, "utc": true }));
    endpoint.stop().await;
}

#[tokio::test]
async fn carves_strangers_and_nonsense_are_refused_in_a_way_that_osqueryd_heeds() {
    let place = Place::new();
    let endpoint = place.start("max_nodes = 1").await;
    let key = place.enroll(&endpoint, "uuid-1", "web-01").await;
    let keyed = json!({ "node_key": key });
    for (path, status) in [("/carve_init", 403), ("/carve_block", 403), ("/", 404), ("/v1", 404)] {
        let (found, said) = place.send(&endpoint, path, "", keyed.to_string().as_bytes()).await;
        assert!(found == status && said["error"].is_string(), "{path}: {said}");
    }
    for path in ["/config", "/log", "/distributed_read", "/distributed_write"] {
        let said = place.post(&endpoint, path, &json!({})).await.unwrap_err();
        let stranger = said["node_invalid"] == true;
        assert!(stranger || said["error"] == "too many requests", "{path}: {said}");
        let (status, said) = place.send(&endpoint, path, "", b"[").await;
        assert!(status == 400 && said["error"].is_string(), "{path}: {said}");
    }
    let second = json!({ "enroll_secret": "open sesame", "host_identifier": "uuid-2" });
    let said = place.post(&endpoint, "/enroll", &second).await.unwrap_err();
    assert!(said["error"].as_str().unwrap().contains("no room"), "{said}");
    endpoint.stop().await;
}

#[test]
fn wrong_settings_are_faults() {
    let place = Place::new();
    let build = |table: &str| {
        let (entries, faults) = (tree(table), RefCell::default());
        let section = Section::new("sources.osquery", 1, &entries, &faults);
        drop((KIND.build)(&section, &Name::new("osquery").unwrap()));
        section.finish();
        let faults = faults.into_inner();
        faults
            .into_iter()
            .map(|fault| format!("{}: {}", fault.key, fault.problem))
            .collect::<Vec<_>>()
    };
    assert_eq!(build(&place.table("")), Vec::<String>::new());
    for (more, expected) in [
        ("config = \"osquery.json\"", "config: it must be the absolute path"),
        ("config = \"/nowhere/osquery.json\"", "config: /nowhere/osquery.json cannot be read"),
        ("config = 1", "config: it must be"),
        ("max_body = \"1KiB\"", "max_body: "),
        ("max_nodes = 0", "max_nodes: "),
    ] {
        let faults = build(&place.table(more));
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{more}: {faults:?}");
    }
    assert_eq!(build("").len(), 3, "address, certificate and secret are missing");
    let table = place.table("").replace("127.0.0.1:0", "localhost");
    assert!(build(&table)[0].contains("listen: it must be an address"));
    let table = place.table("").replace("cert\"", "key\"");
    assert!(build(&table)[0].contains("holds no certificate"), "{:?}", build(&table));
}
