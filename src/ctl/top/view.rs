//! What is looked at, and what keys do to that; pure.
#![forbid(unsafe_code)]

use super::keys::Key;
use super::readings::Order;
use super::rows::Row;
use super::sort::Sort;
use crate::control::types::Instance;

/// What a key asks the program for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Quit,
    Suspend,
    Order(Order),
}

/// Which screen there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Page {
    #[default]
    Services,
    /// The instances of a service.
    Instances(String),
}

/// A change that waits for a yes. It is about what was selected when it was
/// asked for, whatever the rows have become since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub text: String,
    pub order: Order,
}

/// What is on the screen, in the order it is there.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub total: Option<Row>,
    pub services: Vec<Row>,
    /// Those of the service that is looked at.
    pub instances: Vec<Instance>,
}

#[derive(Debug, Default)]
pub struct View {
    pub page: Page,
    pub sort: Sort,
    pub reversed: bool,
    pub frozen: bool,
    pub help: bool,
    pub question: Option<Question>,
    /// What came of the last change, or why a key did nothing.
    pub message: Option<String>,
    service: Option<String>,
    instance: Option<u64>,
    /// How many rows the screen has room for, for the keys that turn pages.
    pub room: usize,
}

impl View {
    /// The row that is selected. What was selected stays so when it moves; if
    /// it is gone, the first row takes its place.
    #[must_use]
    pub fn selected(&self, shown: &Shown) -> usize {
        let found = match self.page {
            Page::Services => {
                let named = |name: &String| shown.services.iter().position(|row| row.name == *name);
                self.service.as_ref().and_then(named)
            }
            Page::Instances(_) => {
                let numbered = |id| shown.instances.iter().position(|one| one.id == id);
                self.instance.and_then(numbered)
            }
        };
        found.unwrap_or(0)
    }

    fn select(&mut self, shown: &Shown, at: usize) {
        match self.page {
            Page::Services => {
                let at = at.min(shown.services.len().saturating_sub(1));
                self.service = shown.services.get(at).map(|row| row.name.clone());
            }
            Page::Instances(_) => {
                let at = at.min(shown.instances.len().saturating_sub(1));
                self.instance = shown.instances.get(at).map(|one| one.id);
            }
        }
    }

    pub fn press(&mut self, key: Key, shown: &Shown) -> Option<Act> {
        self.message = None;
        match key {
            Key::Interrupt => return Some(Act::Quit),
            Key::Suspend => return Some(Act::Suspend),
            Key::Redraw => return None,
            _ => {}
        }
        if let Some(question) = self.question.take() {
            // Only a plain yes is one.
            return match key {
                Key::Char('y' | 'Y') => Some(Act::Order(question.order)),
                _ => None,
            };
        }
        if std::mem::take(&mut self.help) {
            return (key == Key::Char('q')).then_some(Act::Quit);
        }
        self.obey(key, shown)
    }

