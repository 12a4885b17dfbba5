use holdfast_model::{LaneState, NewEvent, Timestamp};
use holdfast_queue::StoredState;

use super::*;

fn open(position: Seq, settled: Vec<Span>) -> LaneOpen {
    let state =
        StoredState { state: LaneState::Active, reason: String::new(), since: Timestamp(0) };
    LaneOpen {
        position,
        settled,
        retries: vec![],
        state,
        active_ms: 0,
        unclean: false,
        keyed_as: None,
    }
}

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
    reader.take_skipped().spans.iter().map(|span| (span.from, span.to, span.count)).collect()
}

fn span(from: Seq, to: Seq) -> Span {
    Span { from, to, count: to - from }
}

const BATCH: BatchSettings =
    BatchSettings { events_max: 3, bytes_max: 1024, wait_max: Duration::from_millis(200) };

#[test]
fn gaps_are_settled_and_what_was_settled_before_is_not_settled_again() {
    let now = Instant::now();
    let mut reader = Reader::new(&open(2, vec![span(4, 6)]));
    reader.take_page(page(&[3, 4, 5, 9], 12), &Filter::default(), now);
    assert_eq!(skipped(&mut reader), [(2, 3, 0), (6, 9, 0), (10, 12, 0)]);
    assert_eq!(reader.buffer.len(), 2);
    assert_eq!(reader.cursor(), 12);
}

#[test]
fn a_gap_over_several_settled_stretches_is_settled_between_them() {
    let now = Instant::now();
    let mut reader = Reader::new(&open(1, vec![span(3, 4), span(6, 9), span(20, 30)]));
    reader.take_page(page(&[], 25), &Filter::default(), now);
    assert_eq!(skipped(&mut reader), [(1, 3, 0), (4, 6, 0), (9, 20, 0)]);
    reader.take_page(page(&[29, 30], 31), &Filter::default(), now);
    assert_eq!(skipped(&mut reader), []);
    assert_eq!(seqs(reader.next(&BATCH, false, now + BATCH.wait_max)), [] as [Seq; 0]);
    assert_eq!(seqs(reader.next(&BATCH, false, now + BATCH.wait_max * 2)), [30]);
}

#[test]
fn events_of_a_damaged_chunk_are_purged_but_those_settled_before_are_not() {
    let now = Instant::now();
    let mut reader = Reader::new(&open(1, vec![span(6, 8)]));
    let damaged = Page { corrupt: 5, lost: vec![span(5, 10)], ..page(&[1, 2, 12], 13) };
    reader.take_page(damaged, &Filter::default(), now);
    assert_eq!(reader.skipped.corrupt, 3);
    assert_eq!(skipped(&mut reader), [(3, 6, 1), (8, 12, 2)]);
    let tail = Page { corrupt: 2, lost: vec![span(13, 15)], ..page(&[], 15) };
    reader.take_page(tail, &Filter::default(), now);
    assert_eq!((reader.skipped.corrupt, skipped(&mut reader)), (2, vec![(13, 15, 2)]));
}

#[test]
fn a_batch_goes_when_it_is_full_or_has_waited() {
    let now = Instant::now();
    let mut reader = Reader::new(&open(1, vec![]));
    reader.take_page(page(&[1, 2, 3, 4], 5), &Filter::default(), now);
    assert_eq!(seqs(reader.next(&BATCH, false, now)), [1, 2, 3]);
    let Next::Filling(deadline) = reader.next(&BATCH, false, now) else { panic!("filling") };
    assert_eq!(deadline, now + BATCH.wait_max);
    let Next::Filling(longer) = reader.next(&BATCH, true, deadline) else { panic!("filling") };
    assert!(longer > deadline, "a page is coming; the lane sleeps for it");
    assert_eq!(seqs(reader.next(&BATCH, true, longer)), [4]);
}

#[test]
fn a_batch_is_cut_by_bytes_but_one_large_event_still_goes() {
    let now = Instant::now();
    let tight = BatchSettings { bytes_max: 4, ..BATCH };
    let mut reader = Reader::new(&open(1, vec![]));
    reader.take_page(page(&[1, 2], 3), &Filter::default(), now);
    assert_eq!(seqs(reader.next(&tight, false, now)), [1]);
    assert_eq!(seqs(reader.next(&tight, false, now + tight.wait_max)), [] as [Seq; 0]);
    assert_eq!(seqs(reader.next(&tight, false, now + tight.wait_max * 2)), [2]);
}

#[test]
fn large_events_do_not_fill_the_memory() {
    let mut reader = Reader::new(&open(1, vec![]));
    let large = event(1, &"x".repeat(PAGE_BYTES_MAX));
    assert!(reader.wants_page(3));
    let page = Page { events: vec![large], next: 2, ..Page::default() };
    reader.take_page(page, &Filter::default(), Instant::now());
    assert!(!reader.wants_page(3));
    assert!(reader.next_single().is_some());
    assert!(reader.wants_page(3));
}

#[test]
fn the_oldest_expire_whether_they_were_read_or_not_and_the_rest_is_sent() {
    let now = Instant::now();
    let mut reader = Reader::new(&open(1, vec![]));
    reader.take_page(page(&[1, 2, 3], 4), &Filter::default(), now);
    let single = BatchSettings { events_max: 1, ..BATCH };
    assert_eq!(seqs(reader.next(&single, false, now)), [1], "under way, so it stays");
    reader.expire_to(6, now);
    assert!(reader.is_expiring());
    let filtered = Arc::new(Event::new(
        4,
        NewEvent { kind: holdfast_model::Kind::Operator, parent: None, body: "{}".into() },
        "a".into(),
        Timestamp(0),
    ));
    let events = vec![filtered, event(5, "{}"), event(6, "{}")];
    reader.take_page(Page { events, next: 7, ..Page::default() }, &Filter::default(), now);
    assert!(!reader.is_expiring());
    let skipped = reader.take_skipped();
    assert_eq!((skipped.expired, skipped.filtered), (3, 1));
    assert_eq!(skipped.spans, [span(2, 6)]);
    assert_eq!(seqs(reader.next(&single, false, now)), [6]);
}
