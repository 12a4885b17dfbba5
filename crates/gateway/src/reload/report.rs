//! What a reload did, for people and for programs.

use serde::Serialize;
use utoipa::ToSchema;

use super::plan::{Plan, Step};

/// What a reload did
///
/// Names of lanes, and of sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ReloadReport, example = json!({"changed": ["siem"], "started": ["tickets"],
    "removed": [], "renamed": [{"from": "mail", "to": "letters"}], "unchanged": ["archive"],
    "sources_stopped": [], "sources_started": [], "needs_restart": ["queue.max_size"],
    "secrets_of_the_start": [], "notes": []}))]
pub(crate) struct Report {
    changed: Vec<String>,
    started: Vec<String>,
    /// Orphans now.
    removed: Vec<String>,
    renamed: Vec<Renamed>,
    unchanged: Vec<String>,
    sources_stopped: Vec<String>,
    sources_started: Vec<String>,
    /// Settings that the file has otherwise, and that take effect at the next start.
    #[schema(value_type = Vec<String>)]
    needs_restart: Vec<&'static str>,
    /// Secrets from the environment, or from systemd, are those of the start.
    secrets_of_the_start: Vec<String>,
    notes: Vec<String>,
}

/// A lane that goes on under another name
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Renamed {
    from: String,
    to: String,
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        notes: Vec<String>,
        needs_restart: Vec<&'static str>,
        secrets_of_the_start: Vec<String>,
    ) -> Self {
        let mut report = Self {
            unchanged: plan.kept.clone(),
            sources_stopped: plan.sources_stop.clone(),
            sources_started: plan.sources_start.clone(),
            needs_restart,
            secrets_of_the_start,
            notes,
            ..Self::default()
        };
        for step in plan.lanes.iter().cloned() {
            match step {
                Step::Change { name } => report.changed.push(name),
                Step::Start { name, .. } => report.started.push(name),
                Step::Remove { name } => report.removed.push(name),
                Step::Rename { from, to } => report.renamed.push(Renamed { from, to }),
            }
        }
        report
    }

    /// One line.
    pub(super) fn summary(&self) -> String {
        let mut parts = Vec::new();
        let mut list = |what: &str, names: &[String]| {
            if !names.is_empty() {
                parts.push(format!("{what} {}", names.join(", ")));
            }
        };
        let renamed: Vec<String> =
            self.renamed.iter().map(|Renamed { from, to }| format!("{from} to {to}")).collect();
        list("changed", &self.changed);
        list("started", &self.started);
        list("removed", &self.removed);
        list("renamed", &renamed);
        list("stopped sources", &self.sources_stopped);
        list("started sources", &self.sources_started);
        if parts.is_empty() {
            parts.push("no lane and no source changed".to_owned());
        }
        parts.join("; ")
    }

    /// What a person should know beside that, a sentence each.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = self.notes.clone();
        if !self.needs_restart.is_empty() {
            let keys = self.needs_restart.join(", ");
            remarks.push(format!("these settings take effect at the next start: {keys}"));
        }
        if !self.secrets_of_the_start.is_empty() {
            let keys = self.secrets_of_the_start.join(", ");
            let what = "secrets from the environment and from systemd are read at a start only";
            remarks.push(format!("{what}: {keys}"));
        }
        remarks
    }
}
