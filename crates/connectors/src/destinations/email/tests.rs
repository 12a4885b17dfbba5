use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use holdfast_model::{
    Member, Reason,
    settings::{Node, Section, Value},
};
use lettre::transport::smtp::client::Certificate;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::{
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

/// Where a server says something else than yes, and what. An empty answer hangs up.
type Trouble = &'static [(&'static str, &'static str)];

/// What a client got across.
#[derive(Clone, Debug, Default)]
struct Seen {
    commands: Vec<String>,
    /// With the dots unstuffed.
    mail: Option<String>,
    broken_rules: Vec<String>,
}

/// A server that holds a client to RFC 5321.
struct Server {
    port: u16,
    certificate: CertificateDer<'static>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

struct Session {
    stream: BufReader<Box<dyn Stream>>,
    seen: Seen,
    trouble: Trouble,
    is_secret: bool,
}

// === impl Server ===

impl Server {
    fn start(tls_from_start: bool, trouble: Trouble) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let session = serve(socket, &config, tls_from_start, trouble);
                log.lock().unwrap().push(session);
            }
        });
        Self { port, certificate, seen }
    }

    /// The sessions that ended, once there are as many.
    async fn sessions(&self, count: usize) -> Vec<Seen> {
        loop {
            let seen = self.seen.lock().unwrap().clone();
            if seen.len() >= count {
                for session in &seen {
                    assert_eq!(session.broken_rules, Vec::<String>::new(), "{session:?}");
                }
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn email(&self, more: &[(&str, &str)]) -> Email {
        let text = |text: &str| Node { line: 1, value: Value::Text(text.to_owned()) };
        let mut entries = vec![
            ("host".to_owned(), text("localhost")),
            ("port".to_owned(), Node { line: 1, value: Value::Integer(self.port.into()) }),
            ("from".to_owned(), text("Holdfast <holdfast@example.org>")),
        ];
        if !more.iter().any(|(key, _)| *key == "to") {
            entries.push(("to".to_owned(), text("soc@example.org")));
        }
        entries.extend(more.iter().map(|(key, value)| ((*key).to_owned(), text(value))));
        let faults = RefCell::default();
        let section = Section::new("d", 1, &entries, &faults);
        let root = Certificate::from_der(self.certificate.to_vec()).unwrap();
        let built = settings::read(&section, &context(), |tls| tls.add_root_certificate(root));
        built.unwrap_or_else(|| panic!("{:?}", faults.borrow()))
    }
}

fn serve(
    socket: TcpStream,
    config: &Arc<rustls::ServerConfig>,
    tls_from_start: bool,
    trouble: Trouble,
) -> Seen {
    let secret = |socket: TcpStream| -> Box<dyn Stream> {
        let session = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
        Box::new(rustls::StreamOwned::new(session, socket))
    };
    let raw = socket.try_clone().unwrap();
    let stream = if tls_from_start { secret(socket) } else { Box::new(socket) };
    let mut session = Session {
        stream: BufReader::new(stream),
        seen: Seen::default(),
        trouble,
        is_secret: tls_from_start,
    };
    if session.say("GREETING", "220 localhost ESMTP").is_some() {
        while let Some(goes_on) = session.command() {
            if !goes_on {
                session.stream = BufReader::new(secret(raw.try_clone().unwrap()));
                session.is_secret = true;
            }
        }
    }
    session.seen
}

// === impl Session ===

impl Session {
    /// Answers as the test wants it, or with yes. `None` hangs up.
    fn say(&mut self, command: &str, yes: &str) -> Option<bool> {
        let found = self.trouble.iter().find(|(at, _)| command.starts_with(at));
        let answer = found.map_or(yes, |(_, answer)| answer);
        if answer.is_empty() {
            return None;
        }
        let stream = self.stream.get_mut();
        stream.write_all(format!("{answer}\r\n").as_bytes()).ok()?;
        stream.flush().ok()?;
        Some(answer.starts_with(['2', '3']))
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        if line.is_empty() {
            return None;
        }
        let Some(text) = line.strip_suffix("\r\n") else {
            self.seen.broken_rules.push(format!("a line without CRLF: {line:?}"));
            return None;
        };
        if text.contains(['\r', '\n', '\0']) || text.len() > 998 || !text.is_ascii() {
            self.seen.broken_rules.push(format!("no SMTP line: {text:?}"));
        }
        Some(text.to_owned())
    }

    /// `None`: the end. `false`: TLS begins.
    fn command(&mut self) -> Option<bool> {
        let line = self.line()?;
        self.seen.commands.push(line.clone());
        let verb = line.split(' ').next().unwrap_or("").to_owned();
        match verb.as_str() {
            "EHLO" => {
                let more = if self.is_secret { "AUTH PLAIN LOGIN" } else { "STARTTLS" };
                self.say(&line, &format!("250-localhost\r\n250-{more}\r\n250 SIZE 1000000"))?;
            }
            "STARTTLS" => return self.say(&line, "220 go ahead").map(|yes| !yes),
            "AUTH" => {
                if !self.is_secret {
                    self.seen.broken_rules.push("a password in the clear".to_owned());
                }
                self.say(&line, "235 welcome")?;
            }
            "MAIL" | "RCPT" => {
                self.say(&line, "250 fine")?;
            }
            "DATA" => {
                if self.say(&line, "354 go ahead")? {
                    self.mail()?;
                }
            }
            "QUIT" => {
                self.say(&line, "221 bye")?;
                return None;
            }
            _ => self.seen.broken_rules.push(format!("an unknown command: {line}")),
        }
        Some(true)
    }

    fn mail(&mut self) -> Option<bool> {
        let mut mail = String::new();
        loop {
            let line = self.line()?;
            match line.as_str() {
                "." => break,
                _ => mail.push_str(line.strip_prefix('.').unwrap_or(&line)),
            }
            mail.push_str("\r\n");
        }
        self.seen.mail = Some(mail);
        self.say("END", "250 queued as 1")
    }
}

/// The header fields of a mail, unfolded, and its body.
fn parse(mail: &str) -> (Vec<(String, String)>, &str) {
    let (head, body) = mail.split_once("\r\n\r\n").unwrap();
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let fields = head.split("\r\n").map(|line| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
        (name.to_owned(), value.to_owned())
    });
    (fields.collect(), body)
}

/// What RFC 5322 and 2046 demand, and no field that we did not mean to send.
fn assert_valid(name: &str, mail: &str) {
    assert!(mail.is_ascii(), "{name}");
    let coded = |line: &&str| line.contains("=?");
    assert!(mail.lines().filter(coded).all(|line| line.len() <= 76), "{name}");
    let (fields, body) = parse(mail);
    let mut names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "Auto-Submitted",
        "Content-Type",
        "Date",
        "From",
        "MIME-Version",
        "Message-ID",
        "Subject",
        "To",
        "X-Holdfast-Key",
    ];
    assert_eq!(names, expected, "{name}");
    let value = |name: &str| &fields.iter().find(|(field, _)| field == name).unwrap().1;
    let kind = value("Content-Type");
    let boundary = kind.split("boundary=\"").nth(1).unwrap().trim_end_matches('"');
    assert!(kind.starts_with("multipart/alternative"), "{name}: {kind}");
    let parts: Vec<_> = body.split(&format!("--{boundary}")).collect();
    assert_eq!(parts.len(), 4, "{name}: two parts, in this order:");
    assert!(parts[1].contains("Content-Type: text/plain; charset=utf-8"), "{name}");
    assert!(parts[2].contains("Content-Type: text/html; charset=utf-8"), "{name}");
    assert!(parts[3].starts_with("--"), "{name}");
    assert!(value("Message-ID").ends_with("@example.org>"), "{name}");
}

