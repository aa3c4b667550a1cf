//! Who is at the other end of a control socket: asked of the kernel, never of
//! the caller.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Uid;

use crate::control::caller::{Sees, Who};
use crate::helper::cgroups::Left;
use crate::helper::core::Helper;
use crate::helper::instances::Instance;
use crate::helper::operations::{Asker, CGROUP};
use crate::helper::tree::{self, Process};
use crate::helper::wire::Notice;
use crate::ids::{InstanceId, ServiceId};
use crate::sandbox::cgroup::Leaf;
use crate::sys::peer::{peer_groups, peer_pidfd};
use crate::sys::process::pidfd_open;

/// Processes between a caller and a server that are followed.
const DEEPEST: usize = 64;

/// Where a process comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Nothing that usherd started.
    Elsewhere,
    /// A server, or something that one started. `isolated`: it has less rights
    /// than its user, be that root. `instance`: which one, if that still runs.
    Server {
        service: ServiceId,
        isolated: bool,
        instance: Option<InstanceId>,
    },
    /// It carries out an operation.
    Operation(u32),
    /// Some server left it behind; whose it was cannot be told any more.
    Orphan,
}

impl Origin {
    fn of(server: &Instance) -> Self {
        Self::Server {
            service: server.service,
            isolated: server.isolated,
            instance: Some(server.id),
        }
    }
}

impl Helper {
    fn admin_group(&self) -> Vec<u32> {
        let group = self.table.daemon.admin_group.iter();
        group.map(|group| group.gid).collect()
    }

    /// Whoever may change everything may look at it.
    fn status_groups(&self) -> Vec<u32> {
        let daemon = &self.table.daemon;
        let groups = [&daemon.status_group, &daemon.admin_group].into_iter();
        groups.flatten().map(|group| group.gid).collect()
    }

    /// Who calls on the admin socket. Who may ask for nothing here, such as a server
    /// without an `admin` list, is refused unread, and counted.
    pub(super) fn identify_operator(
        &self,
        socket: BorrowedFd<'_>,
        known: Option<&Asker>,
    ) -> (Who, Asker) {
        let mut pidfd = known.and_then(|asker| asker.pidfd.clone());
        let (mut who, origin) = self.identify(socket, &self.status_groups(), &mut pidfd);
        let asker = Asker {
            pidfd,
            groups: groups_of(socket),
            instance: match origin {
                Some(Origin::Server { instance, .. }) => instance,
                _ => None,
            },
        };
        let is_operator = || {
            let operations = self.table.catalogue.operations.iter();
            operations.map(|one| &one.operators).any(|operators| {
                operators.users.contains(&who.uid)
                    || asker
                        .groups
                        .iter()
                        .any(|gid| operators.groups.contains(gid))
            })
        };
        who.sees = match who.sees {
            Sees::Everything if has_rights(socket, &self.admin_group()) => Sees::Everything,
            Sees::Everything | Sees::Looks => Sees::Looks,
            Sees::Service(_) => {
                let exec = self.service_of(who).map(|(_, exec)| exec);
                match exec.is_some_and(|exec| !exec.admin.is_empty()) {
                    true => who.sees,
                    false => Sees::Nothing,
                }
            }
            // A server is none, whatever its user is.
            Sees::Nothing if origin == Some(Origin::Elsewhere) && is_operator() => Sees::Asks,
            Sees::Nothing | Sees::Asks | Sees::Operation(_) => Sees::Nothing,
        };
        (who, asker)
    }

    /// Answers the front about a caller of the status socket.
    pub(in crate::helper) fn tell_caller(&mut self, caller: u64, socket: &OwnedFd) {
        let (who, _) = self.identify(socket.as_fd(), &self.status_groups(), &mut None);
        if let Some(front) = &mut self.front {
            front.link.notify(&Notice::Caller { caller, who });
        }
    }

