use std::sync::Mutex;

use super::*;
use crate::testing::{alert, event, fault, shipment};

/// What was printed, for a test to read.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn print(format: Format, members: impl Into<Vec<Member>>) -> String {
    let screen = Screen::default();
    let stdout = Stdout::new(format, Duration::from_secs(30), screen.clone());
    stdout.deliver(&shipment(members)).await.unwrap();
    String::from_utf8(screen.0.lock().unwrap().clone()).unwrap()
}

#[tokio::test]
async fn an_alert_is_one_short_line() {
    let brute = alert(
        42,
        r#"{"rule":{"level":10,"id":"5763","description":"sshd: brute force"},"agent":{"name":"web-01"}}"#,
    );
    assert_eq!(
        print(Format::Line, [brute, alert(43, r#"{"rule":{"level":3}}"#)]).await,
        "delivered  06:11:28  L10  5763    web-01        sshd: brute force  abcdefghij-42\n\
         delivered  06:11:28  L3   -       test          {\"rule\":{\"level\":3}}  abcdefghij-43\n"
    );
    let lookup = event(9, EventKind::Lookup, r#"{"hits":3}"#);
    assert_eq!(
        print(Format::Line, [lookup]).await,
        "delivered  06:11:28  L-   lookup  test          {\"hits\":3}  abcdefghij-9\n"
    );
    let long = format!(r#"{{"rule":{{"description":"{}"}}}}"#, "é".repeat(101));
    let line = print(Format::Line, [alert(1, long)]).await;
    assert!(line.contains(&format!("  {}…  abc", "é".repeat(100))), "{line}");
}

#[tokio::test]
async fn an_alert_cannot_act_on_the_terminal() {
    let evil = concat!(
        r#"{"rule":{"id":"1\u001b[2J","description":"\u001b]0;x\u0007 a\nb \u009b2J \u202e"#,
        "\u{9b}2J\u{7f}\u{202e}\u{feff}",
        r#""},"agent":{"name":"\u001b[1A"},"full_log":"\u001b[2J"}"#
    );
    let line = print(Format::Line, [alert(1, evil)]).await;
    assert_eq!(line.matches('\n').count(), 1);
    assert!(
        line.contains(r"\u{1b}]0;x\u{7} a\nb \u{9b}2J \u{202e}\u{9b}2J\u{7f}\u{202e}"),
        "{line}"
    );
    let json = print(Format::Json, [alert(1, evil)]).await;
    for shown in [&line, &json] {
        assert!(!shown.trim_end_matches('\n').chars().any(acts_on_a_terminal), "{shown:?}");
    }
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    let original: serde_json::Value = serde_json::from_str(evil).unwrap();
    assert_eq!(parsed["alert"], original, "the value is the same, only spelled differently");
}

#[tokio::test]
async fn json_is_an_envelope_a_line() {
    assert_eq!(
        print(Format::Json, [alert(1, "{\"a\": \"ä\"}"), alert(2, "{}")]).await,
        "{\"id\":\"abcdefghij-1\",\"seq\":1,\"alert\":{\"a\": \"ä\"}}\n\
         {\"id\":\"abcdefghij-2\",\"seq\":2,\"alert\":{}}\n"
    );
}

#[tokio::test]
async fn a_reader_that_has_gone_is_a_fault_that_may_pass() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let stdout = Stdout::new(Format::Line, Duration::from_secs(30), Gone);
    let error = stdout.deliver(&shipment([alert(1, "{}")])).await.unwrap_err();
    assert_eq!(error.reason, Reason::ServerFault);
}

#[test]
fn the_format_is_one_of_two_words() {
    let fault = fault(&KIND, "format = \"xml\"", &crate::testing::context());
    assert!(fault.contains("\"line\", \"json\""), "{fault}");
}
