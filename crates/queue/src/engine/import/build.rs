//! From checked lines to what the store holds. The same lines give the same writes.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use holdfast_model::{LogId, Name, NewEvent, Seq};

use crate::{
    chunk::{CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX, Entry, Head, Packed},
    engine::{
        keys,
        lane::Lane,
        lines::{
            DeadLine, EventLine, FORMAT, LaneLine, Line, LostLine, NOT_RAW, QueueLine, RawLine,
            RetryLine, Wrong,
        },
        state::{Meta, bare},
    },
    error::QueueError,
    record::{Sealed, VALUE_BYTES_MAX, part_key},
    store::Write,
    types::{DeadBox, DeadId},
};

/// Takes lines in their order, and gives writes.
#[derive(Default)]
pub(super) struct Builder {
    /// Ready to be applied; whoever takes them empties it.
    pub(super) writes: Vec<Write>,
    meta: Option<Meta>,
    rank: u8,
    /// Below this every event is taken.
    next_seq: Seq,
    events: u64,
    chunk_bytes: u64,
    open: Vec<Entry>,
    open_first: Seq,
    open_bytes: usize,
    last_retry: Option<(String, Seq)>,
    last_dead: Option<DeadId>,
    last_raw: Vec<u8>,
    /// Members of a lane's retry records.
    retrying: BTreeMap<String, u64>,
    boxes: BTreeMap<String, DeadBox>,
    lanes: BTreeMap<String, ()>,
    ended: bool,
}

impl Builder {
    pub(super) fn log(&self) -> Option<&LogId> {
        self.meta.as_ref().map(|meta| &meta.log_id)
    }

    pub(super) fn take(&mut self, line: Line, number: u64) -> Result<(), Wrong> {
        let rank = line.rank();
        if rank < self.rank || (rank == 0 && self.meta.is_some()) || self.ended {
            return Err(Wrong::new("record", "a line of this kind cannot stand here"));
        }
        if rank != 0 && self.meta.is_none() {
            return Err(Wrong::new("record", "the first line must be the one of the queue"));
        }
        if self.rank == 1 && rank != 1 {
            self.seal().map_err(unpacked)?;
        }
        self.rank = rank;
        match line {
            Line::Queue(line) => self.queue(line),
            Line::Event(line) => self.event(line),
            Line::Lost(line) => self.lost(&line),
            Line::Retry(line) => self.retry(&line),
            Line::DeadLetter(line) => self.dead_letter(line),
            Line::Lane(line) => self.lane(line),
            Line::Raw(line) => self.raw(&line),
            Line::End(line) => {
                self.ended = true;
                let problem = format!("it says {}, but this is line {number}", line.lines);
                if line.lines == number { Ok(()) } else { Err(Wrong::new("lines", problem)) }
            }
        }
    }

    /// The queue's own records, which come last: without them the store is no queue.
    pub(super) fn finish(&mut self) -> Result<Vec<Write>, Wrong> {
        if !self.ended {
            return Err(Wrong::new("", "the line of the end is missing, so the file is cut short"));
        }
        self.seal().map_err(unpacked)?;
        let Some(mut meta) = self.meta.clone() else { return Err(Wrong::new("", "it is empty")) };
        let counted = meta.events_trimmed + self.events;
        if meta.events_total != counted {
            let problem = format!(
                "line 1 counts {} events, with the trimmed ones; the file holds {counted}",
                meta.events_total
            );
            return Err(Wrong::new("queue.events_total", problem));
        }
        if let Some((lane, _)) =
            self.retrying.iter().find(|(lane, _)| !self.lanes.contains_key(*lane))
        {
            return Err(Wrong::new("retry_of", format!("there is no line of lane `{lane}`")));
        }
        meta.chunk_bytes = self.chunk_bytes;
        meta.merged_to = 1;
        let mut last = Vec::new();
        let small = |key: &[u8], sealed: Result<Sealed, QueueError>| {
            sealed.and_then(|sealed| bare(key, &sealed)).map_err(unpacked)
        };
        for (owner, dead) in &self.boxes {
            last.push(small(&keys::dead_box(owner), Sealed::new(dead))?);
        }
        last.push(small(keys::META, Sealed::new(&meta))?);
        last.push(Write::Put(keys::FORMAT.to_vec(), keys::FORMAT_NAME.as_bytes().to_vec()));
        Ok(last)
    }

