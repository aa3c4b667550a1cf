//! The programs, call by call in an interpreter, and once for real.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::process::{Command, Output};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket, socketpair};

use super::program::{ALLOW, ARCHITECTURE, ARGUMENTS, ERRNO, KILL_PROCESS, NUMBER};
use super::*;
use crate::sys::bpf::{MOST_INSTRUCTIONS, machine};
use crate::sys::raw;
use crate::table::isolation::{Family, Preset, SystemCalls};

use Architecture::{Aarch64, X86_64};

fn standard() -> Isolation {
    Isolation::preset(Preset::Standard)
}

fn strict() -> Isolation {
    Isolation::preset(Preset::Strict)
}

/// With these names in `allow_calls` and `deny_calls`.
fn refined(mut from: Isolation, allow: &[&str], deny: &[&str]) -> Isolation {
    from.allow_calls = allow.iter().map(ToString::to_string).collect();
    from.deny_calls = deny.iter().map(ToString::to_string).collect();
    from
}

fn program_on(machine: Architecture, isolation: &Isolation) -> Vec<Instruction> {
    compile_for(machine, &Settings::of(isolation)).unwrap()
}

/// What the kernel would do about a call. The interpreter reads words in
/// network order, so they are written so.
fn judge(program: &[Instruction], audit: u32, number: u32, arguments: &[u64]) -> u32 {
    let mut data = [0; 64];
    let mut put = |at: u32, word: u32| {
        let at = usize::try_from(at).unwrap();
        data[at..at + 4].copy_from_slice(&word.to_be_bytes());
    };
    put(NUMBER, number);
    put(ARCHITECTURE, audit);
    for (at, argument) in (ARGUMENTS..).step_by(8).zip(arguments) {
        put(at, u32::try_from(argument & 0xffff_ffff).unwrap());
        put(at + 4, u32::try_from(argument >> 32).unwrap());
    }
    machine::run(program, &data, &[])
}

fn on_x86_64(isolation: &Isolation, call: &str, arguments: &[u64]) -> u32 {
    let number = table::find(call).unwrap().1.number(X86_64).unwrap();
    judge(
        &program_on(X86_64, isolation),
        X86_64.audit(),
        number,
        arguments,
    )
}

fn error(errno: i32) -> u32 {
    ERRNO | errno.unsigned_abs()
}

const UPPER: u64 = 0xdead_beef << 32;

#[test]
fn the_presets_judge_calls_and_their_arguments() {
    let (refused, absent) = (error(libc::EPERM), error(libc::ENOSYS));
    let wrong_family = error(libc::EAFNOSUPPORT);
    let thread = 0x003d_0f00;
    let (user_namespace, time_namespace) = (0x1000_0000, 0x80);
    let child = 17; // SIGCHLD
    for (call, arguments, in_standard, in_strict) in [
        ("read", &[][..], ALLOW, ALLOW),
        ("execve", &[], ALLOW, ALLOW),
        ("ptrace", &[], refused, refused),
        ("mount", &[], refused, refused),
        ("bpf", &[], refused, refused),
        ("setns", &[], refused, refused),
        ("userfaultfd", &[], refused, refused),
        ("io_uring_setup", &[], refused, refused),
        ("open_by_handle_at", &[], refused, refused),
        ("uselib", &[], absent, absent),
        ("io_submit", &[], ALLOW, refused),
        ("vmsplice", &[], ALLOW, refused),
        ("memfd_secret", &[], ALLOW, absent),
        ("clone", &[child], ALLOW, ALLOW),
        ("clone", &[thread], ALLOW, ALLOW),
        ("clone", &[user_namespace | child], refused, refused),
        ("clone", &[UPPER | user_namespace], refused, refused),
        ("clone", &[UPPER | thread], ALLOW, ALLOW),
        ("clone3", &[], absent, absent),
        ("unshare", &[0x400], ALLOW, ALLOW), // CLONE_FILES
        ("unshare", &[user_namespace], refused, refused),
        ("unshare", &[time_namespace], refused, refused),
        ("socket", &[1], ALLOW, ALLOW),
        ("socket", &[2], ALLOW, wrong_family),
        ("socket", &[10], ALLOW, wrong_family),
        ("socket", &[16], wrong_family, wrong_family),
        ("socket", &[17], wrong_family, wrong_family),
        ("socket", &[UPPER | 17], wrong_family, wrong_family),
        ("socketpair", &[1], ALLOW, ALLOW),
        ("socketpair", &[30], wrong_family, wrong_family),
        ("ioctl", &[0, 0x5401], ALLOW, ALLOW),
        ("ioctl", &[0, 0x5412], refused, refused),
        ("ioctl", &[0, UPPER | 0x5412], refused, refused),
        ("ioctl", &[0, 0x541c], refused, refused),
        ("personality", &[0], ALLOW, ALLOW),
        ("personality", &[0xffff_ffff], ALLOW, ALLOW),
        ("personality", &[0x0040_0000], refused, refused),
    ] {
        let judged = |by: &Isolation| on_x86_64(by, call, arguments);
        assert_eq!(judged(&standard()), in_standard, "{call} {arguments:x?}");
        assert_eq!(judged(&strict()), in_strict, "{call} {arguments:x?}");
    }
}

