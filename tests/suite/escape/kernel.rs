//! What changes the host, watches others, or widens the kernel's surface.

use super::{Case, Stage, all_come_to};
use crate::tests;

tests![
    mounts_and_namespaces_stay_as_they_are,
    the_kernel_is_not_changed,
    nobody_is_watched,
    other_ways_into_the_kernel_are_closed,
    no_rights_come_back,
    keys_of_others_stay_secret,
    memory_is_not_written_and_executed_under_strict,
];

fn check(cases: &[Case<'_>]) {
    let stage = Stage::plain();
    all_come_to(&stage, cases);
    stage.end();
}

/// MS_REMOUNT | MS_BIND of mount(2).
const READ_WRITE: &str = "sys mount text:none text:/usr text:none 0x1020 0";

fn mounts_and_namespaces_stay_as_they_are() {
    check(&[
        ("sys mount text:none text:/mnt text:tmpfs 0 0", ["EPERM"; 3]),
        (
            "sys mount text:/usr text:/mnt text:none 0x1000 0",
            ["EPERM"; 3],
        ),
        (READ_WRITE, ["EPERM"; 3]),
        ("sys umount2 text:/proc 2", ["EPERM"; 3]),
        ("sys pivot_root text:/ text:/", ["EPERM"; 3]),
        ("sys open_tree -100 text:/usr 1", ["EPERM"; 3]),
        // A place alone, without a copy, is only opened.
        ("sys open_tree -100 text:/usr 0", ["=", "EPERM", "EPERM"]),
        (
            "sys move_mount -100 text:/usr -100 text:/usr 0",
            ["EPERM"; 3],
        ),
        (
            "sys mount_setattr -100 text:/usr 0x8000 room:32 32",
            ["EPERM"; 3],
        ),
        ("sys fsopen text:tmpfs 0", ["EPERM"; 3]),
        ("sys chroot text:/usr", ["EPERM"; 3]),
        // Of users, mounts, processes, the network, cgroups, names, IPC.
        ("sys unshare 0x10000000", ["=", "EPERM", "EPERM"]),
        ("sys unshare 0x00020000", ["=", "EPERM", "EPERM"]),
        ("sys unshare 0x20000000", ["=", "EPERM", "EPERM"]),
        ("sys unshare 0x40000000", ["=", "EPERM", "EPERM"]),
        ("sys unshare 0x02000000", ["=", "EPERM", "EPERM"]),
        ("sys unshare 0x04000000", ["=", "EPERM", "EPERM"]),
        ("sys unshare 0x08000000", ["=", "EPERM", "EPERM"]),
        // With bits in the upper half, which the kernel takes no notice of, or does.
        (
            "sys unshare 0x100000010000000",
            ["EINVAL", "EPERM", "EPERM"],
        ),
        (
            "sys clone 0x10000011 0 0 0 0",
            ["EUSERS|EPERM|ENOSPC|EINVAL|=", "EPERM", "EPERM"],
        ),
        ("sys clone3 room:88 88", ["=", "ENOSYS", "ENOSYS"]),
        ("sys setns 0 0", ["=|EINVAL", "EPERM", "EPERM"]),
    ]);
}

fn the_kernel_is_not_changed() {
    check(&[
        (
            "sys init_module room:16 16 text:x=1",
            ["EPERM|ENOSYS", "EPERM", "EPERM"],
        ),
        (
            "sys finit_module 0 text:x=1 0",
            ["EPERM|ENOSYS", "EPERM", "EPERM"],
        ),
        ("sys kexec_load 0 0 0 0", ["EPERM|ENOSYS", "EPERM", "EPERM"]),
        ("sys reboot 0xfee1dead 672274793 0x89abcdef 0", ["EPERM"; 3]),
        ("sys swapon text:/dev/null 0", ["EPERM"; 3]),
        ("sys acct text:/dev/null", ["EPERM"; 3]),
        ("sys sethostname text:escaped 7", ["EPERM"; 3]),
        ("sys settimeofday room:16 0", ["EPERM"; 3]),
        ("sys syslog 3 room:64 64", ["EPERM|=", "EPERM", "EPERM"]),
        (
            "sys openat -100 text:/proc/sys/kernel/core_pattern 1",
            ["EACCES", "EROFS|EACCES", "ENOENT"],
        ),
        (
            "sys openat -100 text:/proc/sysrq-trigger 1",
            ["EACCES|ENOENT", "EROFS|EACCES|ENOENT", "ENOENT"],
        ),
        (
            "sys openat -100 text:/proc/kcore 0",
            ["EACCES|ENOENT", "EACCES|ENOENT", "ENOENT"],
        ),
        (
            "sys openat -100 text:/sys/kernel/mm/ksm/run 1",
            ["EACCES", "EROFS|EACCES", "ENOENT"],
        ),
        (
            "sys openat -100 text:/proc/self/uid_map 1",
            ["=", "EROFS", "EROFS"],
        ),
        (
            "sys openat -100 text:/proc/self/setgroups 1",
            ["=|EACCES", "EROFS", "EROFS"],
        ),
        (
            "sys openat -100 text:/proc/self/mem 2",
            ["=", "EROFS", "EROFS"],
        ),
        (
            "sys openat -100 text:/proc/self/oom_score_adj 1",
            ["=", "EROFS", "EROFS"],
        ),
    ]);
}

fn nobody_is_watched() {
    check(&[
        ("sys ptrace 0 0 0 0", ["=", "EPERM", "EPERM"]),
        ("sys kcmp 1 1 0 0 0", ["EPERM", "EPERM", "EPERM"]),
        (
            "sys process_vm_readv 1 room:16 1 room:16 1 0",
            ["=|EPERM", "EPERM", "EPERM"],
        ),
        ("sys bpf 0 room:64 64", ["EPERM|EINVAL", "EPERM", "EPERM"]),
        (
            "sys perf_event_open hex:0000000070000000 0 -1 -1 0",
            ["EACCES|EPERM|ENOENT|EINVAL", "EPERM", "EPERM"],
        ),
        ("sys userfaultfd 0", ["EPERM"; 3]),
        ("sys userfaultfd 1", ["=", "EPERM", "EPERM"]),
        ("sys fanotify_init 0x200 0", ["=", "EPERM", "EPERM"]),
        (
            "sys open_by_handle_at -100 room:16 0",
            ["EPERM|EINVAL", "EPERM", "EPERM"],
        ),
        ("sys pidfd_getfd 0 0 0", ["EBADF|EINVAL", "EPERM", "EPERM"]),
    ]);
}

fn other_ways_into_the_kernel_are_closed() {
    check(&[
        ("sys io_uring_setup 8 room:120", ["=", "EPERM", "EPERM"]),
        ("sys personality 0x0040000", ["=", "EPERM", "EPERM"]),
        ("sys x32", ["ENOSYS|=", "ENOSYS", "ENOSYS"]),
        // A whole process is killed that calls as 32-bit programs do.
        ("32-bit", ["=", "= signal 31", "= signal 31"]),
        // TIOCSTI, TIOCLINUX; the upper half of the number does not count.
        (
            "sys ioctl 0 0x5412 text:x",
            ["ENOTTY|EINVAL", "EPERM", "EPERM"],
        ),
        (
            "sys ioctl 0 0x100005412 text:x",
            ["ENOTTY|EINVAL", "EPERM", "EPERM"],
        ),
        (
            "sys ioctl 0 0x541c text:x",
            ["ENOTTY|EINVAL", "EPERM", "EPERM"],
        ),
    ]);
}

fn no_rights_come_back() {
    check(&[
        ("sys setuid 0", ["EPERM", "EPERM|EINVAL", "EPERM|EINVAL"]),
        (
            "sys setresuid -1 0 -1",
            ["EPERM", "EPERM|EINVAL", "EPERM|EINVAL"],
        ),
        ("sys setgid 0", ["EPERM", "EPERM|EINVAL", "EPERM|EINVAL"]),
        ("sys setgroups 0 0", ["EPERM"; 3]),
        // PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT_RAISE of CAP_CHOWN, PR_SET_MM.
        ("sys prctl 38 0 0 0 0", ["EINVAL"; 3]),
        ("sys prctl 47 2 0 0 0", ["EPERM"; 3]),
        ("sys prctl 35 1 0 0 0", ["EPERM|EINVAL"; 3]),
        // PR_CAPBSET_READ of CAP_SYS_ADMIN, PR_GET_NO_NEW_PRIVS, PR_GET_SECCOMP.
        ("sys prctl 23 21 0 0 0", ["=", "= 0", "= 0"]),
        ("sys prctl 39 0 0 0 0", ["= 0", "= 1", "= 1"]),
        ("sys prctl 21 0 0 0 0", ["= 0", "= 2", "= 2"]),
        ("sys setpriority 0 0 -5", ["EACCES"; 3]),
        (
            "sys mknodat -100 text:/tmp/escape-node 0x2180 0x0101",
            ["EPERM"; 3],
        ),
    ]);
}

fn keys_of_others_stay_secret() {
    let stage = Stage::plain();
    // KEY_SPEC_USER_KEYRING: all that run as this user have it, sessions apart.
    let mut owner = stage.instance("none");
    let key = owner.gets("sys add_key text:user text:escape text:secret 6 -4");
    let (read, invalidate) = (
        format!("sys keyctl 11 {key} room:16 16 0"),
        format!("sys keyctl 21 {key} 0 0 0"),
    );
    let cases = [
        (&*read, ["= 6", "EPERM", "EPERM"]),
        (
            "sys request_key text:user text:escape 0 0",
            ["=|ENOKEY", "EPERM", "EPERM"],
        ),
        (
            "sys add_key text:user text:other text:x 1 -3",
            ["=", "EPERM", "EPERM"],
        ),
    ];
    all_come_to(&stage, &cases);
    owner.gets(&invalidate);
    drop(owner);
    stage.end();
}

fn memory_is_not_written_and_executed_under_strict() {
    check(&[
        // PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS.
        ("sys mmap 0 4096 7 0x22 -1 0", ["=", "=", "EACCES"]),
    ]);
}
