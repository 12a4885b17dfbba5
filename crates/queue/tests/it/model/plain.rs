//! The queue as plain maps: what should be there after each act.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use holdfast_model::{
    Kind, Name, NewEvent, Reject, RejectReason, Seq, Timestamp, intake::Idempotency,
};
use holdfast_queue::{
    Answer, Append, DeadEnd, DeadId, Engine, QueueEngine, RetryRecord, Settle, Span, StoredEvent,
};

use super::{Act, Fate};
use crate::make::{NOON, batch, dead, noise, retry};

const LANES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alert {
    pub(crate) body: Bytes,
    pub(super) received_at: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    pub(super) settled: BTreeSet<Seq>,
    pub(super) retries: BTreeMap<Seq, (Vec<Seq>, u32)>,
    pub(super) dead: BTreeSet<Seq>,
    pub(super) filtered: u64,
    pub(super) delivered: u64,
    pub(super) expired: u64,
    pub(super) purged: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(super) head: Seq,
    pub(super) now: Timestamp,
    pub(super) alerts: BTreeMap<Seq, Alert>,
    pub(super) rejects: BTreeSet<Seq>,
    pub(super) keys: BTreeMap<[u8; 16], Seq>,
    /// How many batches the source has brought.
    pub(super) position: u64,
    pub(super) lanes: BTreeMap<&'static str, Lane>,
}

/// A call of the queue.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Append(Append),
    Settle(Name, Vec<Settle>),
    Revive(Vec<DeadId>),
    Remove(Vec<DeadId>, DeadEnd),
    Abandon(Name),
    Upkeep(Timestamp),
}

impl Request {
    /// What the queue packs for it.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.events.iter().map(|event| event.body.len()).sum(),
            Self::Settle(_, items) => {
                let records = items.iter().flat_map(|item| &item.retry);
                let members = records.flat_map(|record| &record.members);
                let answers = items.iter().flat_map(|item| &item.answers);
                members.map(|member| member.body.len()).sum::<usize>()
                    + answers.map(|answer| answer.event.body.len()).sum::<usize>()
            }
            _ => 0,
        }
    }

    pub(crate) async fn run(&self, engine: &Engine) -> Result<(), String> {
        let result = match self.clone() {
            Self::Append(append) => engine.append(append).await.map(|_| ()),
            Self::Settle(lane, items) => engine.settle(&lane, items).await,
            Self::Revive(ids) => engine.revive(ids, None).await.map(|_| ()),
            Self::Remove(ids, end) => engine.remove_dead(ids, end).await.map(|_| ()),
            Self::Abandon(lane) => engine.abandon_lane(&lane, DeadEnd::Expired).await.map(|_| ()),
            Self::Upkeep(now) => engine.upkeep(now).await,
        };
        result.map_err(|error| error.to_string())
    }
}

fn key_of(position: u64) -> [u8; 16] {
    (u128::from(position) << 64).to_be_bytes()
}

