//! What a service's child needs, worked out when the table is loaded.
#![forbid(unsafe_code)]

use std::ffi::{CString, NulError};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::sandbox::blueprint::STATE;
use crate::sys::bpf::Instruction;
use crate::sys::exec::{Argv, Environment};
use crate::table::{Activation, Exec, Identity, Limit};

/// Where programs are looked for, by servers that look.
const PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a server is told about its user, as login(1) would say it.
const OF_THE_USER: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL"];

/// Everything about a child that does not depend on the request.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecPlan {
    pub program: CString,
    pub argv: Argv,
    /// Base environment and the table's `env`.
    #[serde(skip)]
    pub environment: Environment,
    /// Names in `env`: facts about the request do not override them.
    #[serde(skip)]
    pub fixed: Vec<String>,
    pub credentials: Option<Credentials>,
    pub limits: Vec<Limit>,
    /// Limits that usherd raised for itself and a server gets back as they were.
    pub inherited_files: (u64, u64),
    pub nice: Option<i32>,
    pub umask: u32,
    pub dir: CString,
    pub activation: Activation,
    pub cage: Cage,
    /// What only a process with memory of its own can do to itself.
    pub session: Option<SessionPlan>,
}

/// See [`crate::sandbox::session`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPlan {
    pub oom_score: Option<i32>,
    pub pam: Option<PamPlan>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PamPlan {
    pub service: CString,
    pub user: CString,
    /// What modules call the terminal, where there is none: some want a name.
    pub tty: CString,
    /// Variables that PAM may say another value of.
    pub loose: Vec<String>,
}

/// What the child takes from itself, beyond the sandbox that it enters.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cage {
    pub label: Option<Label>,
    pub cgroup_namespace: bool,
    /// A bit for each CPU; empty for all.
    pub cpus: Vec<u64>,
    /// As ioprio_set(2) takes it.
    pub io_priority: Option<i32>,
    /// The capabilities that are kept, a bit for each; `None` leaves them as they are.
    pub capabilities: Option<u64>,
    pub keyring: bool,
    pub no_new_privs: bool,
    #[serde(with = "program")]
    pub filter: Option<Arc<[Instruction]>>,
    /// A limit of memory may end whoever shares the child's: it must not be us.
    pub own_memory: bool,
    /// The filter lets a parked child hear of its request, and it is told of it in our memory.
    pub may_park: bool,
    /// Where the service finds its credentials.
    #[serde(skip)]
    pub credentials: Option<PathBuf>,
    /// Where it finds the admin socket, if it may ask for something there.
    #[serde(skip)]
    pub admin: Option<PathBuf>,
}

/// What an LSM is told about the next exec.
#[derive(Debug, Serialize, Deserialize)]
pub struct Label {
    pub file: CString,
    pub text: CString,
}

/// See credentials(7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl ExecPlan {
    /// Another process of our own program, with a socket pair on descriptor 3.
    #[must_use]
    pub fn of_ourselves(argv: Vec<CString>, files: (u64, u64), umask: u32) -> Self {
        Self {
            program: c"/proc/self/exe".to_owned(),
            argv: Argv::new(argv),
            environment: Environment::default(),
            fixed: Vec::new(),
            credentials: None,
            limits: Vec::new(),
            inherited_files: files,
            nice: None,
            umask,
            dir: c"/".to_owned(),
            activation: Activation::ListenFds,
            cage: Cage::default(),
            session: None,
        }
    }

    /// Compiles `exec`. `own_environment` is what usherd itself was started
    /// with (for `pass_env`), `inherited_files` its NOFILE limits (soft, hard).
    pub fn compile(
        service: &str,
        exec: &Exec,
        own_environment: &[(std::ffi::OsString, std::ffi::OsString)],
        inherited_files: (u64, u64),
        cage: Cage,
    ) -> Result<Self, NulError> {
        let mut argv = vec![CString::new(argv0(exec))?];
        for arg in &exec.args {
            argv.push(CString::new(arg.as_str())?);
        }
        Ok(Self {
            program: CString::new(exec.program.as_os_str().as_bytes())?,
            argv: Argv::new(argv),
            environment: environment(exec, own_environment, &cage),
            fixed: exec.env.iter().map(|(name, _)| name.clone()).collect(),
            credentials: exec.user.as_ref().map(|id| Credentials {
                uid: id.uid,
                gid: id.gid,
                groups: id.groups.clone(),
            }),
            limits: exec.limits.clone(),
            inherited_files,
            nice: exec.nice,
            umask: exec.umask,
            dir: CString::new(exec.dir.as_os_str().as_bytes())?,
            activation: exec.activation,
            cage,
            session: session(service, exec)?,
        })
    }
}

