//! A lane under another name: everything of it goes over, at every place where it can be cut short.

use std::sync::atomic::Ordering;

use holdfast_model::{DeadReason, Name};
use holdfast_queue::{
    Adoption, BacklogLimit, DeadEnd, JobRecord, JobState, Link, QueueEngine, QueueError, Settle,
    Span, Start, StoredEvent, Window,
};

use crate::{
    bed::Bed,
    make::{NOON, dead, dead_id, delivered, noise, retry},
};

/// A lane with something of everything: 200 events, of which 1..=10 are delivered, 60 wait for a
/// retry, 60 are dead, the rest is unread.
async fn full_lane(bed: &mut Bed, name: &str) -> Name {
    let lane = bed.lane(name).await;
    bed.append(0..200).await;
    let events = bed.events(1).await;
    let stored = |seq: u64| StoredEvent::of(&events[seq as usize - 1]);
    let link = |seq, id: &str| Link { seq, remote_id: id.to_owned(), at: NOON };
    let links = vec![link(1, "R-1"), link(1, "R-1b"), link(2, "R-2")];
    bed.settle(&lane, Settle { links, ..delivered(1..=10) }).await;
    for seq in 11..=70 {
        let spans = vec![Span::one(seq)];
        let retry = vec![retry(vec![stored(seq)])];
        bed.settle(&lane, Settle { spans, retry, ..Settle::default() }).await;
    }
    for seq in 71..=130 {
        let mut event = stored(seq);
        if seq == 100 {
            // In more parts than one batch takes.
            event.body = noise(3_000_000, 5);
        }
        let (spans, dead) = (vec![Span::one(seq)], vec![dead(event)]);
        bed.settle(&lane, Settle { spans, dead, ..Settle::default() }).await;
    }
    let link = Link { seq: 5, remote_id: "SEC-5".into(), at: NOON };
    let window: Window = crate::beside::window(9, 3);
    let beside = Settle { links: vec![link], windows: vec![window], ..Settle::default() };
    bed.settle(&lane, beside).await;
    lane
}

fn job(lane: &Name) -> JobRecord {
    JobRecord {
        state: JobState::Paused,
        request: "{}".into(),
        reason: Some(DeadReason::Refused),
        total: 60,
        cursor: Some(dead_id(lane, 75)),
        ..JobRecord::new(lane.clone(), NOON)
    }
}

async fn everything_is_there(bed: &Bed, new: &Name) {
    let opened = bed.q().open_lane(new, Start::New).await.unwrap();
    assert_eq!((opened.position, opened.retries.len()), (131, 60));
    assert_eq!(opened.keyed_as, Some(Name::new("old").unwrap()));
    for (id, seq) in [("R-1", 1), ("R-1b", 1), ("R-2", 2)] {
        assert_eq!(bed.q().event_of(new, id).await.unwrap(), Some(seq), "{id}");
    }
    for (seq, id) in [(1, "R-1b"), (2, "R-2")] {
        let links = bed.q().links_of(seq).await.unwrap();
        assert_eq!((links.len(), &links[0].lane, &*links[0].link.remote_id), (1, new, id));
    }
    let ledger = bed.ledger(new).await;
    assert_eq!((ledger.seen, ledger.delivered, ledger.retrying, ledger.dead), (200, 10, 60, 60));
    assert_eq!(ledger.imbalance(), 0);
    assert_eq!(opened.windows, [crate::beside::window(9, 3)]);
    assert_eq!(bed.q().event_of(new, "SEC-5").await.unwrap(), Some(5));
    let links = bed.q().links_of(5).await.unwrap();
    assert_eq!(links.iter().map(|link| &link.lane).collect::<Vec<_>>(), [new]);
    for head in opened.retries {
        assert_eq!(bed.q().retry(new, head.id).await.unwrap().unwrap().members.len(), 1);
    }
    let letter = bed.q().dead_letter(&dead_id(new, 100)).await.unwrap().unwrap();
    assert_eq!(letter.event.body, noise(3_000_000, 5));
    let names: Vec<String> = bed.q().lanes().iter().map(|lane| lane.name.to_string()).collect();
    assert_eq!(names, ["new"]);
    let jobs = bed.q().jobs().await.unwrap();
    assert_eq!(
        (jobs[0].lane.clone(), jobs[0].cursor.clone()),
        (new.clone(), Some(dead_id(new, 75)))
    );
}

async fn a_lane_goes_on_under_another_name_with_all_it_has(mut bed: Bed) {
    let (old, new) = (full_lane(&mut bed, "old").await, Name::new("new").unwrap());
    bed.q().put_job(job(&old)).await.unwrap();
    let refused = bed.q().adopt_lane(&old, &new).await.unwrap_err();
    assert!(matches!(refused, QueueError::InUse { .. }), "{refused}");
    bed.q().close_lane(&old, true).await.unwrap();
    assert_eq!(bed.q().adopt_lane(&old, &new).await.unwrap(), Adoption::Done);
    everything_is_there(&bed, &new).await;
    // Again, as at every start with the same configuration.
    assert_eq!(bed.q().adopt_lane(&old, &new).await.unwrap(), Adoption::NoSuchLane);
    assert_eq!(bed.q().remove_dead(vec![dead_id(&new, 71)], DeadEnd::Purged).await.unwrap(), 1);
    bed.settle(&new, Settle { retries_done: vec![11], delivered: 1, ..Settle::default() }).await;
    bed.sound().await;
}