    fn queue(&mut self, line: QueueLine) -> Result<(), Wrong> {
        if line.format != FORMAT {
            let problem = format!("\"{}\"; this version reads \"{FORMAT}\"", line.format);
            return Err(Wrong::new("format", problem));
        }
        if line.layout != keys::FORMAT_NAME {
            let problem = format!(
                "\"{}\"; this version reads \"{}\", so import with the version that exported",
                line.layout,
                keys::FORMAT_NAME
            );
            return Err(Wrong::new("layout", problem));
        }
        if LogId::new(line.queue.log_id.as_str()).is_err() {
            return Err(Wrong::new("queue.log_id", "it is not ten characters of a-z and 0-9"));
        }
        if line.queue.events_trimmed > line.queue.events_total {
            return Err(Wrong::new("queue.events_trimmed", "it is more than `events_total`"));
        }
        self.meta = Some(line.queue);
        Ok(())
    }

    /// The next stretch of the log begins here.
    fn place(&mut self, seq: Seq, count: u64) -> Result<(), Wrong> {
        if seq < self.next_seq || seq == 0 {
            return Err(Wrong::new("seq", format!("{seq} does not rise")));
        }
        let head = self.meta.as_ref().map_or(0, |meta| meta.next_seq);
        let Some(end) = seq.checked_add(count).filter(|end| *end <= head) else {
            let problem = format!("{seq} is not below the head of line 1, {head}");
            return Err(Wrong::new("seq", problem));
        };
        let follows = self.open_first + self.open.len() as Seq == seq;
        let full = self.open.len() >= CHUNK_EVENTS_MAX || self.open_bytes >= CHUNK_BYTES_MAX;
        if full || !follows {
            self.seal().map_err(unpacked)?;
        }
        self.next_seq = end;
        Ok(())
    }

    fn event(&mut self, line: EventLine) -> Result<(), Wrong> {
        self.check_id(&line.id, line.seq)?;
        let parent = match line.parent.as_deref().map(str::parse) {
            None => None,
            Some(Ok(parent)) => Some(parent),
            Some(Err(error)) => return Err(Wrong::new("parent", format!("it is {error}"))),
        };
        self.place(line.seq, 1)?;
        if self.open.is_empty() {
            self.open_first = line.seq;
        }
        self.open_bytes += line.alert.len();
        let event = NewEvent { kind: line.kind, parent, body: line.alert };
        self.open.push(Entry { source: line.source.into(), received_at: line.received_at, event });
        Ok(())
    }

    fn lost(&mut self, line: &LostLine) -> Result<(), Wrong> {
        if line.count == 0 || line.count > u64::from(u16::MAX) {
            return Err(Wrong::new("count", format!("{} is not within 1 to 65535", line.count)));
        }
        self.place(line.seq, line.count)?;
        self.seal().map_err(unpacked)?;
        let before = self.before();
        let tombstone = Head::tombstone(line.count, before, line.received_at);
        let key = part_key(&keys::chunk(line.seq), 0);
        self.writes.push(Write::Put(key, tombstone.encode().to_vec()));
        self.chunk_bytes += tombstone.size();
        self.events += line.count;
        Ok(())
    }

    fn before(&self) -> u64 {
        self.meta.as_ref().map_or(0, |meta| meta.events_trimmed) + self.events
    }

