//! The program that tries to get out: this test binary, started by usherd as a
//! server with the argument `--attack`. It reads attempts from its connection,
//! one a line, and answers each with `= RESULT` or the name of an errno.
//!
//! Most attempts are `sys NAME ARGUMENT...`. An argument is a number,
//! `text:` and a string, `room:` and the size of an empty buffer, or `hex:` and
//! the bytes of one. The others are what takes more than one system call.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::raw;

type Outcome = Result<String, Errno>;

pub fn run() {
    // What an attempt opens stays open.
    let mut held = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let words: Vec<&str> = line.split(' ').collect();
        let said = match attempt(&words, &mut held) {
            Ok(result) => format!("= {result}\n"),
            Err(errno) => format!("{errno:?}\n"),
        };
        let _ = std::io::stdout().write_all(said.as_bytes());
        let _ = std::io::stdout().flush();
    }
}

fn attempt(words: &[&str], held: &mut Vec<i32>) -> Outcome {
    match *words {
        ["sys", name, ref arguments @ ..] => system_call(name, arguments),
        ["cat", path] => Ok(first_line(&fs::read(path).map_err(errno)?)),
        ["list", path] => list(path),
        ["link", path] => Ok(fs::read_link(path).map_err(errno)?.display().to_string()),
        ["descriptors"] => Ok(descriptors()),
        ["writable"] => Ok(super::walk::writable(Path::new("/")).join(" ")),
        ["sockets"] => Ok(super::walk::sockets(Path::new("/")).join(" ")),
        ["connect", to] => connect(to, held),
        ["listen", name] => listen(name, held),
        ["again", port, how] => again(port.parse().unwrap(), how),
        ["run", program, ref arguments @ ..] => execute(program, arguments),
        ["run-copy", program] => execute_copy(program),
        ["reach"] => Ok(reach()),
        ["32-bit"] => in_child(|| i32::from(raw::getpid_of_32_bits() < 0)),
        ["abort"] => in_child(|| std::process::abort()),
        ["forks", most] => forks(most.parse().unwrap()),
        ["eat", mebibytes] => eat(mebibytes.parse().unwrap()),
        ["fill", directory] => fill(Path::new(directory)),
        ["daemon"] => leave_a_daemon(),
        ["trap"] => Ok(trap()),
        _ => Err(Errno::ENOTSUP),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn errno(err: std::io::Error) -> Errno {
    err.raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace('\0', " ");
    text.lines().next().unwrap_or_default().to_owned()
}

fn system_call(name: &str, arguments: &[&str]) -> Outcome {
    let mut rooms: Vec<Vec<u8>> = Vec::new();
    let mut all = [0; 6];
    for (at, word) in arguments.iter().enumerate() {
        let room = match word.split_once(':') {
            Some(("text", text)) => [text.as_bytes(), b"\0"].concat(),
            Some(("room", size)) => vec![0; size.parse().unwrap()],
            Some(("hex", digits)) => bytes(digits),
            _ => {
                all[at] = number(word);
                continue;
            }
        };
        all[at] = room.as_ptr() as usize;
        rooms.push(room);
    }
    raw::system_call(super::calls::number(name), all).map(|result| result.to_string())
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

#[allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "a register takes the bits"
)]
fn number(word: &str) -> usize {
    match word.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16).unwrap(),
        None => word
            .parse::<i64>()
            .unwrap_or_else(|_| panic!("no number: {word}")) as usize,
    }
}

fn list(path: &str) -> Outcome {
    let entries = fs::read_dir(path).map_err(errno)?;
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names.join(" "))
}

/// Asks for every number, as /proc may be hidden.
fn descriptors() -> String {
    const F_GETFD: usize = 1;
    let is_open =
        |fd: &usize| raw::system_call(libc::SYS_fcntl, [*fd, F_GETFD, 0, 0, 0, 0]).is_ok();
    let open = (0..65_536).filter(is_open).map(|fd| fd.to_string());
    open.collect::<Vec<_>>().join(" ")
}

