//! Far ends of two-way exchange: one that answers questions, and one that remembers what it saw.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{
    Delivered, DeliveryError, Destination, Member, Reason, Receipt, Seq, Shipment,
};

type Script = Box<dyn FnMut(&Member) -> (Duration, Result<Vec<Bytes>, Reason>) + Send>;

/// A lookup.
pub(crate) struct Oracle {
    script: Mutex<Script>,
    asked: Mutex<Vec<(Seq, String)>>,
}

impl Oracle {
    pub(crate) fn answering(
        script: impl FnMut(&Member) -> (Duration, Result<Vec<Bytes>, Reason>) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(Box::new(script)), asked: Mutex::default() })
    }

    /// One short answer to every question.
    pub(crate) fn willing() -> Arc<Self> {
        Self::answering(|member| {
            let body = format!(r#"{{"integration":"virustotal","about":{}}}"#, member.event.seq);
            (Duration::ZERO, Ok(vec![body.into()]))
        })
    }

    /// Events that it was asked about, with the keys of the questions.
    pub(crate) fn asked(&self) -> Vec<(Seq, String)> {
        self.asked.lock().unwrap().clone()
    }
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Oracle")
    }
}

#[async_trait]
impl Destination for Oracle {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        self.asked.lock().unwrap().push((member.event.seq, member.key.clone()));
        let (wait, answer) = (self.script.lock().unwrap())(member);
        tokio::time::sleep(wait).await;
        let answers = answer.map_err(DeliveryError::new)?;
        Ok(Delivered::All(Receipt { answers, ..Receipt::default() }))
    }

    fn is_lookup(&self) -> bool {
        true
    }
}

/// Takes everything after some failures, and makes a thing of each event.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    pub(crate) failures: Mutex<u32>,
    /// What it does can come back as an alert.
    beside_wazuh: bool,
    seen: Mutex<Vec<Member>>,
}

impl Witness {
    pub(crate) fn beside_wazuh() -> Arc<Self> {
        Arc::new(Self { beside_wazuh: true, ..Self::default() })
    }

    pub(crate) fn seen(&self) -> Vec<Member> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn of(&self, seq: Seq) -> Member {
        self.seen().into_iter().find(|member| member.event.seq == seq).unwrap()
    }
}

#[async_trait]
impl Destination for Witness {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        self.seen.lock().unwrap().push(member.clone());
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(DeliveryError::new(Reason::ServerFault));
        }
        let remote_id = Some(format!("thing-{}", member.event.seq));
        Ok(Delivered::All(Receipt { remote_id, ..Receipt::default() }))
    }

    fn acts_on_wazuh(&self) -> bool {
        self.beside_wazuh
    }
}