#[test]
fn lists_of_calls_lift_and_add_checks() {
    let (refused, absent) = (error(libc::EPERM), error(libc::ENOSYS));
    let new_user = &[0x1000_0000][..];
    let terminal_input = &[0, 0x5412][..];
    for (allow, deny, call, arguments, expected) in [
        (&["ptrace"][..], &[][..], "ptrace", &[][..], ALLOW),
        (&["ptrace"], &[], "kcmp", &[], refused),
        (&["@debug"], &[], "kcmp", &[], ALLOW),
        (&["@debug"], &["ptrace"], "ptrace", &[], refused),
        (&["ptrace"], &["@debug"], "ptrace", &[], refused),
        (&["clone3"], &[], "clone3", &[], ALLOW),
        (&["clone3"], &[], "clone", new_user, refused),
        (&["clone"], &[], "clone", new_user, ALLOW),
        (&["@namespace"], &[], "clone", new_user, ALLOW),
        (&["@namespace"], &[], "clone3", &[], ALLOW),
        (&["@namespace"], &[], "unshare", new_user, ALLOW),
        (&["@namespace"], &[], "setns", &[], ALLOW),
        (&["@namespace"], &["clone3"], "clone3", &[], absent),
        (&["clone"], &["@namespace"], "clone", new_user, refused),
        (&["clone"], &["@namespace"], "clone", &[17], ALLOW),
        (&["@process"], &[], "clone", new_user, refused),
        (&["@process"], &[], "clone3", &[], absent),
        (&["ioctl"], &[], "ioctl", terminal_input, refused),
        (&[], &["ioctl"], "ioctl", &[], refused),
        (&["personality"], &[], "personality", &[8], ALLOW),
        (&["@aio"], &[], "io_submit", &[], ALLOW),
        (&[], &["@network-io"], "connect", &[], refused),
        (&[], &["getrandom"], "getrandom", &[], absent),
        (&[], &["pidfd_open"], "pidfd_open", &[], absent),
    ] {
        for preset in [standard(), strict()] {
            let isolation = refined(preset, allow, deny);
            let judged = on_x86_64(&isolation, call, arguments);
            assert_eq!(judged, expected, "{call} by {isolation:?}");
        }
    }
}

#[test]
fn numbers_of_other_machines_are_no_way_round() {
    const I386: u32 = 0x4000_0003;
    const X32: u32 = 0x4000_0000;
    for isolation in [standard(), strict()] {
        let program = program_on(X86_64, &isolation);
        for foreign in [I386, Aarch64.audit(), 0] {
            assert_eq!(judge(&program, foreign, 0, &[]), KILL_PROCESS);
        }
        let absent = error(libc::ENOSYS);
        // x32, its own calls, holes, calls of the future, and what ptrace(2) leaves.
        for number in [X32, X32 + 39, X32 + 512, 400, 470, 100_000, u32::MAX] {
            let judged = judge(&program, X86_64.audit(), number, &[0x1000_0000]);
            assert_eq!(judged, absent, "{number:#x}");
        }
    }
}

#[test]
fn aarch64_has_numbers_of_its_own() {
    let (refused, absent) = (error(libc::EPERM), error(libc::ENOSYS));
    let in_both = [
        (63, &[][..], ALLOW),                    // read
        (221, &[], ALLOW),                       // execve
        (117, &[], refused),                     // ptrace
        (220, &[17], ALLOW),                     // clone
        (220, &[0x1000_0000], refused),          // clone
        (435, &[], absent),                      // clone3
        (29, &[0, UPPER | 0x5412], refused),     // ioctl
        (198, &[16], error(libc::EAFNOSUPPORT)), // socket
        (250, &[], absent),                      // of no architecture
    ];
    for isolation in [standard(), strict()] {
        let program = program_on(Aarch64, &isolation);
        for (number, arguments, expected) in in_both {
            let judged = judge(&program, Aarch64.audit(), number, arguments);
            assert_eq!(judged, expected, "{number} {arguments:x?}");
        }
        assert_eq!(judge(&program, X86_64.audit(), 63, &[]), KILL_PROCESS);
    }
}

