//! The requests of one flight: the whole batch first, then halves while one member may be to
//! blame, so that single events stand alone in the end.

use std::ops::Range;

use holdfast_model::{DeliveryError, Member, Reason, Receipt, Shipment};

use crate::settlement::{self, Failure, Outcome};

/// What the requests of one flight came to.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// One a member, in order.
    pub(super) outcomes: Vec<Outcome>,
    /// The failure that says something about the lane.
    pub(super) failure: Option<Failure>,
    /// Two different events were forbidden, and none was taken.
    pub(super) forbidden_twice: bool,
    pub(super) requests: u32,
    delivered: bool,
    refused: u32,
    forbidden: u32,
}

/// Makes one request.
pub(super) trait Attempt: Sync {
    fn attempt(&self, shipment: &Shipment) -> impl Future<Output = Answer> + Send;
}

pub(super) type Answer = Result<Vec<Result<Receipt, DeliveryError>>, DeliveryError>;

/// Sends the members. It stops when the rest would fail as well.
pub(super) async fn send(
    members: Vec<Member>,
    poison_limit: u32,
    destination: &impl Attempt,
) -> Sent {
    let mut sent = Sent::default();
    sent.outcomes.resize_with(members.len(), || Outcome::Unsent);
    let mut shipment = Shipment { members };
    let whole = 0..shipment.members.len();
    let mut ranges = Vec::new();
    if !whole.is_empty() {
        let answer = destination.attempt(&shipment).await;
        sent.take(whole, answer, &mut ranges);
    }
    let members = std::mem::take(&mut shipment.members);
    while let Some(range) = ranges.pop() {
        if sent.is_hopeless(poison_limit) {
            break;
        }
        shipment.members = members[range.clone()].to_vec();
        let answer = destination.attempt(&shipment).await;
        sent.take(range, answer, &mut ranges);
    }
    let is_forbidden = |outcome: &&Outcome| matches!(outcome, Outcome::Failed(failure) if failure.reason == Reason::Forbidden);
    let forbidden = sent.outcomes.iter().filter(is_forbidden).count();
    sent.forbidden_twice = forbidden >= 2 && !sent.delivered;
    sent.failure = sent.failure.take().or_else(|| of_all_items(&sent.outcomes));
    sent
}

impl Sent {
    fn take(&mut self, range: Range<usize>, answer: Answer, ranges: &mut Vec<Range<usize>>) {
        self.requests += 1;
        let failure = match answer {
            Ok(results) => {
                for (at, result) in range.zip(results) {
                    self.delivered |= result.is_ok();
                    self.outcomes[at] = match result {
                        Ok(receipt) => Outcome::Delivered(receipt),
                        Err(error) => Outcome::Failed(Failure::from(&error)),
                    };
                }
                return;
            }
            Err(error) => Failure::from(&error),
        };
        let may_be_one = settlement::halves(failure.reason);
        if may_be_one && range.len() > 1 {
            let middle = range.start + range.len() / 2;
            ranges.extend([middle..range.end, range.start..middle]);
        } else {
            self.refused += u32::from(failure.reason.dead_reason().is_some());
            self.forbidden += u32::from(failure.reason == Reason::Forbidden);
            for at in range {
                self.outcomes[at] = Outcome::Failed(failure.clone());
            }
        }
        if !may_be_one {
            // The cause has nothing to do with the events: the rest waits with the lane.
            ranges.clear();
            self.failure = Some(failure);
        } else if self.failure.is_none() {
            self.failure = Some(failure);
        }
    }

    /// Nothing is taken and everything is refused: the fault is not the events'.
    fn is_hopeless(&self, poison_limit: u32) -> bool {
        !self.delivered && (self.refused >= poison_limit || self.forbidden >= 2)
    }
}

/// A bulk answer in which every item failed may say that the lane itself cannot go on. An item's
/// 429 does not: it delays that item.
fn of_all_items(outcomes: &[Outcome]) -> Option<Failure> {
    let mut failures = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        match outcome {
            Outcome::Failed(failure) => failures.push(failure),
            Outcome::Delivered(_) => return None,
            Outcome::Unsent => {}
        }
    }
    let parks = |failure: &&&Failure| {
        matches!(failure.reason, Reason::Unauthorized | Reason::Misconfigured)
    };
    let fails =
        |failure: &&&Failure| failure.reason.is_transient() && failure.reason != Reason::Throttled;
    let failure = failures.iter().find(parks).or_else(|| failures.iter().find(fails))?;
    Some(Failure { retry_after: None, ..(**failure).clone() })
}

#[cfg(test)]
mod tests;
