//! What is kept beside events: windows of storm control, and links.

use bytes::Bytes;
use holdfast_model::{Name, Seq, Timestamp};
use holdfast_queue::{
    LaneLink, Link, QueueEngine, QueueError, RetryRecord, SAMPLES_MAX, Sample, Settle, Slots, Span,
    Start, StoredEvent, WINDOWS_STEP_MAX, Window,
};

use crate::{
    bed::Bed,
    make::{NOON, retry},
};

pub(crate) fn window(first: Seq, suppressed: u64) -> Window {
    let sample = |n| Sample { seq: first + n, received_at: NOON, text: "sshd".repeat(20) };
    Window {
        first,
        first_suppressed: first + 1,
        last_suppressed: first + suppressed,
        suppressed,
        opened_at: NOON,
        closes_at: Timestamp(NOON.0 + 60_000),
        by: "rule.id=5710".into(),
        alert: Bytes::from_static(br#"{"rule":{"level":5}}"#),
        samples: (1..=suppressed.min(SAMPLES_MAX as u64)).map(sample).collect(),
    }
}

fn suppressed(from: Seq, to: Seq, window: Window) -> Settle {
    let count = to - from;
    let spans = vec![Span { from, to, count }];
    Settle { spans, suppressed: count, windows: vec![window], ..Settle::default() }
}

async fn a_window_is_stored_with_what_it_suppressed_and_ends_with_its_summary(mut bed: Bed) {
    let lane = bed.lane("chat").await;
    bed.append(0..50).await;
    bed.settle(&lane, Settle { spans: vec![Span::one(1)], delivered: 1, ..Settle::default() })
        .await;
    bed.settle(&lane, suppressed(2, 21, window(1, 19))).await;
    bed.settle(&lane, suppressed(21, 51, window(1, 49))).await;
    bed.crash(0);
    let open = bed.q().open_lane(&lane, Start::New).await.unwrap();
    assert_eq!(open.windows, [window(1, 49)]);
    assert_eq!(bed.ledger(&lane).await.suppressed, 49);
    // One of them is what the summary stands for.
    let member = StoredEvent { seq: 2, ..StoredEvent::of(&bed.events(2).await[0]) };
    let summary = RetryRecord { slots: Slots(4), ..retry(vec![member]) };
    let end = Settle {
        windows_done: vec![1],
        unsuppressed: 1,
        retry: vec![summary.clone()],
        ..Settle::default()
    };
    bed.settle(&lane, end).await;
    bed.crash(0);
    let open = bed.q().open_lane(&lane, Start::New).await.unwrap();
    assert_eq!((open.windows, open.retries[0].slots), (vec![], Slots(4)));
    assert_eq!(bed.q_retry(&lane, 2).await, Some(summary));
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.suppressed, ledger.retrying, ledger.imbalance()), (48, 1, 0));
    bed.sound().await;
}

async fn too_many_windows_in_one_settlement_are_refused_whole(mut bed: Bed) {
    let lane = bed.lane("chat").await;
    bed.append(0..100).await;
    let windows = (1..=WINDOWS_STEP_MAX as u64 + 1).map(|first| window(first, 1)).collect();
    let item = Settle { windows, ..suppressed(1, 3, window(1, 1)) };
    let refused = bed.q().settle(&lane, vec![item]).await;
    assert!(matches!(refused, Err(QueueError::TooLarge { .. })), "{refused:?}");
    assert_eq!(bed.ledger(&lane).await.suppressed, 0);
    bed.sound().await;
}

async fn a_lane_that_ends_has_no_windows(mut bed: Bed) {
    let (ends, stays) = (bed.lane("a").await, bed.lane("ab").await);
    bed.append(0..10).await;
    for lane in [&ends, &stays] {
        bed.settle(lane, suppressed(2, 4, window(1, 2))).await;
    }
    bed.q().abandon_lane(&ends).await.unwrap();
    assert_eq!(bed.q().open_lane(&ends, Start::New).await.unwrap().windows, []);
    assert_eq!(bed.q().open_lane(&stays, Start::New).await.unwrap().windows.len(), 1);
    bed.sound().await;
}

fn link(seq: Seq, remote_id: &str, at: Timestamp) -> Settle {
    let link = Link { seq, remote_id: remote_id.to_owned(), at };
    Settle { spans: vec![Span::one(seq)], delivered: 1, links: vec![link], ..Settle::default() }
}

async fn a_link_is_found_from_both_ends_until_it_is_old(mut bed: Bed) {
    let (jira, hive) = (bed.lane("jira").await, bed.lane("hive").await);
    bed.append(0..3).await;
    bed.settle(&jira, link(1, "SEC-7", NOON)).await;
    bed.settle(&hive, link(1, "~4711", NOON)).await;
    bed.settle(&jira, link(2, &"x".repeat(5_000), NOON)).await;
    bed.crash(0);
    let links = bed.q().links_of(1).await.unwrap();
    let of = |lane: &Name, remote_id: &str| LaneLink {
        lane: lane.clone(),
        link: Link { seq: 1, remote_id: remote_id.into(), at: NOON },
    };
    assert_eq!(links, [of(&hive, "~4711"), of(&jira, "SEC-7")]);
    assert_eq!(bed.q().event_of(&jira, "SEC-7").await.unwrap(), Some(1));
    assert_eq!(bed.q().event_of(&hive, "SEC-7").await.unwrap(), None);
    assert_eq!(bed.q().links_of(2).await.unwrap(), [], "longer than any id");
    bed.sound().await;
    bed.upkeep_at(Timestamp(NOON.0 + 181 * 86_400_000)).await;
    assert_eq!(bed.q().links_of(1).await.unwrap(), []);
    assert_eq!(bed.q().event_of(&jira, "SEC-7").await.unwrap(), None);
}

crate::promises!(
    a_window_is_stored_with_what_it_suppressed_and_ends_with_its_summary,
    too_many_windows_in_one_settlement_are_refused_whole,
    a_lane_that_ends_has_no_windows,
    a_link_is_found_from_both_ends_until_it_is_old,
);
