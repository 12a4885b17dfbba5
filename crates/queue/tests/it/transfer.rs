//! Export, import, compaction and renewal of a stopped queue on disk.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use holdfast_model::{
    Kind, Name, NewEvent, Reject, RejectReason, Seq, Timestamp, intake::Idempotency,
};
use holdfast_queue::{
    AuditEntry, Engine, Link, QueueEngine, QueueError, Sample, Settle, Span, Start, StoredEvent,
    Window,
    compact::{self, CompactError, compact},
    export::{Exported, export},
    import::{self, ImportError, Imported, import},
    renew::renew,
    store::{Store, sled::SledStore},
    verify::{Report, verify},
};
use tempfile::TempDir;

use crate::{
    bed::{ALL, limits},
    make::{NOON, alert, batch, dead, delivered, noise, retry},
};

fn open(folder: &Path) -> Engine {
    Engine::open(folder, limits(), 0, NOON).unwrap()
}

fn counted(folder: &Path) -> Report {
    verify(Arc::new(SledStore::open_existing(folder).unwrap()), folder).unwrap()
}

/// Merging may cut chunks anew, and so does an import.
fn without_chunks(mut report: Report) -> Report {
    report.chunks = 0;
    report
}

fn exported(folder: &Path) -> (String, Exported) {
    let mut text = Vec::new();
    let store: Arc<dyn Store> = Arc::new(SledStore::open_existing(folder).unwrap());
    let done = export(store, folder, &mut |line| {
        text.extend_from_slice(line);
        text.push(b'\n');
        Ok(())
    });
    (String::from_utf8(text).unwrap(), done.unwrap())
}

fn imported(text: &str, folder: &Path) -> Result<Imported, ImportError> {
    import_watched(text, folder, &mut |_| true)
}

fn import_watched(
    text: &str,
    folder: &Path,
    watch: &mut dyn FnMut(import::Step) -> bool,
) -> Result<Imported, ImportError> {
    let file = folder.with_extension("ndjson");
    fs::write(&file, text).unwrap();
    import(&file, folder, import::Options { unsound: false, watch })
}

