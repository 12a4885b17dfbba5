//! The retry records of a lane, by due time. In memory only their heads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use holdfast_model::{Seq, Timestamp};
use holdfast_queue::{RetryHead, Slots};

use crate::order::Taken;

/// See the module header.
#[derive(Debug, Default)]
pub(super) struct Retries {
    by_due: BTreeSet<(Timestamp, Seq)>,
    /// The same of what replays brought back, where that goes below the rest.
    by_due_of_jobs: BTreeSet<(Timestamp, Seq)>,
    jobs_below: bool,
    /// By when their oldest member was received: it is shown at every turn of the lane's loop.
    by_age: BTreeSet<(Timestamp, Seq)>,
    heads: BTreeMap<Seq, RetryHead>,
    taken: Taken,
    members: u64,
    /// Those in doubt must not be tried before: a search would miss them.
    not_before: HashMap<Seq, Timestamp>,
}

impl Retries {
    /// `jobs_below`: what replays brought back goes below the rest.
    pub(super) fn new(jobs_below: bool) -> Self {
        Self { jobs_below, ..Self::default() }
    }

    fn queue(&mut self, head: &RetryHead) -> &mut BTreeSet<(Timestamp, Seq)> {
        match head.job {
            Some(_) if self.jobs_below => &mut self.by_due_of_jobs,
            Some(_) | None => &mut self.by_due,
        }
    }