    fn obey(&mut self, key: Key, shown: &Shown) -> Option<Act> {
        let at = self.selected(shown);
        match key {
            Key::Char('q') => return Some(Act::Quit),
            Key::Char('?' | 'h') => self.help = true,
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char(' ') => self.frozen = !self.frozen,
            Key::Up | Key::Char('k') => self.select(shown, at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(shown, at + 1),
            Key::PageUp => self.select(shown, at.saturating_sub(self.room.max(1))),
            Key::PageDown => self.select(shown, at + self.room.max(1)),
            Key::Home | Key::Char('g') => self.select(shown, 0),
            Key::End | Key::Char('G') => self.select(shown, usize::MAX),
            Key::Enter => self.enter(shown, at),
            Key::Back => self.page = Page::Services,
            Key::Char('d') => self.ask_to_drain(shown, at),
            Key::Char('x') => self.ask_to_kill(shown, at),
            _ => {}
        }
        None
    }

    fn enter(&mut self, shown: &Shown, at: usize) {
        if self.page == Page::Services
            && let Some(row) = shown.services.get(at)
        {
            self.service = Some(row.name.clone());
            self.instance = None;
            self.page = Page::Instances(row.name.clone());
        }
    }

    fn ask_to_drain(&mut self, shown: &Shown, at: usize) {
        let name = match &self.page {
            Page::Services => shown.services.get(at).map(|row| row.name.clone()),
            Page::Instances(name) => Some(name.clone()),
        };
        self.question = name.map(|name| Question {
            text: format!("drain {name}: no new requests until `usherctl start`? [y/N]"),
            order: Order::Drain(name),
        });
    }

    fn ask_to_kill(&mut self, shown: &Shown, at: usize) {
        if self.page == Page::Services {
            self.message = Some("x ends an instance; enter shows those of the service".to_owned());
            return;
        }
        self.question = shown.instances.get(at).map(|instance| Question {
            text: format!(
                "end instance {} of {}, pid {}? [y/N]",
                instance.id, instance.service, instance.pid
            ),
            order: Order::Kill(instance.id),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::rows::History;
    use super::super::samples::{counted, instance, reading};
    use super::*;

    fn shown() -> Shown {
        let mut history = History::default();
        let counts = ["git", "web", "ftp"].map(|name| (name, counted(0, 0)));
        history.push(reading(Instant::now(), 0, &counts));
        let (total, services) = history
            .rows()
            .unwrap_or_else(|| unreachable!("one reading"));
        Shown {
            total: Some(total),
            services,
            instances: vec![instance(7, "web", 0), instance(9, "web", 0)],
        }
    }

    fn type_in(view: &mut View, shown: &Shown, keys: &str) -> Vec<Act> {
        keys.chars()
            .filter_map(|c| {
                let key = match c {
                    '\r' => Key::Enter,
                    '\x1b' => Key::Back,
                    c => Key::Char(c),
                };
                view.press(key, shown)
            })
            .collect()
    }

    #[test]
    fn changes_are_asked_for_and_only_yes_is_yes() {
        let shown = shown();
        for (keys, acts) in [
            ("jdy", vec![Act::Order(Order::Drain("web".to_owned()))]),
            ("dn", vec![]),
            ("d\r", vec![]),
            ("dq", vec![]),
            ("x", vec![]),
            ("xy", vec![]),
            ("j\rxy", vec![Act::Order(Order::Kill(7))]),
            ("j\rjxY", vec![Act::Order(Order::Kill(9))]),
            ("j\rdy", vec![Act::Order(Order::Drain("web".to_owned()))]),
            ("q", vec![Act::Quit]),
            ("?q", vec![Act::Quit]),
            ("?d", vec![]),
        ] {
            assert_eq!(
                type_in(&mut View::default(), &shown, keys),
                acts,
                "{keys:?}"
            );
        }
    }

    #[test]
    fn a_question_is_about_what_was_selected_then() {
        let mut shown = shown();
        let mut view = View::default();
        assert_eq!(type_in(&mut view, &shown, "jd"), []);
        shown.services.reverse();
        shown.services.pop();
        let act = Act::Order(Order::Drain("web".to_owned()));
        assert_eq!(type_in(&mut view, &shown, "y"), [act]);
    }

    #[test]
    fn the_selection_goes_with_its_row() {
        let mut shown = shown();
        let mut view = View::default();
        assert_eq!(view.selected(&shown), 0);
        type_in(&mut view, &shown, "jj");
        assert_eq!(view.selected(&shown), 2);
        type_in(&mut view, &shown, "jjj");
        assert_eq!(view.selected(&shown), 2);
        shown.services.reverse();
        assert_eq!(view.selected(&shown), 0);
        shown.services.remove(0);
        assert_eq!(view.selected(&shown), 0);
        type_in(&mut view, &shown, "G");
        assert_eq!(view.selected(&shown), 1);
        type_in(&mut view, &shown, "g");
        assert_eq!(view.selected(&shown), 0);
    }

    #[test]
    fn nothing_at_all_can_be_looked_at() {
        let mut view = View::default();
        let acts = type_in(&mut view, &Shown::default(), "jkGgdysr \rx\x1b");
        assert_eq!(acts, []);
    }

    #[test]
    fn enter_and_back() {
        let shown = shown();
        let mut view = View::default();
        type_in(&mut view, &shown, "j\r");
        assert_eq!(view.page, Page::Instances("web".to_owned()));
        type_in(&mut view, &shown, "j");
        assert_eq!(view.selected(&shown), 1);
        type_in(&mut view, &shown, "\x1b");
        assert_eq!((&view.page, view.selected(&shown)), (&Page::Services, 1));
    }
}
