//! What becomes of an event after an attempt. All policy is here; no I/O, no clock, no dice.
//!
//! Three things are decided: what becomes of each member ([`Verdict`]), what the outcome says about
//! the lane ([`Signal`]), and how a batch that was refused is taken apart ([`halves`]).

use std::time::Duration;

use holdfast_model::{DeadReason, DeliveryError, Reason, Receipt};

use crate::settings::InDoubt;

/// How one member's attempt ended.
#[derive(Debug)]
pub enum Outcome {
    Delivered(Receipt),
    Failed(Failure),
    /// Its batch was taken apart and given up before it was this one's turn.
    Unsent,
}

/// A [`DeliveryError`] without its cause, so that a batch's members can share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    pub status: Option<u16>,
    pub retry_after: Option<Duration>,
    pub excerpt: String,
}

/// What becomes of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delivered {
        duplicate: bool,
    },
    /// Again after the schedule's wait, or the server's.
    Retry {
        wait: RetryWait,
    },
    Dead(DeadReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryWait {
    Schedule,
    Server(Duration),
    /// It may have arrived, and the search that would show it lags: after the schedule's wait,
    /// this lag, or what the server asked for, whichever is longest.
    Search {
        lag: Duration,
        asked: Duration,
    },
    /// Pending, and due when the lane may send again: the attempt says nothing about the event.
    Lane,
}

/// What an attempt says about the whole lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Healthy,
    /// Counts toward the breaker.
    Failing,
    /// No request before the wait is over.
    Throttled(Duration),
    /// An item of a batch was throttled: go half as fast.
    SlowDown,
    BadCredential,
    /// 403: a second request with another event decides.
    Forbidden,
    BadSetting,
    /// A permanent error of one event: counts toward the poison limit.
    Poison,
}

/// What the decision looks at beside the outcome.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Longest wait that a server may ask for.
    pub server_wait_max: Duration,
    pub in_doubt: InDoubt,
    /// The destination searches for what may have arrived, and its search lags so long.
    pub search_lag: Option<Duration>,
    /// `retry.max_age` is over for this event.
    pub too_old: bool,
    /// Another member of the same attempt was taken, so the credentials are good.
    pub others_delivered: bool,
}

/// Decides one member.
pub fn verdict(outcome: &Outcome, facts: &Facts) -> Verdict {
    let failure = match outcome {
        Outcome::Delivered(receipt) => return Verdict::Delivered { duplicate: receipt.duplicate },
        Outcome::Unsent => return Verdict::Retry { wait: RetryWait::Lane },
        Outcome::Failed(failure) => failure,
    };
    let wait = match failure.reason {
        Reason::Refused => return Verdict::Dead(DeadReason::Refused),
        Reason::TooLarge => return Verdict::Dead(DeadReason::TooLarge),
        Reason::Render => return Verdict::Dead(DeadReason::Render),
        Reason::Forbidden if facts.others_delivered => return Verdict::Dead(DeadReason::Forbidden),
        // Where it can be searched for, nobody needs to guess.
        Reason::InDoubt if facts.in_doubt == InDoubt::DeadLetter && facts.search_lag.is_none() => {
            return Verdict::Dead(DeadReason::InDoubt);
        }
        // The event is fine and the lane is not: it waits with the lane, and does not age.
        Reason::Unauthorized | Reason::Misconfigured => {
            return Verdict::Retry { wait: RetryWait::Lane };
        }
        // Undecided: another event goes first, so this one keeps a distance.
        Reason::Forbidden => return Verdict::Retry { wait: RetryWait::Schedule },
        Reason::Throttled | Reason::ServerFault => match failure.retry_after {
            Some(asked) => RetryWait::Server(asked.min(facts.server_wait_max)),
            None => RetryWait::Schedule,
        },
        Reason::Dns | Reason::Connect | Reason::Tls | Reason::InDoubt | Reason::BadAnswer => {
            RetryWait::Schedule
        }
    };
    let wait = match facts.search_lag {
        Some(lag) if may_have_arrived(failure.reason, true) => RetryWait::Search {
            lag,
            asked: match wait {
                RetryWait::Server(asked) => asked,
                RetryWait::Schedule | RetryWait::Search { .. } | RetryWait::Lane => Duration::ZERO,
            },
        },
        _ => wait,
    };
    if facts.too_old { Verdict::Dead(DeadReason::TooOld) } else { Verdict::Retry { wait } }
}

/// Whether the event may have arrived although its attempt failed like this.
pub fn may_have_arrived(reason: Reason, searches: bool) -> bool {
    match reason {
        Reason::InDoubt => true,
        // A fault may come behind the work; where that can be looked up, it is.
        Reason::ServerFault | Reason::BadAnswer => searches,
        Reason::Dns | Reason::Connect | Reason::Tls | Reason::Throttled => false,
        Reason::Unauthorized | Reason::Forbidden | Reason::Misconfigured => false,
        Reason::Refused | Reason::TooLarge | Reason::Render => false,
    }
}

