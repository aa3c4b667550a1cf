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

/// What the next front has to know of a header that is read and gone.
#[must_use]
pub fn of_proxy(header: &proxy::Header) -> Box<Told> {
    Box::new(Told {
        proxy: Some(proxied(header)),
        ..Told::default()
    })
}

/// The reverse. Nobody needs its length any more.
#[must_use]
pub fn header(told: Proxied) -> proxy::Header {
    let text = |text: Option<Text>| text.map(|text| text.as_str().to_owned());
    let octets = |digits: &str| -> Option<Vec<u8>> {
        let pairs = (0..digits.len() / 2).map(|at| digits.get(2 * at..2 * at + 2));
        let octets = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok());
        octets.collect()
    };
    proxy::Header {
        length: 0,
        version: told.version,
        ends: told.ends,
        authority: text(told.authority),
        alpn: text(told.alpn),
        unique_id: told.unique_id.and_then(|id| octets(id.as_str())),
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_said_is_the_same_for_the_next_front() {
        let header = proxy::Header {
            length: 28,
            version: 2,
            ends: Some((
                "192.0.2.1:5".parse().unwrap(),
                "[2001:db8::1]:443".parse().unwrap(),
            )),
            authority: Some("shop.example".into()),
            alpn: Some("h2".into()),
            unique_id: Some(vec![0, 1, 0xfe]),
        };
        let told = of_proxy(&header).proxy.unwrap();
        assert_eq!(proxied(&super::header(told.clone())), told);
        assert_eq!(
            super::header(told),
            proxy::Header {
                length: 0,
                ..header
            }
        );
    }
}
