//! Promise 7: a damaged record is set aside, counted and named. It never stops a lane, and is never
//! deleted.

use holdfast_model::{NewEvent, Seq};
use holdfast_queue::{
    DeadQuery, JobProgress, QueueEngine, Settle, Span, Spans, Start, StoredEvent,
};

use crate::{
    bed::{ALL, Bed},
    make::{alert, dead, dead_id, delivered, noise, retry},
};

fn chunk(first: Seq) -> Vec<u8> {
    [b"z".as_slice(), &first.to_be_bytes()].concat()
}

#[allow(clippy::ptr_arg, reason = "one signature for all damage; some of it cuts")]
fn flip_last(value: &mut Vec<u8>) {
    if let Some(last) = value.last_mut() {
        *last ^= 0x40;
    }
}

#[allow(clippy::ptr_arg, reason = "as above")]
fn flip_head(value: &mut Vec<u8>) {
    value[20] ^= 1;
}

/// Three chunks of 64, in a queue whose ring is empty.
async fn three_chunks() -> Bed {
    let mut bed = Bed::memory();
    bed.append(0..192).await;
    bed.reopen().await;
    bed
}

async fn lose_the_middle_chunk(change: fn(&mut Vec<u8>)) {
    let mut bed = three_chunks().await;
    let (one, two) = (bed.lane("one").await, bed.lane("two").await);
    bed.settle(&two, delivered([70, 71, 100])).await;
    let evidence = bed.memory_store().value(&chunk_part(65, 0)).unwrap();
    assert_eq!(bed.memory_store().damage(&chunk(65), change), 1);
    let problems = bed.report().await.problems;
    assert!(problems.iter().any(|problem| problem.contains("the chunk at 65")), "{problems:?}");

    let page = bed.page(1, ALL).await;
    let seqs: Vec<Seq> = page.events.iter().map(|event| event.seq).collect();
    assert!(seqs.iter().copied().eq((1..=64).chain(129..=192)), "the others are unaffected");
    assert_eq!((page.corrupt, page.next), (64, 193));
    assert_eq!(page.lost, [Span { from: 65, to: 129, count: 64 }]);
    assert_eq!(bed.q().stats().chunks_corrupt, 1);

    // From the middle of it on, only the rest of it is lost.
    let page = bed.page(100, ALL).await;
    assert_eq!((page.corrupt, page.lost), (29, vec![Span { from: 100, to: 129, count: 29 }]));

    // Every lane settles what it has not settled, as purged.
    for (lane, known) in [(&one, 0), (&two, 3)] {
        let open = bed.q().open_lane(lane, Start::New).await.unwrap();
        let spans = Spans::new(open.position, &open.settled);
        let lost = spans.missing(65, 129);
        let spans = lost.iter().map(|&(from, to)| Span { from, to, count: to - from });
        let item = Settle { spans: spans.collect(), purged: 64 - known, ..Settle::default() };
        bed.settle(lane, item).await;
        assert_eq!(bed.ledger(lane).await.imbalance(), 0);
        assert_eq!(bed.ledger(lane).await.unsettled, 128);
    }
    let kept = bed.memory_store().value(&[b"q".as_slice(), &chunk_part(65, 0)].concat()).unwrap();
    assert!(kept.len() == evidence.len() && kept != evidence, "the damaged bytes are kept");
    bed.sound().await;
    let report = bed.report().await;
    assert_eq!((report.set_aside, report.events), (1, 192));
    bed.crash(0);
    assert_eq!(bed.q().stats().chunks_corrupt, 1, "and still counted");
    assert_eq!(bed.page(1, ALL).await.corrupt, 64);
}

fn chunk_part(first: Seq, part: u8) -> Vec<u8> {
    [chunk(first).as_slice(), &[part]].concat()
}

#[tokio::test]
async fn a_chunk_with_a_flipped_bit_is_set_aside_and_every_lane_counts_its_events() {
    lose_the_middle_chunk(flip_last).await;
}

#[tokio::test]
async fn a_chunk_whose_head_is_damaged_is_counted_by_its_neighbours() {
    lose_the_middle_chunk(flip_head).await;
}

