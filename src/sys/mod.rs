//! The only unsafe code: one safe function per system call that nix and
//! socket2 lack.
#![allow(
    unsafe_code,
    reason = "this is the fence: raw system calls live here and nowhere else"
)]

pub mod attribute;
pub mod bpf;
pub mod child;
pub mod clock;
pub mod clone3;
pub mod exec;
pub mod front_calls;
pub mod inherit;
pub mod interface;
pub mod link;
pub mod mount;
pub mod pam;
pub mod peer;
pub mod probe_calls;
pub mod process;
pub mod raw;
pub mod rename;
pub mod schedule;
pub mod shared_word;
pub mod socket;
pub mod splice;
