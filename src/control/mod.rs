//! Varlink on two Unix sockets: what usherd tells and what it lets itself be told.
//!
//! A message is a JSON object ended by a NUL octet; a reply goes to each call in
//! the order of the calls (<https://varlink.org>). `org.usherd.Status` is served
//! by the front on `status.sock`, `org.usherd.Admin` by the helper on
//! `admin.sock`; both describe themselves by `org.varlink.service`.
//!
//! - [`frame`]: octets into messages, bounded
//! - [`message`]: calls, replies, errors
//! - [`types`]: what the interfaces speak of
//! - [`introspect`][]: `org.varlink.service`
//! - [`server`] and [`connection`]: many callers, none of whom can hold the loop
//! - [`client`]: the other end, for `usherctl`
//!
//! A caller is known by what the kernel says of its socket, and a byte of it is
//! parsed only if it may ask for anything at all.
#![forbid(unsafe_code)]

pub mod client;
pub mod connection;
pub mod frame;
pub mod introspect;
pub mod message;
pub mod server;
pub mod types;

/// Names of the sockets in the runtime directory.
pub const STATUS_SOCKET: &str = "status.sock";
pub const ADMIN_SOCKET: &str = "admin.sock";

/// An interface and its definition.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    pub name: &'static str,
    pub text: &'static str,
}

pub const STATUS: Interface = Interface {
    name: "org.usherd.Status",
    text: include_str!("org.usherd.Status.varlink"),
};

pub const ADMIN: Interface = Interface {
    name: "org.usherd.Admin",
    text: include_str!("org.usherd.Admin.varlink"),
};
