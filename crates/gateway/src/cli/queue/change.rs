//! `queue import|compact|renew`: what changes a stopped queue.

use std::{ops::ControlFlow, path::Path};

use holdfast_model::units;
use holdfast_pipeline::Clock;
use holdfast_queue::{
    compact::{self, CompactError, compact},
    import::{self, ImportError, import},
    renew::renew,
};
use serde_json::json;

use super::{as_json, failed, show};
use crate::cli::{Exit, output, progress::Progress};

pub(super) fn run_import(file: &Path, queue: &Path, unsound: bool, json: bool) -> Exit {
    let bar = Progress::new("checking");
    let mut watch = |step: import::Step| {
        match step {
            import::Step::Checked { lines } => bar.of("checking", lines, lines),
            import::Step::Written { lines, total, resumed: false } => {
                bar.of("writing", lines, total)
            }
            import::Step::Written { lines, total, resumed: true } => {
                bar.of("going on", lines, total);
            }
            import::Step::Counted => {}
        }
        true
    };
    let result = import(file, queue, import::Options { unsound, watch: &mut watch });
    drop(bar);
    let done = match result {
        Ok(done) => done,
        Err(error) => return refused(file, queue, &error, json),
    };
    if json {
        let mut answer = as_json(&done.report);
        answer["lines"] = json!(done.lines);
        output::line(format_args!("{answer}"));
    } else {
        show(&done.report);
        output::line(format_args!(
            "{} lines of {} are the queue at {} now",
            done.lines,
            file.display(),
            queue.display()
        ));
    }
    Exit::Done
}

fn refused(file: &Path, queue: &Path, error: &ImportError, json: bool) -> Exit {
    let advice = match error {
        ImportError::Queue(error) => return failed(error),
        ImportError::Lines { faults, count } => return faulty(file, faults, *count, json),
        ImportError::OtherLog { .. } | ImportError::NotEmpty { .. } => {
            "An import makes a whole queue and never mixes two, so it needs an empty place: move \
             the queue's directory away, or import elsewhere with --path and let `queue.path` \
             point there"
        }
        ImportError::Unsound { problems } => {
            for problem in problems {
                output::complain(format_args!("PROBLEM: {}", output::plain(problem)));
            }
            "Nothing was imported. If the exported queue had these problems itself (`queue verify` \
             says so), --accept-problems takes it as it is"
        }
        ImportError::Read(_) => "Give the path of a file that `holdfast queue export` wrote",
        ImportError::Changed => "Let it be complete first, and try again",
        ImportError::Stopped => "Run the same command again",
    };
    let chain = holdfast_model::Chain(error);
    output::complain(format_args!("{}: {chain}. {advice}", file.display()));
    match error {
        ImportError::Read(_) => Exit::Usage,
        ImportError::OtherLog { .. } | ImportError::NotEmpty { .. } => {
            output::complain(format_args!("the queue at {} is as it was", queue.display()));
            Exit::Failed
        }
        _ => Exit::Failed,
    }
}

fn faulty(file: &Path, faults: &[import::LineFault], count: u64, json: bool) -> Exit {
    if json {
        let named: Vec<_> = faults
            .iter()
            .map(|f| json!({ "line": f.line, "field": f.field, "problem": f.problem }))
            .collect();
        output::line(format_args!("{}", json!({ "ok": false, "count": count, "faults": named })));
        return Exit::Failed;
    }
    for import::LineFault { line, field, problem } in faults {
        let field = if field.is_empty() { String::new() } else { format!(" `{field}`:") };
        let problem = output::plain(problem);
        output::complain(format_args!("{}:{line}:{field} {problem}", file.display()));
    }
    if count > faults.len() as u64 {
        output::complain(format_args!("and {} more", count - faults.len() as u64));
    }
    output::complain(format_args!(
        "nothing was imported; a file that `holdfast queue export` wrote to its end has no faults"
    ));
    Exit::Failed
}

pub(super) fn run_compact(queue: &Path, json: bool) -> Exit {
    let bar = Progress::new("copying");
    let result = compact(queue, &mut |step| {
        match step {
            compact::Step::Copied { records, total } => bar.of("copying", records, total),
            compact::Step::Compared | compact::Step::Swapped => {}
        }
        ControlFlow::Continue(())
    });
    drop(bar);
    let done = match result {
        Ok(done) => done,
        Err(CompactError::Queue(error)) => return failed(&error),
        Err(error) => {
            output::complain(format_args!("{error}"));
            return Exit::Failed;
        }
    };
    let gained = done.bytes_before.saturating_sub(done.bytes_after);
    if json {
        output::line(format_args!(
            "{}",
            json!({
                "records": done.records,
                "bytes_before": done.bytes_before,
                "bytes_after": done.bytes_after,
                "bytes_gained": gained,
            })
        ));
    } else if gained == 0 {
        output::line(format_args!(
            "{} records in {}: that is as small as it gets; nothing was changed",
            done.records,
            units::size(done.bytes_before)
        ));
    } else {
        output::line(format_args!(
            "{} records: {} on disk became {}; every count is as it was",
            done.records,
            units::size(done.bytes_before),
            units::size(done.bytes_after)
        ));
    }
    Exit::Done
}

pub(super) fn run_renew(queue: &Path, json: bool) -> Exit {
    let done = match renew(queue, Clock::system().now()) {
        Ok(done) => done,
        Err(error) => return failed(&error),
    };
    if json {
        output::line(format_args!(
            "{}",
            json!({
                "before": done.before.as_str(),
                "after": done.after.as_str(),
                "events": done.events,
                "dead_letters": done.dead_letters,
                "retrying": done.retrying,
            })
        ));
        return Exit::Done;
    }
    let (before, after) = (&done.before, &done.after);
    output::line(format_args!("the log `{before}` is `{after}` now"));
    output::line(format_args!(
        "\nA copy goes on counting where it was copied, so under its old name it would give ids to \
         new events that\nthe original gave to others, and receivers would drop them as repeats. \
         Now no id is given twice.\n\n\
         What the copy holds keeps its numbers and has new ids: {} events in the log, {} that wait \
         for a retry,\n{} dead letters. What of these the original has sent already will be sent \
         again, under another key.\n\
         Cursors of the pull API that were taken before are answered with 410 and a new one.",
        done.events, done.retrying, done.dead_letters
    ));
    Exit::Done
}
