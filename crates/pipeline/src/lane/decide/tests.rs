use std::{collections::BTreeMap, sync::Arc};

use holdfast_model::{Event, NewEvent, Receipt};
use holdfast_queue::{RetryHead, Slots};
use proptest::prelude::*;

use super::*;
use crate::{lane::flight::Past, settings::InDoubt, settlement::Failure};

const WALL: Timestamp = Timestamp(1_000_000);

fn event(seq: Seq, bytes: usize) -> Arc<Event> {
    Arc::new(Event::new(seq, NewEvent::alert(vec![b'x'; bytes]), "a".into(), Timestamp(0)))
}

fn failed(reason: Reason, retry_after_s: Option<u64>) -> Outcome {
    let retry_after = retry_after_s.map(Duration::from_secs);
    Outcome::Failed(Failure { reason, status: None, retry_after, excerpt: "no".into() })
}

fn landing(members: Vec<Ended>) -> Landing {
    let past = Past { tries: 2, first_active_ms: Some(0), ..Past::default() };
    Landing { past, members, ..Landing::crashed(1, Vec::new(), WALL) }
}

fn decided(
    landing: &Landing,
    origin: &Origin,
    full: bool,
    parked: bool,
    active_ms: u64,
) -> Decision {
    let settings = LaneSettings { in_doubt: InDoubt::DeadLetter, ..LaneSettings::default() };
    let (log, source) = (LogId::from_random([1; 10]), Arc::from("vt"));
    let now = Now {
        wall: WALL,
        active_ms,
        dice: 0.5,
        search_lag: None,
        parked,
        dead_full: &|| full,
        answering: Some(Answering { log: &log, source: &source }),
    };
    decide(landing, origin, &settings, &now)
}

fn stored(members: &[Ended]) -> Origin {
    let (id, members) = (members[0].0.seq, members.len() as u32);
    Origin::Retry(RetryHead {
        id,
        members,
        due: WALL,
        oldest: WALL,
        in_doubt: false,
        job: None,
        slots: Slots::NONE,
    })
}

/// The ledger of one lane, as the queue keeps it: every settlement in order.
#[derive(Default)]
struct Books {
    delivered: u64,
    dead: Vec<Seq>,
    unsettled: u64,
    records: BTreeMap<Seq, Vec<Seq>>,
}

impl Books {
    fn apply(&mut self, settle: &Settle) {
        self.unsettled -= settle.spans.iter().map(|span| span.count).sum::<u64>();
        for id in &settle.retries_done {
            assert!(self.records.remove(id).is_some(), "record {id} is settled twice");
        }
        self.delivered += settle.delivered;
        self.dead.extend(settle.dead.iter().map(|letter| letter.event.seq));
        for record in &settle.retry {
            let seqs = record.members.iter().map(|member| member.seq).collect();
            assert_eq!(self.records.insert(record.id(), seqs), None, "a record was overwritten");
        }
    }

    fn total(&self) -> u64 {
        let waiting: usize = self.records.values().map(Vec::len).sum();
        self.unsettled + self.delivered + (self.dead.len() + waiting) as u64
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let reason = proptest::sample::select(Reason::ALL.to_vec());
    prop_oneof![
        2 => any::<bool>().prop_map(|duplicate| Outcome::Delivered(Receipt { duplicate, ..Receipt::default() })),
        5 => (reason, proptest::option::of(0_u64..5_000)).prop_map(|(reason, after)| failed(reason, after)),
        1 => any::<bool>().prop_map(|_| Outcome::Unsent),
    ]
}

proptest! {
    /// Whatever was answered, from wherever the events came, and after each single step.
    #[test]
    fn every_member_ends_in_exactly_one_place(
        outcomes in proptest::collection::vec((outcome(), 1_usize..200_000), 1..60),
        from_log: bool, full: bool, parked: bool, old: bool,
    ) {
        let members: Vec<Ended> = outcomes
            .into_iter()
            .enumerate()
            .map(|(n, (outcome, bytes))| (event(10 + 3 * n as Seq, bytes), outcome))
            .collect();
        let seqs: Vec<Seq> = members.iter().map(|(event, _)| event.seq).collect();
        let count = seqs.len() as u64;
        let origin = if from_log { Origin::Log } else { stored(&members) };
        let landing = landing(members);
        let decision = decided(&landing, &origin, full, parked, if old { u64::MAX / 2 } else { 0 });

        let mut books = Books::default();
        if from_log {
            books.unsettled = count;
        } else {
            books.records.insert(seqs[0], seqs.clone());
        }
        for settle in &decision.settle {
            books.apply(settle);
            prop_assert_eq!(books.total(), count, "out of balance after a step");
        }
        prop_assert_eq!(books.unsettled, 0);
        prop_assert_eq!(books.delivered, decision.delivered.len() as u64);
        prop_assert_eq!(books.dead.len(), decision.died.len());
        let delivered = landing.members.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Delivered(_)));
        let mut places: Vec<Seq> = delivered.map(|(event, _)| event.seq).collect();
        places.extend(&books.dead);
        places.extend(books.records.values().flatten());
        places.sort_unstable();
        prop_assert_eq!(places, seqs);
        if full || parked {
            prop_assert!(decision.died.iter().all(|reason| !full && *reason == DeadReason::InDoubt));
        }
    }
}

