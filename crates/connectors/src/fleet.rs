//! The hosts that an `osquery_tls` source knows just now, and the questions that wait for them.
//!
//! A source and the destinations that ask through it find each other by the source's name, in one
//! place of the process.
//!
//! Promises: a question reaches only the host it was asked of, and is answered only by it; a
//! question that nobody waits for any more is not handed out; hosts, and questions for each, have
//! limits.
//!
//! Does not promise to know a host before its first contact in this run.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{Notify, futures::Notified, oneshot},
    time::Instant,
};

/// Most questions that wait for one host.
const QUESTIONS_MAX: usize = 16;

/// How long a silent host keeps its place.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

static FLEETS: Mutex<BTreeMap<String, Arc<Fleet>>> = Mutex::new(BTreeMap::new());

/// The hosts of one source.
#[derive(Debug)]
pub(crate) struct Fleet {
    hosts: Mutex<HashMap<String, Host>>,
    hosts_max: usize,
    /// A host that was silent for so long makes room for another.
    forgotten_after: Duration,
    next: AtomicU64,
    begun: Instant,
    news: Notify,
}

#[derive(Debug)]
struct Host {
    name: String,
    address: IpAddr,
    seen: Instant,
    questions: Vec<Question>,
}

#[derive(Debug)]
struct Question {
    id: String,
    query: String,
    reply: oneshot::Sender<Reply>,
}

/// What a host answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// 0, or SQLite's error.
    pub(crate) status: i64,
    pub(crate) message: String,
    pub(crate) rows: Vec<Value>,
}

/// A question under way. Dropped, it is withdrawn.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What osquery calls the host.
    pub(crate) identifier: String,
    pub(crate) host: String,
    pub(crate) reply: oneshot::Receiver<Reply>,
}

/// Which host is meant.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) name: Option<String>,
    pub(crate) address: Option<IpAddr>,
}

/// Why a question was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAsked {
    #[error("no host with this name or address has enrolled")]
    Unknown,
    #[error("{0} hosts have this name or address, and nothing tells which is meant")]
    Several(usize),
    #[error("{QUESTIONS_MAX} questions wait for the host already")]
    Busy,
}

/// The source's hold on its fleet: others find it until this is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    name: String,
    fleet: Arc<Fleet>,
}

/// Makes the hosts of a source known under its name.
pub(crate) fn serve(name: &str, hosts_max: usize) -> Served {
    let fleet = Arc::new(Fleet::new(hosts_max, FORGOTTEN_AFTER));
    fleets().insert(name.to_owned(), Arc::clone(&fleet));
    Served { name: name.to_owned(), fleet }
}

/// The hosts of the source of this name, while it runs.
pub(crate) fn of(name: &str) -> Option<Arc<Fleet>> {
    fleets().get(name).cloned()
}

fn fleets() -> MutexGuard<'static, BTreeMap<String, Arc<Fleet>>> {
    FLEETS.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Served ===

impl Served {
    pub(crate) fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.fleet)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut fleets = fleets();
        // After a reload another may stand there.
        if fleets.get(&self.name).is_some_and(|other| Arc::ptr_eq(other, &self.fleet)) {
            fleets.remove(&self.name);
        }
        drop(fleets);
        self.fleet.forget();
    }
}

// === impl Fleet ===