/// The processes whose numbers mean something here, our own apart; with `!`
/// those that would take a signal from us.
fn reach() -> String {
    let own = usize::try_from(std::process::id()).unwrap();
    let look = |pid: &usize| match raw::system_call(libc::SYS_kill, [*pid, 0, 0, 0, 0, 0]) {
        _ if *pid == own => None,
        Ok(_) => Some(format!("{pid}!")),
        Err(Errno::EPERM) => Some(pid.to_string()),
        Err(_) => None,
    };
    let most = 1 << 15;
    (1..most)
        .filter_map(|pid| look(&pid))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Holds up others of our user that are about to start, again and again, and tells
/// whether the memory of one could be looked at while it was still usherd's.
fn trap() -> String {
    let signal = |pid: u32, signal: i32| {
        let (pid, signal) = (usize::try_from(pid), usize::try_from(signal));
        raw::system_call(libc::SYS_kill, [pid.unwrap(), signal.unwrap(), 0, 0, 0, 0]).is_ok()
    };
    let mut next = std::process::id() + 1;
    let mut caught = 0;
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let stopped = (next..next + 4).find(|pid| signal(*pid, libc::SIGSTOP));
        if let Some(pid) = stopped {
            (caught, next) = (caught + 1, pid + 1);
            for pause in 0..2000 {
                if fs::File::open(format!("/proc/{pid}/mem")).is_ok() {
                    let program = fs::read_link(format!("/proc/{pid}/exe"));
                    if program.is_ok_and(|path| path.ends_with("usherd")) {
                        signal(pid, libc::SIGCONT);
                        return format!("the memory of usherd, of {caught}");
                    }
                    break;
                }
                signal(pid, libc::SIGCONT);
                for n in 0..pause % 200 {
                    std::hint::black_box(n);
                }
                if !signal(pid, libc::SIGSTOP) {
                    break;
                }
            }
            signal(pid, libc::SIGCONT);
        }
    }
    match caught {
        0 => "nobody".to_owned(),
        _ => "nothing".to_owned(),
    }
}

/// `tcp:PORT` of 127.0.0.1, `@NAME`, or a path.
fn connect(to: &str, held: &mut Vec<i32>) -> Outcome {
    let fd = match (to.strip_prefix("tcp:"), to.strip_prefix('@')) {
        (Some(port), _) => {
            let to = ("127.0.0.1", port.parse().unwrap());
            TcpStream::connect(to).map(IntoRawFd::into_raw_fd)
        }
        (_, Some(name)) => SocketAddr::from_abstract_name(name)
            .and_then(|name| UnixStream::connect_addr(&name))
            .map(IntoRawFd::into_raw_fd),
        _ => UnixStream::connect(to).map(IntoRawFd::into_raw_fd),
    };
    held.push(fd.map_err(errno)?);
    Ok("connected".to_owned())
}

/// The same names, but `tcp:0` for any port.
fn listen(name: &str, held: &mut Vec<i32>) -> Outcome {
    if let Some(port) = name.strip_prefix("tcp:") {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port.parse().unwrap()));
        let listener = listener.map_err(errno)?;
        let port = listener.local_addr().map_err(errno)?.port();
        held.push(listener.into_raw_fd());
        return Ok(port.to_string());
    }
    let listener = match name.strip_prefix('@') {
        Some(name) => {
            SocketAddr::from_abstract_name(name).and_then(|name| UnixListener::bind_addr(&name))
        }
        None => UnixListener::bind(name),
    };
    held.push(listener.map_err(errno)?.into_raw_fd());
    Ok("listening".to_owned())
}

