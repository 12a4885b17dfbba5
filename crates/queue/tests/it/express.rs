//! The express class: its own position, and a level that changes.

use std::collections::BTreeSet;

use holdfast_model::{Name, NewEvent, Seq, Timestamp};
use holdfast_queue::{ExpressOpen, QueueEngine, ReadLimit, Settle, Span, Spans, Start, is_express};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    bed::Bed,
    make::{NOON, alert},
};

fn of_level(number: u64, level: u64) -> NewEvent {
    NewEvent::alert(format!(r#"{{"rule":{{"id":"1","level":{level}}},"n":{number}}}"#))
}

/// One class of a lane, settled the way a lane does it: in order, with gaps while some wait.
struct Class {
    express: bool,
    cursor: Seq,
    settled: Spans,
    waiting: Vec<Seq>,
}

impl Class {
    fn new(express: bool, position: Seq, settled: &[Span]) -> Self {
        let settled = Spans::new(position, settled);
        Self { express, cursor: position, settled, waiting: Vec::new() }
    }

    /// Reads on, passes over what is the other's, and settles some of what is its own.
    async fn step(
        &mut self,
        bed: &Bed,
        lane: &Name,
        open: &ExpressOpen,
        dice: &mut StdRng,
        seen: &mut BTreeSet<Seq>,
    ) {
        let limit = ReadLimit { events_max: dice.random_range(1..40), bytes_max: usize::MAX };
        let page = bed.q().read(self.cursor, limit).await.unwrap();
        let mut item = Settle::default();
        for event in &page.events {
            let is_express = is_express(&open.boundaries, event.seq, event.facets().level);
            if self.settled.contains(event.seq) {
                continue;
            }
            if is_express == self.express {
                self.waiting.push(event.seq);
            } else if self.express {
                self.settle(&mut item, Span { count: 0, ..Span::one(event.seq) });
            } else {
                item.express_passed += 1;
                self.settle(&mut item, Span::one(event.seq));
            }
        }
        self.cursor = page.next;
        let count = dice.random_range(0..=self.waiting.len());
        for _ in 0..count {
            let seq = self.waiting.swap_remove(dice.random_range(0..self.waiting.len()));
            assert!(seen.insert(seq), "event {seq} is settled twice");
            item.delivered += 1;
            self.settle(&mut item, Span::one(seq));
        }
        bed.settle(lane, item).await;
    }

    fn settle(&mut self, item: &mut Settle, span: Span) {
        assert!(self.settled.add(span));
        if self.express { item.express_spans.push(span) } else { item.spans.push(span) }
    }
}

async fn a_level_that_changes_skips_and_repeats_nothing(mut bed: Bed) {
    for seed in 0..6 {
        let mut dice = StdRng::seed_from_u64(seed);
        let lane = Name::new(&format!("lane-{seed}")).unwrap();
        let first = *bed.q().head().borrow();
        bed.q().open_lane(&lane, Start::New).await.unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..12 {
            let count = dice.random_range(0..60);
            let events = (0..count).map(|n| of_level(n, dice.random_range(0..=15))).collect();
            if count > 0 {
                bed.try_append(events).await.unwrap();
            }
            match dice.random_range(0..4) {
                0 => bed.crash(0),
                1 => bed.reopen().await,
                _ => {}
            }
            let opened = bed.q().open_lane(&lane, Start::All).await.unwrap();
            let mut express = opened.express;
            if dice.random_bool(0.5) {
                let level = [None, Some(0), Some(7), Some(12)][dice.random_range(0..4)];
                express = bed.q().set_express(&lane, level).await.unwrap();
            }
            let mut normal = Class::new(false, opened.position, &opened.settled);
            let mut fast = Class::new(true, express.position, &express.settled);
            for _ in 0..dice.random_range(0..6) {
                let class = if dice.random_bool(0.5) { &mut normal } else { &mut fast };
                class.step(&bed, &lane, &express, &mut dice, &mut seen).await;
                let ledger = bed.ledger(&lane).await;
                assert_eq!((ledger.imbalance(), ledger.delivered), (0, seen.len() as u64));
            }
            bed.sound().await;
        }
        let opened = bed.q().open_lane(&lane, Start::All).await.unwrap();
        let mut normal = Class::new(false, opened.position, &opened.settled);
        let mut fast = Class::new(true, opened.express.position, &opened.express.settled);
        while bed.ledger(&lane).await.unsettled > 0 {
            normal.step(&bed, &lane, &opened.express, &mut dice, &mut seen).await;
            if opened.express.level().is_some() || !opened.express.boundaries.is_empty() {
                fast.step(&bed, &lane, &opened.express, &mut dice, &mut seen).await;
            }
        }
        let all: BTreeSet<Seq> = (first..*bed.q().head().borrow()).collect();
        assert_eq!(seen, all);
        bed.sound().await;
    }
}

async fn the_log_waits_for_the_slower_class(mut bed: Bed) {
    let lane = bed.lane("oncall").await;
    bed.q().set_express(&lane, Some(12)).await.unwrap();
    bed.append(0..200).await;
    bed.settle(&lane, Settle { delivered: 200, spans: vec![all(200)], ..Settle::default() }).await;
    let later = Timestamp(NOON.0 + 48 * 3_600_000);
    bed.upkeep_at(later).await;
    assert_eq!(bed.q().stats().events_in_log, 200, "the express class has not read them");
    let passed = Span { count: 0, ..all(200) };
    bed.settle(&lane, Settle { express_spans: vec![passed], ..Settle::default() }).await;
    bed.upkeep_at(later).await;
    assert_eq!(bed.q().stats().events_in_log, 0);
    bed.sound().await;
}

fn all(events: u64) -> Span {
    Span { from: 1, to: events + 1, count: events }
}

async fn an_abandoned_lane_expires_both_classes_once(mut bed: Bed) {
    let lane = bed.lane("oncall").await;
    bed.q().set_express(&lane, Some(12)).await.unwrap();
    let levels = [3, 12, 3, 15, 3];
    bed.try_append(levels.map(|level| of_level(0, level)).into()).await.unwrap();
    let express_spans = vec![Span { from: 1, to: 3, count: 1 }];
    bed.settle(&lane, Settle { express_spans, delivered: 1, ..Settle::default() }).await;
    assert_eq!(bed.q().abandon_lane(&lane).await.unwrap(), 4);
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.expired, ledger.delivered, ledger.imbalance()), (4, 1, 0));
    bed.sound().await;
}

async fn a_lane_without_the_class_has_nothing_of_it(mut bed: Bed) {
    let lane = bed.lane("plain").await;
    bed.try_append(vec![alert(1)]).await.unwrap();
    let open = bed.q().open_lane(&lane, Start::All).await.unwrap().express;
    assert_eq!(open, ExpressOpen::default());
    assert_eq!(bed.q().set_express(&lane, None).await.unwrap(), ExpressOpen::default());
    bed.sound().await;
}

crate::promises!(
    a_level_that_changes_skips_and_repeats_nothing,
    the_log_waits_for_the_slower_class,
    an_abandoned_lane_expires_both_classes_once,
    a_lane_without_the_class_has_nothing_of_it,
);
