//! Settings that hold from start to end: which of them a new file wants otherwise.

use super::Config;

/// The parts of a [`Config`] that a reload compares and does not change.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    node: super::NodeConfig,
    server: super::ServerConfig,
    idempotency: super::IdempotencyConfig,
    queue: super::QueueConfig,
}

impl Fixed {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            node: config.node.clone(),
            server: config.server.clone(),
            idempotency: config.idempotency.clone(),
            queue: config.queue.clone(),
        }
    }

    /// The keys that a restart would change.
    pub(crate) fn differences(&self, new: &Self) -> Vec<&'static str> {
        let (server, new_server) = (&self.server, &new.server);
        let (queue, new_queue) = (&self.queue, &new.queue);
        let table = [
            ("node.name", self.node.name != new.node.name),
            ("node.state", self.node.state != new.node.state),
            ("server.listen", server.listen != new_server.listen),
            ("server.hosts", server.hosts != new_server.hosts),
            ("server.insecure", server.insecure != new_server.insecure),
            ("server.tokens", server.tokens != new_server.tokens),
            ("server.max_body", server.body_bytes_max != new_server.body_bytes_max),
            ("server.max_line", server.line_bytes_max != new_server.line_bytes_max),
            ("ingest.idempotency", self.idempotency != new.idempotency),
            ("queue.path", queue.path != new_queue.path),
            ("queue.max_size", queue.bytes_max != new_queue.bytes_max),
            ("queue.reserve", queue.reserve_bytes != new_queue.reserve_bytes),
            ("queue.retention", queue.retention != new_queue.retention),
            (
                "queue.dead_letters.max_size",
                queue.dead_bytes_max != new_queue.dead_bytes_max
                    && queue.bytes_max == new_queue.bytes_max,
            ),
            ("queue.dead_letters.max_age", queue.dead_age_max != new_queue.dead_age_max),
        ];
        table.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}