impl Fleet {
    fn new(hosts_max: usize, forgotten_after: Duration) -> Self {
        Self {
            hosts: Mutex::default(),
            hosts_max,
            forgotten_after,
            next: AtomicU64::new(1),
            begun: Instant::now(),
            news: Notify::new(),
        }
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits for an answer learns that none will come.
    pub(crate) fn forget(&self) {
        self.hosts().clear();
    }

    /// How long it has been served.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Ends when a host is seen that was not known. Made before looking, so that none is missed.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Notes that a host was heard. `false`: there is no room for one more.
    pub(crate) fn heard(&self, identifier: &str, name: &str, address: IpAddr) -> bool {
        let mut hosts = self.hosts();
        let now = Instant::now();
        if let Some(host) = hosts.get_mut(identifier) {
            (host.address, host.seen) = (address, now);
            if host.name != name {
                host.name = name.to_owned();
            }
            return true;
        }
        if hosts.len() >= self.hosts_max {
            hosts.retain(|_, host| now.duration_since(host.seen) < self.forgotten_after);
            if hosts.len() >= self.hosts_max {
                return false;
            }
        }
        let host = Host { name: name.to_owned(), address, seen: now, questions: Vec::new() };
        hosts.insert(identifier.to_owned(), host);
        drop(hosts);
        self.news.notify_waiters();
        true
    }

    /// Has a question wait for the host's next contact.
    pub(crate) fn ask(&self, wanted: &Wanted, query: &str) -> Result<Asked, NotAsked> {
        let mut hosts = self.hosts();
        let identifier = find(&hosts, wanted)?;
        let Some(host) = hosts.get_mut(&identifier) else { return Err(NotAsked::Unknown) };
        host.questions.retain(|question| !question.reply.is_closed());
        if host.questions.len() >= QUESTIONS_MAX {
            return Err(NotAsked::Busy);
        }
        let (sender, reply) = oneshot::channel();
        let id = format!("holdfast-{}", self.next.fetch_add(1, Ordering::Relaxed));
        host.questions.push(Question { id, query: query.to_owned(), reply: sender });
        Ok(Asked { host: host.name.clone(), identifier, reply })
    }

    /// What the host is asked just now: id and query. Handed out again until it is answered,
    /// because the answer to its last contact may have been lost.
    pub(crate) fn questions(&self, identifier: &str) -> Vec<(String, String)> {
        let mut hosts = self.hosts();
        let Some(host) = hosts.get_mut(identifier) else { return Vec::new() };
        host.questions.retain(|question| !question.reply.is_closed());
        host.questions.iter().map(|one| (one.id.clone(), one.query.clone())).collect()
    }

    /// Takes a host's answer. `false`: nobody waits for it.
    pub(crate) fn answer(&self, identifier: &str, id: &str, reply: Reply) -> bool {
        let mut hosts = self.hosts();
        let Some(host) = hosts.get_mut(identifier) else { return false };
        let Some(at) = host.questions.iter().position(|one| one.id == id) else { return false };
        let question = host.questions.swap_remove(at);
        question.reply.send(reply).is_ok()
    }
}

/// By name first: an address may be one that many share.
fn find(hosts: &HashMap<String, Host>, wanted: &Wanted) -> Result<String, NotAsked> {
    let named = |wanted: &str| -> Vec<(&String, &Host)> {
        let is = |known: &str| known.eq_ignore_ascii_case(wanted);
        let short = |known: &str| known.split('.').next().is_some_and(is);
        let all = hosts.iter();
        all.filter(|(id, host)| is(id) || is(&host.name) || short(&host.name)).collect()
    };
    let mut found = wanted.name.as_deref().map(named).unwrap_or_default();
    if found.is_empty() {
        found = hosts.iter().filter(|(_, host)| Some(host.address) == wanted.address).collect();
    } else if found.len() > 1 && found.iter().any(|(_, h)| Some(h.address) == wanted.address) {
        found.retain(|(_, host)| Some(host.address) == wanted.address);
    }
    match found.as_slice() {
        [] => Err(NotAsked::Unknown),
        [(identifier, _)] => Ok((*identifier).clone()),
        several => Err(NotAsked::Several(several.len())),
    }
}

#[cfg(test)]
impl Fleet {
    /// The first question of a host, once there is one.
    pub(crate) async fn question(&self, identifier: &str) -> (String, String) {
        let waiting = async {
            loop {
                if let Some(first) = self.questions(identifier).pop() {
                    return first;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        found.unwrap_or_else(|_| panic!("nothing is asked of {identifier}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn wanted(name: &str, address: &str) -> Wanted {
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        Wanted { name, address: address.parse().ok() }
    }

    fn reply() -> Reply {
        Reply { status: 0, message: String::new(), rows: Vec::new() }
    }

    #[test]
    fn a_host_is_found_by_name_then_by_address_and_never_guessed() {
        let fleet = Fleet::new(9, FORGOTTEN_AFTER);
        for (identifier, name, address) in [
            ("uuid-1", "web-01.corp.example", "10.0.0.1"),
            ("uuid-2", "DB-01", "10.0.0.2"),
            ("uuid-3", "db-01", "10.0.0.3"),
            ("uuid-4", "nat-1", "192.0.2.1"),
            ("uuid-5", "nat-2", "192.0.2.1"),
        ] {
            assert!(fleet.heard(identifier, name, ip(address)));
        }
        let found = |name: &str, address: &str| {
            fleet.ask(&wanted(name, address), "SELECT 1").map(|asked| asked.identifier)
        };
        for (name, address, expected) in [
            ("web-01", "", Ok("uuid-1")),
            ("WEB-01.corp.example", "10.9.9.9", Ok("uuid-1")),
            ("uuid-2", "", Ok("uuid-2")),
            ("db-01", "10.0.0.3", Ok("uuid-3")),
            ("db-01", "10.9.9.9", Err(NotAsked::Several(2))),
            ("other", "10.0.0.2", Ok("uuid-2")),
            ("", "192.0.2.1", Err(NotAsked::Several(2))),
            ("web", "", Err(NotAsked::Unknown)),
            ("", "", Err(NotAsked::Unknown)),
        ] {
            assert_eq!(found(name, address), expected.map(str::to_owned), "{name} {address}");
        }
    }

    #[test]
    fn a_question_is_its_hosts_alone_and_goes_with_whoever_asked() {
        let fleet = Fleet::new(9, FORGOTTEN_AFTER);
        for name in ["a", "b"] {
            fleet.heard(name, name, ip("10.0.0.1"));
        }
        let mut asked = fleet.ask(&wanted("a", ""), "SELECT 1").unwrap();
        let (id, query) = fleet.questions("a").swap_remove(0);
        assert_eq!((query.as_str(), fleet.questions("b").len()), ("SELECT 1", 0));
        assert_eq!(fleet.questions("a").len(), 1, "until it is answered");
        assert!(!fleet.answer("b", &id, reply()), "another host has nothing to say to it");
        assert!(!fleet.answer("a", "holdfast-0", reply()));
        assert!(fleet.answer("a", &id, reply()));
        assert!(asked.reply.try_recv().is_ok());
        assert!(!fleet.answer("a", &id, reply()), "once");
        drop(fleet.ask(&wanted("a", ""), "SELECT 2").unwrap());
        assert_eq!(fleet.questions("a"), []);
    }

    #[test]
    fn hosts_and_questions_have_limits_and_silent_hosts_make_room() {
        let fleet = Fleet::new(2, FORGOTTEN_AFTER);
        assert!(fleet.heard("a", "a", ip("10.0.0.1")) && fleet.heard("b", "b", ip("10.0.0.2")));
        assert!(!fleet.heard("c", "c", ip("10.0.0.3")));
        assert!(fleet.heard("a", "a", ip("10.0.0.1")), "one that is known");
        let asked: Vec<_> =
            (0..QUESTIONS_MAX).map(|_| fleet.ask(&wanted("a", ""), "SELECT 1").unwrap()).collect();
        assert_eq!(fleet.ask(&wanted("a", ""), "SELECT 1").unwrap_err(), NotAsked::Busy);
        drop(asked);
        assert!(fleet.ask(&wanted("a", ""), "SELECT 1").is_ok());
        let hasty = Fleet::new(1, Duration::ZERO);
        assert!(hasty.heard("a", "a", ip("10.0.0.1")) && hasty.heard("b", "b", ip("10.0.0.2")));
        assert_eq!(hasty.ask(&wanted("a", ""), "SELECT 1").unwrap_err(), NotAsked::Unknown);
    }

    #[test]
    fn a_source_is_found_by_its_name_while_it_runs() {
        let first = serve("of-this-test", 1);
        assert!(Arc::ptr_eq(&of("of-this-test").unwrap(), &first.fleet()));
        let second = serve("of-this-test", 1);
        drop(first);
        assert!(Arc::ptr_eq(&of("of-this-test").unwrap(), &second.fleet()), "the newer stays");
        drop(second);
        assert!(of("of-this-test").is_none());
    }
}
