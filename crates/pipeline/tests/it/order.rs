//! `order`: no event overtakes another of its slot, whatever fails in between.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use holdfast_model::{Reason, Seq};
use holdfast_pipeline::{LaneSettings, Path, order::Order};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::rig::*;

/// A far end that fails at random, and says when an event comes before an earlier one of its key is
/// taken or refused.
struct Judge {
    far: Arc<FarEnd>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By key, what is not over yet.
    open: HashMap<u64, BTreeSet<Seq>>,
    key_of: BTreeMap<Seq, u64>,
    overtaken: Vec<(Seq, Seq)>,
    refused: u64,
}

impl Judge {
    fn new(seed: u64, refusing: bool) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let mut dice = StdRng::seed_from_u64(seed);
        let judged = Arc::clone(&state);
        let far = FarEnd::answering(move |request| {
            let mut state = judged.lock().unwrap();
            let fate = dice.random_range(0..100);
            for seq in &request.seqs {
                state.comes(*seq, &request.seqs);
            }
            match fate {
                0..15 => Answer::Fail(Reason::ServerFault),
                15..20 => Answer::Fail(Reason::InDoubt),
                20..22 => throttle(2),
                // What it took before a crash it does not refuse when it comes again.
                22..26 if refusing && request.seqs.len() == 1 && state.is_open(request.seqs[0]) => {
                    state.refused += 1;
                    state.ends(&request.seqs);
                    Answer::Fail(Reason::Refused)
                }
                _ => {
                    state.ends(&request.seqs);
                    Answer::After(ms(dice.random_range(1..40)), Box::new(Answer::Take))
                }
            }
        });
        Self { far, state }
    }

    fn expect(&self, seqs: impl IntoIterator<Item = Seq>, key: impl Fn(Seq) -> u64) {
        let mut state = self.state.lock().unwrap();
        for seq in seqs {
            state.key_of.insert(seq, key(seq));
            state.open.entry(key(seq)).or_default().insert(seq);
        }
    }

    fn nothing_was_overtaken(&self) {
        assert_eq!(self.state.lock().unwrap().overtaken, []);
    }
}

impl State {
    fn comes(&mut self, seq: Seq, together: &[Seq]) {
        let open = &self.open[&self.key_of[&seq]];
        let before = open.range(..seq).find(|earlier| !together.contains(earlier));
        self.overtaken.extend(before.map(|earlier| (*earlier, seq)));
    }

    fn is_open(&self, seq: Seq) -> bool {
        self.open[&self.key_of[&seq]].contains(&seq)
    }

    fn ends(&mut self, seqs: &[Seq]) {
        for seq in seqs {
            self.open.get_mut(&self.key_of[seq]).unwrap().remove(seq);
        }
    }
}

fn patient(order: Order, change: impl FnOnce(&mut LaneSettings)) -> LaneSettings {
    settings(|s| {
        s.order = order;
        s.breaker.failures = 1_000_000;
        s.breaker.ratio = 2.0;
        s.poison_limit = 1_000;
        s.retry.max = secs(20);
        change(s);
    })
}

