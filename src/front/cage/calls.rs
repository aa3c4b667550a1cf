//! The system calls that the loop makes; any other one ends the front.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use libc::{c_int, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::Needs;

/// Allowed with any arguments.
const ALWAYS: &[c_long] = &[
    // Bytes. `pread64` reads a plan, `splice` is for relays.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_splice,
    libc::SYS_pipe2,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    // Sockets that exist.
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    // The loop.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    // Time and load.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_sysinfo,
    // The allocator, and the end of the process.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What may be asked of fcntl(2).
const FCNTL: &[c_int] = &[
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETPIPE_SZ,
    libc::F_SETPIPE_SZ,
];

/// What may be set with setsockopt(2), level and name. Not the rest: listeners
/// are shared with the helper and with servers, and who may take a filter off
/// one lets in whom the table keeps out.
const OPTIONS: &[(c_int, c_int)] = &[
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
];

/// Installs the filter on this process, which has one thread.
pub fn restrict(needs: Needs) -> Result<(), String> {
    let program = compile(needs)?;
    apply_filter(&program).map_err(|err| err.to_string())
}

fn compile(needs: Needs) -> Result<BpfProgram, String> {
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|_| format!("no filter for {}", std::env::consts::ARCH))?;
    let rules = rules(needs).map_err(|err| err.to_string())?;
    let (otherwise, listed) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let filter =
        SeccompFilter::new(rules, otherwise, listed, arch).map_err(|err| err.to_string())?;
    filter
        .try_into()
        .map_err(|err: seccompiler::BackendError| err.to_string())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(needs: Needs) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    let one_of = |argument, values: &[u64]| {
        let equal = |value: &u64| when(argument, SeccompCmpOp::Eq, *value);
        values.iter().map(equal).collect::<Result<Vec<_>, _>>()
    };
    let number = |value: c_int| u64::from(value.unsigned_abs());
    let commands: Vec<u64> = FCNTL.iter().map(|command| number(*command)).collect();
    rules.insert(libc::SYS_fcntl, one_of(1, &commands)?);
    let options = OPTIONS.iter().map(|(level, name)| {
        let (level, name) = (number(*level), number(*name));
        let both = vec![condition(1, level)?, condition(2, name)?];
        SeccompRule::new(both)
    });
    rules.insert(libc::SYS_setsockopt, options.collect::<Result<_, _>>()?);
    // TCGETS: whether the log is a terminal. SIOCGIFNAME: where a connection came in.
    let requests = [
        libc::FIONBIO,
        libc::FIONREAD,
        libc::TCGETS,
        libc::SIOCGIFNAME,
    ];
    rules.insert(libc::SYS_ioctl, one_of(1, &requests)?);
    // How the C library spells fstat(2).
    let own_file = SeccompCmpOp::MaskedEq(number(libc::AT_EMPTY_PATH));
    let own_file = when(3, own_file, number(libc::AT_EMPTY_PATH))?;
    rules.insert(libc::SYS_newfstatat, vec![own_file]);
    // Memory, but none that could be run.
    let executable = SeccompCmpOp::MaskedEq(number(libc::PROT_EXEC));
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![when(2, executable.clone(), 0)?]);
    }
    // A panic may end this process, and no other.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, one_of(0, &[own])?);
    if needs.connect {
        let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX].map(number);
        rules.insert(libc::SYS_socket, one_of(0, &families)?);
        rules.insert(libc::SYS_connect, Vec::new());
    }
    Ok(rules)
}

/// Allows a call if one of its arguments, as a 32-bit value, compares.
fn when(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    SeccompRule::new(vec![condition])
}

/// That an argument is this 32-bit value.
fn condition(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn both_filters_compile() {
        for connect in [false, true] {
            let needs = Needs {
                connect,
                connect_abstract: false,
            };
            assert!(!compile(needs).unwrap().is_empty());
        }
    }

    #[test]
    fn nothing_that_opens_listens_or_executes_is_allowed() {
        let needs = Needs {
            connect: true,
            connect_abstract: true,
        };
        let rules = rules(needs).unwrap();
        for call in [
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_kill,
            libc::SYS_pidfd_getfd,
            libc::SYS_process_vm_readv,
        ] {
            assert!(!rules.contains_key(&call), "call {call}");
        }
        assert_eq!(rules[&libc::SYS_setsockopt].len(), OPTIONS.len());
        assert!(!OPTIONS.contains(&(libc::SOL_SOCKET, libc::SO_DETACH_FILTER)));
    }
}
