//! The clients: each asks its own server through the one port and proves by
//! the answer that it was that one.

use std::io::Write;
use std::process::{Command, Stdio};

use super::site::Site;
use super::tls::{self, Cut};
use crate::common::*;

pub fn nothing(_: &Site) {}

/// Runs a client, which has half a minute; its output, and that it was
/// content, or what it said.
fn client(site: &Site, words: &[&str], input: &str) -> String {
    let mut child = Command::new("timeout")
        .arg("30")
        .args(words)
        .current_dir(site.dir.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|err| panic!("unable to run {words:?}: {err}"));
    if let Some(mut stdin) = child.stdin.take() {
        // Not everybody reads to the end.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().expect("unable to wait");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{words:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

pub fn make_ssh_keys(site: &Site) {
    if as_root() && !std::path::Path::new("/run/sshd").exists() {
        std::fs::create_dir("/run/sshd").expect("sshd's empty folder");
    }
    for name in ["host", "id"] {
        // All clients at the same time share them.
        if !std::path::Path::new(&site.dir.file(name)).exists() {
            let words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name];
            client(site, &words, "");
        }
    }
}

pub fn ssh(site: &Site) {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    let name = user.expect("the user of the tests has a name").name;
    let port = site.port.to_string();
    let mut words = vec!["ssh", "-q", "-F", "/dev/null", "-i", "id", "-p", &port];
    for option in [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "BatchMode=yes",
        "ConnectTimeout=15",
    ] {
        words.extend(["-o", option]);
    }
    let target = format!("{name}@127.0.0.1");
    words.extend([&target, "echo said $((20 + 3)) to $SSH_CONNECTION"]);
    let said = client(site, &words, "");
    assert!(said.starts_with("said 23 to 127.0.0.1 "), "{said}");
    // sshd asked its own socket: the client's address, and the one port.
    assert!(said.ends_with(&format!(" 127.0.0.1 {port}\n")), "{said}");
}

pub fn silent(site: &Site) {
    let mut peer = Peer::tcp(site.port);
    let banner = peer.read_line();
    assert!(banner.starts_with("SSH-2.0-OpenSSH"), "{banner}");
}

/// One commit in `git/a.git`, which the server's account may read.
pub fn make_repository(site: &Site) {
    let run = |words: &[&str]| client(site, words, "");
    run(&["git", "init", "-q", "-b", "main", "draft"]);
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
    let commit = ["commit", "-q", "--allow-empty", "-m", "over the net"];
    run(&[&["git", "-C", "draft"], &identity[..], &commit[..]].concat());
    site.dir.open_folder("git");
    run(&["git", "clone", "-q", "--bare", "draft", "git/a.git"]);
    run(&["chmod", "-R", "a+rX", "git"]);
}

pub fn git(site: &Site) {
    let url = format!("git://127.0.0.1:{}/a.git", site.port);
    let heads = client(site, &["git", "ls-remote", &url, "main"], "");
    let head = client(site, &["git", "-C", "draft", "rev-parse", "HEAD"], "");
    assert_eq!(heads, format!("{}\trefs/heads/main\n", head.trim_end()));
    client(site, &["git", "clone", "-q", &url, "copy-of-git"], "");
    let log = ["git", "-C", "copy-of-git", "log", "--format=%s"];
    assert_eq!(client(site, &log, ""), "over the net\n");
}

pub fn rsync(site: &Site) {
    let url = format!("rsync://127.0.0.1:{}/", site.port);
    let modules = client(site, &["rsync", "--timeout=15", &url], "");
    assert!(modules.starts_with("files"), "{modules}");
    let from = format!("{url}files/file");
    client(site, &["rsync", "--timeout=15", &from, "copy-of-file"], "");
    let copied = std::fs::read_to_string(site.dir.file("copy-of-file"));
    assert_eq!(copied.expect("the file came over"), "over the net\n");
}

/// Runs curl with every name of these tests at this host.
fn curl(site: &Site, words: &[&str]) -> String {
    let to = format!("::127.0.0.1:{}", site.port);
    let mut all = vec!["curl", "-sS", "-q", "--max-time", "20", "--noproxy", ""];
    all.extend(["--connect-to", &to]);
    all.extend(words);
    client(site, &all, "")
}

pub fn curl_http(site: &Site) {
    assert_eq!(curl(site, &["http://a.test/"]), "page of web-a\n");
    assert_eq!(curl(site, &["http://A.test:80/api/"]), "page of web-api\n");
    assert_eq!(curl(site, &["http://b.test/"]), "page of web\n");
    assert_eq!(
        curl(site, &["--http1.0", "http://127.0.0.1/"]),
        "page of web\n"
    );
}

const H2_PAGE: [&str; 2] = ["-w", "HTTP/%{http_version}\n"];

pub fn curl_h2c(site: &Site) {
    let ask = ["--http2-prior-knowledge", "http://a.test/index.html"];
    let page = curl(site, &[H2_PAGE, ask].concat());
    assert_eq!(page, "page of h2c\nHTTP/2\n");
}

pub fn curl_https(site: &Site) {
    let get = |certificate: &str, url: &str, more: &[&str]| {
        curl(site, &[more, &["--cacert", certificate, url]].concat())
    };
    // The certificates are different: the wrong server would be found out.
    assert_eq!(get("tls-a.crt", "https://a.test/", &[]), "page of tls-a\n");
    let old = ["--tls-max", "1.2", "--http1.1"];
    assert_eq!(get("tls-a.crt", "https://A.test/", &old), "page of tls-a\n");
    let page = get("tls-b.crt", "https://www.b.test/", &[]);
    assert_eq!(page, "page of tls-b\n");
    let page = get("h2.crt", "https://h2.test/index.html", &H2_PAGE);
    assert_eq!(page, "page of h2\nHTTP/2\n");
}

pub fn openssl(site: &Site) {
    let to = format!("127.0.0.1:{}", site.port);
    let talk = |name: &str, certificate: &str, more: &[&str], input: &str| {
        let mut words = vec!["openssl", "s_client", "-connect", &to, "-servername", name];
        words.extend(["-verify_return_error", "-verify_hostname", name]);
        words.extend(["-CAfile", certificate]);
        words.extend(more);
        client(site, &words, input)
    };
    let ask = "GET / HTTP/1.0\r\n\r\n";
    let quiet = ["-quiet", "-alpn", "http/1.1"];
    let page = talk("a.test", "tls-a.crt", &quiet, ask);
    assert!(page.ends_with("\r\n\r\npage of tls-a\n"), "{page}");
    let page = talk("www.b.test", "tls-b.crt", &["-quiet", "-tls1_2"], ask);
    assert!(page.ends_with("\r\n\r\npage of tls-b\n"), "{page}");
    let shown = talk("h2.test", "h2.crt", &["-alpn", "h2,http/1.1"], "");
    assert!(shown.contains("ALPN protocol: h2\n"), "{shown}");
}

pub fn rustls(site: &Site) {
    let get = |host: &str, certificate: &str, alpn: &str, record, segment| {
        let certificate = site.dir.file(certificate);
        let heard = tls::get(site.port, host, &certificate, alpn, Cut { record, segment });
        // An ML-KEM key share of 1184 bytes and one of X25519.
        assert!(heard.hello > 1_300, "{heard:?}");
        heard
    };
    let heard = get("a.test", "tls-a.crt", "http/1.1", None, usize::MAX);
    assert!(heard.text.ends_with("page of tls-a\n"), "{heard:?}");
    assert_eq!(heard.records, 1);
    let heard = get("a.test", "tls-a.crt", "http/1.1", Some(300), 300);
    assert!(heard.text.ends_with("page of tls-a\n"), "{heard:?}");
    assert!(heard.records > 4, "{heard:?}");
    // Records and segments end in different places.
    let heard = get("www.b.test", "tls-b.crt", "http/1.1", Some(64), 7);
    assert!(heard.text.ends_with("page of tls-b\n"), "{heard:?}");
    assert!(heard.records > 20, "{heard:?}");
    let heard = get("h2.test", "h2.crt", "h2", Some(100), 1);
    assert_eq!(heard.alpn.as_deref(), Some(&b"h2"[..]));
}

pub fn psql(site: &Site) {
    let query = |mode: &str, statement: &str| {
        let target = format!(
            "host=127.0.0.1 port={} user=tester dbname=postgres connect_timeout=15 sslmode={mode}",
            site.port
        );
        client(site, &["psql", "-XAtc", statement, &target], "")
    };
    let version = query("disable", "select version()");
    assert!(version.starts_with("PostgreSQL "), "{version}");
    let over = "select ssl, 6 * 7 from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(query("require", over), "t|42\n");
}

pub fn redis(site: &Site) {
    let port = site.port.to_string();
    let ask = |words: &[&str]| {
        let cli = ["redis-cli", "-p", &port];
        client(site, &[&cli, words].concat(), "")
    };
    assert_eq!(ask(&["set", "key", "over the net"]), "OK\n");
    assert_eq!(ask(&["get", "key"]), "over the net\n");
}

pub fn mqtt(site: &Site) {
    let port = site.port.to_string();
    let to = ["-h", "127.0.0.1", "-p", &port, "-t", "topic"];
    let publish = ["-r", "-q", "1", "-m", "over the net"];
    client(site, &[&["mosquitto_pub"], &to[..], &publish].concat(), "");
    // Kept by the broker: whoever subscribes later gets it too.
    let subscribe = ["-C", "1", "-W", "15"];
    let heard = client(
        site,
        &[&["mosquitto_sub"], &to[..], &subscribe].concat(),
        "",
    );
    assert_eq!(heard, "over the net\n");
}

pub fn dig(site: &Site) {
    let port = site.port.to_string();
    let ask = |name: &str| {
        let words = [
            "dig",
            "-r",
            "@127.0.0.1",
            "-p",
            &port,
            "+tcp",
            "+short",
            "+tries=1",
        ];
        client(site, &[&words[..], &["+time=15", name, "A"]].concat(), "")
    };
    assert_eq!(ask("shop.East.test"), "192.0.2.7\n");
    assert_eq!(ask("shop.west.test"), "198.51.100.7\n");
}

pub fn curl_socks(site: &Site) {
    let proxy = format!("socks5://127.0.0.1:{}", site.port);
    assert_eq!(
        curl(site, &["--proxy", &proxy, "http://a.test/"]),
        "page of web-a\n"
    );
}
