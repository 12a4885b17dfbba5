//! What a new configuration means for what runs. Pure.

use std::collections::BTreeSet;

use holdfast_model::settings::Fault;

use crate::config::{Print, Prints};

/// What happens to one lane, or to one lane and the one that takes its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// It ends its attempts with the old settings and goes on with the new ones.
    Change { name: String },
    /// It begins; with what the lane `adopts` has, if there is one.
    Start { name: String, adopts: Option<String> },
    /// As `Start`, and the old one runs until then.
    Rename { from: String, to: String },
    /// It ends, and is an orphan.
    Remove { name: String },
}

/// Everything that is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) lanes: Vec<Step>,
    /// Lanes that are not touched.
    pub(crate) kept: Vec<String>,
    pub(crate) sources_stop: Vec<String>,
    pub(crate) sources_start: Vec<String>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

impl Plan {
    /// From what runs to what is wanted.
    ///
    /// # Errors
    ///
    /// What a file can say at a start, but not to a gateway that runs.
    pub(crate) fn between(old: &Prints, new: &Prints) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut plan = Self::default();
        let mut adopted = BTreeSet::new();
        for (name, print) in &new.destinations {
            let Some(before) = old.destinations.get(name) else {
                plan.begin(name, print, old, &mut adopted, &mut faults);
                continue;
            };
            if before.kind != print.kind {
                faults.push(type_changed(name, print, name, &before.kind));
            } else if before.settings != print.settings {
                plan.lanes.push(Step::Change { name: name.clone() });
            } else {
                plan.kept.push(name.clone());
            }
            if let Some(from) = &print.renamed_from
                && before.renamed_from != print.renamed_from
            {
                plan.notes.push(format!(
                    "destinations.{name}: it has a position of its own already, so `renamed_from` \
                     comes to nothing and `{from}` stays as it is"
                ));
            }
        }
        let gone = old.destinations.keys().filter(|name| !new.destinations.contains_key(*name));
        let gone = gone.filter(|name| !adopted.contains(*name));
        plan.lanes.extend(gone.map(|name| Step::Remove { name: name.clone() }));
        plan.compare_sources(old, new);
        if faults.is_empty() { Ok(plan) } else { Err(faults) }
    }

    fn begin(
        &mut self,
        name: &str,
        print: &Print,
        old: &Prints,
        adopted: &mut BTreeSet<String>,
        faults: &mut Vec<Fault>,
    ) {
        let (name, adopts) = (name.to_owned(), print.renamed_from.clone());
        let Some(from) = adopts.clone().filter(|from| old.destinations.contains_key(from)) else {
            return self.lanes.push(Step::Start { name, adopts });
        };
        if let Some(before) = old.destinations.get(&from)
            && before.kind != print.kind
        {
            faults.push(type_changed(&name, print, &from, &before.kind));
        }
        adopted.insert(from.clone());
        self.lanes.push(Step::Rename { from, to: name });
    }

    fn compare_sources(&mut self, old: &Prints, new: &Prints) {
        for (name, print) in &old.sources {
            if new.sources.get(name).is_none_or(|now| !same_source(print, now)) {
                self.sources_stop.push(name.clone());
            }
        }
        for (name, print) in &new.sources {
            if old.sources.get(name).is_none_or(|before| !same_source(before, print)) {
                self.sources_start.push(name.clone());
            }
        }
    }

    /// Whether there is nothing to do.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.sources_stop.is_empty() && self.sources_start.is_empty()
    }
}

fn same_source(one: &Print, other: &Print) -> bool {
    one.kind == other.kind && one.settings == other.settings
}

fn type_changed(name: &str, print: &Print, running: &str, kind: &str) -> Fault {
    let problem = format!(
        "it is \"{}\", but the lane `{running}` is a \"{kind}\" with events of its own; give the new \
         destination another name, without `renamed_from`",
        print.kind
    );
    Fault { line: print.line, key: format!("destinations.{name}.type"), problem }
}

#[cfg(test)]
mod tests;
