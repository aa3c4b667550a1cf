//! The lines of the screen; pure. None is wider than it, and no control
//! character of the daemon's is in one.
#![forbid(unsafe_code)]

use super::rows::Row;
use super::view::{Page, Shown, View};
use crate::control::types::Daemon;
use crate::ctl::grid::{Cell, Grid, Paint, elastic, left, right};
use crate::ctl::rates::Quantile;
use crate::ctl::status::{instances_grid, state};
use crate::ctl::text::{bytes, cut, escape, millis, rate};

const HELP: [&str; 13] = [
    "s            sort by the next column; r turns the order round",
    "space        freeze what is shown, and go on",
    "up, down     select; also k and j, PageUp, PageDown, Home, End",
    "enter        the instances of the selected service; escape goes back",
    "d            drain the selected service, after a question",
    "x            end the selected instance, after a question",
    "q            quit",
    "",
    "RUN: running instances, of as many as may. ACC, REF, FAIL, START: requests",
    "accepted, refused, failed, and servers started in the last interval. P50, P99:",
    "accept to decision, or decision to running server if that took longer, over",
    "the last few intervals. CPU: percent of one processor. MEMORY: of the first",
    "process of each running instance.",
];

/// What is drawn, and on what.
#[derive(Debug)]
pub struct Screen<'a> {
    pub view: &'a View,
    pub shown: &'a Shown,
    pub daemon: Option<&'a Daemon>,
    /// Why there is no newer reading.
    pub trouble: Option<&'a str>,
    pub every: &'a str,
    pub size: (usize, usize),
    pub colours: bool,
}

impl Screen<'_> {
    /// As many lines as fit, and how many rows there is room for.
    #[must_use]
    pub fn lines(&self) -> (Vec<String>, usize) {
        let (_, height) = self.size;
        let mut lines = self.head();
        let foot = self.foot();
        // The heading of the table and the last line are there as well.
        let room = height.saturating_sub(lines.len() + 2).max(1);
        if self.view.help {
            lines.push(String::new());
            lines.extend(HELP.iter().map(|line| self.line(Paint::Plain, line)));
        } else {
            lines.extend(self.table(room));
        }
        lines.truncate(height.saturating_sub(1));
        lines.resize(height.saturating_sub(1), String::new());
        lines.push(foot);
        (lines, room)
    }

    fn line(&self, paint: Paint, text: &str) -> String {
        let safe = escape(text);
        paint.on(&cut(&safe, self.size.0), self.colours)
    }

    fn head(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(daemon) = self.daemon {
            let order = if self.view.reversed { ", reversed" } else { "" };
            let frozen = if self.view.frozen { ", frozen" } else { "" };
            let title = format!(
                "usherd {}  up {}  every {}  sorted by {}{order}{frozen}",
                daemon.version,
                millis(daemon.uptime_ms),
                self.every,
                self.view.sort.name()
            );
            lines.push(self.line(Paint::Heading, &title));
            if let Some(row) = &self.shown.total {
                lines.extend(self.total(row, daemon));
            }
            if daemon.draining {
                lines.push(self.line(Paint::Bad, "draining: it ends with its instances"));
            }
            let degraded = daemon.degraded.join("; ");
            if !degraded.is_empty() {
                lines.push(self.line(Paint::Doubtful, &format!("degraded: {degraded}")));
            }
        }
        if let Some(trouble) = self.trouble {
            lines.push(self.line(Paint::Bad, trouble));
        }
        lines.push(match &self.view.page {
            Page::Services => String::new(),
            Page::Instances(name) => self.line(Paint::Heading, &format!("instances of {name}")),
        });
        lines
    }

    fn total(&self, row: &Row, daemon: &Daemon) -> [String; 2] {
        let requests = format!(
            "accepted {}/s  refused {}/s  failed {}/s  running {}  undecided {}",
            rate(row.accepted),
            rate(row.refused),
            rate(row.failed),
            daemon.running,
            daemon.undecided,
        );
        let costs = format!(
            "p50 {}  p99 {}  cpu {}  memory {}  in {}/s  out {}/s",
            quantile(row.p50),
            quantile(row.p99),
            row.cpu
                .map_or_else(|| "-".to_owned(), |cpu| rate(cpu) + "%"),
            row.memory.map_or_else(|| "-".to_owned(), bytes),
            whole_bytes(row.received),
            whole_bytes(row.sent),
        );
        [requests, costs].map(|text| self.line(Paint::Plain, &text))
    }

    /// The heading, and the rows round the selected one.
    fn table(&self, room: usize) -> Vec<String> {
        let grid = match self.view.page {
            Page::Services => services_grid(&self.shown.services),
            Page::Instances(_) => instances_grid(&self.shown.instances),
        };
        if grid.is_empty() {
            let text = match (&self.view.page, self.daemon) {
                (_, None) => "",
                (Page::Services, _) => "no services",
                (Page::Instances(_), _) => "no instance runs",
            };
            return vec![self.line(Paint::Faint, text)];
        }
        let width = Some(self.size.0);
        let mut lines = grid.lines(width, self.colours);
        let selected = self.view.selected(self.shown) + 1;
        // Reversed as a whole: colours of its own would end that halfway.
        let plain = grid.lines(width, false);
        lines[selected] = format!("\x1b[7m{:<1$}\x1b[0m", plain[selected], self.size.0);
        // Pages of rows, which begin below the heading.
        let first = 1 + (selected - 1) / room * room;
        let last = lines.len().min(first + room);
        let mut table = vec![lines[0].clone()];
        table.extend_from_slice(&lines[first..last]);
        table
    }

    fn foot(&self) -> String {
        if let Some(question) = &self.view.question {
            return self.line(Paint::Bad, &question.text);
        }
        if let Some(message) = &self.view.message {
            return self.line(Paint::Doubtful, message);
        }
        let keys = match (self.view.help, &self.view.page) {
            (true, _) => "any key goes back",
            (false, Page::Services) => {
                "? help  s sort  r reverse  space freeze  enter instances  d drain  q quit"
            }
            (false, Page::Instances(_)) => {
                "? help  s sort  r reverse  space freeze  escape back  x end  d drain  q quit"
            }
        };
        self.line(Paint::Faint, keys)
    }
}

