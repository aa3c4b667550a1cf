//! `[import]`: old files that are read together with the table.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use crate::table::complaint::At;
use crate::table::import::inetd::Dialect;
use crate::table::reader::{Reader, Value};

/// `[import]`.
pub const IMPORT_KEYS: &[&str] = &["inetd", "dialect", "libwrap", "hosts_allow", "hosts_deny"];

const DIALECTS: [(&str, Dialect); 5] = [
    ("debian", Dialect::Debian),
    ("freebsd", Dialect::FreeBsd),
    ("netbsd", Dialect::NetBsd),
    ("openbsd", Dialect::OpenBsd),
    ("gnu", Dialect::Gnu),
];

/// As written.
#[derive(Clone, Debug, Default)]
pub struct RawImport {
    pub inetd: Vec<At<PathBuf>>,
    pub dialect: Option<At<Dialect>>,
    pub libwrap: Option<At<bool>>,
    pub hosts_allow: Option<At<PathBuf>>,
    pub hosts_deny: Option<At<PathBuf>>,
}

pub fn read_import(reader: &mut Reader<'_>, value: &Value<'_>) -> RawImport {
    let mut import = RawImport::default();
    let Some(table) = reader.table(value, "a table of keys") else {
        return import;
    };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "inetd" => import.inetd = files(reader, value),
            "dialect" => import.dialect = reader.at(value, |r, v| r.choice(v, &DIALECTS)),
            "libwrap" => import.libwrap = reader.at(value, Reader::boolean),
            "hosts_allow" => import.hosts_allow = reader.at(value, Reader::absolute),
            "hosts_deny" => import.hosts_deny = reader.at(value, Reader::absolute),
            _ => {
                reader.unknown(key, "[import]", IMPORT_KEYS);
            }
        }
    }
    import
}

fn files(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<At<PathBuf>> {
    const WANTED: &str = "a file such as \"/etc/inetd.conf\", or a list of files";
    let read = reader.one_or_more(value, WANTED, |r, v| r.at(v, Reader::absolute));
    read.unwrap_or_default()
}
