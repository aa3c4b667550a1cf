//! Answers what the front's own conversations ask about it.
//!
//! Figures are made when somebody asks and at no other time.
#![forbid(unsafe_code)]

use std::time::Instant;

use crate::front::conversation::{Question, Told};
use crate::front::event_loop::Front;
use crate::stats::prometheus;

impl Front {
    pub(super) fn answer_question(&self, question: Question, now: Instant) -> Told {
        match question {
            Question::Metrics => {
                let (daemon, statistics) = (self.show_daemon(now), self.statistics(None));
                Told::Text(prometheus::text(&daemon, &statistics))
            }
        }
    }
}
