//! One port, one daemon, and the real servers behind it: those that take a
//! connection on descriptor 0 are started by usherd, one for each; the others
//! run on ports of their own and are reached by a relay.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::backends::{BACKENDS, Backend, RULES, Running, program};
use crate::common::*;

/// The daemon with everything that is behind its port.
#[derive(Debug)]
pub struct Site {
    /// Stopped first.
    pub daemon: Daemon,
    _running: Vec<Running>,
    pub port: u16,
    pub dir: Dir,
}

impl Site {
    /// The whole table; of the servers behind relays only those asked for.
    #[must_use]
    pub fn new(backends: &[Backend]) -> Self {
        let (dir, port) = (Dir::new(), free_port());
        lay_out(&dir);
        let ports: Vec<u16> = BACKENDS.iter().map(|_| free_port()).collect();
        let running = BACKENDS.iter().zip(&ports);
        let running = running
            .filter(|(backend, _)| backends.contains(backend))
            .map(|(&backend, &port)| Running::start(&dir, backend, port));
        let running: Vec<Running> = running.collect();
        let daemon = Daemon::start(&dir, &table(&dir, port, &ports));
        Self {
            daemon,
            _running: running,
            port,
            dir,
        }
    }

    /// Waits until exactly these services, in any order, were given a connection each.
    pub fn expect_served(&self, services: &[&str]) {
        let mut wanted: Vec<String> = services.iter().map(|&name| name.to_owned()).collect();
        wanted.sort_unstable();
        let served = |lines: &[String]| {
            let mut served: Vec<String> = lines.iter().filter_map(|line| accepted(line)).collect();
            served.sort_unstable();
            served
        };
        let all = |lines: &[String]| (served(lines).len() >= wanted.len()).then_some(());
        let _ = self.daemon.log.find(SOON, all);
        let text = self.daemon.log.text();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(served(&lines), wanted);
    }
}

/// The service of a line that says that a connection is its own.
fn accepted(line: &str) -> Option<String> {
    let (_, fields) = line.split_once(" accepted service=")?;
    fields.split(' ').next().map(str::to_owned)
}

/// Every service listens at the one port; they differ in `match`.
fn table(dir: &Dir, port: u16, backends: &[u16]) -> String {
    let mut text = String::new();
    let mut add = |name: &str, rule: &str, how: &str| {
        text += &format!(
            "[service.{name}]\nlisten = \"tcp:127.0.0.1:{port}\"\nmatch = {{ {rule} }}\n\
             log = [\"accept\", \"start\", \"exit\", \"refuse\"]\n{how}\n"
        );
    };
    let exec = |words: &[&str]| format!("exec = {words:?}");
    let as_itself = if as_root() { "\nuser = \"root\"" } else { "" };
    let busybox = program("busybox");
    let web = |folder: &str| exec(&[&busybox, "httpd", "-i", "-h", &dir.file(folder)]);
    let stunnel = |name: &str| exec(&[&program("stunnel4"), &dir.file(&format!("{name}.conf"))]);
    let sshd = exec(&[&program("sshd"), "-i", "-f", &dir.file("sshd_config")]);
    let base = dir.file("git");
    let git = [
        &program("git"),
        "-c",
        "safe.directory=*",
        "daemon",
        "--inetd",
        "--export-all",
        &format!("--base-path={base}"),
        &base,
    ];
    let rsync = exec(&[
        &program("rsync"),
        "--daemon",
        &format!("--config={}", dir.file("rsyncd.conf")),
    ]);
    add(
        "ssh",
        "ssh = true",
        &format!("{sshd}\nspeaks_first = \"server\"{as_itself}"),
    );
    add("git", "git = true", &exec(&git));
    add("rsync", "rsync = true", &rsync);
    add("web", "http = true, priority = -1", &web("web"));
    add("web-a", "http.host = \"a.test\"", &web("web-a"));
    add(
        "web-api",
        "http.host = \"a.test\", http.path = \"/api\"",
        &web("web-api"),
    );
    add("tls-a", "tls.sni = \"a.test\"", &stunnel("tls-a"));
    add("tls-b", "tls.sni = \"*.b.test\"", &stunnel("tls-b"));
    for ((backend, rule), port) in BACKENDS.iter().zip(RULES).zip(backends) {
        let to = format!("forward = \"tcp:127.0.0.1:{port}\"");
        add(&format!("{backend:?}").to_lowercase(), rule, &to);
    }
    text
}

/// Documents, keys and settings of all servers.
fn lay_out(dir: &Dir) {
    for folder in ["web", "web-a", "web-api/api", "tls-a", "tls-b", "h2", "h2c"] {
        let path = dir.open_folder(folder);
        let name = folder.split('/').next().unwrap_or(folder);
        fs::write(format!("{path}/index.html"), format!("page of {name}\n"))
            .expect("unable to write a page");
    }
    for (name, host) in [
        ("tls-a", "a.test"),
        ("tls-b", "www.b.test"),
        ("h2", "h2.test"),
    ] {
        certify(dir, name, host);
        let (pair, folder) = (dir.file(&format!("{name}.both")), dir.file(name));
        let busybox = program("busybox");
        dir.write(
            &format!("{name}.conf"),
            format!("cert = {pair}\nexec = {busybox}\nexecArgs = busybox httpd -i -h {folder}\n"),
        );
    }
    let tree = dir.open_folder("tree");
    fs::write(format!("{tree}/file"), "over the net\n").expect("unable to write");
    dir.write(
        "rsyncd.conf",
        format!("use chroot = no\n[files]\npath = {tree}\nread only = yes\n"),
    );
    dir.write(
        "sshd_config",
        format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n",
            dir.file("host"),
            dir.file("id.pub")
        ),
    );
}

/// A key and a certificate that nobody but itself vouches for, in `NAME.key`,
/// `NAME.crt` and, both, in `NAME.both`.
fn certify(dir: &Dir, name: &str, host: &str) {
    let Some(openssl) = find("openssl") else {
        return; // who needs it will say so
    };
    let config = dir.write(
        "openssl.cnf",
        format!(
            "[req]\ndistinguished_name = dn\nx509_extensions = ext\nprompt = no\n\
             [dn]\nCN = {host}\n\
             [ext]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = DNS:{host}\n"
        ),
    );
    let (key, certificate) = (
        dir.file(&format!("{name}.key")),
        dir.file(&format!("{name}.crt")),
    );
    let made = Command::new(openssl)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "2", "-config", &config])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .expect("unable to run openssl");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let parts = [&key, &certificate].map(|path| fs::read(path).expect("openssl wrote it"));
    // The key is worth nothing: servers of any account may read it.
    dir.write(&format!("{name}.both"), parts.concat());
    set_mode(Path::new(&key), 0o644);
}
