//! What the match found out, for the server's environment.
#![forbid(unsafe_code)]

use super::look::canonical;
use super::routes::Routes;
use super::table::Waiting;
use crate::demux::look::Look;
use crate::demux::plan::Route;
use crate::demux::tls::AlpnName;
use crate::demux::{proxy, tls};
use crate::helper::told::{Proxied, Text, Told};

/// What to tell about a request that was routed; `None` if there is nothing.
#[must_use]
pub fn of(
    waiting: &Waiting,
    route: Route,
    look: Option<&Look<'_>>,
    routes: &Routes,
) -> Option<Box<Told>> {
    let mut told = Told {
        rule: route.rule.and_then(|rule| u16::try_from(rule).ok()),
        proxy: waiting.header.as_deref().map(proxied),
        ..Told::default()
    };
    let asks = routes.plan.asks();
    if let Some(look) = look {
        if asks.tls
            && let tls::Hello::Complete(hello) = look.tls().hello()
        {
            told.sni = hello.sni().map(|name| Text::escaped(name.as_bytes()));
            let names = Text::list(hello.alpn(), AlpnName::as_bytes);
            told.alpn = Some(names).filter(|names| !names.as_str().is_empty());
        }
        if asks.http {
            told.host = look
                .http()
                .host()
                .map(|name| Text::escaped(name.as_bytes()));
        }
    }
    (told != Told::default()).then(|| Box::new(told))
}

fn proxied(header: &proxy::Header) -> Proxied {
    let text = |text: &Option<String>| text.as_ref().map(|text| Text::escaped(text.as_bytes()));
    Proxied {
        version: header.version,
        ends: header
            .ends
            .map(|(from, to)| (canonical(from), canonical(to))),
        authority: text(&header.authority),
        alpn: text(&header.alpn),
        unique_id: header.unique_id.as_ref().map(|id| Text::hex(id)),
    }
}