    /// What the kernel says of the peer of a Unix socket, what that peer may see, and
    /// where it comes from; that is not known of one that is gone. `kept`: its process, where
    /// the kernel does not keep it for us.
    fn identify(
        &self,
        socket: BorrowedFd<'_>,
        groups: &[u32],
        kept: &mut Option<Option<Rc<OwnedFd>>>,
    ) -> (Who, Option<Origin>) {
        let Ok(peer) = getsockopt(&socket, sockopt::PeerCredentials) else {
            return (nobody(), None);
        };
        let (uid, pid) = (peer.uid(), peer.pid());
        let pidfd = match (peer_pidfd(socket), &*kept) {
            (Ok(pidfd), _) => Some(Rc::new(pidfd)),
            // Before Linux 6.5: the number alone. It may be another's by now, so at least it
            // is asked for only once, and of one with other credentials it is not taken.
            (Err(err), None) if err.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                let opened = pidfd_open(pid).ok().map(Rc::new);
                let its = opened.filter(|_| ids_of(pid) == Some((uid, peer.gid())));
                kept.insert(its).clone()
            }
            (Err(err), Some(known)) if err.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                known.clone()
            }
            // Any other error says that the process is gone.
            (Err(_), _) => None,
        };
        let origin = self.origin_of(pid);
        // Only now: had the process ended before, the number could have been another's.
        let is_there = pidfd.is_some_and(|pidfd| is_alive(pidfd.as_fd()));
        let has_rights = has_rights(socket, groups);
        let sees = match origin {
            _ if !is_there => Sees::Nothing,
            // A root of a sandbox is none here.
            Origin::Operation(id) => Sees::Operation(id),
            Origin::Server {
                service, isolated, ..
            } if uid != 0 || isolated => Sees::Service(service),
            Origin::Orphan if uid != 0 || !has_our_namespaces(pid) => Sees::Nothing,
            _ if uid == 0 => Sees::Everything,
            Origin::Server { .. } | Origin::Orphan => Sees::Nothing,
            Origin::Elsewhere if has_rights => Sees::Everything,
            Origin::Elsewhere => Sees::Nothing,
        };
        (Who { uid, pid, sees }, is_there.then_some(origin))
    }

    /// Its cgroup says surely whose a process is. Where servers have none, it is
    /// followed up to one by session and parentage.
    fn origin_of(&self, pid: i32) -> Origin {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"));
        match cgroup.ok().and_then(|cgroup| self.in_leaf_of(&cgroup)) {
            Some(origin) => origin,
            None => self.descent_of(pid),
        }
    }

    fn in_leaf_of(&self, cgroup: &str) -> Option<Origin> {
        let (name, leaf) = self.cgroups.owner_of(cgroup)?;
        if name == CGROUP {
            let operation = self.operations.of_leaf(leaf);
            return Some(operation.map_or(Origin::Orphan, Origin::Operation));
        }
        let is_it = |known: &Leaf| known.is(name, leaf);
        let mut servers = self.instances.iter();
        let server = servers.find(|server| server.leaf.as_ref().is_some_and(is_it));
        if let Some(server) = server {
            return Some(Origin::of(server));
        }
        // What a server left behind, whose end the leaf outlives.
        let left = self.leftovers.values().filter_map(Left::leaf);
        let known = left
            .chain(self.cgroups.lingering())
            .find(|leaf| is_it(leaf));
        let isolated = known.is_none_or(|leaf| leaf.isolated);
        let service = self.services.named(name);
        Some(service.map_or(Origin::Orphan, |service| Origin::Server {
            service,
            isolated,
            instance: None,
        }))
    }

    fn descent_of(&self, pid: i32) -> Origin {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let Some(mut process) = look(pid) else {
            // Outside of our namespace of processes, or gone.
            return Origin::Elsewhere;
        };
        for _ in 0..DEEPEST {
            let ids = [process.pid, process.session];
            let mut servers = self.instances.iter();
            if let Some(server) = servers.find(|server| ids.contains(&server.pid)) {
                return Origin::of(server);
            }
            let operation = self.operations.of_process(process.pid, process.session);
            if let Some(operation) = operation {
                return Origin::Operation(operation);
            }
            match process.parent {
                parent if parent == own => return Origin::Orphan,
                0 | 1 => return Origin::Elsewhere,
                parent => {
                    let above = look(parent);
                    // Still its parent, so that was it. A parent that ends leaves
                    // its child to another before its number is free.
                    match look(process.pid) {
                        Some(again) if again.parent != parent => process = again,
                        Some(_) => match above {
                            Some(above) => process = above,
                            None => return Origin::Orphan,
                        },
                        None => return Origin::Orphan,
                    }
                }
            }
        }
        Origin::Orphan
    }
}

/// The effective uid and gid of a process, which it had when it connected (unix(7)).
fn ids_of(pid: i32) -> Option<(u32, u32)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let effective = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((effective("Uid:")?, effective("Gid:")?))
}

/// Whether a process sees the host as we do.
fn has_our_namespaces(pid: i32) -> bool {
    ["mnt", "pid", "user"].iter().all(|kind| {
        let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/{kind}"));
        matches!((of("self"), of(&pid.to_string())), (Ok(ours), Ok(its)) if ours == its)
    })
}

fn look(pid: i32) -> Option<Process> {
    tree::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// All groups of the peer.
fn groups_of(socket: BorrowedFd<'_>) -> Vec<u32> {
    let peer = getsockopt(&socket, sockopt::PeerCredentials);
    let mut groups: Vec<u32> = peer.iter().map(|peer| peer.gid()).collect();
    groups.extend(peer_groups(socket).into_iter().flatten());
    groups
}

/// Whether the peer is root, who we are, or in one of `groups`.
fn has_rights(socket: BorrowedFd<'_>, groups: &[u32]) -> bool {
    let Ok(peer) = getsockopt(&socket, sockopt::PeerCredentials) else {
        return false;
    };
    let uid = peer.uid();
    uid == 0
        || uid == Uid::effective().as_raw()
        || groups.contains(&peer.gid())
        || peer_groups(socket).is_ok_and(|all| all.iter().any(|gid| groups.contains(gid)))
}

fn nobody() -> Who {
    Who {
        uid: u32::MAX,
        pid: 0,
        sees: Sees::Nothing,
    }
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)).
fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::new(pidfd, PollFlags::POLLIN)];
    poll(&mut asked, PollTimeout::ZERO) == Ok(0)
}
