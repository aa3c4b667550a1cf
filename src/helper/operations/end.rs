//! How operations end: by their result, by their time limit, or because nobody waits.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Task;
use crate::admin::operations::{Failed, Kind};
use crate::control::message::{CallError, Reply};
use crate::helper::core::Helper;
use crate::helper::tree;
use crate::sandbox::single::SIGNALLED;
use crate::sys::process::Reaped;
use crate::table::isolation::Mechanism;
use crate::table::value::show_duration;

/// What runs when usherd is to end may run so long.
const LAST_WORD: Duration = Duration::from_secs(10);

impl Helper {
    /// Whether `reaped` was the process of an operation.
    pub(in crate::helper) fn operation_ended(&mut self, reaped: &Reaped, now: Instant) -> bool {
        let mut tasks = self.operations.tasks.values();
        let Some(id) = tasks
            .find(|task| task.pid == reaped.pid)
            .map(|task| task.order.id)
        else {
            return false;
        };
        let not_started = self.launcher.failure(reaped.pid);
        // What it said last may still be unread.
        let link = self
            .operations
            .tasks
            .get(&id)
            .map_or(u64::MAX, |task| task.link);
        self.hear_last_words(link, now);
        let Some(task) = self.operations.tasks.remove(&id) else {
            return true;
        };
        self.drop_link(link);
        let outcome = match (task.outcome, not_started) {
            (Some(outcome), _) => outcome,
            (None, Some(failed)) => {
                let err = std::io::Error::from_raw_os_error(failed.errno);
                let why = format!("unable to start its process: {}: {err}", failed.step);
                Err(Failed::new(Kind::Unavailable, why))
            }
            (None, None) => Err(Failed::new(Kind::Failed, how_it_ended(reaped))),
        };
        let operation = &task.order.operation;
        let own_pids = operation.exec.isolation.wants(Mechanism::PidNamespace);
        if let Some(mut leaf) = task.leaf {
            // What an operation starts on the host (a daemon of a package) goes on if it
            // went well.
            if outcome.is_err() && !own_pids {
                leaf.spend();
                let _ = leaf.kill();
            }
            self.cgroups.retire(leaf);
        } else if outcome.is_err() && !own_pids {
            let left = tree::Snapshot::take().leftovers(reaped.pid);
            tree::kill_leftovers(&[reaped.pid], &left);
        }
        self.tell_outcome(task.order.asked_by, &operation.name, outcome, now);
        true
    }

    /// The answer for whoever asked.
    pub(super) fn tell_outcome(
        &mut self,
        asked_by: u64,
        name: &str,
        outcome: Result<Value, Failed>,
        now: Instant,
    ) {
        let reply = match outcome {
            Ok(result) => Reply::Last(json!({ "result": result })),
            Err(Failed { kind, reason }) => Reply::Error(CallError::admin(
                "OperationFailed",
                json!({ "operation": name, "kind": kind, "reason": reason }),
            )),
        };
        self.reply_to(asked_by, &reply, now);
    }

    /// Ends what has had its time, and what nobody waits for any more.
    pub(in crate::helper) fn tend_operations(&mut self, now: Instant) {
        self.tidy_operations(now);
        if self.operations.is_idle() {
            return;
        }
        let control = &self.control;
        let left = |number: u64| !control.is_there(number);
        let gone = |order: &super::Order| left(order.asked_by);
        self.operations.waiting.retain(|order| !gone(order));
        let running = self.operations.tasks.values().filter(|task| !task.killed);
        let ending: Vec<(u32, Failed)> = running
            .filter_map(|task| {
                Some((
                    task.order.id,
                    why_end(task, left(task.order.asked_by), now)?,
                ))
            })
            .collect();
        for (id, failed) in ending {
            log::warn!(op = id; "ending an operation: {failed}");
            self.kill_operation(id, failed);
        }
        self.start_operations(now);
    }

    /// Its whole tree. The answer is given when it is reaped.
    pub(super) fn kill_operation(&mut self, id: u32, failed: Failed) {
        let Some(task) = self.operations.tasks.get_mut(&id) else {
            return;
        };
        task.killed = true;
        task.outcome = Some(Err(failed));
        if let Some(leaf) = &mut task.leaf {
            leaf.spend();
            // With its process in it, that is its whole tree, and /proc need not be searched.
            let is_there = leaf.has(task.pid);
            match leaf.kill() {
                Ok(_) if is_there => return,
                Ok(_) => {}
                Err(err) => log::warn!(pid = task.pid; "unable to kill a cgroup: {err}"),
            }
        }
        tree::kill_all(&[task.pid]);
    }

    /// usherd ends: what waits is refused, and what runs gets a little time.
    pub(in crate::helper) fn drain_operations(&mut self, now: Instant) {
        for order in std::mem::take(&mut self.operations.waiting) {
            let draining = CallError::admin("Draining", json!({}));
            self.reply_to(order.asked_by, &Reply::Error(draining), now);
        }
        for task in self.operations.tasks.values_mut() {
            task.until = task.until.min(now + LAST_WORD);
        }
    }

    /// usherd ends for another to go on, who could not answer for them.
    pub(in crate::helper) fn end_operations(&mut self, why: &str) {
        self.operations.waiting.clear();
        let all: Vec<u32> = self.operations.tasks.keys().copied().collect();
        for id in all {
            self.kill_operation(id, Failed::new(Kind::Failed, why));
        }
    }
}

/// Why it may not go on.
fn why_end(task: &Task, left: bool, now: Instant) -> Option<Failed> {
    if left && !task.order.operation.finishes {
        return Some(Failed::new(Kind::Failed, "whoever asked for it has left"));
    }
    (task.until <= now).then(|| {
        let limit = show_duration(task.order.operation.time_limit);
        let why = format!("it took longer than its time_limit, {limit}, and was ended");
        Failed::new(Kind::Failed, why)
    })
}

fn how_it_ended(reaped: &Reaped) -> String {
    let shown = reaped.status - i32::from(SIGNALLED);
    match (reaped.signalled, shown) {
        (true, _) => format!("its process was killed (signal {})", reaped.status),
        (false, libc::SIGSYS) => "its process was killed for a system call that its isolation \
             forbids (SIGSYS); see isolation.system_calls of its entry in the catalogue"
            .to_owned(),
        (false, 1..) => format!("its process was killed (signal {shown})"),
        (false, _) => format!(
            "its process ended without a result (status {})",
            reaped.status
        ),
    }
}