fn of_agent(agent: u64) -> String {
    format!(r#"{{"rule":{{"id":"1","level":5}},"agent":{{"id":"{agent}"}}}}"#)
}

fn by_agent() -> Order {
    Order::Key(Path::new("agent.id").unwrap())
}

/// Many alerts, many failures, crashes in between.
async fn keeps_order(order: Order, batch: usize, refusing: bool, agents: u64, crashes: usize) {
    let judge = Judge::new(agents, refusing);
    let mut rig = Rig::new();
    let is_strict = order == Order::Strict;
    let lane = || patient(order.clone(), |s| s.batch.events_max = batch);
    let mut total = 0;
    for round in 0..=crashes {
        rig.lane("a", lane(), &judge.far).await;
        let bodies: Vec<String> =
            (0..120).map(|n| of_agent((n * 7 + round as u64) % agents)).collect();
        let agent_of: Vec<u64> = (0..120).map(|n| (n * 7 + round as u64) % agents).collect();
        let seqs = {
            // The far end must know them before the lane does.
            let first = *holdfast_queue::QueueEngine::head(&*rig.queue).borrow();
            let expected = (first..).take(bodies.len());
            let agent = |seq: Seq| if is_strict { 0 } else { agent_of[(seq - first) as usize] };
            judge.expect(expected, agent);
            rig.append_bodies(bodies).await
        };
        total += seqs.len() as u64;
        if round < crashes {
            let goal = judge.far.count() + 40 / batch;
            rig.until("some requests", || judge.far.count() >= goal).await;
            rig = if round % 3 == 0 { rig.restart().await } else { rig.crash(round % 5).await };
        }
    }
    let ledger = rig.drained("a").await;
    assert_eq!(ledger.delivered + ledger.dead, total);
    assert_eq!(judge.far.distinct_taken() as u64, ledger.delivered);
    judge.nothing_was_overtaken();
    if !is_strict {
        assert!(judge.far.most_under_way.load(std::sync::atomic::Ordering::SeqCst) > 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_strict_lane_stays_in_order_through_failures_and_crashes() {
    keeps_order(Order::Strict, 1, true, 1, 8).await;
}

#[tokio::test(start_paused = true)]
async fn a_strict_lane_s_batches_stay_in_order() {
    keeps_order(Order::Strict, 7, true, 1, 8).await;
}

#[tokio::test(start_paused = true)]
async fn a_keyed_lane_stays_in_order_by_key_through_failures_and_crashes() {
    keeps_order(by_agent(), 1, true, 23, 12).await;
}

#[tokio::test(start_paused = true)]
async fn a_keyed_lane_s_batches_stay_in_order() {
    keeps_order(by_agent(), 6, false, 23, 12).await;
}

#[tokio::test(start_paused = true)]
async fn one_key_that_fails_holds_back_its_own_slot_alone() {
    let far = FarEnd::answering(|request| match request.rules[0].as_str() {
        "1" => Answer::Fail(Reason::ServerFault),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    let order = Order::Key(Path::new("rule.id").unwrap());
    rig.lane("a", patient(order, |_| {}), &far).await;
    rig.append([1].into_iter().chain((0..400).map(|n| n % 4 + 1))).await;
    rig.until("all others", || far.distinct_taken() == 300).await;
    assert!(
        far.requests()
            .iter()
            .filter(|request| request.rules == ["1"])
            .all(|request| request.seqs == [1])
    );
    assert_eq!(rig.view("a").held, 100);
    far.answers(|_| Answer::Take);
    assert_eq!(rig.drained("a").await.delivered, 401);
    let of_one = far.taken().into_iter().filter(|seq| *seq == 1 || *seq % 4 == 2);
    assert!(of_one.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn too_many_that_wait_for_order_stop_the_reading_and_all_arrive_in_the_end() {
    let far = FarEnd::answering(|request| match request.rules[0].as_str() {
        "1" => Answer::Fail(Reason::ServerFault),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    let order = Order::Key(Path::new("rule.id").unwrap());
    rig.lane("a", patient(order, |s| s.retry.pending_max = 50), &far).await;
    rig.append((0..2_000).map(|_| 1)).await;
    rig.until("a full lane", || rig.state("a") == holdfast_model::LaneState::BackedUp).await;
    assert!(rig.view("a").held <= 50, "{:?}", rig.view("a"));
    far.answers(|_| Answer::Take);
    assert_eq!(rig.drained("a").await.delivered, 2_000);
    assert!(far.taken().is_sorted());
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_a_strict_lane_is_the_oldest_event() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::ServerFault));
    let mut rig = Rig::new();
    let strict = settings(|s| s.order = Order::Strict);
    rig.lane("a", strict, &far).await;
    rig.append(0..50).await;
    rig.until("an open breaker and probes", || far.count() >= 12).await;
    assert!(far.requests().iter().all(|request| request.seqs == [1]));
    far.answers(|_| Answer::Take);
    assert_eq!(rig.drained("a").await.delivered, 50);
    assert!(far.taken().is_sorted());
}

#[tokio::test(start_paused = true)]
async fn a_403_in_a_strict_lane_is_decided_by_the_next_event_and_the_rest_stays_in_order() {
    let far = FarEnd::answering(|request| match request.seqs[0] {
        3 => Answer::Fail(Reason::Forbidden),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.order = Order::Strict), &far).await;
    rig.append(0..20).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead), (19, 1));
    assert!(far.taken().is_sorted());
}

#[tokio::test(start_paused = true)]
async fn replayed_dead_letters_of_a_strict_lane_come_in_order_and_before_what_waits() {
    let far = FarEnd::answering(|request| match request.seqs[0] {
        2 | 4 | 6 => Answer::Fail(Reason::Refused),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", patient(Order::Strict, |_| {}), &far).await;
    rig.append(0..8).await;
    assert_eq!(rig.drained("a").await.dead, 3);
    let mut rig = rig.restart().await;
    let begin = far.count();
    far.answers(|request| match request.attempt {
        2 => Answer::Fail(Reason::ServerFault),
        _ => Answer::Take,
    });
    rig.append(0..3).await;
    let ids = [6, 2, 4].map(|seq| rig.dead_id("a", seq)).to_vec();
    rig.revive(ids).await;
    rig.lane("a", patient(Order::Strict, |_| {}), &far).await;
    assert_eq!(rig.drained("a").await.delivered, 11);
    let after: Vec<Seq> = far.requests()[begin..].iter().map(|request| request.seq()).collect();
    assert_eq!(after, [2, 2, 4, 4, 6, 6, 9, 10, 11]);
}
