use std::{cell::RefCell, fs, sync::Arc};

use holdfast_model::{RejectReason, settings::Section};

use super::*;
use crate::{
    sources::alerts_file::tests::{Fake, Running},
    testing::tree,
};

fn build(table: &str) -> Result<Box<dyn Source>, Vec<String>> {
    let (entries, faults) = (tree(table), RefCell::default());
    let section = Section::new("sources.osquery", 1, &entries, &faults);
    let source = (KIND.build)(&section, &Name::new("wazuh").unwrap());
    section.finish();
    let faults = faults.into_inner();
    match source {
        Some(source) if faults.is_empty() => Ok(source),
        _ => Err(faults
            .into_iter()
            .map(|fault| format!("{}: {}", fault.key, fault.problem))
            .collect()),
    }
}

const RESULT: &str = r#"{"name":"pack_it_shells","hostIdentifier":"web-01","calendarTime":"Tue Sep 30 17:37:30 2014 UTC","unixTime":1412123850,"epoch":0,"counter":1,"numerics":false,"action":"added","columns":{"pid":"97830"}}"#;
const SNAPSHOT: &str = r#"{"name":"users","hostIdentifier":"web-01","unixTime":"1412123850","action":"snapshot","snapshot":[{"uid":"0"},{"uid":"33"}]}"#;

#[tokio::test]
async fn osquerys_logs_become_events_where_wazuhs_own_alerts_have_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("osqueryd.results.log");
    fs::write(&path, format!("{RESULT}\nE0930 not json\n[1]\n{SNAPSHOT}\n")).unwrap();
    let table = format!(
        "path = {path:?}\nstart = \"beginning\"\npoll_interval = \"10ms\"\n\
         wrap = \"data.osquery\"\nintegration = \"osquery\""
    );
    let intake = Arc::<Fake>::default();
    let running = Running::start_source(build(&table).unwrap(), &intake);
    let wrapped =
        |line: &str| format!("{{\"integration\":\"osquery\",\"data\":{{\"osquery\":{line}}}}}");
    intake.until_lines(&[&wrapped(RESULT), &wrapped(SNAPSHOT)]).await;
    running.stop().await;
    let rejects = intake.stored().rejects.clone();
    assert_eq!(rejects.len(), 2);
    assert_eq!(&rejects[0].raw[..], b"E0930 not json", "as it stood in the file");
    assert_eq!(rejects[1].reason, RejectReason::Invalid);
}

#[tokio::test]
async fn without_wrap_a_line_is_the_event() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("any.ndjson");
    fs::write(&path, "{\"a\": 1}\n").unwrap();
    let intake = Arc::<Fake>::default();
    let source = build(&format!("path = {path:?}\nstart = \"beginning\"")).unwrap();
    assert_eq!(source.position_key(), format!("json_file:{}", path.display()));
    let running = Running::start_source(source, &intake);
    intake.until_lines(&["{\"a\": 1}"]).await;
    running.stop().await;
}

#[test]
fn wrong_settings_are_faults() {
    let table = |more: &str| build(&format!("path = \"/x.log\"\n{more}")).err();
    assert_eq!(table("wrap = \"a.b.c.d\"\nintegration = \"x\""), None);
    for (more, expected) in [
        ("wrap = \"\"", "sources.osquery.wrap: it must be 1 to 4 names"),
        ("wrap = \"a..b\"", "wrap: it must be"),
        ("wrap = \"a.b.c.d.e\"", "wrap: it must be"),
        ("wrap = 'a\"b'", "wrap: it must be"),
        ("wrap = 1", "wrap: it is a whole number"),
        ("integration = \"osquery\"", "integration: it goes beside"),
        ("wrap = \"a\"\nintegration = 'x\"'", "integration: it must be a name"),
        ("start = \"middle\"", "start: "),
        ("max_line = \"1B\"", "max_line: "),
        ("dated = true", "dated: there is no such key"),
    ] {
        let faults = table(more).unwrap_or_else(|| panic!("{more} was taken"));
        assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
    }
    assert!(build("path = \"x.log\"").err().unwrap()[0].contains("absolute"));
    assert_eq!(build("").err().unwrap().len(), 1);
}