/// The faults as the command line shows them.
fn faults(text: &str) -> Vec<(u64, String, String)> {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("queue");
    match imported(text, &folder) {
        Err(ImportError::Lines { faults, .. }) => {
            assert!(!folder.exists(), "nothing is made of a faulty file");
            faults.into_iter().map(|f| (f.line, f.field, f.problem)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// A queue with something of everything: gaps, a large event, bytes that are no text, two lanes.
async fn rich(folder: &Path) {
    let queue = open(folder);
    let mut append = batch("wazuh", NOON, (0..200).map(alert).collect());
    append.rejects =
        vec![Reject { raw: "{oops".into(), reason: RejectReason::Invalid, message: "bad".into() }];
    append.position = Some(("file:/a".into(), Bytes::from_static(b"\x01\x02")));
    append.idempotency = Some(Idempotency { key: [7; 16], body: [8; 8] });
    queue.append(append).await.unwrap();
    let odd = vec![
        NewEvent::alert("{\n \"n\": 200}"),
        NewEvent::alert(Bytes::from_static(b"{\"n\":201,\"x\":\"\xff\xfe\"}")),
        NewEvent::alert(noise(300_000, 5)),
        NewEvent { parent: Some(queue.log_id().event(7)), ..alert(203) },
    ];
    queue.append(batch("http", NOON, odd).clone()).await.unwrap();
    let name = |text: &str| Name::new(text).unwrap();
    for lane in ["siem", "tickets"] {
        queue.open_lane(&name(lane), Start::All).await.unwrap();
    }
    queue.settle(&name("siem"), vec![delivered(1..=120), delivered([130, 131])]).await.unwrap();
    let events = queue.read(1, ALL).await.unwrap().events;
    let stored = |seq: Seq| StoredEvent::of(events.iter().find(|e| e.seq == seq).unwrap());
    let item = Settle {
        spans: vec![Span { from: 1, to: 11, count: 10 }],
        filtered: 5,
        retry: vec![retry(vec![stored(1), stored(2), stored(3)])],
        dead: vec![dead(stored(4)), dead(stored(5))],
        links: vec![Link { seq: 6, remote_id: "SEC-1".into(), at: NOON }],
        ..Settle::default()
    };
    let suppressed = Settle {
        spans: vec![Span { from: 11, to: 13, count: 2 }],
        suppressed: 2,
        windows: vec![window(10)],
        ..Settle::default()
    };
    queue.settle(&name("tickets"), vec![item, suppressed]).await.unwrap();
    queue.set_express(&name("siem"), Some(12)).await.unwrap();
    let entry = AuditEntry {
        at: NOON,
        who: "soc".into(),
        action: "pause".into(),
        subject: "siem".into(),
        detail: String::new(),
    };
    queue.add_audit(entry).await.unwrap();
    queue.close().await.unwrap();
}

fn window(first: Seq) -> Window {
    Window {
        first,
        first_suppressed: first + 1,
        last_suppressed: first + 2,
        suppressed: 2,
        opened_at: NOON,
        closes_at: Timestamp(NOON.0 + 60_000),
        by: "rule.id=5710".into(),
        alert: Bytes::from_static(br#"{"rule":{"level":5}}"#),
        samples: vec![Sample { seq: first + 1, received_at: NOON, text: "sshd".into() }],
    }
}

struct Pair {
    home: TempDir,
}

impl Pair {
    fn new() -> Self {
        Self { home: TempDir::new().unwrap() }
    }

    fn old(&self) -> PathBuf {
        self.home.path().join("old")
    }

    fn new_one(&self) -> PathBuf {
        self.home.path().join("new")
    }
}

/// All that readers can see is the same in both.
async fn alike(old: &Path, new: &Path) {
    let (old, new) = (open(old), open(new));
    assert_eq!(old.log_id(), new.log_id());
    let [old_events, new_events] = [&old, &new].map(|queue| async {
        let events = queue.read(1, ALL).await.unwrap().events;
        let plain = |event: &Arc<holdfast_model::Event>| {
            (StoredEvent::of(event), event.kind == Kind::Alert)
        };
        events.iter().map(plain).collect::<Vec<_>>()
    });
    assert_eq!(old_events.await, new_events.await);
    assert_eq!(old.audit(10).await.unwrap(), new.audit(10).await.unwrap());
    assert_eq!(old.dead_boxes(), new.dead_boxes());
    let children = old.children_of(7).await.unwrap();
    assert_eq!(children.len(), 1);
    assert_eq!(children, new.children_of(7).await.unwrap());
    let key = "file:/a";
    assert_eq!(old.source_position(key).await.unwrap(), new.source_position(key).await.unwrap());
    let answers = [old.idempotent([7; 16]).await.unwrap(), new.idempotent([7; 16]).await.unwrap()];
    assert!(answers[0].is_some());
    assert_eq!(answers[0], answers[1]);
    for lane in ["siem", "tickets"] {
        let name = Name::new(lane).unwrap();
        assert_eq!(old.ledger(&name).await.unwrap(), new.ledger(&name).await.unwrap());
        let [a, b] = [&old, &new].map(|queue| queue.open_lane(&name, Start::New));
        let (a, b) = (a.await.unwrap(), b.await.unwrap());
        assert_eq!((a.position, &a.settled, &a.retries), (b.position, &b.settled, &b.retries));
        assert_eq!((&a.windows, &a.express), (&b.windows, &b.express));
        assert_eq!((a.state, a.active_ms, a.unclean), (b.state, b.active_ms, b.unclean));
        for head in a.retries {
            let records = [
                old.retry(&name, head.id).await.unwrap(),
                new.retry(&name, head.id).await.unwrap(),
            ];
            assert!(records[0].is_some());
            assert_eq!(records[0], records[1]);
        }
    }
    let links = [old.links_of(6).await.unwrap(), new.links_of(6).await.unwrap()];
    assert_eq!((links[0].len(), &links[0]), (1, &links[1]));
    let tickets = Name::new("tickets").unwrap();
    assert_eq!(new.event_of(&tickets, "SEC-1").await.unwrap(), Some(6));
    let all = || holdfast_queue::DeadQuery { limit: 99, scan_max: 99, ..Default::default() };
    let letters = old.dead_letters(all()).await.unwrap().letters;
    assert_eq!(letters.len(), 3);
    assert_eq!(letters, new.dead_letters(all()).await.unwrap().letters);
    old.close().await.unwrap();
    new.close().await.unwrap();
}

#[tokio::test]
async fn what_was_exported_is_imported_with_every_id_count_and_byte() {
    let pair = Pair::new();
    rich(&pair.old()).await;
    let (text, done) = exported(&pair.old());
    assert_eq!((done.events, done.damaged), (204, 0));
    assert_eq!(done.lines as usize, text.lines().count());
    let imported = imported(&text, &pair.new_one()).unwrap();
    assert_eq!(imported.report.problems, [] as [String; 0]);
    let reports = [counted(&pair.old()), counted(&pair.new_one())].map(without_chunks);
    assert_eq!(reports[0], reports[1]);
    assert_eq!(exported(&pair.new_one()).0, text, "an export of the import is the same again");
    alike(&pair.old(), &pair.new_one()).await;
    // Numbers go on where they were.
    let queue = open(&pair.new_one());
    let next = queue.append(batch("wazuh", NOON, vec![alert(1)])).await.unwrap();
    assert_eq!(next.first, Some(206));
}

#[tokio::test]
async fn a_trimmed_log_and_a_damaged_chunk_count_the_same_after_an_import() {
    let pair = Pair::new();
    let queue = Engine::open(
        &pair.old(),
        holdfast_queue::Limits { retention: std::time::Duration::ZERO, ..limits() },
        0,
        NOON,
    )
    .unwrap();
    let name = Name::new("siem").unwrap();
    queue.open_lane(&name, Start::All).await.unwrap();
    for part in 0..3 {
        let events = (part * 100..part * 100 + 100).map(alert).collect();
        queue.append(batch("wazuh", NOON, events)).await.unwrap();
    }
    queue.settle(&name, vec![delivered(1..=150)]).await.unwrap();
    queue.upkeep(Timestamp(NOON.0 + 60_000)).await.unwrap();
    queue.close().await.unwrap();
    drop(queue);
    let before = counted(&pair.old());
    assert!(before.events < 300, "something was trimmed");
    damage_last_chunk(&pair.old());
    let (text, done) = exported(&pair.old());
    assert_eq!(done.damaged, 1);
    assert!(text.contains("\"record\":\"lost\""));
    imported(&text, &pair.new_one()).unwrap();
    let after = counted(&pair.new_one());
    assert_eq!(after.problems, [] as [String; 0]);
    assert_eq!((after.events, after.head), (before.events, before.head));
    assert_eq!(after.lanes, before.lanes);
}

fn damage_last_chunk(folder: &Path) {
    let store = SledStore::open_existing(folder).unwrap();
    let (key, mut value) = store.last_at(b"z", b"z\xff").unwrap().unwrap();
    let end = value.len() - 1;
    value[end] ^= 0xff;
    store.apply(vec![holdfast_queue::store::Write::Put(key, value)]).unwrap();
    store.sync().unwrap();
}

#[tokio::test]
async fn a_queue_that_holds_anything_is_not_replaced_and_an_empty_one_is() {
    let pair = Pair::new();
    rich(&pair.old()).await;
    let (text, _) = exported(&pair.old());
    let other = open(&pair.new_one());
    other.close().await.unwrap();
    drop(other);
    imported(&text, &pair.new_one()).unwrap();
    alike(&pair.old(), &pair.new_one()).await;
    assert!(matches!(imported(&text, &pair.new_one()), Err(ImportError::NotEmpty { .. })));

    let third = pair.home.path().join("third");
    let queue = open(&third);
    queue.append(batch("wazuh", NOON, vec![alert(1)])).await.unwrap();
    queue.close().await.unwrap();
    let log = queue.log_id().clone();
    drop(queue);
    let refused = imported(&text, &third);
    assert!(matches!(refused, Err(ImportError::OtherLog { held, .. }) if held == log));
    assert_eq!(counted(&third).events, 1);
}

#[tokio::test]
async fn an_import_that_was_cut_short_goes_on_and_leaves_no_half_of_a_queue() {
    let pair = Pair::new();
    let queue = open(&pair.old());
    for part in 0..60 {
        // Chunks of one part each, so that there are many steps.
        let events = (0..600).map(|n| alert(part * 600 + n)).collect();
        queue.append(batch("wazuh", NOON, events)).await.unwrap();
    }
    queue.close().await.unwrap();
    drop(queue);
    let (text, _) = exported(&pair.old());
    for stop_at in 1.. {
        let (mut written, mut went_on) = (0, false);
        let result = import_watched(&text, &pair.new_one(), &mut |step| match step {
            import::Step::Written { resumed, .. } => {
                written += 1;
                went_on |= resumed;
                written < stop_at
            }
            import::Step::Checked { .. } | import::Step::Counted => true,
        });
        assert!(stop_at == 1 || went_on, "it went on where it was");
        match result {
            Err(ImportError::Stopped) => {
                assert!(SledStore::open_existing(&pair.new_one()).is_err())
            }
            Ok(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let reports = [counted(&pair.old()), counted(&pair.new_one())].map(without_chunks);
    assert_eq!(reports[0], reports[1]);
    // One of another file in between begins anew.
    let names: Vec<_> = fs::read_dir(pair.new_one()).unwrap().flatten().collect();
    assert!(names.iter().all(|entry| entry.file_name() != "sled.import"));
}

#[tokio::test]
async fn the_draft_of_another_file_is_not_gone_on_with() {
    let pair = Pair::new();
    rich(&pair.old()).await;
    let (text, _) = exported(&pair.old());
    let stopped = import_watched(&text, &pair.new_one(), &mut |step| step != import::Step::Counted);
    assert!(matches!(stopped, Err(ImportError::Stopped)));
    let first = pair.home.path().join("other");
    let queue = open(&first);
    queue.append(batch("wazuh", NOON, vec![alert(1)])).await.unwrap();
    queue.close().await.unwrap();
    drop(queue);
    let (other, _) = exported(&first);
    imported(&other, &pair.new_one()).unwrap();
    assert_eq!(counted(&pair.new_one()), counted(&first));
}

#[tokio::test]
async fn every_fault_of_a_file_is_named_with_its_line_and_field() {
    let pair = Pair::new();
    rich(&pair.old()).await;
    let (text, _) = exported(&pair.old());
    let lines: Vec<&str> = text.lines().collect();
    let with = |number: usize, line: &str| {
        let mut lines = lines.clone();
        lines[number - 1] = line;
        lines.join("\n") + "\n"
    };
    assert_eq!(faults("").len(), 1);
    assert_eq!(faults(&with(5, "{oops"))[0].0, 5);
    let doubled = faults(&with(5, lines[3]));
    assert_eq!((doubled[0].0, doubled[0].1.as_str()), (5, "seq"));
    let wrong_id = lines[4].replace("-4\"", "-40\"");
    assert_eq!(faults(&with(5, &wrong_id))[0].1, "id");
    let late = lines[4].replace("\"received_at\":\"2026", "\"received_at\":\"20x6");
    assert_eq!(faults(&with(5, &late))[0].1, "received_at");
    let format = lines[0].replace("holdfast-export 1", "holdfast-export 9");
    assert!(faults(&with(1, &format))[0].2.contains("this version reads"));
    // Cut short, in a line and between two.
    let cut = faults(&text[..text.len() - 10]);
    assert!(cut.iter().any(|fault| fault.2.contains("cut short")), "{cut:?}");
    let half: String = lines[..100].join("\n") + "\n";
    assert!(faults(&half).iter().any(|fault| fault.2.contains("cut short")));
    // A line that is missing in the middle.
    let mut fewer = lines.clone();
    fewer.remove(50);
    let fewer = faults(&(fewer.join("\n") + "\n"));
    assert!(fewer.iter().any(|fault| fault.1 == "lines"), "{fewer:?}");
    assert!(fewer.iter().any(|fault| fault.1 == "queue.events_total"), "{fewer:?}");
    // Two faults at once, both named.
    let lane = lines.iter().position(|line| line.contains("\"lane\":\"tickets\"")).unwrap() + 1;
    let two = with(lane, &lines[lane - 1].replace("\"retrying\":3", "\"retrying\":4"));
    let two = faults(&two.replacen("\"seq\":2,", "\"seq\":\"2\",", 1));
    assert!(two.iter().any(|fault| fault.1 == "seq" && fault.0 == 3), "{two:?}");
    assert!(two.iter().any(|fault| fault.1 == "is.retrying"), "{two:?}");
}

#[tokio::test]
async fn compaction_gives_back_the_file_s_room_and_changes_nothing() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("queue");
    rich(&folder).await;
    // A high-water mark that is long gone.
    let no_retention = holdfast_queue::Limits { retention: std::time::Duration::ZERO, ..limits() };
    let queue = Engine::open(&folder, no_retention, 0, NOON).unwrap();
    for seed in 0..60 {
        let large = vec![NewEvent::alert(noise(400_000, seed))];
        queue.append(batch("http", NOON, large)).await.unwrap();
    }
    for lane in ["siem", "tickets"] {
        queue
            .abandon_lane(&Name::new(lane).unwrap(), holdfast_queue::DeadEnd::Expired)
            .await
            .unwrap();
    }
    queue.upkeep(Timestamp(NOON.0 + 60_000)).await.unwrap();
    assert_eq!(queue.stats().events_in_log, 0);
    queue.close().await.unwrap();
    drop(queue);
    let before = counted(&folder);
    let (text, _) = exported(&folder);
    let done = compact(&folder, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(done.bytes_after < done.bytes_before, "{done:?}");
    assert_eq!(counted(&folder), before);
    assert_eq!(exported(&folder).0, text);
    assert!(!folder.join("sled.compact").exists());
}

#[tokio::test]
async fn compaction_that_stops_anywhere_leaves_a_usable_queue() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("queue");
    rich(&folder).await;
    // So that there is something to gain, at every attempt.
    fs::write(folder.join("sled/padding"), vec![0; 16 << 20]).unwrap();
    let (text, _) = exported(&folder);
    let before = counted(&folder);
    let mut steps = Vec::new();
    for stop_at in 1.. {
        let mut told = Vec::new();
        let result = compact(&folder, &mut |step| {
            told.push(step);
            if told.len() == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(exported(&folder).0, text, "after {told:?}");
        assert_eq!(counted(&folder), before);
        let queue = open(&folder);
        queue.close().await.unwrap();
        drop(queue);
        steps = told;
        match result {
            Err(CompactError::Stopped) => {}
            Ok(_) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(steps.contains(&compact::Step::Compared) && steps.contains(&compact::Step::Swapped));
}

#[tokio::test]
async fn a_renewed_log_has_a_new_name_and_everything_else_as_it_was() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("queue");
    rich(&folder).await;
    let before = counted(&folder);
    let done = renew(&folder, NOON).unwrap();
    assert_eq!(done.before.as_str(), before.log_id);
    assert_ne!(done.before, done.after);
    let after = counted(&folder);
    assert_eq!(after.log_id, done.after.as_str());
    assert_eq!(Report { log_id: before.log_id.clone(), ..after }, before);
    let queue = open(&folder);
    assert_eq!(queue.log_id(), &done.after);
    let noted = queue.audit(1).await.unwrap().swap_remove(0);
    assert_eq!((noted.action.as_str(), noted.subject), ("renew", before.log_id));
}

#[tokio::test]
async fn an_open_queue_is_not_touched() {
    let pair = Pair::new();
    rich(&pair.old()).await;
    let (text, _) = exported(&pair.old());
    let queue = open(&pair.old());
    let locked = |error: &QueueError| matches!(error, QueueError::Locked { .. });
    assert!(locked(&renew(&pair.old(), NOON).unwrap_err()));
    let error = compact(&pair.old(), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, CompactError::Queue(error) if locked(&error)));
    let error = imported(&text, &pair.old()).unwrap_err();
    assert!(matches!(error, ImportError::Queue(error) if locked(&error)));
    queue.close().await.unwrap();
}