fn session(service: &str, exec: &Exec) -> Result<Option<SessionPlan>, NulError> {
    let who = exec.pam.as_ref().zip(exec.user.as_ref());
    let pam = match who {
        Some((pam, who)) => Some(PamPlan {
            service: CString::new(pam.as_str())?,
            user: CString::new(who.user.as_str())?,
            tty: CString::new(service)?,
            loose: OF_THE_USER
                .iter()
                .filter(|name| !exec.pass_env.iter().any(|passed| passed == *name))
                .filter(|name| !exec.env.iter().any(|(given, _)| given == *name))
                .map(|name| (*name).to_owned())
                .collect(),
        }),
        None => None,
    };
    let plan = SessionPlan {
        oom_score: exec.oom_score,
        pam,
    };
    let is_needed = plan.oom_score.is_some() || plan.pam.is_some();
    Ok(is_needed.then_some(plan))
}

/// inetd gives `argv[0]` explicitly, xinetd the last part of the path; never none.
fn argv0(exec: &Exec) -> Vec<u8> {
    match &exec.argv0 {
        Some(given) => given.clone().into_bytes(),
        None => last_part(&exec.program).into_os_string().into_vec(),
    }
}

fn last_part(path: &Path) -> PathBuf {
    path.file_name()
        .map_or_else(|| path.to_owned(), PathBuf::from)
}

/// Nothing of usherd's own environment but what `pass_env` names; who the
/// server is, as login(1) would say it; then `env`, which may override all.
fn environment(
    exec: &Exec,
    own: &[(std::ffi::OsString, std::ffi::OsString)],
    cage: &Cage,
) -> Environment {
    let mut pairs: Vec<(String, Vec<u8>)> = vec![("PATH".into(), PATH.to_vec())];
    if let Some(Identity {
        user, home, shell, ..
    }) = &exec.user
    {
        pairs.push(("HOME".into(), home.as_os_str().as_bytes().to_vec()));
        pairs.push(("USER".into(), user.clone().into_bytes()));
        pairs.push(("LOGNAME".into(), user.clone().into_bytes()));
        pairs.push(("SHELL".into(), shell.as_os_str().as_bytes().to_vec()));
    }
    if let Some(state) = &exec.state {
        let dir = Path::new(STATE).join(state);
        pairs.push(("STATE_DIRECTORY".into(), dir.into_os_string().into_vec()));
    }
    if let Some(socket) = &cage.admin {
        let socket = socket.as_os_str().as_bytes();
        pairs.push(("USHERD_ADMIN_SOCKET".into(), socket.to_vec()));
    }
    let credentials = cage.credentials.as_ref();
    if let Some(dir) = credentials.filter(|_| !exec.credentials.is_empty()) {
        let dir = dir.as_os_str().as_bytes();
        pairs.push(("CREDENTIALS_DIRECTORY".into(), dir.to_vec()));
    }
    for name in &exec.pass_env {
        if let Some((_, value)) = own.iter().find(|(own_name, _)| own_name == name.as_str()) {
            set(&mut pairs, name, value.as_bytes());
        }
    }
    for (name, value) in &exec.env {
        set(&mut pairs, name, value.as_bytes());
    }
    let mut environment = Environment::default();
    for (name, value) in &pairs {
        environment.push(name, value);
    }
    environment
}

fn set(pairs: &mut Vec<(String, Vec<u8>)>, name: &str, value: &[u8]) {
    match pairs.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value.to_vec(),
        None => pairs.push((name.to_owned(), value.to_vec())),
    }
}

/// A seccomp program as numbers.
mod program {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::sys::bpf::Instruction;

    type Numbers = (u16, u8, u8, u32);

    pub fn serialize<S: Serializer>(
        program: &Option<Arc<[Instruction]>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let numbers = |i: &Instruction| (i.code, i.jt, i.jf, i.k);
        let all = |program: &Arc<[Instruction]>| program.iter().map(numbers).collect();
        let program: Option<Vec<Numbers>> = program.as_ref().map(all);
        program.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<[Instruction]>>, D::Error> {
        let program = Option::<Vec<Numbers>>::deserialize(deserializer)?;
        let instruction = |(code, jt, jf, k)| Instruction { code, jt, jf, k };
        let all = |program: Vec<Numbers>| program.into_iter().map(instruction).collect();
        Ok(program.map(all))
    }
}
