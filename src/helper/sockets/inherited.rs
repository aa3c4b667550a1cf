//! Descriptors that a supervisor handed to usherd (sd_listen_fds(3)).
#![forbid(unsafe_code)]

use std::env;
use std::os::fd::{AsFd, OwnedFd};

use crate::sys::inherit::take_from_three;

/// One inherited socket and the name it goes by (`FileDescriptorName=`).
#[derive(Debug)]
pub struct Inherited {
    pub name: String,
    pub fd: OwnedFd,
}

/// Takes what `LISTEN_FDS` announces, if `LISTEN_PID` is us.
///
/// Must be called once, at the start, before any descriptor is opened.
#[must_use]
pub fn take() -> Vec<Inherited> {
    let number = |name: &str| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    take_from_three(number("LISTEN_FDS").unwrap_or(0))
        .into_iter()
        .map(|fd| {
            let name = names
                .next()
                .filter(|name| !name.is_empty())
                .unwrap_or("unknown");
            Inherited {
                name: name.to_owned(),
                fd,
            }
        })
        .collect()
}

/// What kind of socket it is; `None` if it is none.
#[must_use]
pub fn is_datagram(inherited: &Inherited) -> Option<bool> {
    let socket = socket2::SockRef::from(&inherited.fd.as_fd())
        .r#type()
        .ok()?;
    Some(socket == socket2::Type::DGRAM)
}
