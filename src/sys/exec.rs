//! Argument and environment arrays for execve(2), laid out before the clone.

use std::ffi::{CString, c_char};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use serde::{Deserialize, Serialize, Serializer};

/// `argv`: owns its strings and the null-terminated array of pointers to them.
#[derive(Debug, Deserialize)]
#[serde(from = "Vec<CString>")]
pub struct Argv {
    pointers: Vec<*const c_char>,
    strings: Vec<CString>,
}

impl Argv {
    #[must_use]
    pub fn new(strings: Vec<CString>) -> Self {
        // The heap buffers of the strings do not move when the Vec does.
        let pointers = strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([ptr::null()])
            .collect();
        Self { pointers, strings }
    }

    /// For execve(2): valid as long as `self`.
    #[must_use]
    pub fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

impl From<Vec<CString>> for Argv {
    fn from(strings: Vec<CString>) -> Self {
        Self::new(strings)
    }
}

impl Serialize for Argv {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.strings.serialize(serializer)
    }
}

/// An environment: `NAME=value` strings in one buffer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Environment {
    bytes: Vec<u8>,
    listen_pid: Option<usize>,
}

impl Environment {
    /// Digits of the largest pid (4 million, proc(5)), and the NUL.
    const PID_ROOM: usize = 11;

    /// Adds a variable; a value is cut at its first NUL, which cannot be said
    /// in an environment.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let value = value.split(|&b| b == 0).next().unwrap_or_default();
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value);
        self.bytes.push(0);
    }

    /// Adds `LISTEN_PID`, whose value only the child can know.
    pub fn push_listen_pid(&mut self) {
        self.bytes.extend_from_slice(b"LISTEN_PID=");
        self.listen_pid = Some(self.bytes.len());
        self.bytes.extend_from_slice(&[0; Self::PID_ROOM]);
    }

    /// Whether there is a variable of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.place_of(name).is_some()
    }

    /// Takes the variable of this name out, if it is there.
    pub fn remove(&mut self, name: &str) {
        let Some(place) = self.place_of(name) else {
            return;
        };
        let (start, length) = (place.start, place.len());
        self.bytes.drain(place);
        match &mut self.listen_pid {
            Some(at) if *at > start => *at -= length,
            _ => {}
        }
    }

    /// Where it is, with the NUL behind it.
    fn place_of(&self, name: &str) -> Option<Range<usize>> {
        let mut start = 0;
        for string in self.bytes.split_inclusive(|byte| *byte == 0) {
            let place = start..start + string.len();
            let rest = string.strip_prefix(name.as_bytes());
            if rest.is_some_and(|rest| rest.starts_with(b"=")) {
                return Some(place);
            }
            start = place.end;
        }
        None
    }

    /// Lays out the array of pointers. Nothing can be added after that.
    #[must_use]
    pub fn seal(mut self) -> Envp {
        let base = self.bytes.as_mut_ptr();
        let mut pointers = Vec::with_capacity(32);
        let mut start = 0;
        for (at, byte) in self.bytes.iter().enumerate() {
            if *byte == 0 {
                // The room behind LISTEN_PID is all NULs: no empty strings of it.
                if at > start {
                    pointers.push(base.wrapping_add(start).cast::<c_char>().cast_const());
                }
                start = at + 1;
            }
        }
        pointers.push(ptr::null());
        let listen_pid = self.listen_pid.map(|at| base.wrapping_add(at));
        Envp {
            pointers,
            listen_pid,
            _bytes: self.bytes,
        }
    }
}

/// A sealed [`Environment`].
#[derive(Debug)]
pub struct Envp {
    pointers: Vec<*const c_char>,
    listen_pid: Option<*mut u8>,
    _bytes: Vec<u8>,
}

impl Envp {
    /// For execve(2): valid as long as `self`.
    #[must_use]
    pub fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    /// In the child: writes our own pid where `LISTEN_PID` is, if it is there.
    pub fn fill_listen_pid(&mut self) {
        let Some(at) = self.listen_pid else { return };
        let mut pid = super::raw::own_pid();
        let mut digits = [0u8; Environment::PID_ROOM];
        let mut first = digits.len();
        while pid > 0 {
            first -= 1;
            digits[first] = b'0' + u8::try_from(pid % 10).unwrap_or(0);
            pid /= 10;
        }
        let digits = &digits[first..];
        // SAFETY: `at` starts PID_ROOM bytes inside the buffer that this value
        // owns, and a pid has fewer digits than that.
        unsafe { ptr::copy_nonoverlapping(digits.as_ptr(), at, digits.len()) };
    }
}

/// An environment for a child that is there before its request: put here by
/// the parent, taken by the child when it is told to.
#[derive(Debug, Default)]
pub struct LateEnvp(AtomicPtr<Envp>);

impl LateEnvp {
    /// Replaces nothing: only the first one counts.
    pub fn put(&self, envp: Envp) {
        let new = Box::into_raw(Box::new(envp));
        let order = Ordering::AcqRel;
        let put = self
            .0
            .compare_exchange(ptr::null_mut(), new, order, Ordering::Acquire);
        if put.is_err() {
            // SAFETY: made by `into_raw` above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
    }

    /// In the child, which is the only one to use it from then on.
    #[allow(
        clippy::mut_from_ref,
        reason = "what is behind the pointer is the child's alone"
    )]
    pub fn take_in_child(&self) -> Option<&mut Envp> {
        // SAFETY: null or made by `put`, which does not touch it again, and
        // freed only with this value, which the parent keeps while the child is in
        // its memory. Whoever has a LateEnvp gives it to one child, which asks once.
        unsafe { self.0.load(Ordering::Acquire).as_mut() }
    }
}

impl Drop for LateEnvp {
    fn drop(&mut self) {
        let envp = *self.0.get_mut();
        if !envp.is_null() {
            // SAFETY: made by `into_raw` in `put`, and freed here only.
            drop(unsafe { Box::from_raw(envp) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn listen_pid_is_filled_in_place() {
        let mut env = Environment::default();
        env.push("GONE", b"0");
        env.push("A", b"1");
        env.push_listen_pid();
        env.push("B", b"2\0hidden");
        env.push("GONE_TOO", b"");
        assert!(env.has("GONE") && env.has("LISTEN_PID") && !env.has("GO") && !env.has("1"));
        ["GONE", "GONE_TOO", "NEVER"]
            .iter()
            .for_each(|name| env.remove(name));
        assert!(!env.has("GONE") && env.has("B"));
        let mut envp = env.seal();
        envp.fill_listen_pid();
        assert_eq!(envp.pointers.len(), 4);
        let texts: Vec<_> = envp.pointers[..3]
            .iter()
            // SAFETY: each points into `envp`, at a string that ends in NUL.
            .map(|p| unsafe { CStr::from_ptr(*p) }.to_string_lossy().into_owned())
            .collect();
        let pid = format!("LISTEN_PID={}", std::process::id());
        assert_eq!(texts, ["A=1".to_owned(), pid, "B=2".to_owned()]);
    }
}
