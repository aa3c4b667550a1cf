//! Programs of the host that operations are done with: by their absolute
//! paths, with arguments that no shell sees, without our standard input, and
//! with an output that has an end.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::{Failed, Kind, to};

/// Octets of either output that are kept, unless a tool says otherwise; the rest is read
/// and forgotten.
const LONGEST_OUTPUT: u64 = 4 << 20;

/// Characters of an error output that a caller is told.
const LONGEST_REASON: usize = 500;

/// A program of the host.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Where it may be; the first one that is there is taken.
    places: &'static [&'static str],
    /// What Debian calls the package.
    package: &'static str,
    /// Octets of its output that are kept.
    longest: u64,
}

/// What a program said as it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// 128 and more: a signal.
    pub code: i32,
    pub out: String,
    pub err: String,
    /// Something of `out` is missing: it did not fit.
    pub cut: bool,
}

impl Tool {
    #[must_use]
    pub const fn new(places: &'static [&'static str], package: &'static str) -> Self {
        Self {
            places,
            package,
            longest: LONGEST_OUTPUT,
        }
    }

    /// The same tool, of whose output so many octets are kept.
    #[must_use]
    pub const fn longest(self, longest: u64) -> Self {
        Self { longest, ..self }
    }

    /// Fails with [`Kind::Unavailable`] where the host has none.
    pub fn path(&self) -> Result<&'static str, Failed> {
        let mut places = self.places.iter().copied();
        places.find(|path| Path::new(path).exists()).ok_or_else(|| {
            let (path, package) = (self.places[0], self.package);
            let reason = format!("there is no {path} on this host: install {package}");
            Failed::new(Kind::Unavailable, reason)
        })
    }

    /// The command line, as it would be run.
    pub fn command(&self, args: &[impl AsRef<str>]) -> Result<Vec<String>, Failed> {
        let args = args.iter().map(|arg| arg.as_ref().to_owned());
        Ok(std::iter::once(self.path()?.to_owned())
            .chain(args)
            .collect())
    }

    /// Runs it to its end. That it fails is no error of this.
    pub fn run(&self, args: &[impl AsRef<str>], input: &[u8]) -> Result<Said, Failed> {
        self.follow(args, &[], input, &mut |_| true)
    }

    /// The same, and an error unless it ends with 0.
    pub fn done(&self, args: &[impl AsRef<str>], input: &[u8]) -> Result<Said, Failed> {
        let said = self.run(args, input)?;
        match said.code {
            0 => Ok(said),
            _ => Err(self.failed(&said)),
        }
    }

    /// The same as [`Tool::run`]: `line` sees each line of the output as it comes, and
    /// says whether it is to be kept. `env` is beside the usual environment.
    pub fn follow(
        &self,
        args: &[impl AsRef<str>],
        env: &[(&str, &str)],
        input: &[u8],
        line: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Said, Failed> {
        let path = self.path()?;
        let mut command = Command::new(path);
        command
            .args(args.iter().map(AsRef::as_ref))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            // What it says is parsed.
            .env("LC_ALL", "C")
            .envs(env.iter().copied())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = to(format!("start {path}"), command.spawn())?;
        let ran = attend(child, input, self.longest, line);
        to(format!("run {path}"), ran)
    }

    /// All of its output, for what makes no sense in part.
    pub fn whole<'a>(&self, said: &'a Said) -> Result<&'a str, Failed> {
        match said.cut {
            false => Ok(&said.out),
            true => {
                let (name, longest) = (self.name(), self.longest);
                let reason = format!("{name} had more to say than {longest} octets");
                Err(Failed::new(Kind::Failed, reason))
            }
        }
    }

    fn name(&self) -> &'static str {
        self.places[0].rsplit('/').next().unwrap_or_default()
    }

    /// What it had to say, as the reason for a caller.
    #[must_use]
    pub fn failed(&self, said: &Said) -> Failed {
        let name = self.name();
        let text = match said.err.trim() {
            "" => said.out.trim(),
            err => err,
        };
        let blank = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = text.chars().map(blank).take(LONGEST_REASON).collect();
        let code = said.code;
        let reason = match text.is_empty() {
            true => format!("{name} ended with {code}"),
            false => format!("{name} ended with {code}: {text}"),
        };
        Failed::new(Kind::Failed, reason)
    }
}

