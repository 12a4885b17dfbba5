//! Whether an action that somebody asks for is authorized. Pure.
//!
//! A signature proves which system it was. The person must be an operator, the wish must be about
//! an event that the log still has, and it must come soon after the message. That it is the first
//! of its kind is known by its key, when it is stored.

use std::time::Duration;

use holdfast_model::{Notice, Operators, Timestamp};

/// Why an action is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Whoever asks is none of the operators.
    Operator,
    /// It is about no event of ours, or about two.
    Unlinked,
    /// The log no longer has the event.
    Gone,
    /// The message is too old.
    Late,
}

/// What the wish is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    None,
    /// The link and the message name different events.
    Disputed,
    Gone,
    /// When its message was sent; when the event came in, where no message is known.
    Event {
        sent_at: Timestamp,
    },
}

impl Denied {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Unlinked => "unlinked",
            Self::Gone => "gone",
            Self::Late => "late",
        }
    }

    /// For the person who asked.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Operator => "Holdfast: you are not among the operators who may ask for this.",
            Self::Unlinked => "Holdfast: this message belongs to no event that is known here.",
            Self::Gone => "Holdfast: the event is no longer in the log; nothing was done.",
            Self::Late => "Holdfast: the message is too old for this; nothing was done.",
        }
    }
}

/// `keep` is how long it is remembered that something was asked for: after that, a second wish
/// could not be told from the first.
pub(super) fn judge(
    notice: &Notice,
    operators: &Operators,
    subject: Subject,
    now: Timestamp,
    keep: Duration,
) -> Result<(), Denied> {
    let is_operator = |actor: &holdfast_model::Actor| operators.ids.contains(&actor.id);
    if !notice.actor.as_ref().is_some_and(is_operator) {
        return Err(Denied::Operator);
    }
    match subject {
        Subject::None | Subject::Disputed => Err(Denied::Unlinked),
        Subject::Gone => Err(Denied::Gone),
        Subject::Event { sent_at } if now.since(sent_at) > operators.action_ttl.min(keep) => {
            Err(Denied::Late)
        }
        Subject::Event { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use holdfast_model::{Action, Actor};

    use super::*;

    #[test]
    fn only_an_operator_soon_after_a_message_of_ours() {
        let hour = Duration::from_secs(3600);
        let operators = Operators { ids: vec!["U1".to_owned()], action_ttl: hour };
        let notice = |id: Option<&str>| Notice {
            delivery_id: "d".to_owned(),
            action: Action::ActionRequested,
            remote_ids: Vec::new(),
            event: None,
            actor: id.map(|id| Actor { id: id.to_owned(), name: "U1".to_owned() }),
            text: String::new(),
            at: None,
            data: serde_json::json!({ "request": "block" }),
        };
        let now = Timestamp(10 * 3_600_000);
        let sent = |ms| Subject::Event { sent_at: Timestamp(now.0 - ms) };
        let day = 24 * hour;
        #[rustfmt::skip]
        let table = [
            // who, about what, remembered for, verdict
            (Some("U1"), sent(0),                  day,      Ok(())),
            (Some("U1"), sent(3_600_000),          day,      Ok(())),
            (Some("U1"), sent(3_600_001),          day,      Err(Denied::Late)),
            (Some("U1"), sent(1_800_001),          hour / 2, Err(Denied::Late)),
            (Some("U2"), sent(0),                  day,      Err(Denied::Operator)),
            (Some(""),   sent(0),                  day,      Err(Denied::Operator)),
            (None,       sent(0),                  day,      Err(Denied::Operator)),
            (Some("U1"), Subject::None,            day,      Err(Denied::Unlinked)),
            (Some("U1"), Subject::Disputed,        day,      Err(Denied::Unlinked)),
            (Some("U1"), Subject::Gone,            day,      Err(Denied::Gone)),
        ];
        for (who, subject, keep, expected) in table {
            let said = judge(&notice(who), &operators, subject, now, keep);
            assert_eq!(said, expected, "{who:?} {subject:?} {keep:?}");
        }
        let nobody = Operators { ids: Vec::new(), action_ttl: hour };
        assert_eq!(judge(&notice(Some("U1")), &nobody, sent(0), now, day), Err(Denied::Operator));
        assert_eq!(judge(&notice(Some("")), &nobody, sent(0), now, day), Err(Denied::Operator));
    }
}