    /// Packs the chunk under way.
    fn seal(&mut self) -> Result<(), QueueError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let open = std::mem::take(&mut self.open);
        self.open_bytes = 0;
        let packed = Packed::new(&open)?;
        self.writes.extend(packed.writes(&keys::chunk(self.open_first), self.before()));
        self.chunk_bytes += packed.size();
        self.events += open.len() as u64;
        Ok(())
    }

    fn check_id(&self, id: &str, seq: Seq) -> Result<(), Wrong> {
        let expected = self.log().map(|log| log.event(seq).to_string()).unwrap_or_default();
        if id == expected {
            return Ok(());
        }
        Err(Wrong::new("id", format!("\"{id}\" must be \"{expected}\", by the log and `seq`")))
    }

    fn retry(&mut self, line: &RetryLine) -> Result<(), Wrong> {
        let lane = name("retry_of", &line.retry_of)?;
        let id = line.retry.id();
        if line.retry.members.is_empty() {
            return Err(Wrong::new("retry.members", "it is empty"));
        }
        let place = (lane.to_string(), id);
        if self.last_retry.as_ref().is_some_and(|last| *last >= place) {
            return Err(Wrong::new("retry.members[0].seq", "lanes and numbers do not rise"));
        }
        let sealed = Sealed::new(&line.retry).map_err(unpacked)?;
        self.writes.extend(sealed.writes(&keys::retry(lane.as_str(), id, 0)));
        *self.retrying.entry(place.0.clone()).or_default() += line.retry.members.len() as u64;
        self.last_retry = Some(place);
        Ok(())
    }

    fn dead_letter(&mut self, mut line: DeadLine) -> Result<(), Wrong> {
        let seq = line.dead_letter.event.seq;
        let owner = line.dead_letter_of.clone();
        let source = owner.strip_prefix("source.");
        name("dead_letter_of", source.unwrap_or(&owner))?;
        self.check_id(&line.id, seq)?;
        let id = DeadId { owner: owner.clone(), seq };
        if self
            .last_dead
            .as_ref()
            .is_some_and(|last| keys::dead(&last.owner, last.seq) >= keys::dead(&owner, seq))
        {
            return Err(Wrong::new("dead_letter.event.seq", "owners and numbers do not rise"));
        }
        if source.is_some() {
            // As a source's own are stored: their number is in the key alone.
            line.dead_letter.event.seq = 0;
        }
        let key = keys::dead(&owner, seq);
        let sealed = Sealed::new(&line.dead_letter).map_err(unpacked)?;
        self.writes.extend(sealed.writes(&key));
        let dead = self.boxes.entry(owner.clone());
        let dead = dead.or_insert_with(|| DeadBox { owner, ..DeadBox::default() });
        dead.count += 1;
        dead.bytes += sealed.size(&key);
        self.last_dead = Some(id);
        Ok(())
    }

    fn lane(&mut self, line: LaneLine) -> Result<(), Wrong> {
        let name = name("lane", &line.lane)?;
        if self.lanes.insert(name.to_string(), ()).is_some() {
            return Err(Wrong::new("lane", "it stands here twice"));
        }
        let (lane, retrying) = Lane::from_record(line.is.clone());
        let found = self.retrying.get(name.as_str()).copied().unwrap_or(0);
        if retrying != found {
            let problem = format!("it says {retrying}, but the file holds {found}");
            return Err(Wrong::new("is.retrying", problem));
        }
        let head = self.meta.as_ref().map_or(0, |meta| meta.next_seq);
        if lane.spans.position() > head {
            return Err(Wrong::new("is.position", format!("it is behind the head, {head}")));
        }
        lane.parts_with(0, 0).map_err(unpacked)?;
        let sealed = Sealed::new(&line.is).map_err(unpacked)?;
        self.writes.extend(sealed.writes(&keys::lane(name.as_str())));
        Ok(())
    }

    fn raw(&mut self, line: &RawLine) -> Result<(), Wrong> {
        let decode = |field: &str, text: &str| {
            STANDARD.decode(text).map_err(|error| Wrong::new(field, format!("not base64: {error}")))
        };
        let (key, value) = (decode("key", &line.key)?, decode("value", &line.value)?);
        if key.first().is_none_or(|letter| NOT_RAW.contains(letter)) {
            return Err(Wrong::new("key", "such a record has a line of its own"));
        }
        if key <= self.last_raw {
            return Err(Wrong::new("key", "keys do not rise"));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(Wrong::new("value", format!("it has more than {VALUE_BYTES_MAX} bytes")));
        }
        self.last_raw.clone_from(&key);
        self.writes.push(Write::Put(key, value));
        Ok(())
    }
}

fn name(field: &str, text: &str) -> Result<Name, Wrong> {
    Name::new(text).map_err(|error| Wrong::new(field, error.to_string()))
}

fn unpacked(error: QueueError) -> Wrong {
    Wrong::new("", error.to_string())
}