#[test]
fn any_family_may_be_named_and_so_may_none() {
    let mut isolation = standard();
    let socket = |by: &Isolation, family| on_x86_64(by, "socket", &[family]);
    isolation.address_families = None;
    assert_eq!(socket(&isolation, 17), ALLOW);
    isolation.address_families = Some(Vec::new());
    assert_eq!(socket(&isolation, 1), error(libc::EAFNOSUPPORT));
    isolation.address_families = Some(vec![Family::Vsock, Family::Netlink]);
    assert_eq!(socket(&isolation, 16), ALLOW);
    assert_eq!(socket(&isolation, 40), ALLOW);
    assert_eq!(socket(&isolation, 2), error(libc::EAFNOSUPPORT));
}

#[test]
fn every_call_is_in_one_group_and_has_a_number_of_its_own() {
    let mut seen = HashSet::new();
    for name in names() {
        assert!(seen.insert(name), "{name} is there twice");
        assert!(is_known(name));
    }
    for machine in Architecture::ALL {
        let mut seen = HashSet::new();
        for (_, call) in table::calls() {
            let number = call.number(machine);
            assert!(number.is_none_or(|number| seen.insert(number)), "{call:?}");
        }
        assert!(seen.len() > 300);
    }
}

#[test]
fn the_numbers_are_those_of_the_c_library() {
    let Ok(machine) = Architecture::of_this_machine() else {
        return;
    };
    for (name, number) in [
        ("read", libc::SYS_read),
        ("openat", libc::SYS_openat),
        ("socket", libc::SYS_socket),
        ("socketpair", libc::SYS_socketpair),
        ("ioctl", libc::SYS_ioctl),
        ("clone", libc::SYS_clone),
        ("clone3", libc::SYS_clone3),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("execve", libc::SYS_execve),
        ("execveat", libc::SYS_execveat),
        ("personality", libc::SYS_personality),
        ("ptrace", libc::SYS_ptrace),
        ("mount", libc::SYS_mount),
        ("bpf", libc::SYS_bpf),
        ("keyctl", libc::SYS_keyctl),
        ("init_module", libc::SYS_init_module),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("process_vm_writev", libc::SYS_process_vm_writev),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("seccomp", libc::SYS_seccomp),
        ("newfstatat", libc::SYS_newfstatat),
        ("statx", libc::SYS_statx),
        ("rseq", libc::SYS_rseq),
        ("fchmodat2", libc::SYS_fchmodat2),
    ] {
        let known = table::find(name).unwrap().1.number(machine);
        assert_eq!(known.map(i64::from), Some(number), "{name}");
    }
}

#[test]
fn an_allow_list_has_nothing_that_a_deny_list_refuses() {
    for (group, call) in table::calls() {
        if permits(&strict(), call.name) {
            assert_eq!(group.fate, Fate::Served, "{}", call.name);
            assert!(permits(&standard(), call.name), "{}", call.name);
        }
    }
    for isolation in [standard(), strict()] {
        for name in ["ptrace", "mount", "clone3", "add_key", "no_such_call"] {
            assert!(!permits(&isolation, name), "{name}");
        }
    }
}

#[test]
fn a_list_that_would_stop_every_start_is_found() {
    for preset in [Preset::None, Preset::Standard, Preset::Strict] {
        assert_eq!(refuses_to_start(&Isolation::preset(preset)), None);
    }
    let without = |preset, name| refuses_to_start(&refined(preset, &[], &[name]));
    assert_eq!(without(strict(), "execve"), Some("execve"));
    assert_eq!(without(standard(), "@default"), Some("execve"));
    assert_eq!(without(standard(), "@basic-io"), Some("write"));
    // The user is switched under the filter.
    assert_eq!(without(standard(), "@setuid"), Some("setgroups"));
}

#[test]
fn programs_of_equal_settings_are_shared() {
    let mut compiled = Compiled::default();
    let one = refined(standard(), &["ptrace", "@mount"], &[]);
    let same = refined(standard(), &["@mount", "ptrace", "ptrace"], &[]);
    let first = compiled.program(&one).unwrap();
    assert!(Arc::ptr_eq(&first, &compiled.program(&same).unwrap()));
    let mut listed = one.clone();
    listed.system_calls = SystemCalls::AllowList;
    assert!(!Arc::ptr_eq(&first, &compiled.program(&listed).unwrap()));
    assert!(compiled.program(&refined(one, &["@nothing"], &[])).is_err());
}

