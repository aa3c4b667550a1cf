//! Which programs have a ready table in config/services.d, with a sandbox.
#![forbid(unsafe_code)]

/// Last part of the program's path, name of the ready table.
const READY: [(&str, &str); 45] = [
    ("Xtigervnc", "xvnc"),
    ("axfrdns", "axfrdns"),
    ("bitlbee", "bitlbee"),
    ("bootpd", "bootpd"),
    ("borg", "borg-serve"),
    ("cups-lpd", "cups-lpd"),
    ("cupsd", "cupsd"),
    ("csync2", "csync2"),
    ("dicod", "dicod"),
    ("dictd", "dictd"),
    ("diod", "diod"),
    ("distccd", "distccd"),
    ("exim4", "exim4"),
    ("fossil", "fossil"),
    ("git", "git-daemon"),
    ("hg", "hg-stdio"),
    ("imap4d", "mailutils-imap4d"),
    ("in.fingerd", "fingerd"),
    ("in.ntalkd", "ntalkd"),
    ("in.rshd", "netkit-rshd"),
    ("in.tftpd", "tftpd-hpa"),
    ("in.uucpd", "uucpd"),
    ("lighttpd", "lighttpd-fds"),
    ("micro-httpd", "micro-httpd"),
    ("nbdkit", "nbdkit"),
    ("nullidentd", "nullidentd"),
    ("php-cgi8.2", "php-cgi"),
    ("popa3d", "popa3d"),
    ("prometheus-node-exporter", "node-exporter"),
    ("pure-ftpd", "pure-ftpd"),
    ("remctld", "remctld"),
    ("rpc.rstatd", "rstatd"),
    ("rpc.rusersd", "rusersd"),
    ("rsync", "rsync"),
    ("saned", "saned-fds"),
    ("sendmail", "postfix-bs"),
    ("snntpd.bin", "snntpd"),
    ("snntpd", "snntpd"),
    ("sshd", "sshd"),
    ("stunnel4", "stunnel"),
    ("svnserve", "svnserve"),
    ("tangd", "tangd"),
    ("telnetd", "inetutils-telnetd"),
    ("unbound", "unbound"),
    ("vsftpd", "vsftpd"),
];

/// The name of a ready table for this program, without `.toml`.
#[must_use]
pub fn table_for(program: &str) -> Option<&'static str> {
    let base = program.rsplit('/').next().unwrap_or(program);
    let found = READY.iter().find(|(known, _)| *known == base);
    found.map(|(_, table)| *table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_that_is_named_is_there() {
        for (program, table) in READY {
            let path = format!(
                "{}/config/services.d/{table}.toml",
                env!("CARGO_MANIFEST_DIR")
            );
            assert!(std::path::Path::new(&path).exists(), "{program}: {path}");
        }
        assert_eq!(table_for("/usr/sbin/in.tftpd"), Some("tftpd-hpa"));
        assert_eq!(table_for("/usr/sbin/in.telnetd"), None);
    }
}