/// What a whole answer says about the lane.
pub fn signal(failure: &Failure, server_wait_max: Duration, schedule_wait: Duration) -> Signal {
    match failure.reason {
        Reason::Unauthorized => Signal::BadCredential,
        Reason::Forbidden => Signal::Forbidden,
        Reason::Misconfigured => Signal::BadSetting,
        Reason::Refused | Reason::TooLarge | Reason::Render => Signal::Poison,
        Reason::Throttled => {
            Signal::Throttled(failure.retry_after.unwrap_or(schedule_wait).min(server_wait_max))
        }
        Reason::ServerFault => match failure.retry_after {
            Some(asked) => Signal::Throttled(asked.min(server_wait_max)),
            None => Signal::Failing,
        },
        Reason::Dns | Reason::Connect | Reason::Tls | Reason::InDoubt | Reason::BadAnswer => {
            Signal::Failing
        }
    }
}

/// Whether a batch that failed like this is worth taking apart: one member may be the cause.
pub fn halves(reason: Reason) -> bool {
    match reason {
        Reason::Refused | Reason::TooLarge | Reason::Render | Reason::Forbidden => true,
        Reason::Dns | Reason::Connect | Reason::Tls | Reason::InDoubt | Reason::ServerFault => {
            false
        }
        Reason::Throttled | Reason::Unauthorized | Reason::Misconfigured | Reason::BadAnswer => {
            false
        }
    }
}

impl From<&DeliveryError> for Failure {
    fn from(error: &DeliveryError) -> Self {
        let mut excerpt = error.to_string();
        if let Some(source) = &error.source {
            excerpt.push_str(": ");
            excerpt.push_str(&holdfast_model::Chain(source.as_ref()).to_string());
        }
        if !error.excerpt.is_empty() {
            excerpt.push_str(": ");
            excerpt.push_str(&error.excerpt);
        }
        Self { reason: error.reason, status: error.status, retry_after: error.retry_after, excerpt }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn failed(reason: Reason, retry_after: Option<u64>) -> Failure {
        let retry_after = retry_after.map(Duration::from_secs);
        Failure { reason, status: None, retry_after, excerpt: String::new() }
    }

    fn decide(reason: Reason, facts: Facts) -> Verdict {
        verdict(&Outcome::Failed(failed(reason, Some(7))), &facts)
    }

    fn facts() -> Facts {
        Facts {
            server_wait_max: HOUR,
            in_doubt: InDoubt::Resend,
            search_lag: None,
            too_old: false,
            others_delivered: false,
        }
    }

    #[test]
    fn bad_credentials_and_wrong_settings_never_dead_letter() {
        for reason in [Reason::Unauthorized, Reason::Misconfigured, Reason::Forbidden] {
            let old = Facts { too_old: true, ..facts() };
            assert!(matches!(decide(reason, old), Verdict::Retry { .. }), "{reason:?}");
        }
    }

    #[test]
    fn a_403_kills_its_event_alone_once_another_has_passed() {
        let passed = Facts { others_delivered: true, ..facts() };
        assert_eq!(decide(Reason::Forbidden, passed), Verdict::Dead(DeadReason::Forbidden));
    }

    #[test]
    fn transient_failures_are_retried_until_max_age() {
        for reason in Reason::ALL.into_iter().filter(|reason| reason.is_transient()) {
            assert!(matches!(decide(reason, facts()), Verdict::Retry { .. }), "{reason:?}");
            let old = Facts { too_old: true, ..facts() };
            assert_eq!(decide(reason, old), Verdict::Dead(DeadReason::TooOld), "{reason:?}");
        }
    }

    #[test]
    fn a_destination_cannot_park_an_event_beyond_the_limit() {
        let day = failed(Reason::Throttled, Some(86_400));
        let wait = RetryWait::Server(HOUR);
        assert_eq!(verdict(&Outcome::Failed(day.clone()), &facts()), Verdict::Retry { wait });
        assert_eq!(signal(&day, HOUR, Duration::ZERO), Signal::Throttled(HOUR));
    }

    #[test]
    fn what_may_have_arrived_waits_until_a_search_would_show_it() {
        let lag = Duration::from_secs(15);
        let searching = Facts { search_lag: Some(lag), in_doubt: InDoubt::DeadLetter, ..facts() };
        let asked = Duration::ZERO;
        for reason in [Reason::InDoubt, Reason::BadAnswer] {
            let wait = RetryWait::Search { lag, asked };
            assert_eq!(decide(reason, searching), Verdict::Retry { wait }, "{reason:?}");
        }
        let wait = RetryWait::Search { lag, asked: Duration::from_secs(7) };
        assert_eq!(decide(Reason::ServerFault, searching), Verdict::Retry { wait });
        let wait = RetryWait::Schedule;
        assert_eq!(decide(Reason::Connect, searching), Verdict::Retry { wait }, "nothing was sent");
    }

    #[test]
    fn an_unanswered_event_is_resent_or_kept_as_the_operator_says() {
        assert_eq!(decide(Reason::InDoubt, facts()), Verdict::Retry { wait: RetryWait::Schedule });
        let keep = Facts { in_doubt: InDoubt::DeadLetter, ..facts() };
        assert_eq!(decide(Reason::InDoubt, keep), Verdict::Dead(DeadReason::InDoubt));
    }
}