#[test]
fn a_batch_that_fails_whole_is_one_record_with_all_its_members_in_order() {
    let members: Vec<Ended> =
        (1..=50).map(|seq| (event(seq, 10), failed(Reason::ServerFault, None))).collect();
    let decision = decided(&landing(members), &Origin::Log, false, false, 0);
    let [settle] = decision.settle.as_slice() else { panic!("one settlement") };
    let [record] = settle.retry.as_slice() else { panic!("one record") };
    assert!(record.members.iter().map(|member| member.seq).eq(1..=50));
    assert_eq!(
        (record.tries, record.attempts.len(), record.due),
        (3, 1, WALL.saturating_add(Duration::from_secs(2)))
    );
}

#[test]
fn a_forbidden_event_waits_alone_so_that_its_verdict_hits_no_other() {
    let members = vec![
        (event(1, 10), failed(Reason::Forbidden, None)),
        (event(2, 10), failed(Reason::ServerFault, None)),
        (event(3, 10), failed(Reason::Forbidden, None)),
        (event(4, 10), Outcome::Unsent),
    ];
    let decision = decided(&landing(members), &Origin::Log, false, false, 0);
    let records: Vec<_> = decision.settle[0]
        .retry
        .iter()
        .map(|record| (record.id(), record.members.len(), record.tries))
        .collect();
    assert_eq!(records.len(), 4);
    assert!(records.contains(&(4, 1, 2)), "what was not sent was not tried");
    assert_eq!(decision.forbidden, [1, 3]);
}

#[test]
fn what_is_stored_in_several_steps_is_small_and_balanced_after_each() {
    const COUNT: u64 = 5_000;
    for from_log in [true, false] {
        let outcome = |seq| match seq % 3 {
            0 => failed(Reason::ServerFault, Some(seq)),
            1 => failed(Reason::Refused, None),
            _ => Outcome::Delivered(Receipt::default()),
        };
        let members: Vec<Ended> = (0..COUNT).map(|seq| (event(seq, 2_000), outcome(seq))).collect();
        let mut books = Books::default();
        let origin = if from_log { Origin::Log } else { stored(&members) };
        match from_log {
            true => books.unsettled = COUNT,
            false => drop(books.records.insert(0, (0..COUNT).collect())),
        }
        let decision = decided(&landing(members), &origin, false, false, 0);
        assert!(decision.settle.len() > 5);
        for settle in &decision.settle {
            assert!(settle.dead.len() + settle.retry.len() <= WRITES_MAX + 1);
            books.apply(settle);
            assert_eq!(books.total(), COUNT);
        }
        assert_eq!((books.unsettled, books.delivered), (0, COUNT / 3));
    }
}

#[test]
fn answers_are_settled_with_their_event_wherever_it_was_and_however_much_they_are() {
    let answered = |seq: Seq, bytes: usize| {
        let answers = vec![bytes::Bytes::from(vec![b'a'; bytes]); 16];
        let receipt = Receipt { answers, ..Receipt::default() };
        (event(seq, 10), Outcome::Delivered(receipt))
    };
    let mut members: Vec<Ended> = (1..=40).map(|seq| answered(seq, 100 * 1024)).collect();
    members.push((event(41, 10), Outcome::Delivered(Receipt::default())));
    members.push((event(42, 10), failed(Reason::ServerFault, None)));
    members.push((event(43, 10), failed(Reason::Refused, None)));
    let of_log = stored(&members);
    let landing = landing(members);
    for origin in [Origin::Log, of_log] {
        let decision = decided(&landing, &origin, false, false, 0);
        assert!(decision.settle.len() > 1, "it is too much for one change");
        let mut answered: BTreeMap<Seq, usize> = BTreeMap::new();
        for settle in &decision.settle {
            let parents = settle.answers.iter().filter_map(|answer| answer.event.parent.as_ref());
            let mut here: Vec<Seq> = parents.map(|parent| parent.seq).collect();
            here.iter().for_each(|seq| *answered.entry(*seq).or_default() += 1);
            here.dedup();
            assert!(settle.delivered >= here.len() as u64, "with their own settlement");
            let writes = settle.answers.len() * (1 + 100 * 1024 / WRITE_BYTES + 1);
            assert!(writes <= 2 * WRITES_MAX, "{writes}");
        }
        assert_eq!(answered.len(), 40);
        assert!(answered.values().all(|count| *count == 16));
        let delivered: u64 = decision.settle.iter().map(|settle| settle.delivered).sum();
        assert_eq!((delivered, decision.died.len()), (41, 1));
    }
}

#[test]
fn a_test_event_and_a_destination_that_is_no_lookup_leave_no_answer() {
    let new = NewEvent { kind: Kind::Canary, parent: None, body: "{}".into() };
    let canary = Arc::new(Event::new(1, new, "a".into(), Timestamp(0)));
    let receipt = Receipt { answers: vec!["{}".into()], ..Receipt::default() };
    let landing = landing(vec![(canary, Outcome::Delivered(receipt.clone()))]);
    let decision = decided(&landing, &Origin::Log, false, false, 0);
    assert!(decision.settle.iter().all(|settle| settle.answers.is_empty()));
    let now = Now {
        wall: WALL,
        active_ms: 0,
        dice: 0.5,
        search_lag: None,
        parked: false,
        dead_full: &|| false,
        answering: None,
    };
    assert!(now.answers(&event(1, 2), &Outcome::Delivered(receipt)).is_empty());
}