fn name(lane: &str) -> Name {
    Name::new(lane).unwrap()
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            head: 1,
            now: NOON,
            alerts: BTreeMap::new(),
            rejects: BTreeSet::new(),
            keys: BTreeMap::new(),
            position: 0,
            lanes: LANES.iter().map(|lane| (*lane, Lane::default())).collect(),
        }
    }

    pub(crate) fn lane_names(&self) -> Vec<Name> {
        self.lanes.keys().map(|lane| name(lane)).collect()
    }

    /// The keys of every request so far, and of the next few.
    pub(crate) fn possible_keys(&self) -> impl Iterator<Item = [u8; 16]> {
        (1..self.position + 10).map(key_of)
    }

    fn stored(&self, seq: Seq) -> StoredEvent {
        let alert = &self.alerts[&seq];
        StoredEvent {
            seq,
            kind: Kind::Alert,
            source: "wazuh".into(),
            received_at: alert.received_at,
            parent: None,
            body: alert.body.clone(),
        }
    }

    /// Does it to the maps. Gives the call that does it to the queue, and the maps at its moments
    /// in between at which a crash may leave it.
    pub(crate) fn plan(&mut self, act: &Act) -> (Option<Request>, Vec<Self>) {
        let lane_of = |lane: &u8| LANES[usize::from(*lane) % LANES.len()];
        match act {
            Act::Append { events, bytes, rejects, keyed } => {
                (Some(self.append(*events, *bytes, *rejects, *keyed)), Vec::new())
            }
            Act::Settle { lane, skip, items } => self.settle(lane_of(lane), *skip, items),
            Act::Resettle { lane, pick, fates } => {
                (self.resettle(lane_of(lane), *pick, fates), Vec::new())
            }
            Act::Revive { lane, picks } => self.with_dead(lane_of(lane), picks, None),
            Act::Purge { lane, picks, expired } => {
                let end = if *expired { DeadEnd::Expired } else { DeadEnd::Purged };
                self.with_dead(lane_of(lane), picks, Some(end))
            }
            Act::Abandon { lane } => self.abandon(lane_of(lane)),
            Act::Upkeep { hours } => {
                self.now.0 += u64::from(*hours) * 3_600_000;
                (Some(Request::Upkeep(self.now)), Vec::new())
            }
        }
    }

    fn append(&mut self, events: u8, bytes: u32, rejects: u8, keyed: bool) -> Request {
        let first = self.head;
        let mut new = Vec::new();
        for _ in 0..events {
            // Their sizes differ, so that chunks are cut in many places.
            let bytes = (u64::from(bytes) * (self.head % 7 + 1) / 7) as usize;
            let body = noise(bytes, self.head);
            self.alerts.insert(self.head, Alert { body: body.clone(), received_at: self.now });
            new.push(NewEvent::alert(body));
            self.head += 1;
        }
        let mut bad = Vec::new();
        for _ in 0..rejects {
            self.rejects.insert(self.head);
            let raw = noise(50, self.head);
            bad.push(Reject { reason: RejectReason::Invalid, message: String::new(), raw });
            self.head += 1;
        }
        self.position += 1;
        let key = key_of(self.position);
        let idempotency = keyed.then_some(Idempotency { key, body: [7; 8] });
        if keyed {
            self.keys.insert(key, if events > 0 { first } else { 0 });
        }
        Request::Append(Append {
            rejects: bad,
            position: Some(("wazuh".into(), Bytes::from(self.position.to_string()))),
            idempotency,
            from_source: false,
            ..batch("wazuh", self.now, new)
        })
    }

    fn settle(
        &mut self,
        lane: &'static str,
        skip: u8,
        items: &[Vec<Fate>],
    ) -> (Option<Request>, Vec<Self>) {
        let unsettled = |model: &Self| {
            let settled = &model.lanes[lane].settled;
            model.alerts.keys().copied().filter(|seq| !settled.contains(seq)).collect::<Vec<_>>()
        };
        let (mut requests, mut between) = (Vec::new(), Vec::new());
        for fates in items {
            let open = unsettled(self);
            let skip = usize::from(skip) % (open.len() + 1);
            let picked: Vec<Seq> = open.into_iter().skip(skip).take(fates.len()).collect();
            let mut item = self.fates(lane, &picked, fates, 1);
            item.spans = picked.iter().copied().map(Span::one).collect();
            self.lanes.get_mut(lane).unwrap().settled.extend(&picked);
            requests.push(item);
            between.push(self.clone());
        }
        (Some(Request::Settle(name(lane), requests)), between)
    }

    /// What becomes of these events, in the maps and as a settlement.
    fn fates(&mut self, lane: &'static str, seqs: &[Seq], fates: &[Fate], tries: u32) -> Settle {
        let mut item = Settle::default();
        let (mut together, mut answers) = (Vec::new(), Vec::new());
        let stored: BTreeMap<Seq, StoredEvent> =
            seqs.iter().map(|seq| (*seq, self.stored(*seq))).collect();
        let maps = self.lanes.get_mut(lane).unwrap();
        let mut wait = |members: Vec<Seq>, item: &mut Settle| {
            let Some(first) = members.first() else { return };
            let record = retry(members.iter().map(|seq| stored[seq].clone()).collect());
            item.retry.push(RetryRecord { tries, ..record });
            maps.retries.insert(*first, (members, tries));
        };
        for (seq, fate) in seqs.iter().zip(fates.iter().cycle()) {
            match fate {
                Fate::Delivered => item.delivered += 1,
                Fate::Answered(bytes) => {
                    item.delivered += 1;
                    answers.push(usize::from(*bytes) * 100);
                }
                Fate::Filtered => item.filtered += 1,
                Fate::Expired => item.expired += 1,
                Fate::Purged => item.purged += 1,
                Fate::Retry => wait(vec![*seq], &mut item),
                Fate::RetryTogether => together.push(*seq),
                Fate::Dead => item.dead.push(dead(stored[seq].clone())),
            }
        }
        wait(together, &mut item);
        maps.dead.extend(item.dead.iter().map(|letter| letter.event.seq));
        maps.delivered += item.delivered;
        maps.filtered += item.filtered;
        maps.expired += item.expired;
        maps.purged += item.purged;
        item.answers = answers.into_iter().map(|bytes| self.answer(bytes)).collect();
        item
    }

    /// An event that comes with a settlement.
    fn answer(&mut self, bytes: usize) -> Answer {
        let body = noise(bytes, self.head);
        self.alerts.insert(self.head, Alert { body: body.clone(), received_at: self.now });
        self.head += 1;
        let event = NewEvent { kind: Kind::Lookup, parent: None, body };
        Answer { source: "vt".into(), received_at: self.now, event }
    }

    fn resettle(&mut self, lane: &'static str, pick: u8, fates: &[Fate]) -> Option<Request> {
        let maps = self.lanes.get_mut(lane).unwrap();
        let ids: Vec<Seq> = maps.retries.keys().copied().collect();
        let id = *ids.get(usize::from(pick) % ids.len().max(1))?;
        let (members, tries) = maps.retries.remove(&id)?;
        let item = self.fates(lane, &members, fates, tries + 1);
        let item = Settle { retries_done: vec![id], ..item };
        Some(Request::Settle(name(lane), vec![item]))
    }

    /// Removes some dead letters, or brings them back to pending.
    fn with_dead(
        &mut self,
        lane: &'static str,
        picks: &[u8],
        end: Option<DeadEnd>,
    ) -> (Option<Request>, Vec<Self>) {
        let all: Vec<Seq> = self.lanes[lane].dead.iter().copied().collect();
        if all.is_empty() {
            return (None, Vec::new());
        }
        let picked: BTreeSet<Seq> =
            picks.iter().map(|pick| all[usize::from(*pick) % all.len()]).collect();
        let mut between = Vec::new();
        for seq in &picked {
            let maps = self.lanes.get_mut(lane).unwrap();
            maps.dead.remove(seq);
            match end {
                Some(DeadEnd::Purged) => maps.purged += 1,
                Some(DeadEnd::Expired) => maps.expired += 1,
                None => {
                    maps.retries.insert(*seq, (vec![*seq], 1));
                }
            }
            between.push(self.clone());
        }
        let ids = picked.iter().map(|seq| DeadId { owner: lane.to_owned(), seq: *seq }).collect();
        let request = match end {
            Some(end) => Request::Remove(ids, end),
            None => Request::Revive(ids),
        };
        (Some(request), between)
    }

    fn abandon(&mut self, lane: &'static str) -> (Option<Request>, Vec<Self>) {
        let mut between = Vec::new();
        while let Some((_, (members, _))) = self.lanes.get_mut(lane).unwrap().retries.pop_first() {
            self.lanes.get_mut(lane).unwrap().expired += members.len() as u64;
            between.push(self.clone());
        }
        let all: Vec<Seq> = self.alerts.keys().copied().collect();
        let maps = self.lanes.get_mut(lane).unwrap();
        maps.expired += all.iter().filter(|seq| maps.settled.insert(**seq)).count() as u64;
        (Some(Request::Abandon(name(lane))), between)
    }
}