#[tokio::test]
async fn a_chunk_that_is_cut_short_is_counted_by_its_neighbours() {
    let bed = three_chunks().await;
    let lane = bed.lane("slack").await;
    bed.memory_store().damage(&chunk(65), |value| value.truncate(10));
    let page = bed.page(1, ALL).await;
    assert_eq!((page.events.len(), page.corrupt), (128, 64));
    let item = Settle {
        spans: vec![Span { from: 1, to: 193, count: 192 }],
        delivered: 128,
        purged: 64,
        ..Settle::default()
    };
    bed.settle(&lane, item).await;
    assert_eq!(bed.ledger(&lane).await.imbalance(), 0);
}

#[tokio::test]
async fn when_every_head_is_damaged_the_sum_of_lost_events_is_still_exact() {
    for order in [[1, 65, 129], [129, 65, 1]] {
        let mut bed = three_chunks().await;
        let lane = bed.lane("slack").await;
        for first in [1, 65, 129] {
            bed.memory_store().damage(&chunk(first), flip_head);
        }
        for from in order {
            bed.page(from, ALL).await;
        }
        let page = bed.page(1, ALL).await;
        assert_eq!((page.events.len(), page.corrupt, page.next), (0, 192, 193));
        assert_eq!(bed.ledger(&lane).await.unsettled, 192);
        bed.append([1]).await;
        bed.sound().await;
    }
}

#[tokio::test]
async fn a_missing_part_of_a_large_event_is_damage() {
    let mut bed = Bed::memory();
    bed.lane("slack").await;
    let body = NewEvent::alert(noise(1 << 20, 1));
    bed.try_append(vec![alert(0), body, alert(2)]).await.unwrap();
    bed.reopen().await;
    assert!(bed.memory_store().remove(&chunk_part(2, 7)));
    let page = bed.page(1, ALL).await;
    assert_eq!((page.events.len(), page.corrupt), (2, 1));
    assert_eq!(page.lost, [Span { from: 2, to: 3, count: 1 }]);
    let page = bed.page(2, ALL).await;
    assert_eq!((page.events.len(), page.corrupt), (1, 1));
}

#[tokio::test]
async fn trimming_and_merging_get_past_a_damaged_chunk() {
    let mut bed = Bed::memory();
    let lane = bed.lane("slack").await;
    bed.append_singles(0..200).await;
    for first in [3, 50, 51, 100] {
        bed.memory_store().damage(&chunk(first), if first == 50 { flip_head } else { flip_last });
    }
    bed.reopen().await;
    bed.append_singles(200..264).await;
    bed.upkeep_at(bed.now).await;
    let page = bed.page(1, ALL).await;
    assert_eq!((page.events.len() as u64 + page.corrupt, page.corrupt), (264, 4));
    bed.sound().await;

    bed.memory_store().damage(&chunk(1), flip_head);
    bed.settle(
        &lane,
        Settle {
            spans: vec![Span { from: 1, to: 265, count: 264 }],
            purged: 264,
            ..Settle::default()
        },
    )
    .await;
    let later = holdfast_model::Timestamp(bed.now.0 + 72 * 3_600_000);
    bed.upkeep_at(later).await;
    bed.upkeep_at(later).await;
    assert_eq!(bed.q().stats().events_in_log, 0);
    bed.sound().await;
}

/// A lane with event 1 delivered, 2 waiting for a retry, 3 and 4 dead, and 5 unread.
async fn one_of_each() -> (Bed, holdfast_model::Name) {
    let bed = Bed::memory();
    let lane = bed.lane("slack").await;
    bed.append(0..5).await;
    let stored: Vec<_> = bed.events(1).await.iter().map(|e| StoredEvent::of(e)).collect();
    let item = Settle {
        spans: vec![Span { from: 1, to: 5, count: 4 }],
        delivered: 1,
        retry: vec![retry(vec![stored[1].clone()])],
        dead: vec![dead(stored[2].clone()), dead(stored[3].clone())],
        ..Settle::default()
    };
    bed.settle(&lane, item).await;
    (bed, lane)
}

