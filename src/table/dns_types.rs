//! Types of DNS records by name, both ways. IANA, "DNS parameters", resource
//! record types; others are written TYPE257 (RFC 3597, 5) or as a number.
#![forbid(unsafe_code)]

use super::complaint::Fault;

const TYPES: [(&str, u16); 57] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("WKS", 11),
    ("PTR", 12),
    ("HINFO", 13),
    ("MX", 15),
    ("TXT", 16),
    ("RP", 17),
    ("AFSDB", 18),
    ("SIG", 24),
    ("KEY", 25),
    ("AAAA", 28),
    ("LOC", 29),
    ("SRV", 33),
    ("NAPTR", 35),
    ("KX", 36),
    ("CERT", 37),
    ("DNAME", 39),
    ("OPT", 41),
    ("APL", 42),
    ("DS", 43),
    ("SSHFP", 44),
    ("IPSECKEY", 45),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("DHCID", 49),
    ("NSEC3", 50),
    ("NSEC3PARAM", 51),
    ("TLSA", 52),
    ("SMIMEA", 53),
    ("HIP", 55),
    ("CDS", 59),
    ("CDNSKEY", 60),
    ("OPENPGPKEY", 61),
    ("CSYNC", 62),
    ("ZONEMD", 63),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("SPF", 99),
    ("NID", 104),
    ("L32", 105),
    ("L64", 106),
    ("LP", 107),
    ("EUI48", 108),
    ("EUI64", 109),
    ("TKEY", 249),
    ("TSIG", 250),
    ("IXFR", 251),
    ("AXFR", 252),
    ("MAILB", 253),
    ("ANY", 255),
    ("URI", 256),
    ("CAA", 257),
    ("DLV", 32_769),
];

/// `"AAAA"`, `"aaaa"` or `"TYPE28"`.
pub fn parse(text: &str) -> Result<u16, Fault> {
    let upper = text.to_ascii_uppercase();
    if let Some((_, number)) = TYPES.iter().find(|(name, _)| *name == upper) {
        return Ok(*number);
    }
    let digits = upper.strip_prefix("TYPE").unwrap_or("");
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain).ok_or_else(|| {
        Fault::new(format!("no type of DNS records is named \"{text}\""))
            .help("one that is not known here can be written as a number: 65280")
    })
}

/// The reverse of [`parse`].
#[must_use]
pub fn show(number: u16) -> String {
    let known = TYPES.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| format!("TYPE{number}"), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_come_back() {
        for number in 0..=u16::MAX {
            assert_eq!(parse(&show(number)).unwrap(), number);
        }
        assert_eq!(parse("aaaa").unwrap(), 28);
        for bad in ["", "TYPE", "TYPE65536", "TYPE+1", "X", "28"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