fn quantile(found: Option<Quantile>) -> String {
    found.map_or_else(|| "-".to_owned(), Quantile::show)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is not negative, and a float that is too great becomes the greatest integer"
)]
fn whole_bytes(per_second: f64) -> String {
    bytes(per_second as u64)
}

fn services_grid(rows: &[Row]) -> Grid {
    let mut grid = Grid::new(&[
        left("SERVICE", 0),
        left("STATE", 4),
        right("RUN", 1),
        right("ACC/s", 0),
        right("REF/s", 2),
        right("FAIL/s", 3),
        right("START/s", 9),
        right("P50", 8),
        right("P99", 5),
        right("CPU%", 6),
        right("MEMORY", 7),
        elastic("WHY", 10),
    ]);
    for row in rows {
        grid.row([
            Cell::from(&row.name),
            state(row.state),
            format!("{}/{}", row.running, row.limit).into(),
            number(row.accepted, Paint::Plain),
            number(row.refused, Paint::Doubtful),
            number(row.failed, Paint::Bad),
            number(row.started, Paint::Plain),
            quantile(row.p50).into(),
            quantile(row.p99).into(),
            row.cpu.map_or_else(|| "-".to_owned(), rate).into(),
            row.memory.map_or_else(|| "-".to_owned(), bytes).into(),
            Cell::from(&row.reason),
        ]);
    }
    grid
}

fn number(value: f64, paint: Paint) -> Cell {
    let paint = if value > 0.0 { paint } else { Paint::Faint };
    Cell::painted(rate(value), paint)
}

#[cfg(test)]
#[allow(
    clippy::field_reassign_with_default,
    reason = "fields are private to their module"
)]
mod tests {
    use std::time::Instant;

    use super::super::rows::History;
    use super::super::samples::{counted, instance, reading};
    use super::*;