/// The two texts of a mail.
fn texts(mail: &str) -> [String; 2] {
    let text = |kind: &str| {
        let part = mail.split(&format!("text/{kind};")).nth(1).unwrap();
        let body = part.split("\r\n\r\n").nth(1).unwrap().split("--").next().unwrap();
        assert!(body.lines().all(|line| line.len() <= 76));
        String::from_utf8(BASE64_STANDARD.decode(body.replace("\r\n", "")).unwrap()).unwrap()
    };
    [text("plain"), text("html")]
}

async fn deliver(email: &Email, member: Member) -> Result<Receipt, DeliveryError> {
    match email.deliver(&shipment([member])).await? {
        Delivered::All(receipt) => Ok(receipt),
        Delivered::Each(_) => panic!("one event has one answer"),
    }
}

#[tokio::test]
async fn every_sample_is_a_valid_mail() {
    let server = Server::start(false, &[]);
    let email = server.email(&[]);
    let hostile = ("hostile".to_owned(), samples::hostile());
    let all: Vec<_> = samples::all().into_iter().chain([hostile]).collect();
    let names: Vec<_> = all.iter().map(|(name, _)| name.clone()).collect();
    for (_, member) in all {
        deliver(&email, member).await.unwrap();
    }
    for (name, session) in names.iter().zip(server.sessions(names.len()).await) {
        assert_valid(name, &session.mail.unwrap());
    }
}