/// Gives it its input and hears it out, all at once: any of the pipes may be full first.
fn attend(
    mut child: Child,
    input: &[u8],
    longest: u64,
    line: &mut dyn FnMut(&str) -> bool,
) -> io::Result<Said> {
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(out), Some(err)) = (stdin, out, err) else {
        unreachable!("all three are pipes");
    };
    let ((out, cut), (err, _)) = thread::scope(|scope| {
        // Who does not want all of it has closed his end.
        scope.spawn(move || stdin.write_all(input));
        let err = scope.spawn(move || hear(err, LONGEST_OUTPUT, &mut |_| true));
        let out = hear(out, longest, line);
        (out, err.join().unwrap_or_default())
    });
    let status = child.wait()?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(Said {
        code: code.unwrap_or(128),
        out,
        err,
        cut,
    })
}

/// To the end of it; what does not fit or is unreadable is left out. Whether something
/// did not fit is told.
fn hear(from: impl Read, longest: u64, line: &mut dyn FnMut(&str) -> bool) -> (String, bool) {
    let (mut from, mut kept, mut buffer) = (BufReader::new(from), String::new(), Vec::new());
    let mut cut = false;
    loop {
        buffer.clear();
        let mut piece = (&mut from).take(longest);
        match piece.read_until(b'\n', &mut buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return (kept, cut),
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&buffer);
        if !line(text.trim_end_matches('\n')) {
            continue;
        }
        match kept.len() as u64 + text.len() as u64 <= longest {
            true => kept.push_str(&text),
            false => cut = true,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SHELL: Tool = Tool::new(&["/nonexistent/sh", "/bin/sh"], "dash");

    fn shell(script: &str, input: &[u8]) -> Said {
        SHELL.run(&["-c", script], input).unwrap()
    }

    #[test]
    fn a_program_is_heard_and_its_end_is_told() {
        let said = shell("cat; echo bad >&2; exit 3", b"good");
        let wanted = (3, "good", "bad\n");
        assert_eq!((said.code, &*said.out, &*said.err), wanted);
        assert_eq!(SHELL.failed(&said).reason, "sh ended with 3: bad");
        assert_eq!(shell("kill -9 $$", b"").code, 137);
    }

    #[test]
    fn pipes_that_are_full_hold_nobody_up() {
        let script = "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; wc -c";
        let said = shell(script, &[b'x'; 300_000]);
        assert_eq!((said.code, said.err.len()), (0, 300_000));
        assert!(said.out.ends_with("300000\n"));
        assert_eq!(shell("exec <&-; exit 0", &[0; 300_000]).code, 0);
    }

    #[test]
    fn an_endless_output_is_cut() {
        let said = shell("head -c 9000000 /dev/zero | tr '\\0' '\\n'", b"");
        assert_eq!((said.out.len() as u64, said.cut), (LONGEST_OUTPUT, true));
        let err = SHELL.whole(&said).unwrap_err();
        assert_eq!(err.reason, "sh had more to say than 4194304 octets");
    }

    #[test]
    fn a_tool_that_may_say_more_is_heard_out() {
        let script = "head -c 9000000 /dev/zero";
        for (longest, fits) in [(9_000_000, true), (8_999_999, false)] {
            let tool = SHELL.longest(longest);
            let said = tool.run(&["-c", script], b"").unwrap();
            assert_eq!((said.out.len() as u64, said.cut), (longest, !fits));
            assert_eq!(tool.whole(&said).is_ok(), fits);
        }
        // What nobody wanted is not missing.
        let said = SHELL.follow(&["-c", script], &[], b"", &mut |_| false);
        assert!(!said.unwrap().cut);
    }

    #[test]
    fn nothing_of_our_environment_is_handed_on() {
        let said = shell("env", b"");
        let mut names: Vec<&str> = said
            .out
            .lines()
            .filter_map(|l| l.split('=').next())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH", "PWD"]);
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_its_package() {
        let tool = Tool::new(&["/nonexistent/tool"], "tools");
        let none: [&str; 0] = [];
        let err = tool.run(&none, b"").unwrap_err();
        assert_eq!(err.kind, Kind::Unavailable);
        assert_eq!(
            err.reason,
            "there is no /nonexistent/tool on this host: install tools"
        );
    }
}
