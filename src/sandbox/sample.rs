//! A service for tests.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::table::{Exec, Host, Serve, Source, load};

/// `cat` with more lines of table, on a host whose root we are.
pub fn exec(more: &str) -> Box<Exec> {
    let text =
        format!("[service.a]\nlisten = \"tcp:127.0.0.1:7007\"\nexec = [\"/bin/cat\"]\n{more}\n");
    let source = Source::Text {
        name: "t",
        text: &text,
    };
    let host = Host {
        root: true,
        ..Host::probe()
    };
    let loaded = load(source, &host).unwrap_or_else(|complaints| panic!("{complaints}"));
    match loaded.table.services.into_iter().next().unwrap().serve {
        Serve::Exec(exec) => exec,
        other => panic!("{other:?}"),
    }
}
