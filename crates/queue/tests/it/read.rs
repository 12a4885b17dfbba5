//! Reading: the ring and the store give the same pages, whatever the limits and the gaps.

use bytes::Bytes;
use holdfast_model::{NewEvent, Reject, RejectReason, Seq};
use holdfast_queue::{Append, Page, QueueEngine, ReadLimit};

use crate::{
    bed::Bed,
    make::{NOON, alert, batch, noise},
};

fn shown(page: &Page) -> (Vec<(Seq, Bytes)>, Seq) {
    (page.events.iter().map(|event| (event.seq, event.body.clone())).collect(), page.next)
}

/// All pages from `from` on with this limit, as a lane would read them.
async fn pages(bed: &Bed, mut from: Seq, limit: ReadLimit) -> Vec<(Vec<(Seq, Bytes)>, Seq)> {
    let head = *bed.q().head().borrow();
    let mut pages = Vec::new();
    while from < head {
        let page = bed.page(from, limit).await;
        assert!(page.next > from, "reading goes on");
        from = page.next;
        pages.push(shown(&page));
    }
    pages
}

async fn reject(bed: &Bed) {
    let raw = Bytes::from_static(b"x");
    let rejects = vec![Reject { reason: RejectReason::Invalid, message: String::new(), raw }];
    let append = Append { rejects, ..batch("wazuh", NOON, Vec::new()) };
    bed.q().append(append).await.unwrap();
}

async fn the_ring_and_the_store_give_identical_pages(mut bed: Bed) {
    bed.append(0..70).await;
    reject(&bed).await;
    bed.append_singles(70..80).await;
    bed.try_append(vec![NewEvent::alert(noise(200_000, 1)), alert(80)]).await.unwrap();
    reject(&bed).await;
    reject(&bed).await;
    bed.append(81..300).await;
    reject(&bed).await;
    let head = *bed.q().head().borrow();
    let limits = [(1, usize::MAX), (7, usize::MAX), (64, usize::MAX), (500, usize::MAX)]
        .into_iter()
        .chain([(500, 1), (500, 500), (64, 3_000), (500, 250_000)])
        .map(|(events_max, bytes_max)| ReadLimit { events_max, bytes_max });
    let mut from_ring = Vec::new();
    for limit in limits.clone() {
        for from in (1..=head + 1).step_by(3) {
            from_ring.push(shown(&bed.page(from, limit).await));
        }
        from_ring.extend(pages(&bed, 1, limit).await);
    }
    // After a start the ring is empty, so that everything comes from the store.
    bed.crash(0);
    let mut from_store = Vec::new();
    for limit in limits {
        for from in (1..=head + 1).step_by(3) {
            from_store.push(shown(&bed.page(from, limit).await));
        }
        from_store.extend(pages(&bed, 1, limit).await);
    }
    for (ring, store) in from_ring.iter().zip(&from_store) {
        assert_eq!(ring.1, store.1);
        assert_eq!(ring, store);
    }
    assert_eq!(from_ring.len(), from_store.len());
}

async fn pages_joined_give_every_event_once_in_order(mut bed: Bed) {
    for n in 0..40 {
        bed.append(n * 10..n * 10 + n % 7).await;
        if n % 5 == 0 {
            reject(&bed).await;
        }
    }
    let expected = bed.numbers(1).await;
    bed.crash(0);
    for events_max in [1, 2, 3, 63, 64, 65, 1_000] {
        let limit = ReadLimit { events_max, bytes_max: usize::MAX };
        let pages = pages(&bed, 1, limit).await;
        assert!(pages.iter().all(|(events, _)| events.len() <= events_max));
        let joined = pages.iter().flat_map(|(events, _)| events);
        let numbers: Vec<_> = joined.map(|(_, body)| crate::make::number(body)).collect();
        assert_eq!(numbers, expected);
    }
}

async fn a_page_of_few_bytes_still_brings_one_event(mut bed: Bed) {
    let body = noise(300_000, 5);
    bed.try_append(vec![NewEvent::alert(body.clone()), alert(1)]).await.unwrap();
    for _ in ["ring", "store"] {
        let page = bed.page(1, ReadLimit { events_max: 10, bytes_max: 1 }).await;
        assert_eq!(shown(&page), (vec![(1, body.clone())], 2));
        bed.crash(0);
    }
}

async fn at_the_head_and_beyond_there_is_nothing_and_the_head_tells_of_more(mut bed: Bed) {
    bed.append([1]).await;
    let limit = ReadLimit { events_max: 10, bytes_max: 1_000 };
    for _ in ["ring", "store"] {
        assert_eq!(shown(&bed.page(2, limit).await), (vec![], 2));
        assert_eq!(shown(&bed.page(9, limit).await), (vec![], 9));
        bed.crash(0);
    }
    let mut head = bed.q().head();
    assert_eq!(*head.borrow_and_update(), 2);
    bed.append([2]).await;
    assert!(head.has_changed().unwrap());
    assert_eq!(*head.borrow_and_update(), 3);
    assert_eq!(bed.page(2, limit).await.events.len(), 1);
}

crate::promises!(
    the_ring_and_the_store_give_identical_pages,
    pages_joined_give_every_event_once_in_order,
    a_page_of_few_bytes_still_brings_one_event,
    at_the_head_and_beyond_there_is_nothing_and_the_head_tells_of_more,
);
