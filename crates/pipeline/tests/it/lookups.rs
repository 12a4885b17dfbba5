//! Two-way exchange: answers enter the log, events know what they are about, messages carry what
//! lookups say.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use holdfast_model::{Destination, EventId, Kind, LaneState, Name, NewEvent, Reason, Seq};
use holdfast_pipeline::{LaneSettings, filter::Filter, settings::Loops};
use holdfast_queue::{Append, QueueEngine, ReadLimit};
use serde_json::json;

use crate::{
    replay::ended,
    replay_own::{of_log, run_jobs},
    rig::*,
};

const ALL: ReadLimit = ReadLimit { events_max: usize::MAX, bytes_max: usize::MAX };

fn when(conditions: serde_json::Value) -> Filter {
    Filter::from_json(conditions.as_object().unwrap()).unwrap()
}

fn of_kinds(kinds: &[&str]) -> LaneSettings {
    settings(|s| s.filter = when(json!({ "kind": kinds })))
}

fn asking(lookups: &[&str]) -> LaneSettings {
    settings(|s| s.enrich = lookups.iter().map(|name| Name::new(name).unwrap()).collect())
}

async fn lane(rig: &mut Rig, name: &str, settings: LaneSettings, far: Arc<dyn Destination>) {
    rig.lane_to(name, settings, far, u64::MAX).await;
}

/// Puts an event about another one into the log.
async fn about(rig: &Rig, kind: Kind, parent: Option<EventId>) -> Seq {
    let append = Append {
        source: "far".into(),
        received_at: rig.clock.now(),
        events: vec![NewEvent { kind, parent, body: "{}".into() }],
        rejects: Vec::new(),
        position: None,
        idempotency: None,
        from_source: false,
    };
    rig.queue.append(append).await.unwrap().first.unwrap()
}

fn id(rig: &Rig, seq: Seq) -> EventId {
    rig.queue.log_id().event(seq)
}

