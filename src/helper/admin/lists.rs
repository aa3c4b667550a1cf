//! `ReloadLists`: what the local lists hold now is put in force, the rest of the table
//! as it was. So is what is left of one when a line of it ends.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::{Asked, Control};
use crate::admin::lists;
use crate::helper::core::Helper;
use crate::table::Table;

impl Control {
    /// Reads the lists that `table` names; what went wrong. `before`: the table in force.
    pub(in crate::helper) fn fill_lists(
        &mut self,
        table: &mut Table,
        before: Option<&Table>,
        now: Instant,
    ) -> Vec<String> {
        let (end, troubles) = lists::fill(table, before, self.state_dir.as_deref());
        let left = end.map(|end| end.saturating_sub(lists::unix_now()));
        // The clock of the day may be a fraction behind: not before the line has ended.
        let left = left.map(|seconds| Duration::from_secs(seconds + 1));
        self.lists_end = left.and_then(|left| now.checked_add(left));
        troubles
    }
}

impl Helper {
    /// A line of a list has ended, perhaps.
    pub(super) fn renew_lists(&mut self, now: Instant) {
        if self.control.lists_end.is_some_and(|end| end <= now) {
            self.control.lists_end = None;
            let _ = self.queue_reload(Asked {
                lists: true,
                ..Asked::default()
            }); // never too many
        }
    }
}
