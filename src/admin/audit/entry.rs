//! One line of the log.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The longest line, in octets.
pub const LONGEST: usize = 64 * 1024;
/// Parameters that are longer as JSON are kept as their length and their hash.
const LONGEST_PARAMETERS: usize = 4 * 1024;

/// SHA-256, 32 octets, shown as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Hash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.as_bytes();
        if digits.len() != 64
            || !digits
                .iter()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(());
        }
        let mut hash = [0; 32];
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(drop)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bad = || serde::de::Error::custom("not 64 hexadecimal digits");
        text.parse().map_err(|()| bad())
    }
}

/// One entry, without what makes it part of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum What {
    /// usherd has begun to write here; its version.
    Opened {
        version: String,
        /// Octets of a last line that a crash or a full disk had left half written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        torn: Option<u64>,
    },
    /// Somebody who may, asks for something. Written before it is carried out.
    Asked {
        uid: u32,
        pid: i32,
        /// Whose server he is, if he is one, and which of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<u64>,
        operation: String,
        parameters: Value,
        /// By which rule he may.
        rule: String,
    },
    /// What came of the request with the number `of`.
    Done {
        of: u64,
        /// `"ok"`, or the name of the error.
        result: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Value>,
        ms: u64,
    },
    /// Somebody asked who may not.
    Denied {
        uid: u32,
        pid: i32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Value>,
        /// Denials before it that were not written: there are no more than some a minute.
        unwritten: u64,
    },
    /// The oldest file was removed, for there were more than are kept.
    Dropped { file: String, last: u64 },
}

/// A line, read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without a gap.
    pub n: u64,
    /// RFC 3339, UTC.
    pub at: String,
    /// Of the entry before it; of the first one all zero.
    pub prev: Hash,
    #[serde(flatten)]
    pub what: What,
}

/// Why a line is none of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    NoEntry(String),
    /// Its hash is not that of what it says.
    Changed,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bad::NoEntry(why) => write!(f, "it is no entry: {why}"),
            Bad::Changed => f.write_str("it was changed: its hash is not that of what it says"),
        }
    }
}

const BEFORE_HASH: &str = ",\"hash\":\"";

impl Entry {
    /// The line without its end, and its hash, which is that of all that comes before
    /// it in the line.
    #[must_use]
    pub fn seal(&self) -> (String, Hash) {
        // A struct of strings, numbers and JSON values can always be written.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.pop();
        let hash = Hash::of(line.as_bytes());
        line.push_str(BEFORE_HASH);
        line.push_str(&hash.to_string());
        line.push_str("\"}");
        (line, hash)
    }

    /// Reads a line without its end.
    pub fn open(line: &str) -> Result<(Self, Hash), Bad> {
        let no = |why: &str| Bad::NoEntry(why.to_owned());
        let at = line.rfind(BEFORE_HASH).ok_or_else(|| no("no hash"))?;
        let (said, rest) = line.split_at(at);
        let digits = rest[BEFORE_HASH.len()..].strip_suffix("\"}");
        let hash: Hash = digits
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| no("no hash at its end"))?;
        if Hash::of(said.as_bytes()) != hash {
            return Err(Bad::Changed);
        }
        let entry = serde_json::from_str(&format!("{said}}}"));
        let entry = entry.map_err(|err| Bad::NoEntry(err.to_string()))?;
        Ok((entry, hash))
    }
}

/// Parameters as they are kept: whole, or what can tell whether some text was it.
#[must_use]
pub fn kept(parameters: Option<&Map<String, Value>>) -> Value {
    let Some(parameters) = parameters else {
        return Value::Object(Map::new());
    };
    let text = serde_json::to_vec(parameters).unwrap_or_default();
    if text.len() <= LONGEST_PARAMETERS {
        return Value::Object(parameters.clone());
    }
    serde_json::json!({ "octets": text.len(), "sha256": Hash::of(&text) })
}
