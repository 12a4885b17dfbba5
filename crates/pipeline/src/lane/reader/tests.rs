use std::time::Duration;

use holdfast_model::{NewEvent, Timestamp};

use super::*;
use crate::{
    fields::Path,
    settings::BatchSettings,
    storm::{Rest, StormSettings},
};

fn reader(position: Seq, settled: Vec<Span>) -> Reader {
    Reader::new(position, &settled, Class::default())
}

fn take(reader: &mut Reader, page: Page, now: Instant) {
    let mut storm = Storm::default();
    let mut judges =
        Judges { filter: &Filter::default(), storm: &mut storm, order: &Order::default() };
    reader.take_page(page, &mut judges, now);
}

/// Nothing is under way.
const FREE: Waiting = Waiting { blocked: Slots::NONE, held_max: 100 };

fn event(seq: Seq, body: &str) -> Arc<Event> {
    Arc::new(Event::new(seq, NewEvent::alert(body.to_owned()), "a".into(), Timestamp(0)))
}

fn page(seqs: &[Seq], next: Seq) -> Page {
    let events = seqs.iter().map(|seq| event(*seq, "{}")).collect();
    Page { events, next, ..Page::default() }
}

fn seqs(next: Next) -> Vec<Seq> {
    match next {
        Next::Batch(events) => events.iter().map(|event| event.seq).collect(),
        Next::Filling(_) | Next::Nothing => Vec::new(),
    }
}

fn skipped(reader: &mut Reader) -> Vec<(Seq, Seq, u64)> {
    let all = reader.take_skipped(&Storm::default());
    all.iter()
        .flat_map(|skipped| &skipped.spans)
        .map(|span| (span.from, span.to, span.count))
        .collect()
}

fn span(from: Seq, to: Seq) -> Span {
    Span { from, to, count: to - from }
}

const BATCH: BatchSettings =
    BatchSettings { events_max: 3, bytes_max: 1024, wait_max: Duration::from_millis(200) };

#[test]
fn gaps_are_settled_and_what_was_settled_before_is_not_settled_again() {
    let now = Instant::now();
    let mut reader = reader(2, vec![span(4, 6)]);
    take(&mut reader, page(&[3, 4, 5, 9], 12), now);
    assert_eq!(skipped(&mut reader), [(2, 3, 0), (6, 9, 0), (10, 12, 0)]);
    assert_eq!(reader.buffer.len(), 2);
    assert_eq!(reader.cursor(), 12);
}

#[test]
fn a_gap_over_several_settled_stretches_is_settled_between_them() {
    let now = Instant::now();
    let mut reader = reader(1, vec![span(3, 4), span(6, 9), span(20, 30)]);
    take(&mut reader, page(&[], 25), now);
    assert_eq!(skipped(&mut reader), [(1, 3, 0), (4, 6, 0), (9, 20, 0)]);
    take(&mut reader, page(&[29, 30], 31), now);
    assert_eq!(skipped(&mut reader), []);
    assert_eq!(seqs(reader.next(&BATCH, false, &FREE, now + BATCH.wait_max)), [] as [Seq; 0]);
    assert_eq!(seqs(reader.next(&BATCH, false, &FREE, now + BATCH.wait_max * 2)), [30]);
}

#[test]
fn events_of_a_damaged_chunk_are_purged_but_those_settled_before_are_not() {
    let now = Instant::now();
    let mut reader = reader(1, vec![span(6, 8)]);
    let damaged = Page { corrupt: 5, lost: vec![span(5, 10)], ..page(&[1, 2, 12], 13) };
    take(&mut reader, damaged, now);
    assert_eq!(reader.skipped.corrupt, 3);
    assert_eq!(skipped(&mut reader), [(3, 6, 1), (8, 12, 2)]);
    let tail = Page { corrupt: 2, lost: vec![span(13, 15)], ..page(&[], 15) };
    take(&mut reader, tail, now);
    assert_eq!((reader.skipped.corrupt, skipped(&mut reader)), (2, vec![(13, 15, 2)]));
}

#[test]
fn a_batch_goes_when_it_is_full_or_has_waited() {
    let now = Instant::now();
    let mut reader = reader(1, vec![]);
    take(&mut reader, page(&[1, 2, 3, 4], 5), now);
    assert_eq!(seqs(reader.next(&BATCH, false, &FREE, now)), [1, 2, 3]);
    let Next::Filling(deadline) = reader.next(&BATCH, false, &FREE, now) else { panic!("filling") };
    assert_eq!(deadline, now + BATCH.wait_max);
    let Next::Filling(longer) = reader.next(&BATCH, true, &FREE, deadline) else {
        panic!("filling")
    };
    assert!(longer > deadline, "a page is coming; the lane sleeps for it");
    assert_eq!(seqs(reader.next(&BATCH, true, &FREE, longer)), [4]);
}