#[tokio::test(start_paused = true)]
async fn answers_enter_the_log_as_events_about_the_alert_and_nobody_asks_about_answers() {
    let (mut rig, oracle, witness) = (Rig::new(), Oracle::willing(), Arc::new(Witness::default()));
    lane(&mut rig, "vt", of_kinds(&["alert", "lookup"]), oracle.clone()).await;
    lane(&mut rig, "chat", of_kinds(&["lookup"]), witness.clone()).await;
    let seqs = rig.append(0..20).await;
    let ledger = rig.drained("vt").await;
    assert_eq!((ledger.seen, ledger.delivered, ledger.filtered), (40, 20, 20));
    assert_eq!(rig.drained("chat").await.delivered, 20);
    let asked: Vec<Seq> = oracle.asked().into_iter().map(|(seq, _)| seq).collect();
    assert_eq!((asked.len(), asked.iter().max()), (20, seqs.last()));
    for seq in seqs {
        let children = rig.queue.children_of(seq).await.unwrap();
        assert_eq!(children.len(), 1);
        let member = witness.of(children[0]);
        assert_eq!((member.event.kind, &*member.event.source), (Kind::Lookup, "vt"));
        assert_eq!(member.event.parent, Some(id(&rig, seq)));
        let parent = member.parent.unwrap();
        assert_eq!((parent.id.seq, parent.event.as_ref().unwrap().seq), (seq, seq));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_may_asks_about_other_lookups_answers() {
    let (mut rig, vt, misp) = (Rig::new(), Oracle::willing(), Oracle::willing());
    lane(&mut rig, "vt", settings(|_| {}), vt.clone()).await;
    let open = LaneSettings { loops: Some(Loops::Allow), ..of_kinds(&["lookup"]) };
    let from_vt = when(json!({ "kind": "lookup", "where": "event.source == 'vt'" }));
    lane(&mut rig, "misp", LaneSettings { filter: from_vt, ..open }, misp.clone()).await;
    rig.append([1]).await;
    rig.drained("vt").await;
    assert_eq!(rig.drained("misp").await.delivered, 1);
    assert_eq!((vt.asked().len(), misp.asked().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_every_question_has_one_answer_in_the_log() {
    for kept in [0, 1, 7] {
        let slow = || {
            Oracle::answering(|member| {
                let body = format!(r#"{{"about":{}}}"#, member.event.seq);
                (ms(member.event.seq * 13 % 40), Ok(vec![Bytes::from(body)]))
            })
        };
        let (mut rig, oracle) = (Rig::new(), slow());
        lane(&mut rig, "vt", settings(|_| {}), oracle.clone()).await;
        let seqs = rig.append(0..60).await;
        rig.until("half of it", || oracle.asked().len() >= 30).await;
        let mut rig = rig.crash(kept).await;
        let again = slow();
        lane(&mut rig, "vt", settings(|_| {}), again.clone()).await;
        let ledger = rig.drained("vt").await;
        assert_eq!((ledger.seen, ledger.delivered, ledger.filtered), (120, 60, 60));
        for seq in seqs {
            assert_eq!(rig.queue.children_of(seq).await.unwrap().len(), 1, "{seq}");
        }
        let asked = oracle.asked().len() + again.asked().len();
        assert!(asked <= 60 + LaneSettings::default().in_flight_max(), "{asked} questions");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_stops_asking_while_there_is_no_room_for_answers_and_others_go_on() {
    let (mut rig, oracle, far) = (Rig::new(), Oracle::willing(), FarEnd::new());
    rig.append(0..5).await;
    rig.store.set_space(48 << 20, 0);
    lane(&mut rig, "vt", settings(|_| {}), oracle.clone()).await;
    rig.lane("siem", settings(|_| {}), &far).await;
    assert_eq!(rig.drained("siem").await.delivered, 5);
    rig.until_state("vt", LaneState::BackedUp).await;
    tokio::time::sleep(secs(600)).await;
    assert_eq!(oracle.asked(), []);
    assert!(rig.view("vt").state.reason.contains("no room for answers"));
    assert!(rig.turns("vt") < 1_000, "it looks for room now and then");
    rig.store.set_space(u64::MAX / 2, 0);
    assert_eq!(rig.drained("vt").await.delivered, 5);
    rig.until_state("vt", LaneState::Active).await;
}

#[tokio::test(start_paused = true)]
async fn more_or_longer_answers_than_there_may_be_are_left_out() {
    let flood = Oracle::answering(|_| {
        let long = Bytes::from(vec![b'x'; 300 * 1024]);
        (ms(0), Ok([vec![long], vec![Bytes::from_static(b"{}"); 20]].concat()))
    });
    let mut rig = Rig::new();
    lane(&mut rig, "vt", settings(|_| {}), flood).await;
    let seq = rig.append([1]).await[0];
    rig.drained("vt").await;
    assert_eq!(rig.queue.children_of(seq).await.unwrap().len(), 16);
}

#[tokio::test(start_paused = true)]
async fn an_event_about_another_knows_what_was_made_of_it() {
    let mut rig = Rig::new();
    let (chat, desk, deaf) =
        (Arc::new(Witness::default()), Arc::new(Witness::default()), Arc::new(Witness::default()));
    let all = ["alert", "lookup", "callback"];
    lane(&mut rig, "chat", of_kinds(&["alert", "callback"]), chat.clone()).await;
    lane(&mut rig, "desk", of_kinds(&all), desk.clone()).await;
    lane(&mut rig, "deaf", of_kinds(&["callback"]), deaf.clone()).await;
    let alert = rig.append([1]).await[0];
    for name in ["chat", "desk"] {
        rig.drained(name).await;
    }
    let lookup = about(&rig, Kind::Lookup, Some(id(&rig, alert))).await;
    rig.drained("desk").await;
    let callback = about(&rig, Kind::Callback, Some(id(&rig, lookup))).await;
    let foreign = about(&rig, Kind::Callback, Some("zzzzzzzzzz-7".parse().unwrap())).await;
    let alone = about(&rig, Kind::Callback, None).await;
    for name in ["chat", "desk", "deaf"] {
        rig.drained(name).await;
    }

    assert!(chat.of(alert).parent.is_none() && deaf.of(alone).parent.is_none());
    // Chat made nothing of the answer, so its thing is the alert's.
    let parent = chat.of(callback).parent.unwrap();
    assert_eq!(parent.id, id(&rig, alert));
    assert_eq!(parent.key, chat.of(alert).key);
    assert_eq!(parent.remote_id, Some(format!("thing-{alert}")));
    assert_eq!(parent.event.as_ref().unwrap().seq, alert);
    assert_eq!(parent.links, [(Name::new("desk").unwrap(), format!("thing-{alert}"))]);
    // The desk made a thing of the answer itself.
    let parent = desk.of(callback).parent.unwrap();
    assert_eq!((parent.id.seq, &*parent.key), (lookup, &*desk.of(lookup).key));
    assert_eq!(parent.remote_id, Some(format!("thing-{lookup}")));
    // Who made nothing is told of the alert, and of what others made.
    let parent = deaf.of(callback).parent.unwrap();
    assert_eq!((parent.id.seq, parent.remote_id.as_ref(), parent.links.len()), (alert, None, 2));
    let parent = deaf.of(foreign).parent.unwrap();
    assert!(parent.event.is_none() && parent.id.to_string() == "zzzzzzzzzz-7");
}

#[tokio::test(start_paused = true)]
async fn a_message_carries_what_its_lookups_say_in_their_order_and_asks_anew_at_each_try() {
    let (mut rig, chat) = (Rig::new(), Arc::new(Witness::default()));
    *chat.failures.lock().unwrap() = 1;
    let nobody = settings(|s| s.filter = when(json!({ "kind": "operator" })));
    let vt = Oracle::willing();
    let slow = Oracle::answering(|_| (secs(3600), Ok(Vec::new())));
    let broken = Oracle::answering(|_| (ms(1), Err(Reason::Throttled)));
    let wrong = Oracle::answering(|_| panic!("the lookup's code is wrong"));
    lane(&mut rig, "vt", nobody.clone(), vt.clone()).await;
    lane(&mut rig, "slow", nobody.clone(), slow).await;
    lane(&mut rig, "broken", nobody.clone(), broken).await;
    lane(&mut rig, "wrong", nobody.clone(), wrong).await;
    rig.lane("plain", nobody, &FarEnd::new()).await;
    let names = ["slow", "vt", "broken", "wrong", "plain", "gone"];
    lane(&mut rig, "chat", asking(&names), chat.clone()).await;
    let seq = rig.append([1]).await[0];
    rig.drained("chat").await;
    let seen = chat.seen();
    assert_eq!(seen.len(), 2, "a failure, and the retry");
    for member in &seen {
        let said: Vec<_> = member.enrichments.iter().map(|one| one.lookup.as_str()).collect();
        assert_eq!(said, names);
        let answers: Vec<_> = member.enrichments.iter().map(|one| one.answers.clone()).collect();
        assert_eq!(answers[0], Err("no answer within 5s".into()));
        let body = format!(r#"{{"integration":"virustotal","about":{seq}}}"#);
        assert_eq!(answers[1], Ok(vec![Bytes::from(body)]));
        assert_eq!(answers[2], Err("the destination asked us to slow down".into()));
        assert!(answers[3].as_ref().unwrap_err().contains("panicked"));
        assert_eq!(answers[4], Err("it is no lookup".into()));
        assert_eq!(answers[5], Err("it does not run just now".into()));
    }
    let key = format!("{}.vt", id(&rig, seq));
    assert_eq!(vt.asked(), [(seq, key.clone()), (seq, key)]);
    let page = rig.queue.read(1, ALL).await.unwrap();
    assert!(page.events.iter().all(|event| event.kind == Kind::Alert), "it is in no log");
    assert_eq!(rig.ledger("vt").await.delivered, 0);
    let counted = rig.metrics.lane("chat");
    let counted = (counted.enrichments_answered.get(), counted.enrichments_missing.get());
    assert_eq!(counted, (2, 10), "one of six, twice");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_a_person_paused_is_not_asked_and_only_alerts_are_asked_about() {
    let (mut rig, chat, vt) = (Rig::new(), Arc::new(Witness::default()), Oracle::willing());
    let nobody = settings(|s| s.filter = when(json!({ "kind": "operator" })));
    lane(&mut rig, "vt", nobody, vt.clone()).await;
    let all = LaneSettings { enrich: asking(&["vt"]).enrich, ..of_kinds(&["alert", "callback"]) };
    lane(&mut rig, "chat", all, chat.clone()).await;
    about(&rig, Kind::Callback, None).await;
    rig.handle("vt").pause("anna").await.unwrap();
    rig.append([1]).await;
    rig.drained("chat").await;
    assert_eq!(vt.asked(), []);
    rig.handle("vt").resume().await.unwrap();
    rig.append([2]).await;
    rig.drained("chat").await;
    let said: Vec<_> = chat.seen().iter().map(|member| member.enrichments.len()).collect();
    assert_eq!(said, [0, 1, 1]);
    assert_eq!(chat.seen()[1].enrichments[0].answers, Err("it is paused".into()));
    assert!(chat.seen()[2].enrichments[0].answers.is_ok());
    assert_eq!(vt.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_acts_on_wazuh_takes_no_alert_that_was_injected_unless_told_so_and_others_do() {
    let mut rig = Rig::new();
    let injected = r#"{"data":{"integration":"virustotal"},"location":"virustotal"}"#;
    let (guarded, told) = (Witness::beside_wazuh(), Witness::beside_wazuh());
    let plain = Arc::new(Witness::default());
    lane(&mut rig, "guarded", of_kinds(&["alert", "lookup"]), guarded.clone()).await;
    lane(&mut rig, "told", settings(|s| s.loops = Some(Loops::Allow)), told).await;
    lane(&mut rig, "plain", settings(|_| {}), plain.clone()).await;
    let strict = settings(|s| s.loops = Some(Loops::Refuse));
    lane(&mut rig, "strict", strict, plain).await;
    rig.append_bodies(vec![injected.to_owned(), alert(1)]).await;
    let lookup = about(&rig, Kind::Lookup, None).await;
    let mut taken = Vec::new();
    for name in ["guarded", "told", "plain", "strict"] {
        taken.push(rig.drained(name).await.delivered);
    }
    assert_eq!(taken, [2, 2, 2, 1]);
    assert_eq!(guarded.of(lookup).event.kind, Kind::Lookup, "answers go back into Wazuh");
}

#[tokio::test(start_paused = true)]
async fn a_replay_asks_again_and_its_answers_are_the_destinations() {
    let (mut rig, oracle) = (Rig::new(), Oracle::willing());
    lane(&mut rig, "a", settings(|_| {}), oracle.clone()).await;
    let seqs = rig.append([1, 2]).await;
    rig.drained("a").await;
    run_jobs(&rig, &["a"]);
    let job = rig.queue.put_job(of_log(&rig, "{}")).await.unwrap();
    let job = ended(&rig, job.id).await;
    assert_eq!(job.progress.delivered, 2);
    assert_eq!(oracle.asked().len(), 4);
    for seq in seqs {
        let children = rig.queue.children_of(seq).await.unwrap();
        assert_eq!(children.len(), 2);
        for child in children {
            let page = rig.queue.read(child, ALL).await.unwrap();
            assert_eq!(&*page.events[0].source, "a");
        }
    }
    assert_eq!(rig.drained("a").await.delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn what_became_of_an_alert_is_told_only_where_the_alert_has_arrived() {
    let mut rig = Rig::new();
    let mut failures = 3;
    let far = Oracle::answering(move |member| {
        let fails = member.event.kind == Kind::Alert && failures > 0;
        failures -= i32::from(fails);
        (Duration::ZERO, if fails { Err(Reason::ServerFault) } else { Ok(Vec::new()) })
    });
    lane(&mut rig, "oncall", of_kinds(&["alert", "callback"]), far.clone()).await;
    let alert = rig.append(0..1).await[0];
    let closed = about(&rig, Kind::Callback, Some(id(&rig, alert))).await;
    assert_eq!(rig.drained("oncall").await.delivered, 2);
    let asked: Vec<Seq> = far.asked().into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(asked, [alert, alert, alert, alert, closed]);
    let unmatched = about(&rig, Kind::Callback, None).await;
    assert_eq!(rig.drained("oncall").await.delivered, 3);
    assert_eq!(far.asked().last().map(|(seq, _)| *seq), Some(unmatched));
}
