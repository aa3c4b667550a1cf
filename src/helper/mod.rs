//! The privileged process.

pub mod announce;
pub mod core;
pub mod filter;
pub mod front_process;
pub mod instances;
pub mod link;
pub mod load;
pub mod logs;
pub mod pid_file;
pub mod policy;
pub mod reap;
pub mod reload;
pub mod run;
pub mod services;
pub mod sockets;
pub mod start;
pub mod stop;
pub mod timers;
pub mod tree;
pub mod welcome;
pub mod wire;