#[test]
fn programs_stay_small_and_so_do_their_ways() {
    for machine in Architecture::ALL {
        for isolation in [standard(), strict()] {
            let program = program_on(machine, &isolation);
            assert!(program.len() < MOST_INSTRUCTIONS / 8, "{}", program.len());
        }
    }
}

#[test]
fn the_verdict_of_every_number_is_reached_however_far_it_is() {
    let look = |nth: u32| {
        Verdict::Look(rules::Look {
            argument: nth % 6,
            wanted: match nth % 4 {
                0 => rules::Wanted::OneOf((nth..nth + nth % 40).collect()),
                1 => rules::Wanted::NoneOf(vec![nth, nth + 1]),
                2 => rules::Wanted::Without(nth | 1),
                _ => rules::Wanted::NotAll(nth | 3),
            },
            errno: 1,
        })
    };
    // Few verdicts that come again and again, many that do not, and those that no jump reaches.
    for every in [2, 7, 50] {
        let verdict = |number: u32| match number % every {
            0 => look(number),
            1 => Verdict::Allow,
            other => Verdict::Refuse(i32::try_from(other).unwrap()),
        };
        let rules: Vec<_> = (0..400).map(|number| (number, verdict(number))).collect();
        let program = program::assemble(X86_64, &rules);
        for (number, verdict) in &rules {
            for argument in [0, 1, 3, 20, 41, u32::MAX, *number, number + 1] {
                let judged = judge(&program, X86_64.audit(), *number, &[argument.into(); 6]);
                assert_eq!(judged, by_hand(verdict, argument), "{number}: {verdict:?}");
            }
        }
    }
}

fn by_hand(verdict: &Verdict, argument: u32) -> u32 {
    let (allowed, errno) = match verdict {
        Verdict::Allow => (true, 0),
        Verdict::Refuse(errno) => (false, *errno),
        Verdict::Look(look) => {
            let fits = match &look.wanted {
                rules::Wanted::OneOf(values) => values.contains(&argument),
                rules::Wanted::NoneOf(values) => !values.contains(&argument),
                rules::Wanted::Without(bits) => argument & bits == 0,
                rules::Wanted::NotAll(bits) => argument & bits != *bits,
            };
            (fits, look.errno)
        }
    };
    if allowed {
        ALLOW
    } else {
        ERRNO | errno.cast_unsigned()
    }
}

/// Does `what` in a thread that has the filter; only it, and what it starts, has.
fn under<T: Send>(isolation: &Isolation, what: impl FnOnce() -> T + Send) -> T {
    let program = compile(isolation).unwrap();
    thread::scope(|scope| {
        let filtered = scope.spawn(|| {
            set_no_new_privs().unwrap();
            raw::set_filter(&program).unwrap();
            what()
        });
        filtered.join().unwrap()
    })
}

fn shell(script: &str) -> Output {
    Command::new("/bin/sh")
        .args(["-c", script])
        .output()
        .unwrap()
}

#[test]
fn the_kernel_takes_the_programs_and_ordinary_work_goes_on() {
    for isolation in [standard(), strict()] {
        let output = under(&isolation, || {
            thread::spawn(|| shell("cat /dev/null; echo $(echo one | tr o O) | cat"))
                .join()
                .unwrap()
        });
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"One\n");
    }
}

#[test]
fn the_kernel_refuses_namespaces_and_families() {
    for isolation in [standard(), strict()] {
        let (namespace, netlink, pair) = under(&isolation, || {
            let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
            (
                unshare(CloneFlags::CLONE_NEWUSER),
                socket(AddressFamily::Netlink, kind, flags, None),
                socketpair(AddressFamily::Unix, SockType::Stream, None, flags),
            )
        });
        // Without a filter it is EINVAL: this process has threads.
        assert_eq!(namespace, Err(Errno::EPERM));
        assert_eq!(netlink.unwrap_err(), Errno::EAFNOSUPPORT);
        assert!(pair.is_ok());
    }
}

#[test]
fn a_server_that_aborts_dies_of_it() {
    use std::os::unix::process::ExitStatusExt;
    let output = under(&strict(), || shell("kill -ABRT $$"));
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
}