#[test]
fn a_batch_is_cut_by_bytes_but_one_large_event_still_goes() {
    let now = Instant::now();
    let tight = BatchSettings { bytes_max: 4, ..BATCH };
    let mut reader = reader(1, vec![]);
    take(&mut reader, page(&[1, 2], 3), now);
    assert_eq!(seqs(reader.next(&tight, false, &FREE, now)), [1]);
    assert_eq!(seqs(reader.next(&tight, false, &FREE, now + tight.wait_max)), [] as [Seq; 0]);
    assert_eq!(seqs(reader.next(&tight, false, &FREE, now + tight.wait_max * 2)), [2]);
}

#[test]
fn large_events_do_not_fill_the_memory() {
    let mut reader = reader(1, vec![]);
    let large = event(1, &"x".repeat(PAGE_BYTES_MAX));
    assert!(reader.wants_page(3));
    let page = Page { events: vec![large], next: 2, ..Page::default() };
    take(&mut reader, page, Instant::now());
    assert!(!reader.wants_page(3));
    assert!(reader.next_single(&FREE).is_some());
    assert!(reader.wants_page(3));
}

fn of_agent(seq: Seq, agent: u64, level: u64) -> Arc<Event> {
    event(seq, &format!(r#"{{"agent":{{"id":"{agent}"}},"rule":{{"level":{level}}}}}"#))
}

#[test]
fn an_event_waits_for_its_slot_and_lets_others_pass() {
    let now = Instant::now();
    let order = Order::Key(Path::new("agent.id").unwrap());
    let mut reader = reader(1, vec![]);
    let agents = [1, 1, 2, 1, 3];
    let events: Vec<_> = (1..).zip(agents).map(|(seq, agent)| of_agent(seq, agent, 3)).collect();
    let [one, two] = [0, 2].map(|n| order.slots(&events[n]));
    let mut storm = Storm::default();
    let filter = Filter::default();
    let page = Page { events, next: 6, ..Page::default() };
    reader.take_page(page, &mut Judges { filter: &filter, storm: &mut storm, order: &order }, now);
    let single = BatchSettings { events_max: 1, ..BATCH };
    let mut next =
        |blocked: Slots| seqs(reader.next(&single, false, &Waiting { blocked, held_max: 2 }, now));
    assert_eq!(next(Slots::NONE), [1]);
    assert_eq!(next(one), [3], "the second of agent 1 waits");
    assert_eq!(next(one.with(two)), [5]);
    assert_eq!(next(one), [] as [Seq; 0]);
    assert_eq!(next(Slots::NONE), [2], "in their order");
    assert_eq!(next(one), [] as [Seq; 0]);
    assert_eq!(next(two), [4]);
    assert_eq!(reader.held(), 0);
}

#[test]
fn what_waits_for_its_slot_has_a_limit_and_then_nothing_more_is_read() {
    let now = Instant::now();
    let order = Order::Key(Path::new("agent.id").unwrap());
    let mut reader = reader(1, vec![]);
    let events: Vec<_> = (1..=5).map(|seq| of_agent(seq, 1 + seq / 5, 3)).collect();
    let blocked = order.slots(&events[0]);
    let mut storm = Storm::default();
    let mut judges = Judges { filter: &Filter::default(), storm: &mut storm, order: &order };
    reader.take_page(Page { events, next: 6, ..Page::default() }, &mut judges, now);
    let waiting = Waiting { blocked, held_max: 2 };
    assert!(reader.next_single(&waiting).is_none());
    assert_eq!((reader.held(), reader.buffer.len()), (2, 3));
    assert_eq!(
        reader.take_held_below(2).map(|(event, slots)| (event.seq, slots)),
        Some((1, blocked))
    );
    assert_eq!(reader.take_held_below(2).map(|(event, _)| event.seq), None);
}

#[test]
fn what_waited_for_its_slot_goes_in_batches() {
    let now = Instant::now();
    let order = Order::Key(Path::new("agent.id").unwrap());
    let mut reader = reader(1, vec![]);
    let events: Vec<_> = (1..=9).map(|seq| of_agent(seq, seq % 2, 3)).collect();
    let both = order.slots(&events[0]).with(order.slots(&events[1]));
    let mut storm = Storm::default();
    let mut judges = Judges { filter: &Filter::default(), storm: &mut storm, order: &order };
    reader.take_page(Page { events, next: 10, ..Page::default() }, &mut judges, now);
    let busy = Waiting { blocked: both, held_max: 6 };
    assert_eq!(seqs(reader.next(&BATCH, false, &busy, now)), [] as [Seq; 0]);
    assert_eq!((reader.held(), reader.buffer.len()), (6, 3));
    let free = Waiting { blocked: Slots::NONE, held_max: 6 };
    assert_eq!(seqs(reader.next(&BATCH, false, &free, now)), [1, 2, 3]);
    // While the lane is backed up.
    let held = reader.next_held(&BATCH, &free, now).unwrap();
    assert_eq!(held.iter().map(|event| event.seq).collect::<Vec<_>>(), [4, 5, 6]);
    assert!(reader.next_held(&BATCH, &free, now).is_none());
    assert_eq!(seqs(reader.next(&BATCH, false, &free, now)), [7, 8, 9]);
}

#[test]
fn a_strict_lane_s_batch_goes_only_when_nothing_is_under_way() {
    let now = Instant::now();
    let mut reader = reader(1, vec![]);
    let mut storm = Storm::default();
    let mut judges =
        Judges { filter: &Filter::default(), storm: &mut storm, order: &Order::Strict };
    reader.take_page(page(&[1, 2, 3, 4], 5), &mut judges, now);
    let busy = Waiting { blocked: Slots::ALL, held_max: 100 };
    assert_eq!(seqs(reader.next(&BATCH, false, &busy, now)), [] as [Seq; 0]);
    assert_eq!(seqs(reader.next(&BATCH, false, &FREE, now)), [1, 2, 3]);
    // It fills, and meanwhile an older one comes back.
    let Next::Filling(deadline) = reader.next(&BATCH, false, &FREE, now) else { panic!("filling") };
    assert_eq!(seqs(reader.next(&BATCH, false, &busy, deadline)), [] as [Seq; 0]);
    assert_eq!(seqs(reader.next(&BATCH, false, &FREE, deadline)), [4]);
    assert_eq!(reader.held(), 0);
}

#[test]
fn each_class_sends_its_own_events_and_passes_over_the_other_s() {
    let now = Instant::now();
    let boundaries: Arc<[Boundary]> = [Boundary { from: 3, level: Some(12) }].into();
    let class = |express| Class { express, boundaries: Arc::clone(&boundaries), until: None };
    let levels = [15, 3, 15, 3, 12];
    let page = || {
        let events = (1..).zip(levels).map(|(seq, level)| of_agent(seq, 1, level)).collect();
        Page { events, next: 6, ..Page::default() }
    };
    let single = BatchSettings { events_max: 1, ..BATCH };
    let all = |reader: &mut Reader| {
        let mut sent = Vec::new();
        while let Next::Batch(events) = reader.next(&single, false, &FREE, now) {
            sent.extend(events.iter().map(|event| event.seq));
        }
        sent
    };
    let mut normal = Reader::new(1, &[], class(false));
    take(&mut normal, page(), now);
    assert_eq!(all(&mut normal), [1, 2, 4]);
    assert_eq!(normal.skipped.express_passed, 2);
    assert_eq!(skipped(&mut normal), [(3, 4, 1), (5, 6, 1)]);
    let mut express = Reader::new(3, &[], class(true));
    take(&mut express, page(), now);
    assert_eq!(all(&mut express), [3, 5]);
    assert_eq!((express.skipped.express_passed, skipped(&mut express)), (0, vec![(4, 5, 0)]));
}

#[test]
fn suppressed_events_are_settled_with_their_windows_as_they_were_then() {
    let now = Instant::now();
    let by = vec![Path::new("agent.id").unwrap()];
    let window = Duration::from_secs(60);
    let mut storm = Storm::new(Some(StormSettings { rest: Rest::Summary, by, window }), vec![]);
    let mut reader = reader(1, vec![]);
    let mut judges =
        Judges { filter: &Filter::default(), storm: &mut storm, order: &Order::default() };
    let events = (1..=200).map(|seq| of_agent(seq, seq % 50, 3)).collect();
    reader.take_page(Page { events, next: 201, ..Page::default() }, &mut judges, now);
    assert_eq!(reader.buffer.len(), 50);
    let stretches = reader.take_skipped(&storm);
    assert!(stretches.iter().all(|stretch| stretch.windows.len() <= WINDOWS_STEP_MAX));
    let mut counted = std::collections::BTreeMap::new();
    let mut suppressed = 0;
    for stretch in &stretches {
        suppressed += stretch.suppressed;
        for window in &stretch.windows {
            counted.insert(window.first, window.suppressed);
        }
        // After each settlement the windows say what was settled, neither more nor less.
        assert_eq!(counted.values().sum::<u64>(), suppressed);
    }
    assert_eq!(suppressed, 150);
}

#[test]
fn the_oldest_expire_whether_they_were_read_or_not_and_the_rest_is_sent() {
    let now = Instant::now();
    let mut reader = reader(1, vec![]);
    take(&mut reader, page(&[1, 2, 3], 4), now);
    let single = BatchSettings { events_max: 1, ..BATCH };
    assert_eq!(seqs(reader.next(&single, false, &FREE, now)), [1], "under way, so it stays");
    reader.expire_to(6, now);
    assert!(reader.is_expiring());
    let filtered = Arc::new(Event::new(
        4,
        NewEvent { kind: holdfast_model::Kind::Operator, parent: None, body: "{}".into() },
        "a".into(),
        Timestamp(0),
    ));
    let events = vec![filtered, event(5, "{}"), event(6, "{}")];
    take(&mut reader, Page { events, next: 7, ..Page::default() }, now);
    assert!(!reader.is_expiring());
    let skipped = reader.take_skipped(&Storm::default()).remove(0);
    assert_eq!((skipped.expired, skipped.filtered), (3, 1));
    assert_eq!(skipped.spans, [span(2, 6)]);
    assert_eq!(seqs(reader.next(&single, false, &FREE, now)), [6]);
}
