use std::sync::{Arc, Mutex};

use holdfast_model::{Event, LogId, NewEvent, Timestamp};
use proptest::prelude::*;

use super::*;

/// Answers by the numbers that are sent, and remembers how many were sent at once.
struct Far<F> {
    answer: F,
    sent: Mutex<Vec<usize>>,
}

impl<F: Fn(&[u64]) -> Answer + Sync> Attempt for Far<F> {
    async fn attempt(&self, shipment: &Shipment) -> Answer {
        let seqs: Vec<u64> = shipment.members.iter().map(|member| member.event.seq).collect();
        self.sent.lock().unwrap().push(seqs.len());
        (self.answer)(&seqs)
    }
}

fn salvo(count: u64, limit: u32, answer: impl Fn(&[u64]) -> Answer + Sync) -> (Sent, Vec<usize>) {
    let log = LogId::new("aaaaaaaaaa").unwrap();
    let member = |seq| {
        let event = Event::new(seq, NewEvent::alert("{}"), "a".into(), Timestamp(0));
        let (id, key) = (log.event(seq), seq.to_string());
        Member::first(id, key, Arc::new(event))
    };
    let far = Far { answer, sent: Mutex::default() };
    let sending = send((0..count).map(member).collect(), limit, &far);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sent = runtime.block_on(sending);
    (sent, far.sent.into_inner().unwrap())
}

fn taken(seqs: &[u64]) -> Answer {
    Ok(seqs.iter().map(|_| Ok(Receipt::default())).collect())
}

fn no(reason: Reason) -> Answer {
    Err(DeliveryError::new(reason))
}

fn reasons(sent: &Sent) -> Vec<Option<Reason>> {
    let reason = |outcome: &Outcome| match outcome {
        Outcome::Failed(failure) => Some(failure.reason),
        Outcome::Delivered(_) | Outcome::Unsent => None,
    };
    sent.outcomes.iter().map(reason).collect()
}

#[test]
fn a_failure_that_is_nobodys_fault_is_not_taken_apart() {
    let (sent, sizes) = salvo(8, 10, |_| no(Reason::ServerFault));
    assert_eq!((sent.requests, sizes), (1, vec![8]));
    assert_eq!(reasons(&sent), [Some(Reason::ServerFault); 8]);
}

#[test]
fn an_outage_in_the_middle_of_halving_leaves_the_rest_unsent() {
    let (sent, _) = salvo(8, 10, |seqs| match seqs {
        [0, 1, 2, 3] => taken(seqs),
        [4, ..] if seqs.len() < 8 => no(Reason::Connect),
        _ => no(Reason::Refused),
    });
    assert!(matches!(sent.outcomes[3], Outcome::Delivered(_)));
    assert_eq!(reasons(&sent)[4..], [Some(Reason::Connect); 4]);
    assert_eq!(sent.failure.unwrap().reason, Reason::Connect);
}

#[test]
fn halving_ends_at_the_limit_when_nothing_is_taken() {
    let (sent, sizes) = salvo(64, 4, |_| no(Reason::Refused));
    assert_eq!(sizes.iter().filter(|size| **size == 1).count(), 4);
    assert_eq!(
        sent.outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Unsent)).count(),
        60
    );
}

#[test]
fn two_forbidden_events_of_one_salvo_are_noted_unless_another_was_taken() {
    assert!(salvo(4, 10, |_| no(Reason::Forbidden)).0.forbidden_twice);
    let one_taken = salvo(4, 10, |seqs| match seqs {
        [0] => taken(seqs),
        _ => no(Reason::Forbidden),
    });
    assert!(!one_taken.0.forbidden_twice);
    assert!(!salvo(1, 10, |_| no(Reason::Forbidden)).0.forbidden_twice);
    let each = |seqs: &[u64]| -> Answer {
        Ok(seqs.iter().map(|_| Err(DeliveryError::new(Reason::Forbidden))).collect())
    };
    assert!(salvo(2, 10, each).0.forbidden_twice);
}

#[test]
fn a_bulk_answer_speaks_for_the_lane_only_when_every_item_failed() {
    let each = |reasons: &'static [Option<Reason>]| {
        move |_: &[u64]| -> Answer {
            let item = |reason: &Option<Reason>| match reason {
                None => Ok(Receipt::default()),
                Some(reason) => Err(DeliveryError::new(*reason)),
            };
            Ok(reasons.iter().map(item).collect())
        }
    };
    const FAULT: Option<Reason> = Some(Reason::ServerFault);
    const THROTTLED: Option<Reason> = Some(Reason::Throttled);
    const SETTING: Option<Reason> = Some(Reason::Misconfigured);
    let failure = |sent: Sent| sent.failure.map(|failure| failure.reason);
    assert_eq!(failure(salvo(2, 10, each(&[FAULT, None])).0), None);
    assert_eq!(failure(salvo(2, 10, each(&[THROTTLED, THROTTLED])).0), None);
    assert_eq!(failure(salvo(2, 10, each(&[THROTTLED, FAULT])).0), FAULT);
    assert_eq!(failure(salvo(2, 10, each(&[FAULT, SETTING])).0), SETTING);
    assert_eq!(failure(salvo(2, 10, each(&[SETTING, None])).0), None);
}

proptest! {
    /// Wherever the poisonous ones are.
    #[test]
    fn halving_finds_exactly_the_poison_and_sends_each_healthy_one_once(
        count in 1_u64..100, poison in proptest::collection::btree_set(0_u64..100, 0..20),
    ) {
        let arrived = Mutex::new(Vec::new());
        let (sent, sizes) = salvo(count, u32::MAX, |seqs| {
            if seqs.iter().any(|seq| poison.contains(seq)) {
                return no(Reason::Refused);
            }
            arrived.lock().unwrap().extend_from_slice(seqs);
            taken(seqs)
        });
        let healthy: Vec<u64> = (0..count).filter(|seq| !poison.contains(seq)).collect();
        prop_assert_eq!(arrived.into_inner().unwrap(), healthy);
        for (seq, reason) in reasons(&sent).into_iter().enumerate() {
            let refused = poison.contains(&(seq as u64)).then_some(Reason::Refused);
            prop_assert_eq!(reason, refused);
        }
        prop_assert_eq!(sizes.len(), sent.requests as usize);
    }
}