    /// What is on a screen of this size.
    fn screen(view: &View, size: (usize, usize), name: &str) -> Vec<String> {
        let mut history = History::default();
        let start = Instant::now();
        let others = ["a", "b", "c", "d"];
        for second in 0..2 {
            let mut counts = vec![(name, counted(second * 50, 0))];
            counts.extend(others.map(|other| (other, counted(0, 0))));
            let mut reading = reading(start, second, &counts);
            reading.daemon.degraded = vec![format!("{name} is bad")];
            history.push(reading);
        }
        let (total, services) = history.rows().unwrap_or_else(|| unreachable!("readings"));
        let shown = Shown {
            total: Some(total),
            services,
            instances: vec![instance(7, name, 0)],
        };
        let screen = Screen {
            view,
            shown: &shown,
            daemon: history.last().map(|reading| &reading.daemon),
            trouble: None,
            every: "1s",
            size,
            colours: false,
        };
        screen.lines().0
    }

    fn bare(line: &str) -> String {
        line.replace("\x1b[7m", "").replace("\x1b[0m", "")
    }

    #[test]
    fn the_screen_is_filled_and_not_more() {
        let mut views = vec![View::default(), View::default(), View::default()];
        views[1].page = Page::Instances("git".to_owned());
        views[2].help = true;
        for view in &views {
            for width in [0, 1, 7, 20, 40, 80, 200] {
                for height in [1, 2, 3, 5, 10, 40] {
                    let lines = screen(view, (width, height), "git");
                    assert_eq!(lines.len(), height);
                    for line in &lines {
                        assert!(bare(line).chars().count() <= width, "{width}: {line:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_daemon_says_moves_no_terminal() {
        let name = "g\x1b[2Jit\u{9b}1m\r\n";
        let with = |page: Page| {
            let mut view = View::default();
            view.page = page;
            view.message = Some(name.to_owned());
            view
        };
        let view = with(Page::Services);
        let instances = with(Page::Instances(name.to_owned()));
        for view in [&view, &instances] {
            for line in screen(view, (120, 12), name) {
                assert!(!bare(&line).chars().any(char::is_control), "{line:?}");
            }
        }
    }

    #[test]
    fn a_screen_at_eighty_columns() {
        let lines = screen(&View::default(), (80, 9), "git");
        let shown: Vec<String> = lines
            .iter()
            .map(|line| bare(line).trim_end().to_owned())
            .collect();
        assert_eq!(
            shown,
            [
                "usherd 0.1.0  up 1.0s  every 1s  sorted by accepted",
                "accepted 0/s  refused 0/s  failed 0/s  running 0  undecided 0",
                "p50 -  p99 -  cpu -  memory -  in 0B/s  out 0B/s",
                "degraded: git is bad",
                "",
                "SERVICE  STATE     RUN  ACC/s  REF/s  FAIL/s    P50    P99  CPU%  MEMORY",
                "git      serving  1/10   50.0      0       0  100us  100us     -       -",
                "a        serving  1/10      0      0       0      -      -     -       -",
                "? help  s sort  r reverse  space freeze  enter instances  d drain  q quit",
            ]
        );
        assert!(lines[6].starts_with("\x1b[7m"));
    }

    #[test]
    fn rows_are_turned_page_by_page() {
        // Room for two rows.
        let mut view = View::default();
        let size = (80, 9);
        let first_row = |view: &View| {
            let lines = screen(view, size, "git");
            bare(&lines[6]).split_whitespace().next().map(str::to_owned)
        };
        let mut seen = vec![first_row(&view)];
        let mut history = History::default();
        let names = ["git", "a", "b", "c", "d"];
        history.push(reading(
            Instant::now(),
            0,
            &names.map(|name| (name, counted(0, 0))),
        ));
        let (_, services) = history.rows().unwrap_or_else(|| unreachable!("a reading"));
        let shown = Shown {
            services,
            ..Shown::default()
        };
        for _ in 0..4 {
            view.press(super::super::keys::Key::Down, &shown);
            seen.push(first_row(&view));
        }
        let seen: Vec<String> = seen.into_iter().flatten().collect();
        assert_eq!(seen, ["git", "git", "b", "b", "d"]);
    }
}