/// Dissolves the connection that was handed over, which is of the host's
/// network whatever the own one is, and uses its socket for another one. Tells on
/// stderr, and says hello over the new one.
fn again(port: u16, how: &str) -> Outcome {
    let dissolved = raw::system_call(
        libc::SYS_connect,
        [0, [0_u8; 16].as_ptr() as usize, 16, 0, 0, 0],
    );
    let [high, low] = port.to_be_bytes();
    let family = libc::AF_INET.to_le_bytes();
    let mut address = [
        family[0], family[1], high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let hello = b"hello";
    let to = address.as_ptr() as usize;
    let outcome = dissolved.and_then(|_| match how {
        "connect" => raw::system_call(libc::SYS_connect, [0, to, 16, 0, 0, 0]).and_then(|_| {
            raw::system_call(libc::SYS_write, [0, hello.as_ptr() as usize, 5, 0, 0, 0])
        }),
        "send" => {
            const MSG_FASTOPEN: usize = 0x2000_0000;
            let text = hello.as_ptr() as usize;
            raw::system_call(libc::SYS_sendto, [0, text, 5, MSG_FASTOPEN, to, 16])
        }
        _ => {
            address[2..4].fill(0);
            let bound =
                raw::system_call(libc::SYS_bind, [0, address.as_ptr() as usize, 16, 0, 0, 0]);
            bound.and_then(|_| raw::system_call(libc::SYS_listen, [0, 1, 0, 0, 0, 0]))
        }
    });
    let outcome = outcome.map_or_else(|errno| format!("{errno:?}"), |_| "=".to_owned());
    eprintln!("{how} again: {outcome}.");
    raw::end(0);
}

fn execute(program: &str, arguments: &[&str]) -> Outcome {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(errno)?;
    let text = [&output.stdout[..], &output.stderr].concat();
    Ok(first_line(&text))
}

/// From memory that has no path: memfd_create(2), execve(2).
fn execute_copy(program: &str) -> Outcome {
    let content = fs::read(program).map_err(errno)?;
    let name = c"copy".as_ptr() as usize;
    let fd = raw::system_call(libc::SYS_memfd_create, [name, 0, 0, 0, 0, 0])?;
    let path = format!("/proc/self/fd/{fd}");
    fs::write(&path, content).map_err(errno)?;
    execute(&path, &[])
}

/// Waits for a child; says how it ended.
fn ending(child: i32) -> Outcome {
    let mut status: i32 = 0;
    let place = (&raw mut status) as usize;
    raw::system_call(
        libc::SYS_wait4,
        [usize::try_from(child).unwrap(), place, 0, 0, 0, 0],
    )?;
    let status = std::process::ExitStatus::from_raw(status);
    Ok(match (status.signal(), status.core_dumped()) {
        (Some(signal), true) => format!("signal {signal} with a core"),
        (Some(signal), false) => format!("signal {signal}"),
        _ => format!("status {}", status.code().unwrap_or(-1)),
    })
}

fn in_child(work: impl FnOnce() -> i32) -> Outcome {
    match raw::fork()? {
        None => raw::end(work()),
        Some(child) => ending(child),
    }
}

/// As many children as it gets, all of them at once; they end with the writer of a pipe.
fn forks(most: usize) -> Outcome {
    let (reader, writer) = std::io::pipe().map_err(errno)?;
    let mut children = Vec::new();
    let mut refused = None;
    while children.len() < most && refused.is_none() {
        match raw::fork() {
            Ok(None) => {
                // The writer is the parent's alone from here on.
                let writer = usize::try_from(writer.as_raw_fd()).unwrap();
                let _ = raw::system_call(libc::SYS_close, [writer, 0, 0, 0, 0, 0]);
                let _ = (&reader).read(&mut [0]);
                raw::end(0);
            }
            Ok(Some(child)) => children.push(child),
            Err(errno) => refused = Some(errno),
        }
    }
    drop(writer);
    let count = children.len();
    for child in children {
        ending(child)?;
    }
    match refused {
        Some(errno) => Ok(format!("{count} {errno:?}")),
        None => Ok(format!("{count}")),
    }
}

/// A child that takes memory.
fn eat(mebibytes: usize) -> Outcome {
    in_child(|| {
        let mut all = Vec::new();
        for _ in 0..mebibytes {
            all.push(vec![1_u8; 1 << 20]);
        }
        i32::from(all.len() != mebibytes)
    })
}

/// Writes one file after the other until that fails; removes them.
fn fill(directory: &Path) -> Outcome {
    let mut total: u64 = 0;
    let path = directory.join("escape-fill");
    let mut file = fs::File::create(&path).map_err(errno)?;
    let block = vec![1_u8; 1 << 16];
    let refused = loop {
        match file.write(&block) {
            // More than any private /tmp of the tests; of the host's no more than this.
            Ok(_) if total > 64 << 20 => break None,
            Ok(written) => total += written as u64,
            Err(err) => break Some(errno(err)),
        }
    };
    let _ = fs::remove_file(&path);
    let refused = refused.map_or_else(|| "goes on".to_owned(), |errno| format!("{errno:?}"));
    Ok(format!("{} MiB {refused}", total >> 20))
}

/// As daemons do: two forks, a session of its own, nothing open; it stays for ever.
fn leave_a_daemon() -> Outcome {
    let no = [0; 6];
    in_child(|| {
        let _ = raw::system_call(libc::SYS_setsid, no);
        if let Ok(None) = raw::fork() {
            let all = usize::try_from(u32::MAX).unwrap();
            let _ = raw::system_call(libc::SYS_close_range, [0, all, 0, 0, 0, 0]);
            loop {
                let _ = raw::system_call(libc::SYS_ppoll, no);
            }
        }
        0
    })
}
