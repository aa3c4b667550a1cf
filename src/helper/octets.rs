//! Numbers and addresses of a packet, in and out. All integers are little endian.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::wire::ProtocolError;

/// What is left of a packet.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(ProtocolError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, ProtocolError> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.take().map(u16::from_le_bytes)
    }

    pub fn flag(&mut self) -> Result<bool, ProtocolError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ProtocolError::BadValue("flag")),
        }
    }

    pub fn slice(&mut self, length: usize) -> Result<&'a [u8], ProtocolError> {
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ProtocolError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, ProtocolError> {
        self.take().map(u64::from_le_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, ProtocolError> {
        self.take().map(i32::from_le_bytes)
    }

    pub fn ip(&mut self) -> Result<Option<IpAddr>, ProtocolError> {
        Ok(match self.u8()? {
            0 => None,
            4 => Some(IpAddr::from(self.take::<4>()?)),
            6 => Some(IpAddr::from(self.take::<16>()?)),
            _ => return Err(ProtocolError::BadValue("address family")),
        })
    }
}

pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn put_ip(out: &mut Vec<u8>, ip: Option<IpAddr>) {
    match ip {
        None => out.push(0),
        Some(IpAddr::V4(v4)) => {
            out.push(4);
            out.extend_from_slice(&v4.octets());
        }
        Some(IpAddr::V6(v6)) => {
            out.push(6);
            out.extend_from_slice(&v6.octets());
        }
    }
}