#[tokio::test]
async fn no_text_of_an_alert_becomes_a_header_or_a_tag() {
    let server = Server::start(false, &[]);
    let body = r#"{"rule":{"level":12,"description":"x\r\nBcc: evil@example.org\r\n\r\n.\r\nQUIT"},
        "agent":{"name":"a\nSubject: y"},"full_log":"<script>\r\n.\r\nMAIL FROM:<e@e>"}"#;
    deliver(&server.email(&[]), alert(1, body)).await.unwrap();
    let session = server.sessions(1).await.remove(0);
    assert_valid("injection", session.mail.as_ref().unwrap());
    let verbs: Vec<_> =
        session.commands.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(verbs, ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]);
    let mail = session.mail.unwrap();
    let [plain, page] = texts(&mail);
    assert!(plain.contains("<script>") && !page.contains("<script>"), "{page}");
    assert!(page.contains("&lt;script&gt;"), "{page}");
}

#[tokio::test]
async fn every_try_has_the_same_bytes_and_message_id() {
    let server = Server::start(true, &[]);
    let login = [("tls", "tls"), ("user", "me"), ("password", "hunter22")];
    let email = server.email(&login);
    let door = || alert(7, r#"{"rule":{"level":12,"description":"door é"}}"#);
    let receipt = deliver(&email, door()).await.unwrap();
    let again = Member { attempt: 2, in_doubt: true, ..door() };
    assert_eq!(deliver(&email, again).await.unwrap(), receipt);
    let id = "<abcdefghij-7.lane@example.org>";
    assert_eq!((receipt.status, receipt.remote_id.as_deref()), (Some(250), Some(id)));
    let sessions = server.sessions(2).await;
    assert_eq!(sessions[0].mail, sessions[1].mail);
    let expected = [
        "EHLO example.org",
        "AUTH PLAIN AG1lAGh1bnRlcjIy",
        "MAIL FROM:<holdfast@example.org>",
        "RCPT TO:<soc@example.org>",
        "DATA",
        "QUIT",
    ];
    assert_eq!(sessions[0].commands, expected);
    let (fields, _) = parse(sessions[0].mail.as_ref().unwrap());
    let value = |name: &str| &fields.iter().find(|(field, _)| field == name).unwrap().1;
    assert_eq!(value("Message-ID"), id);
    assert_eq!(value("Date"), "Tue, 10 Mar 2026 06:11:28 +0000");
    assert_eq!(value("Auto-Submitted"), "auto-generated");
    assert_eq!(value("X-Holdfast-Key"), "abcdefghij-7.lane");
    // printf '[Wazuh high] door é' | base64
    assert_eq!(value("Subject"), "=?utf-8?B?W1dhenVoIGhpZ2hdIGRvb3Igw6k=?=");
    assert_eq!(value("From"), "\"Holdfast\" <holdfast@example.org>");
    assert!(texts(sessions[0].mail.as_ref().unwrap())[0].starts_with("door é\r\n"));
}

#[tokio::test]
async fn each_reply_has_its_meaning() {
    #[rustfmt::skip]
    let table: [(Trouble, Reason); 22] = [
        (&[("GREETING", "421 busy")], Reason::ServerFault),
        (&[("GREETING", "554 no service")], Reason::Misconfigured),
        (&[("GREETING", "")], Reason::Connect),
        (&[("STARTTLS", "454 not now")], Reason::ServerFault),
        (&[("EHLO", "250 localhost")], Reason::Misconfigured), // No STARTTLS.
        // What somebody put behind it in the clear is not an answer.
        (&[("STARTTLS", "220 go ahead\r\n250-forged\r\n250 AUTH PLAIN")], Reason::Tls),
        (&[("AUTH", "454 not now")], Reason::ServerFault),
        (&[("AUTH", "535 wrong")], Reason::Unauthorized),
        (&[("MAIL", "530 log in")], Reason::Unauthorized),
        (&[("MAIL", "451 not now")], Reason::ServerFault),
        (&[("MAIL", "550 not you")], Reason::Misconfigured),
        (&[("MAIL", "552 too big")], Reason::TooLarge),
        (&[("RCPT", "450 greylisted")], Reason::ServerFault),
        (&[("RCPT", "550 no such user")], Reason::Misconfigured),
        (&[("DATA", "451 not now")], Reason::ServerFault),
        (&[("DATA", "554 no")], Reason::Misconfigured),
        (&[("DATA", "")], Reason::ServerFault),
        (&[("END", "452 full")], Reason::ServerFault),
        (&[("END", "552 too big")], Reason::TooLarge),
        (&[("END", "554 spam")], Reason::Refused),
        (&[("END", "")], Reason::InDoubt),
        (&[("END", "what?")], Reason::InDoubt),
    ];
    for (trouble, expected) in table {
        let server = Server::start(false, trouble);
        let email = server.email(&[("user", "me"), ("password", "hunter22")]);
        let error = deliver(&email, alert(1, "{}")).await.unwrap_err();
        assert_eq!(error.reason, expected, "{trouble:?}: {error:?}");
        // Nothing is sent where TLS was refused.
        let session = server.sessions(1).await.remove(0);
        let reached = session.commands.iter().any(|line| line.starts_with("MAIL"));
        let refused_early = ["GREETING", "STARTTLS", "EHLO", "AUTH"].contains(&trouble[0].0);
        assert_eq!(reached, !refused_early, "{trouble:?}: {session:?}");
    }
}

#[tokio::test]
async fn a_refused_recipient_costs_the_others_nothing_and_a_put_off_one_costs_nobody_a_second_mail()
{
    let refused: Trouble = &[("RCPT TO:<a@", "550 no such user")];
    let put_off: Trouble = &[("RCPT TO:<a@", "450 later")];
    for (trouble, arrives) in [(refused, true), (put_off, false)] {
        let server = Server::start(false, trouble);
        let mut email = server.email(&[]);
        email.to = vec!["a@example.org".parse().unwrap(), "b@example.org".parse().unwrap()];
        assert_eq!(deliver(&email, alert(1, "{}")).await.is_ok(), arrives);
        assert_eq!(server.sessions(1).await[0].mail.is_some(), arrives);
    }
}

#[tokio::test]
async fn a_goodbye_that_fails_takes_nothing_back() {
    let server = Server::start(false, &[("QUIT", "500 what?")]);
    assert!(deliver(&server.email(&[]), alert(1, "{}")).await.is_ok());
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_parks_the_lane() {
    let server = Server::start(true, &[]);
    let mut email = server.email(&[("tls", "tls")]);
    let stranger = TlsParameters::builder("localhost".to_owned()).build_rustls().unwrap();
    email.security = Security::Tls(stranger);
    let error = deliver(&email, alert(1, "{}")).await.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured, "{error:?}");
}

#[tokio::test]
async fn a_password_is_checked_and_masked() {
    let server = Server::start(false, &[("AUTH", "535 not AG1lAGh1bnRlcjIy nor hunter22")]);
    let email = server.email(&[("user", "me"), ("password", "hunter22")]);
    let error = email.check().await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::Unauthorized);
    assert_eq!(error.excerpt, "not [masked] nor [masked]");
    assert!(!format!("{email:?}{error:?}").contains("hunter22"));
    let server = Server::start(false, &[]);
    assert!(server.email(&[("user", "me"), ("password", "p")]).check().await.unwrap().is_ok());
    assert!(server.sessions(1).await[0].mail.is_none());
}

#[test]
fn wrong_settings_are_faults() {
    let base = "host = \"h\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n";
    #[rustfmt::skip]
    let table = [
        (format!("{base}tls = \"none\"\nuser = \"u\"\npassword = \"p\""), "lane.password: a password is not sent"),
        (format!("{base}user = \"u\""), "`user` and `password` need each other"),
        (format!("{base}port = 70000"), "lane.port: 70000 is not within"),
        (format!("{base}hello = \"a b\""), "lane.hello: it must be a machine's name"),
        ("host = \"h\"\nfrom = \"nobody\"\nto = [\"b@example.org\"]".to_owned(), "lane.from: \"nobody\" cannot be used"),
        ("host = \"h\"\nfrom = \"a@example.org\"\nto = []".to_owned(), "lane.to: there must be 1 to 100"),
        ("host = \"h\"\nfrom = \"a@example.org\"\nto = [\"x\\r\\nBcc: y <b@example.org>\"]".to_owned(), "lane.to: "),
    ];
    for (table, expected) in table {
        let problem = fault(&KIND, &table, &context());
        assert!(problem.contains(expected), "{problem}");
    }
    assert!(build_kind(&KIND, &format!("{base}tls = \"none\""), &context()).is_ok());
}
