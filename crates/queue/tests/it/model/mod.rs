//! Random operations against plain maps: after each, the queue and the maps agree; after a crash,
//! the queue is what the maps were after one of the operations under way, or before the first.

mod differ;
mod plain;
mod watch;

use std::time::Duration;

use futures_util::future::join_all;
use proptest::{collection::vec, prelude::*, test_runner::TestCaseResult};

use self::{
    plain::{Model, Request},
    watch::{Seen, look},
};
use crate::bed::{Bed, MIB};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Delivered,
    /// Delivered, and answers of so many hundred bytes come of it.
    Answered(u16),
    Filtered,
    Expired,
    Purged,
    /// Waits for another try on its own.
    Retry,
    /// Waits with the others of this settlement that do.
    RetryTogether,
    Dead,
}

/// What is done. Numbers pick among what there is just then.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Append { events: u8, bytes: u32, rejects: u8, keyed: bool },
    Settle { lane: u8, skip: u8, items: Vec<Vec<Fate>> },
    Resettle { lane: u8, pick: u8, fates: Vec<Fate> },
    Revive { lane: u8, picks: Vec<u8> },
    Purge { lane: u8, picks: Vec<u8>, expired: bool },
    Abandon { lane: u8 },
    Upkeep { hours: u8 },
}

#[derive(Clone, Debug)]
enum Step {
    Do(Act),
    Reopen,
    /// The power goes while these wait for one sync, of whose batches `kept` reach the disk.
    Crash {
        during: Vec<Act>,
        kept: u8,
    },
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Delivered),
        2 => (0..300_u16).prop_map(Fate::Answered),
        3 => Just(Fate::Filtered),
        1 => Just(Fate::Expired),
        1 => Just(Fate::Purged),
        2 => Just(Fate::Retry),
        3 => Just(Fate::RetryTogether),
        2 => Just(Fate::Dead),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let events = prop_oneof![6 => 0..3_u8, 3 => 3..70_u8, 1 => 70..250_u8];
    let bytes = prop_oneof![8 => 0..300_u32, 2 => 300..9_000_u32, 1 => 90_000..400_000_u32];
    let append =
        (events, bytes, 0..3_u8, any::<bool>()).prop_map(|(events, bytes, rejects, keyed)| {
            // Not too many large ones, for the sake of time.
            let events = if bytes > 9_000 { events.min(6) } else { events };
            Act::Append { events, bytes, rejects, keyed }
        });
    let items = vec(vec(fate(), 0..40), 1..4);
    let lane = 0..3_u8;
    let settle = (lane.clone(), 0..50_u8, items).prop_map(|(lane, skip, items)| Act::Settle {
        lane,
        skip,
        items,
    });
    let resettle = (lane.clone(), any::<u8>(), vec(fate(), 1..8))
        .prop_map(|(lane, pick, fates)| Act::Resettle { lane, pick, fates });
    let revive = (lane.clone(), vec(any::<u8>(), 1..5))
        .prop_map(|(lane, picks)| Act::Revive { lane, picks });
    let purge = (lane.clone(), vec(any::<u8>(), 1..5), any::<bool>())
        .prop_map(|(lane, picks, expired)| Act::Purge { lane, picks, expired });
    prop_oneof![
        40 => append,
        40 => settle,
        25 => resettle,
        10 => revive,
        10 => purge,
        2 => lane.prop_map(|lane| Act::Abandon { lane }),
        15 => (0..20_u8).prop_map(|hours| Act::Upkeep { hours }),
    ]
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let crash =
        (vec(act(), 1..6), any::<u8>()).prop_map(|(during, kept)| Step::Crash { during, kept });
    let step = prop_oneof![
        12 => act().prop_map(Step::Do),
        1 => Just(Step::Reopen),
        3 => crash,
    ];
    vec(step, 1..count)
}

/// Requests for these acts, and what the maps are after each part of them that is whole by itself.
fn plan(model: &Model, acts: &[Act]) -> (Vec<Request>, Vec<Model>) {
    let (mut requests, mut models) = (Vec::new(), vec![model.clone()]);
    for act in acts {
        let mut next = models.last().unwrap().clone();
        let (request, between) = next.plan(act);
        // What is large is packed aside, and whatever is called after it may overtake it.
        let last = request.as_ref().is_some_and(|request| request.bytes() > MIB as usize);
        requests.extend(request);
        models.extend(between);
        models.push(next);
        if last {
            break;
        }
    }
    (requests, models)
}

async fn agree(bed: &Bed, model: &Model) -> TestCaseResult {
    let seen = look(bed, model).await;
    prop_assert_eq!(model.differs(&seen), None::<String>);
    Ok(())
}

async fn run(mut bed: Bed, steps: Vec<Step>, in_memory: bool) -> TestCaseResult {
    let mut model = Model::new();
    // The maps forget nothing by age.
    bed.reopen_with(|limits| limits.idempotency_window = Duration::from_secs(1 << 32)).await;
    for lane in model.lane_names() {
        bed.lane(lane.as_str()).await;
    }
    for step in steps {
        match step {
            Step::Do(act) => {
                let (requests, models) = plan(&model, &[act]);
                for request in requests {
                    prop_assert_eq!(request.run(bed.q()).await, Ok(()));
                }
                model = models.last().unwrap().clone();
            }
            Step::Reopen => bed.reopen().await,
            Step::Crash { during, kept } => {
                let (requests, models) = plan(&model, &during);
                if in_memory {
                    bed.hold_syncs();
                }
                // What has nothing to store may succeed all the same.
                join_all(requests.iter().map(|request| request.run(bed.q()))).await;
                bed.crash(usize::from(kept) % (bed.unsynced() + 1));
                let seen = look(&bed, &model).await;
                let differences: Vec<_> = models.iter().map(|model| model.differs(&seen)).collect();
                let found = differences.iter().rposition(Option::is_none);
                prop_assert!(found.is_some(), "it is none of these: {:#?}", differences);
                prop_assert!(in_memory || found == Some(models.len() - 1), "all was acknowledged");
                model = models[found.unwrap_or(0)].clone();
                bed.sound().await;
            }
        }
        agree(&bed, &model).await?;
    }
    bed.sound().await;
    agree(&bed, &model).await
}

/// More of them on request: `PROPTEST_CASES=5000 cargo test -p holdfast-queue model`.
fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(150)))]

    #[test]
    fn the_queue_agrees_with_plain_maps_whatever_is_done_and_wherever_it_crashes(steps in steps(40)) {
        block_on(run(Bed::memory(), steps, true))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 64, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn the_queue_on_disk_agrees_with_plain_maps_over_reopens(steps in steps(40)) {
        block_on(run(Bed::sled(), steps, false))?;
    }
}

impl Seen {
    fn lane(&self, name: &str) -> Option<&watch::SeenLane> {
        self.lanes.iter().find(|lane| lane.name == name)
    }
}