#[tokio::test]
async fn a_damaged_retry_record_leaves_its_lane_at_the_start_counted_as_purged() {
    let (mut bed, lane) = one_of_each().await;
    bed.memory_store().damage(b"rslack\0", flip_last);
    let problems = bed.report().await.problems;
    assert!(problems[0].contains("rslack"), "{problems:?}");
    assert_eq!(bed.q().open_lane(&lane, Start::New).await.unwrap().retries, []);
    for _ in 0..2 {
        let ledger = bed.ledger(&lane).await;
        assert_eq!((ledger.retrying, ledger.purged, ledger.imbalance()), (0, 1, 0));
        assert_eq!(bed.q().stats().chunks_corrupt, 1);
        bed.crash(0);
    }
    bed.sound().await;
}

#[tokio::test]
async fn a_retry_record_damaged_while_it_waits_is_gone_and_the_lane_goes_on() {
    let (mut bed, lane) = one_of_each().await;
    bed.memory_store().damage(b"rslack\0", flip_last);
    assert_eq!(bed.q_retry(&lane, 2).await, None);
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.retrying, ledger.purged, ledger.imbalance()), (0, 1, 0));
    bed.sound().await;
}

#[tokio::test]
async fn a_damaged_dead_letter_is_set_aside_by_whoever_finds_it() {
    for way in 0..4 {
        let (mut bed, lane) = one_of_each().await;
        let key = [b"dslack\0".as_slice(), &3_u64.to_be_bytes()].concat();
        assert_eq!(bed.memory_store().damage(&key, flip_last), 1);
        let problems = bed.report().await.problems;
        assert!(problems[0].contains("dead letter 3 of slack"), "{problems:?}");
        match way {
            0 => {
                let query = DeadQuery { limit: 10, scan_max: 10, ..DeadQuery::default() };
                let page = bed.q().dead_letters(query).await.unwrap();
                assert_eq!(page.letters.len(), 1);
            }
            1 => assert_eq!(bed.q().dead_letter(&dead_id(&lane, 3)).await.unwrap(), None),
            2 => {
                let ids = vec![dead_id(&lane, 3), dead_id(&lane, 4)];
                assert_eq!(bed.q().revive(ids, None).await.unwrap().len(), 1);
            }
            _ => bed.upkeep_at(bed.now).await,
        }
        let ledger = bed.ledger(&lane).await;
        assert_eq!((ledger.dead + ledger.retrying, ledger.purged), (2, 1), "way {way}");
        bed.sound().await;
        assert_eq!(bed.report().await.set_aside, 1);
    }
}

#[tokio::test]
async fn a_lane_whose_own_record_is_damaged_begins_anew_and_repeats_rather_than_loses() {
    let (mut bed, lane) = one_of_each().await;
    bed.close().await;
    assert_eq!(bed.memory_store().damage(b"lslack\0", flip_last), 1);
    bed.try_open().unwrap();
    let open = bed.q().open_lane(&lane, Start::New).await.unwrap();
    assert_eq!((open.position, open.retries.len()), (1, 1));
    assert_eq!(open.settled, [Span { from: 2, to: 5, count: 3 }]);
    assert!(open.state.reason.contains("damaged"));
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.unsettled, ledger.retrying, ledger.dead), (2, 1, 2));
    bed.sound().await;
}

#[tokio::test]
async fn a_damaged_count_of_dead_letters_is_counted_anew_and_a_damaged_job_is_gone() {
    let (mut bed, lane) = one_of_each().await;
    let job = crate::lanes::job(&lane, "{}".into());
    bed.q().put_job(job).await.unwrap();
    let jobs = vec![(1, JobProgress { delivered: 1, ..JobProgress::default() })];
    bed.settle(&lane, Settle { jobs, ..Settle::default() }).await;
    bed.close().await;
    assert_eq!(bed.memory_store().damage(b"bslack", flip_last), 1);
    assert_eq!(bed.memory_store().damage(b"j", flip_last), 1);
    bed.try_open().unwrap();
    assert_eq!((bed.q().dead_boxes()[0].count, bed.q().jobs().await.unwrap().len()), (2, 0));
    assert_eq!(bed.report().await.set_aside, 2);
    bed.sound().await;
}