async fn a_name_that_is_taken_is_not_taken_over(mut bed: Bed) {
    let (old, new) = (bed.lane("old").await, bed.lane("new").await);
    bed.q().close_lane(&old, true).await.unwrap();
    assert_eq!(bed.q().adopt_lane(&old, &new).await.unwrap(), Adoption::Occupied);
    assert_eq!(bed.q().lanes().len(), 2);
    bed.sound().await;
}

async fn what_was_cut_off_is_in_doubt_for_the_next_to_open_it_and_only_for_it(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.q().close_lane(&lane, true).await.unwrap();
    assert!(!bed.q().lanes()[0].open);
    assert!(!bed.q().open_lane(&lane, Start::New).await.unwrap().unclean);
    bed.q().close_lane(&lane, false).await.unwrap();
    bed.reopen().await;
    assert!(bed.q().open_lane(&lane, Start::New).await.unwrap().unclean);
    bed.q().close_lane(&lane, true).await.unwrap();
    assert!(!bed.q().open_lane(&lane, Start::New).await.unwrap().unclean);
    bed.sound().await;
}

async fn a_lane_over_its_limit_holds_sources_back_until_a_tenth_is_free(mut bed: Bed) {
    let lane = bed.lane("stuck").await;
    bed.append(0..1_000).await;
    bed.upkeep_at(NOON).await;
    let bytes = bed.q().stats().bytes_live;
    let limit = BacklogLimit { bytes_max: bytes / 2, blocks: true };
    bed.q().limit_lane(&lane, limit).await.unwrap();
    bed.upkeep_at(NOON).await;
    let backlog = bed.q().lanes()[0].backlog;
    assert!(backlog.over && bed.q().stats().queue_full, "{backlog:?}");
    let refused = bed.try_append(vec![crate::make::alert(1_000)]).await.unwrap_err();
    assert!(matches!(refused, QueueError::Full { .. }), "{refused}");
    // What is over goes first: then it is nine tenths of the limit, or a little less.
    let to = backlog.expire_to.unwrap();
    assert!((500..=600).contains(&to), "{to}");
    bed.settle(&lane, Settle { expired: to - 1, ..span(1, to) }).await;
    bed.upkeep_at(NOON).await;
    assert!(!bed.q().lanes()[0].backlog.over);
    bed.append([1_000]).await;
    bed.sound().await;
}

async fn a_lane_that_may_expire_holds_nobody_back(mut bed: Bed) {
    let lane = bed.lane("stuck").await;
    bed.append(0..1_000).await;
    bed.q().limit_lane(&lane, BacklogLimit { bytes_max: 100, blocks: false }).await.unwrap();
    bed.upkeep_at(NOON).await;
    assert!(bed.q().lanes()[0].backlog.over);
    bed.append([1_000]).await;
    // An orphan has nobody who could expire anything: its own time limit does.
    bed.q().limit_lane(&lane, BacklogLimit { bytes_max: 100, blocks: true }).await.unwrap();
    bed.q().close_lane(&lane, true).await.unwrap();
    bed.upkeep_at(NOON).await;
    bed.append([1_001]).await;
    bed.sound().await;
}

fn span(from: u64, to: u64) -> Settle {
    Settle { spans: vec![Span { from, to, count: to - from }], ..Settle::default() }
}

crate::promises! {
    a_lane_goes_on_under_another_name_with_all_it_has,
    a_name_that_is_taken_is_not_taken_over,
    what_was_cut_off_is_in_doubt_for_the_next_to_open_it_and_only_for_it,
    a_lane_over_its_limit_holds_sources_back_until_a_tenth_is_free,
    a_lane_that_may_expire_holds_nobody_back,
}

/// Every batch is a place where the power may fail.
#[tokio::test]
async fn an_adoption_that_is_cut_short_anywhere_has_happened_whole_or_not_at_all() {
    let (mut done, mut undone) = (0, 0);
    for kept in 0.. {
        let mut bed = Bed::memory();
        let (old, new) = (full_lane(&mut bed, "old").await, Name::new("new").unwrap());
        bed.q().put_job(job(&old)).await.unwrap();
        bed.q().close_lane(&old, true).await.unwrap();
        bed.memory_store().applies_left.store(kept, Ordering::SeqCst);
        if bed.q().adopt_lane(&old, &new).await.is_ok() {
            break;
        }
        bed.crash(usize::MAX);
        let first = bed.q().lanes()[0].name.clone();
        if first == old {
            undone += 1;
            assert_eq!(bed.q().adopt_lane(&old, &new).await.unwrap(), Adoption::Done);
        } else {
            done += 1;
        }
        everything_is_there(&bed, &new).await;
        bed.sound().await;
    }
    assert!(done > 3 && undone > 0, "{done} {undone}");
}
