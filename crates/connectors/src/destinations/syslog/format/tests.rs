use crate::testing::{alert, build, context};

/// One message in a format, as text.
async fn line(format: &str, body: &str) -> String {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = socket.local_addr().unwrap();
    let table = format!("address = \"{to}\"\ntransport = \"udp\"\nformat = \"{format}\"");
    let destination = build(&super::super::KIND, &table, &context()).unwrap();
    destination.deliver(&crate::testing::shipment([alert(1, body.to_owned())])).await.unwrap();
    let mut buffer = vec![0; 70_000];
    let read = socket.recv(&mut buffer).await.unwrap();
    String::from_utf8(buffer[..read].to_vec()).unwrap()
}

const HEAD: &str = "<132>Mar 10 06:02:17 mgr ";

fn body(rest: &str) -> String {
    format!(r#"{{"timestamp":"2026-03-10T06:02:17.173+0100","manager":{{"name":"mgr"}},{rest}}}"#)
}

/// The expected bytes follow `os_csyslogd/alert.c` and `csyslogd.c`, and alerts.log as
/// `shared/read-alert.c` reads it.
#[tokio::test]
async fn wazuhs_layouts_are_what_its_daemon_wrote() {
    #[rustfmt::skip]
    let table = [
        // Groups with the tags of the rule's own list, a comma behind each; the manager's own log.
        ("wazuh",
         r#""rule":{"level":3,"description":"PAM","id":"5501","groups":["pam"],"tsc":["CC6.8"],"pci_dss":["10.2.5","8.1"],"gpg13":["7.8"]},"agent":{"id":"000","name":"mgr"},"full_log":"a  b\tc\nd","location":"/l""#,
         "ossec: Alert Level: 3; Rule: 5501 - PAM; Location: mgr->/l; classification: pam,gpg13_7.8,pci_dss_10.2.5,pci_dss_8.1,tsc_CC6.8,; a  b\tc"),
        // The user is the one that was logged in to; who did it is not in alerts.log.
        ("wazuh",
         r#""rule":{"level":3,"description":"s","id":"1"},"data":{"srcuser":"ann","dstip":"::1"},"location":"l""#,
         "ossec: Alert Level: 3; Rule: 1 - s; Location: mgr->l; dstip: ::1;"),
        // What the daemon takes for no value.
        ("wazuh",
         r#""rule":{"level":3,"description":"s","id":"1"},"data":{"srcip":"(none)","dstuser":"root"},"full_log":"(none)","location":"l""#,
         "ossec: Alert Level: 3; Rule: 1 - s; Location: mgr->l; user: root;"),
        // A port without its address is not written; nor is a file, whose line alerts.log calls differently.
        ("wazuh_splunk",
         r#""rule":{"level":7,"description":"s \"q\"","id":"550","groups":["syscheck"]},"agent":{"id":"3","name":"db","ip":"::1"},"data":{"srcport":"1","dstip":"1.1.1.1","dstport":"22"},"syscheck":{"path":"/etc/x","md5_after":"m"},"full_log":"File '/etc/x' modified\nMode: realtime","location":"syscheck""#,
         r#"ossec: crit=7 id=550 description="s "q"" component="(db) ::1->syscheck", classification="syscheck,", dst_ip="1.1.1.1", dst_port=22, message="File '/etc/x' modified""#),
        // The one line that names a file.
        ("wazuh_splunk",
         r#""rule":{"level":7,"description":"s","id":"550","groups":["syscheck"]},"full_log":"Integrity checksum changed for: '/etc/x'","location":"syscheck""#,
         r#"ossec: crit=7 id=550 description="s" component="mgr->syscheck", classification="syscheck,", file="/etc/x", message="Integrity checksum changed for: '/etc/x'""#),
        ("wazuh_cef",
         r#""rule":{"level":15,"description":"a|b","id":"9","groups":["g"]},"data":{"srcip":"1.1.1.1","srcport":"1","dstip":"2.2.2.2","dstport":"2","dstuser":"r"},"full_log":"x=1","location":"l""#,
         "CEF:0|Wazuh Inc.|Wazuh|v4.14.7|9|a|b|10|dvc=mgr cs1=mgr->l cs1Label=Location cat=g, src=1.1.1.1 dpt=2 spt=1 dhost=2.2.2.2 shost=1.1.1.1 suser=r dst=2.2.2.2 suser=r dst=2.2.2.2 msg=x=1"),
        ("wazuh_json", r#""rule":{"level":3}"#, ""),
    ];
    for (format, rest, expected) in table {
        let body = body(rest);
        let expected = match format {
            "wazuh_json" => format!("{HEAD}ossec: {body}"),
            "wazuh_cef" => format!("<132>Mar 10 06:02:17 {expected}"),
            _ => format!("{HEAD}{expected}"),
        };
        assert_eq!(line(format, &body).await, expected, "{format} {rest}");
    }
}

#[tokio::test]
async fn wazuhs_layouts_are_cut_where_its_daemon_cut_them() {
    let fields = r#""rule":{"level":3,"description":"d","id":"1","groups":["g"]},"location":"l""#;
    let log = "x".repeat(70_000);
    let whole = body(&format!(r#"{fields},"full_log":"{log}""#));
    for (format, end) in [("wazuh", "x.."), ("wazuh_cef", "x.."), ("wazuh_splunk", "x...")] {
        let line = line(format, &whole).await;
        assert!(line.len() == 61_439 && line.ends_with(end), "{format}: {}", line.len());
    }
    // The fields before the log have 2,048 bytes, and what is written is whole characters.
    let long = body(&format!(
        r#""rule":{{"level":3,"description":"d","id":"1","groups":["{}"]}},"full_log":"y z","location":"l""#,
        "é".repeat(2000)
    ));
    let line = line("wazuh", &long).await;
    assert!(line.len() <= 2048 + 4 && line.ends_with(" y z"), "{line}");
    assert!(!line.contains('\u{fffd}'), "{line}");
}

#[tokio::test]
async fn a_cef_value_keeps_its_line_breaks_and_blanks_and_the_daemons_host_is_short() {
    let body = body(
        r#""rule":{"level":3,"description":"d | e\nf","id":"1\\2"},"full_log":"a  b\\n=\r\n\tc ","location":"l""#,
    );
    let dotted = body.replace("\"mgr\"", "\"mgr.example.org\"");
    assert!(line("wazuh", &dotted).await.starts_with(&format!("{HEAD}ossec: ")));
    let line = line("cef", &dotted).await;
    assert!(line.starts_with("<134>Mar 10 06:02:17 mgr.example.org CEF:0|"), "{line}");
    assert!(line.contains(r"|1\\2|d \| e f|3|"), "{line}");
    assert!(line.ends_with(r"msg=a  b\\n\=\r\n c"), "{line}");
}
