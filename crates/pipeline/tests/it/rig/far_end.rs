//! The far end of a lane: it remembers every request and answers by a script.

use std::{
    collections::HashSet,
    error::Error,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use holdfast_model::{Delivered, DeliveryError, Destination, Reason, Receipt, Seq, Shipment};
use tokio::time::Instant;

/// One request as the far end saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// Since the far end was made.
    pub(crate) at: Duration,
    pub(crate) key: String,
    pub(crate) seqs: Vec<Seq>,
    /// Which try it was, by what the members say.
    pub(crate) attempt: u32,
    pub(crate) in_doubt: bool,
    pub(crate) rules: Vec<String>,
}

impl Request {
    /// The only event's number.
    pub(crate) fn seq(&self) -> Seq {
        assert_eq!(self.seqs.len(), 1, "{self:?}");
        self.seqs[0]
    }
}

/// What the far end does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Take,
    Duplicate,
    Fail(Reason),
    /// With a `Retry-After`.
    FailFor(Reason, Duration),
    /// One for each member; `None` takes it.
    Each(Vec<Option<Reason>>),
    Hang,
    Panic,
    After(Duration, Box<Answer>),
}

pub(crate) fn throttle(seconds: u64) -> Answer {
    Answer::FailFor(Reason::Throttled, Duration::from_secs(seconds))
}

type Script = Box<dyn FnMut(&Request) -> Answer + Send>;

/// See the module header.
pub(crate) struct FarEnd {
    begin: Instant,
    script: Mutex<Script>,
    log: Mutex<Vec<Request>>,
    taken: Mutex<Vec<Seq>>,
    under_way: AtomicUsize,
    pub(crate) most_under_way: AtomicUsize,
    pub(crate) checks: AtomicU64,
    check: Mutex<Option<Result<(), Reason>>>,
    pub(crate) refreshes: AtomicU64,
    pub(crate) secret_changed: AtomicBool,
    search_lag: Mutex<Option<Duration>>,
}

impl FarEnd {
    /// Takes everything at once.
    pub(crate) fn new() -> Arc<Self> {
        Self::answering(|_| Answer::Take)
    }

    pub(crate) fn answering(script: impl FnMut(&Request) -> Answer + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            begin: Instant::now(),
            script: Mutex::new(Box::new(script)),
            log: Mutex::default(),
            taken: Mutex::default(),
            under_way: AtomicUsize::default(),
            most_under_way: AtomicUsize::default(),
            checks: AtomicU64::default(),
            check: Mutex::default(),
            refreshes: AtomicU64::default(),
            secret_changed: AtomicBool::default(),
            search_lag: Mutex::default(),
        })
    }

    pub(crate) fn answers(&self, script: impl FnMut(&Request) -> Answer + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// It searches for what may have arrived, and its search lags so long.
    pub(crate) fn searches(&self, lag: Duration) {
        *self.search_lag.lock().unwrap() = Some(lag);
    }

    pub(crate) fn check_answers(&self, answer: Result<(), Reason>) {
        *self.check.lock().unwrap() = Some(answer);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// The events that were taken, in order; twice what was taken twice.
    pub(crate) fn taken(&self) -> Vec<Seq> {
        self.taken.lock().unwrap().clone()
    }

    pub(crate) fn distinct_taken(&self) -> usize {
        self.taken.lock().unwrap().iter().collect::<HashSet<_>>().len()
    }

    pub(crate) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    /// Requests for one event.
    pub(crate) fn requests_for(&self, seq: Seq) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.seqs.contains(&seq)).collect()
    }

    async fn act(&self, request: Request, answer: Answer) -> Result<Delivered, DeliveryError> {
        let take = |seqs: &[Seq]| self.taken.lock().unwrap().extend(seqs);
        match answer {
            Answer::Take => {
                take(&request.seqs);
                Ok(Delivered::All(Receipt { status: Some(200), ..Receipt::default() }))
            }
            Answer::Duplicate => {
                take(&request.seqs);
                Ok(Delivered::All(Receipt { duplicate: true, ..Receipt::default() }))
            }
            Answer::Fail(reason) => Err(DeliveryError::new(reason).with_excerpt("no")),
            Answer::FailFor(reason, wait) => {
                Err(DeliveryError { retry_after: Some(wait), ..DeliveryError::new(reason) })
            }
            Answer::Each(results) => {
                let result = |(seq, failure): (&Seq, Option<Reason>)| match failure {
                    None => {
                        take(&[*seq]);
                        Ok(Receipt::default())
                    }
                    Some(reason) => Err(DeliveryError::new(reason)),
                };
                Ok(Delivered::Each(request.seqs.iter().zip(results).map(result).collect()))
            }
            Answer::Hang => std::future::pending().await,
            Answer::Panic => panic!("the far end's code is wrong"),
            Answer::After(wait, answer) => {
                tokio::time::sleep(wait).await;
                Box::pin(self.act(request, *answer)).await
            }
        }
    }
}

impl fmt::Debug for FarEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FarEnd")
    }
}

/// Counts down also when the attempt is cut off.
struct UnderWay<'a>(&'a AtomicUsize, usize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Destination for FarEnd {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let rule = |member: &holdfast_model::Member| {
            member.event.facets().rule_id.as_deref().unwrap_or_default().to_owned()
        };
        let request = Request {
            at: self.now(),
            key: shipment.key(),
            seqs: shipment.members.iter().map(|member| member.event.seq).collect(),
            attempt: shipment.members[0].attempt,
            in_doubt: shipment.members.iter().any(|member| member.in_doubt),
            rules: shipment.members.iter().map(rule).collect(),
        };
        let count = request.seqs.len();
        let now = self.under_way.fetch_add(count, Ordering::SeqCst) + count;
        let _under_way = UnderWay(&self.under_way, count);
        self.most_under_way.fetch_max(now, Ordering::SeqCst);
        self.log.lock().unwrap().push(request.clone());
        let answer = (self.script.lock().unwrap())(&request);
        self.act(request, answer).await
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        let answer = *self.check.lock().unwrap();
        answer.map(|answer| answer.map_err(DeliveryError::new))
    }

    fn search_lag(&self) -> Option<Duration> {
        *self.search_lag.lock().unwrap()
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.refreshes.fetch_add(1, Ordering::SeqCst);
        Ok(self.secret_changed.swap(false, Ordering::SeqCst))
    }
}
