//! usherd: a super-server for Linux.
//!
//! ```text
//!                                             ┌─ sandbox ─> administrative server, for one operation
//!  operator's files ─> table ─> helper (root) ┴─ sandbox ─> server
//!                                 │  ▲  frames, descriptors
//!                                 ▼  │
//!  peer ─────────────────────── front (no rights at all)
//! ```
//!
//! In the order data flows:
//!
//! - [`table`]: what the operator wrote, and what it means
//! - [`demux`]: which service a request is for, by its address and first bytes
//! - [`front`]: the unprivileged process: admits peers, asks for servers, serves the built-in services
//! - [`helper`]: the privileged process: opens sockets, believes nobody, starts and reaps servers
//! - [`sandbox`]: the steps between clone and exec
//! - [`sys`]: the only unsafe code, a function per system call that the crates lack
//! - [`admin`]: operations: their catalogue, who may ask, what their processes do, the audit log; and bans
//! - [`stats`]: counters, histograms, busiest sources, and their text for Prometheus
//! - [`control`]: the Varlink sockets by which operators ask and change
//! - [`logging`]: one event a line, for both processes
//! - [`ids`], [`error`]: the numbers that front and helper use for things; exit codes
//! - [`commands`]: what works without a running daemon
//! - [`ctl`]: `usherctl`, the operator's end of the control sockets

pub mod admin;
pub mod commands;
pub mod control;
pub mod ctl;
pub mod demux;
pub mod error;
pub mod front;
pub mod helper;
pub mod ids;
pub mod logging;
pub mod sandbox;
pub mod stats;
pub mod sys;
pub mod table;