    /// In the order in which they are due, those of replays last.
    fn in_order(&self) -> impl Iterator<Item = (Timestamp, Seq)> + '_ {
        self.by_due.iter().chain(&self.by_due_of_jobs).copied()
    }

    pub(super) fn add(&mut self, head: RetryHead) {
        self.remove(head.id);
        self.queue(&head).insert((head.due, head.id));
        self.by_age.insert((head.oldest, head.id));
        self.members += u64::from(head.members);
        self.taken.add(head.slots);
        self.heads.insert(head.id, head);
    }

    pub(super) fn remove(&mut self, id: Seq) -> Option<RetryHead> {
        let head = self.heads.remove(&id)?;
        self.queue(&head).remove(&(head.due, id));
        self.by_age.remove(&(head.oldest, id));
        self.members -= u64::from(head.members);
        self.taken.remove(head.slots);
        self.not_before.remove(&id);
        Some(head)
    }

    /// Whatever makes the record due earlier, it is not tried before then.
    pub(super) fn hold(&mut self, id: Seq, until: Timestamp) {
        let Some(mut head) = self.heads.get(&id).copied() else { return };
        self.not_before.insert(id, until);
        self.queue(&head).remove(&(head.due, id));
        head.due = head.due.max(until);
        self.queue(&head).insert((head.due, id));
        self.heads.insert(id, head);
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Seq> + '_ {
        self.heads.keys().copied()
    }

    /// Events in the records, those in flight not counted.
    pub(super) fn members(&self) -> u64 {
        self.members
    }

    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.by_age.first().map(|(oldest, _)| *oldest)
    }

    /// When the first is due; one that a replay brought back only when there is no other.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let first = self.by_due.first().or_else(|| self.by_due_of_jobs.first());
        first.map(|(due, _)| *due)
    }

    /// When the next is due of those that are not due now.
    pub(super) fn next_due_later(&self, now: Timestamp) -> Option<Timestamp> {
        let later = (Timestamp(now.0.saturating_add(1)), 0);
        let next = |queue: &BTreeSet<(Timestamp, Seq)>| queue.range(later..).next().copied();
        let nexts = [next(&self.by_due), next(&self.by_due_of_jobs)];
        nexts.into_iter().flatten().map(|(due, _)| due).min()
    }

    /// Takes one that is due.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<RetryHead> {
        let (due, id) = *self.by_due.first()?;
        if due > now { None } else { self.remove(id) }
    }

    /// Takes one that a replay brought back and that is due.
    pub(super) fn take_due_of_job(&mut self, now: Timestamp) -> Option<RetryHead> {
        let (due, id) = *self.by_due_of_jobs.first()?;
        if due > now { None } else { self.remove(id) }
    }

    /// Takes the first, due or not, but `other_than` only when there is no other, and none that
    /// must wait.
    pub(super) fn take_any(
        &mut self,
        other_than: Option<Seq>,
        now: Timestamp,
    ) -> Option<RetryHead> {
        let held = |id: &Seq| self.not_before.get(id).is_some_and(|until| *until > now);
        let fits = |id: &Seq| Some(*id) != other_than && !held(id);
        let id = self.in_order().map(|(_, id)| id).find(fits)?;
        self.remove(id)
    }

    /// The slots of all events in the records.
    pub(super) fn slots(&self) -> Slots {
        self.taken.slots()
    }

    /// The same without some records.
    pub(super) fn slots_but(&self, is_left_out: impl Fn(Seq) -> bool) -> Slots {
        let counted = self.heads.values().filter(|head| !is_left_out(head.id));
        counted.fold(Slots::NONE, |all, head| all.with(head.slots))
    }

    /// The records with nothing before them in their slots, neither another record nor what is
    /// `busy`. One that `steps_aside` says of holds no other back.
    fn free(
        &self,
        busy: Slots,
        steps_aside: impl Fn(Seq) -> bool,
    ) -> impl Iterator<Item = &RetryHead> {
        let mut blocked = busy;
        let of_order = self.heads.values().map(move |head| {
            let is_free = !head.slots.overlaps(blocked);
            if !steps_aside(head.id) {
                blocked = blocked.with(head.slots);
            }
            (is_free, head)
        });
        of_order.filter_map(|(is_free, head)| is_free.then_some(head))
    }

    /// Takes the oldest that is free in its order and that `may` go, and none that must wait.
    pub(super) fn take_first(
        &mut self,
        busy: Slots,
        now: Timestamp,
        steps_aside: impl Fn(Seq) -> bool,
        may: impl Fn(&RetryHead) -> bool,
    ) -> Option<RetryHead> {
        let held = |id: &Seq| self.not_before.get(id).is_some_and(|until| *until > now);
        let mut free = self.free(busy, steps_aside);
        let id = free.find(|head| may(head) && !held(&head.id))?.id;
        drop(free);
        self.remove(id)
    }

    /// When the first of those that are free in their order is due.
    pub(super) fn next_due_in_order(
        &self,
        busy: Slots,
        steps_aside: impl Fn(Seq) -> bool,
    ) -> Option<Timestamp> {
        self.free(busy, steps_aside).map(|head| head.due).min()
    }

    /// Those that may have been under way when the last run ended: due by then, and the first of
    /// them, as many as hold `members_max` events.
    pub(super) fn first_due(&self, now: Timestamp, members_max: usize) -> HashSet<Seq> {
        let mut members = 0;
        let due = self.in_order().filter(|(due, _)| *due <= now).map(|(_, id)| id);
        due.take_while(|id| {
            let fits = members < members_max;
            members += self.heads.get(id).map_or(0, |head| head.members as usize);
            fits
        })
        .collect()
    }

    /// Whether there is one that `is_known` does not name.
    pub(super) fn any_other(&self, is_known: impl Fn(Seq) -> bool) -> bool {
        self.heads.keys().any(|id| !is_known(*id))
    }

    pub(super) fn contains(&self, id: Seq) -> bool {
        self.heads.contains_key(&id)
    }

    /// Makes everything due.
    pub(super) fn due_now(&mut self, now: Timestamp) {
        self.reschedule(now);
    }

    /// After a start or a jump of the clock nothing waits longer than `wait_max`.
    pub(super) fn clamp(&mut self, now: Timestamp, wait_max: Duration) {
        let latest = now.saturating_add(wait_max);
        self.not_before.values_mut().for_each(|until| *until = (*until).min(latest));
        self.reschedule(latest);
    }

    fn reschedule(&mut self, latest: Timestamp) {
        self.by_due.clear();
        self.by_due_of_jobs.clear();
        for mut head in std::mem::take(&mut self.heads).into_values() {
            let held = self.not_before.get(&head.id).copied().unwrap_or_default();
            head.due = head.due.min(latest).max(held);
            self.queue(&head).insert((head.due, head.id));
            self.heads.insert(head.id, head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(id: Seq, due: u64) -> RetryHead {
        RetryHead {
            id,
            members: 2,
            due: Timestamp(due),
            oldest: Timestamp(id),
            in_doubt: false,
            job: None,
            slots: Slots::NONE,
        }
    }

    #[test]
    fn records_come_by_due_time_and_a_probe_prefers_another() {
        let mut retries = Retries::default();
        [head(1, 50), head(2, 30), head(3, 90)].into_iter().for_each(|head| retries.add(head));
        assert_eq!(retries.members(), 6);
        assert_eq!(retries.take_due(Timestamp(29)), None);
        assert_eq!(retries.take_due(Timestamp(30)).map(|head| head.id), Some(2));
        assert_eq!(retries.take_any(Some(1), Timestamp(0)).map(|head| head.id), Some(3));
        assert_eq!(retries.take_any(Some(1), Timestamp(0)), None);
        assert_eq!((retries.members(), retries.oldest()), (2, Some(Timestamp(1))));
    }

    #[test]
    fn in_order_only_the_oldest_of_a_slot_may_go_and_one_that_steps_aside_holds_nothing_back() {
        let mut retries = Retries::default();
        let at = |id, due, slots| RetryHead { slots: Slots(slots), ..head(id, due) };
        [at(1, 90, 0b01), at(2, 10, 0b01), at(3, 20, 0b10), at(4, 5, 0b11)]
            .into_iter()
            .for_each(|head| retries.add(head));
        assert_eq!(retries.slots(), Slots(0b11));
        assert_eq!(retries.next_due_in_order(Slots::NONE, |_| false), Some(Timestamp(20)));
        let now = Timestamp(1_000);
        let due = |now| move |head: &RetryHead| head.due <= Timestamp(now);
        assert_eq!(retries.take_first(Slots::NONE, now, |_| false, due(19)), None);
        assert_eq!(retries.take_first(Slots(0b10), now, |_| false, due(50)), None, "busy");
        let id = |head: Option<RetryHead>| head.map(|head| head.id);
        assert_eq!(id(retries.take_first(Slots::NONE, now, |_| false, due(50))), Some(3));
        assert_eq!(id(retries.take_first(Slots::NONE, now, |id| id == 1, due(50))), Some(2));
        assert_eq!(retries.slots_but(|id| id == 4), Slots(0b01));
        retries.hold(1, Timestamp(2_000));
        assert_eq!(retries.take_first(Slots::NONE, now, |_| false, |_| true), None, "held");
    }

    #[test]
    fn what_may_have_been_under_way_is_bounded_by_events() {
        let mut retries = Retries::default();
        [head(1, 50), head(2, 30), head(3, 40), head(4, 99)]
            .into_iter()
            .for_each(|head| retries.add(head));
        assert_eq!(retries.first_due(Timestamp(50), 3), HashSet::from([2, 3]));
        assert_eq!(retries.first_due(Timestamp(50), 100), HashSet::from([1, 2, 3]));
    }

    #[test]
    fn a_jump_of_the_clock_makes_nothing_wait_longer_than_its_schedule() {
        let mut retries = Retries::default();
        retries.add(head(1, 1_000_000));
        retries.clamp(Timestamp(1_000), Duration::from_secs(5));
        assert_eq!(retries.next_due(), Some(Timestamp(6_000)));
    }

    #[test]
    fn what_a_search_would_miss_is_tried_early_by_nobody() {
        let mut retries = Retries::default();
        [head(1, 50), head(2, 90)].into_iter().for_each(|head| retries.add(head));
        retries.hold(1, Timestamp(70));
        retries.due_now(Timestamp(40));
        assert_eq!(retries.next_due(), Some(Timestamp(40)));
        assert_eq!(retries.take_any(Some(2), Timestamp(69)), None);
        assert_eq!(retries.take_due(Timestamp(69)).map(|head| head.id), Some(2));
        assert_eq!(retries.take_due(Timestamp(69)), None);
        assert_eq!(retries.take_any(None, Timestamp(70)).map(|head| head.id), Some(1));
        retries.add(head(1, 50));
        retries.hold(1, Timestamp(1_000_000));
        retries.clamp(Timestamp(100), Duration::from_secs(1));
        assert_eq!(retries.next_due(), Some(Timestamp(1_100)), "the clock has jumped");
    }
}
