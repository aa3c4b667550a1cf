//! Runs tests, prints a line for each and one line for all.
//!
//! libtest knows no test that decides while it runs that it cannot run here;
//! this runner does, and gives every test a deadline.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{self, Pid};

/// One test: a sentence and what proves it.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    pub name: &'static str,
    pub run: fn(),
    pub limit: Duration,
}

/// Lists the tests of a module: `tests![one, another, slow_one: 120]` (seconds).
#[macro_export]
macro_rules! tests {
    ($($name:ident $(: $seconds:literal)?),* $(,)?) => {
        /// The tests of this file, in order.
        pub const TESTS: &[$crate::common::Test] = &[$($crate::common::Test {
            name: concat!(module_path!(), "::", stringify!($name)),
            run: $name,
            limit: std::time::Duration::from_secs({
                #[allow(unused_mut, unused_assignments)]
                let mut seconds = 60;
                $(seconds = $seconds;)?
                seconds
            }),
        }),*];
    };
}

/// What a test that cannot run here throws.
#[derive(Debug)]
pub struct Skipped(pub String);

enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

thread_local! {
    static NAME: RefCell<String> = const { RefCell::new(String::new()) };
    static NOTES: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Processes that tests began and that have not ended, by test.
static RUNNING: Mutex<Option<HashMap<String, Vec<Pid>>>> = Mutex::new(None);

/// The name of the test on this thread, without the crate's.
pub fn current_test() -> String {
    NAME.with_borrow(Clone::clone)
}

/// Adds a line to what is shown if this test fails.
pub fn note(text: &str) {
    NOTES.with_borrow_mut(|notes| {
        notes.push_str(text);
        if !text.ends_with('\n') {
            notes.push('\n');
        }
    });
}

/// Remembers a process of the current test, so that it is ended when the test overruns.
pub fn remember(pid: Pid) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let of_all = running.get_or_insert_with(HashMap::new);
    of_all.entry(current_test()).or_default().push(pid);
}

/// The process has ended and its number may belong to another one from now on.
pub fn forget(pid: Pid) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    for pids in running.get_or_insert_with(HashMap::new).values_mut() {
        pids.retain(|known| *known != pid);
    }
}

/// Runs what the arguments ask for: words that a test's name must contain one
/// of, `--exact`, `--list`, `--test-threads N`.
pub fn main(tests: &[&[Test]]) -> ExitCode {
    let mut words = Vec::new();
    let (mut exact, mut list, mut threads) = (false, false, 2);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--exact" => exact = true,
            "--list" => list = true,
            "--test-threads" => {
                threads = arguments
                    .next()
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(threads);
            }
            // Options of libtest mean nothing here.
            flag if flag.starts_with('-') => {}
            word => words.push(word.to_owned()),
        }
    }
    let wanted = |name: &str| {
        words.is_empty()
            || words.iter().any(|word| {
                if exact {
                    name == word
                } else {
                    name.contains(word.as_str())
                }
            })
    };
    let mut chosen: Vec<Test> = tests
        .concat()
        .into_iter()
        .filter(|test| wanted(short(test)))
        .collect();
    if list {
        for test in &chosen {
            println!("{}: test", short(test));
        }
        return ExitCode::SUCCESS;
    }
    install_hook();
    adopt_orphans();
    chosen.reverse();
    run_all(chosen, threads)
}

fn short(test: &Test) -> &'static str {
    test.name
        .split_once("::")
        .map_or(test.name, |(_, rest)| rest)
}

/// Takes tests from the end of `queue`, `threads` at a time.
fn run_all(queue: Vec<Test>, threads: usize) -> ExitCode {
    let began = Instant::now();
    let queue = Mutex::new(queue);
    let counts = Mutex::new([0_u32; 3]);
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some(test) = next else { break };
                    let verdict = run_one(test);
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                    counts[report(&test, &verdict)] += 1;
                }
            });
        }
    });
    end_orphans();
    let [passed, failed, skipped] = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("\nran for {:.1} s", began.elapsed().as_secs_f32());
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints one verdict; returns its column in the sum.
fn report(test: &Test, verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Passed => {
            println!("{} ... ok", short(test));
            0
        }
        Verdict::Failed(why) => {
            println!("{} ... FAILED\n{}", short(test), indent(why));
            1
        }
        Verdict::Skipped(why) => {
            println!("{} ... skipped: {why}", short(test));
            2
        }
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Runs a test on a thread of its own, which is left behind if it overruns.
fn run_one(test: Test) -> Verdict {
    let (done, verdict) = mpsc::channel();
    let name = short(&test).to_owned();
    let body = move || {
        NAME.set(short(&test).to_owned());
        let outcome = panic::catch_unwind(AssertUnwindSafe(test.run));
        let notes = NOTES.take();
        // The receiver has gone if the deadline has passed.
        let _ = done.send(match outcome {
            Ok(()) => Verdict::Passed,
            Err(thrown) => judge(thrown.as_ref(), notes),
        });
    };
    thread::Builder::new()
        .name(name.clone())
        .spawn(body)
        .expect("unable to start a thread");
    match verdict.recv_timeout(test.limit) {
        Ok(verdict) => verdict,
        Err(RecvTimeoutError::Timeout) => {
            end_processes_of(&name);
            // What the daemons said arrives as the test's thread falls over them.
            let more = match verdict.recv_timeout(Duration::from_secs(20)) {
                Ok(Verdict::Failed(why)) => why,
                _ => String::new(),
            };
            Verdict::Failed(format!("not done within {:?}\n{more}", test.limit))
        }
        Err(RecvTimeoutError::Disconnected) => Verdict::Failed("its thread vanished".to_owned()),
    }
}

fn judge(thrown: &(dyn Any + Send), notes: String) -> Verdict {
    match thrown.downcast_ref::<Skipped>() {
        Some(Skipped(why)) => Verdict::Skipped(why.clone()),
        None => Verdict::Failed(notes),
    }
}

/// Panics are kept for the report instead of being printed as they come.
fn install_hook() {
    panic::set_hook(Box::new(|info| {
        let thrown = info.payload();
        let text = thrown
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| thrown.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a text");
        let place = info
            .location()
            .map(|at| format!("{}:{}", at.file(), at.line()))
            .unwrap_or_default();
        if NAME.with_borrow(String::is_empty) {
            // A thread that a test began: its own notes are shown by nobody.
            println!("{place}: {text}");
        } else {
            note(&format!("{place}: {text}"));
        }
    }));
}

fn end_processes_of(test: &str) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    for pid in running
        .get_or_insert_with(HashMap::new)
        .remove(test)
        .unwrap_or_default()
    {
        process::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
}

/// Servers whose daemon was killed become children of the test run, so that
/// they can be found and ended: prctl(2), `PR_SET_CHILD_SUBREAPER`.
fn adopt_orphans() {
    if let Err(errno) = nix::sys::prctl::set_child_subreaper(true) {
        println!("unable to adopt orphans: {errno}");
    }
}

/// Ends what tests that killed a daemon have left running.
fn end_orphans() {
    for pid in process::children(process::this()) {
        process::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
}
