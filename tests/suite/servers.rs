//! Real servers with real clients. Each test needs the packages it names.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::common::*;
use crate::programs::{ACCEPT_LOOP, LISTEN_FDS};
use crate::tests;

tests![
    git_clones_and_pushes,
    rsync_copies_a_tree,
    sshd_runs_a_command,
    busybox_httpd_serves_a_file,
    tftpd_sends_and_takes_a_file,
    a_python_server_with_listen_fds,
    a_python_server_on_stdin,
    a_perl_server_with_listen_fds,
    a_perl_server_with_wait,
];

fn run(command: &mut Command) -> Output {
    let output = command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap_or_else(|err| panic!("unable to run {command:?}: {err}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn service(name: &str, listen: &str, exec: &[&str], more: &str) -> String {
    let exec: Vec<String> = exec.iter().map(|word| format!("'{word}'")).collect();
    format!(
        "[service.{name}]\nlisten = \"{listen}\"\nexec = [{}]\n{more}\n",
        exec.join(", ")
    )
}

fn path(program: &Path) -> &str {
    program.to_str().expect("UTF-8")
}

/// Everything below may be written by the server's account.
fn open_up(folder: &str) {
    run(Command::new("chmod").args(["-R", "a+rwX", folder]));
    if as_root() {
        run(Command::new("chown").args(["-R", "nobody", folder]));
    }
}

fn git_clones_and_pushes() {
    let git = needs("git", "git");
    let (dir, port) = (Dir::new(), free_port());
    let base = dir.open_folder("srv");
    let git_in = |folder: &str, words: &[&str]| {
        run(Command::new("git").current_dir(folder).args(words));
    };
    git_in(&base, &["init", "-q", "--bare", "-b", "main", "a.git"]);
    open_up(&base);
    let _daemon = Daemon::start(
        &dir,
        &service(
            "git",
            &format!("tcp:127.0.0.1:{port}"),
            &[
                path(&git),
                "-c",
                "safe.directory=*",
                "daemon",
                "--inetd",
                "--export-all",
                "--enable=receive-pack",
                &format!("--base-path={base}"),
                &base,
            ],
            "",
        ),
    );
    let url = format!("git://127.0.0.1:{port}/a.git");
    let work = dir.file("work");
    git_in(path(dir.path()), &["clone", "-q", &url, &work]);
    std::fs::write(format!("{work}/file"), Seeded::new(9).bytes(200_000)).expect("unable to write");
    git_in(&work, &["add", "file"]);
    git_in(
        &work,
        &[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "commit",
            "-q",
            "-m",
            "one",
        ],
    );
    git_in(&work, &["push", "-q", "origin", "HEAD:main"]);
    git_in(path(dir.path()), &["clone", "-q", &url, "again"]);
    let same = std::fs::read(dir.file("again/file")).expect("the file came back");
    assert!(same == Seeded::new(9).bytes(200_000));
}

fn rsync_copies_a_tree() {
    let rsync = needs("rsync", "rsync");
    let (dir, port) = (Dir::new(), free_port());
    let tree = dir.open_folder("tree");
    std::fs::write(format!("{tree}/file"), "over the net\n").expect("unable to write");
    let config = dir.write(
        "rsyncd.conf",
        format!("use chroot = no\n[files]\npath = {tree}\nread only = no\n"),
    );
    open_up(&tree);
    let _daemon = Daemon::start(
        &dir,
        &service(
            "rsync",
            &format!("tcp:127.0.0.1:{port}"),
            &[path(&rsync), "--daemon", &format!("--config={config}")],
            "",
        ),
    );
    let url = format!("rsync://127.0.0.1:{port}/files/");
    run(Command::new("rsync").args(["-r", "--timeout=15", &url, &dir.file("copy")]));
    let copied = std::fs::read_to_string(dir.file("copy/file")).expect("the file came over");
    assert_eq!(copied, "over the net\n");
    let up = dir.write("up", "and back\n");
    run(Command::new("rsync").args(["--timeout=15", &up, &url]));
    assert_eq!(
        std::fs::read_to_string(format!("{tree}/up")).expect("it went up"),
        "and back\n"
    );
}

fn sshd_runs_a_command() {
    needs_root();
    let sshd = needs("sshd", "openssh-server");
    let keygen = needs("ssh-keygen", "openssh-client");
    if !Path::new("/run/sshd").exists() {
        std::fs::create_dir("/run/sshd").expect("sshd's empty folder");
    }
    let (dir, port) = (Dir::new(), free_port());
    for name in ["host", "id"] {
        let file = dir.file(name);
        run(Command::new(&keygen).args(["-q", "-t", "ed25519", "-N", "", "-f", &file]));
    }
    let keys = dir.file("id.pub");
    let config = dir.write(
        "sshd_config",
        format!(
            "HostKey {}\nAuthorizedKeysFile {keys}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n",
            dir.file("host")
        ),
    );
    let _daemon = Daemon::start(
        &dir,
        &service(
            "ssh",
            &format!("tcp:127.0.0.1:{port}"),
            &[path(&sshd), "-i", "-f", &config],
            "user = \"root\"",
        ),
    );
    let output = run(Command::new("ssh")
        .args(["-q", "-i", &dir.file("id"), "-p", &port.to_string()])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args([
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=15",
            "-F",
            "/dev/null",
        ])
        .args([
            "root@127.0.0.1",
            "echo said $((20 + 3)) from $SSH_CONNECTION",
        ]));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("said 23 from 127.0.0.1 "), "{said}");
}

fn busybox_httpd_serves_a_file() {
    let busybox = needs("busybox", "busybox");
    let (dir, port) = (Dir::new(), free_port());
    let root = dir.open_folder("www");
    std::fs::write(format!("{root}/index.html"), "<p>hello</p>\n").expect("unable to write");
    let _daemon = Daemon::start(
        &dir,
        &service(
            "http",
            &format!("tcp:127.0.0.1:{port}"),
            &[path(&busybox), "httpd", "-i", "-h", &root],
            "",
        ),
    );
    for _ in 0..5 {
        let mut peer = Peer::tcp(port);
        let answer = peer.send("GET / HTTP/1.0\r\nHost: x\r\n\r\n").read_text();
        assert!(
            answer.starts_with("HTTP/1") && answer.contains(" 200 "),
            "{answer}"
        );
        assert!(answer.ends_with("<p>hello</p>\n"), "{answer}");
    }
}

/// One transfer of RFC 1350, in blocks of 512: each packet goes to the port
/// that the last one came from.
struct Tftp {
    socket: std::net::UdpSocket,
    to: std::net::SocketAddr,
}

impl Tftp {
    fn ask(port: u16, code: u8, name: &str) -> Self {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("unable to bind");
        socket.set_read_timeout(Some(SOON)).expect("a deadline");
        let to = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let request = [&[0, code], name.as_bytes(), b"\0octet\0"].concat();
        socket.send_to(&request, to).expect("unable to send");
        Self { socket, to }
    }

    /// The next packet: its code, its number and the rest.
    fn receive(&mut self) -> (u8, u16, Vec<u8>) {
        let mut bytes = [0; 600];
        let (count, from) = self.socket.recv_from(&mut bytes).expect("no packet");
        self.to = from;
        let number = u16::from_be_bytes([bytes[2], bytes[3]]);
        (bytes[1], number, bytes[4..count].to_vec())
    }

    fn send(&self, code: u8, number: u16, data: &[u8]) {
        let packet = [&[0, code], &number.to_be_bytes()[..], data].concat();
        self.socket
            .send_to(&packet, self.to)
            .expect("unable to send");
    }

    fn get(port: u16, name: &str) -> Vec<u8> {
        let mut transfer = Self::ask(port, 1, name);
        let mut file = Vec::new();
        loop {
            let (code, number, data) = transfer.receive();
            assert_eq!(code, 3, "{}", String::from_utf8_lossy(&data));
            transfer.send(4, number, &[]);
            file.extend_from_slice(&data);
            if data.len() < 512 {
                return file;
            }
        }
    }

    fn put(port: u16, name: &str, file: &[u8]) {
        let mut transfer = Self::ask(port, 2, name);
        let (code, mut number, why) = transfer.receive();
        assert_eq!(code, 4, "{}", String::from_utf8_lossy(&why));
        let mut rest = file;
        loop {
            number += 1;
            let (block, after) = rest.split_at(rest.len().min(512));
            transfer.send(3, number, block);
            assert_eq!(transfer.receive().1, number);
            rest = after;
            if block.len() < 512 {
                return;
            }
        }
    }
}

fn tftpd_sends_and_takes_a_file() {
    needs_root();
    let tftpd = needs("in.tftpd", "tftpd-hpa");
    let (dir, port) = (Dir::new(), free_port());
    let root = dir.open_folder("tftp");
    let content = Seeded::new(3).bytes(3_000);
    std::fs::write(format!("{root}/boot"), &content).expect("unable to write");
    open_up(&root);
    let daemon = Daemon::start(
        &dir,
        &service(
            "tftp",
            &format!("udp:127.0.0.1:{port}"),
            &[
                path(&tftpd),
                "--timeout",
                "2",
                "--create",
                "--user",
                "nobody",
                "--secure",
                &root,
            ],
            "user = \"root\"",
        ),
    );
    assert!(Tftp::get(port, "boot") == content);
    Tftp::put(port, "upload", &content[..1_024]);
    let taken = std::fs::read(format!("{root}/upload")).expect("it was taken");
    assert!(taken == content[..1_024]);
    assert!(Tftp::get(port, "upload") == content[..1_024]);
    // The server gives the socket back after two idle seconds and is started again.
    daemon.wait_servers(0);
    assert!(Tftp::get(port, "boot") == content);
}

fn a_python_server_with_listen_fds() {
    let python = needs("python3", "python3");
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.write(
        "server.py",
        "import http.server, os, socket, socketserver\n\
         assert os.environ['LISTEN_PID'] == str(os.getpid())\n\
         listener = socket.socket(fileno=3)\n\
         class Server(http.server.HTTPServer):\n\
         \x20   def __init__(self):\n\
         \x20       socketserver.BaseServer.__init__(self, listener.getsockname(), Handler)\n\
         \x20       self.socket = listener\n\
         \x20       self.timeout = 3\n\
         \x20   def handle_timeout(self):\n\
         \x20       os._exit(0)\n\
         class Handler(http.server.BaseHTTPRequestHandler):\n\
         \x20   def do_GET(self):\n\
         \x20       self.send_response(200); self.end_headers(); self.wfile.write(b'python %d' % os.getpid())\n\
         server = Server()\n\
         while True: server.handle_request()\n",
    );
    let _daemon = Daemon::start(
        &dir,
        &service(
            "python",
            &format!("tcp:127.0.0.1:{port}"),
            &[path(&python), &program],
            "wait = true\nactivation = \"listen-fds\"\nstderr = \"null\"",
        ),
    );
    let get = || {
        let mut peer = Peer::tcp(port).patience(Duration::from_secs(30));
        peer.send("GET / HTTP/1.0\r\n\r\n").read_text()
    };
    let (first, second) = (get(), get());
    assert!(first.contains("python "), "{first}");
    assert_eq!(
        first.rsplit(' ').next(),
        second.rsplit(' ').next(),
        "one server for both"
    );
}

fn a_python_server_on_stdin() {
    let python = needs("python3", "python3");
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.write(
        "server.py",
        "import sys, os\nfor line in sys.stdin:\n    print(os.environ['REMOTE_HOST'], line.upper(), end='', flush=True)\n",
    );
    let _daemon = Daemon::start(
        &dir,
        &service(
            "python",
            &format!("tcp:127.0.0.1:{port}"),
            &[path(&python), &program],
            "",
        ),
    );
    let mut peer = Peer::tcp(port).patience(Duration::from_secs(30));
    for word in ["one", "two"] {
        peer.send(format!("{word}\n"));
        assert_eq!(
            peer.read_line(),
            format!("127.0.0.1 {}\n", word.to_uppercase())
        );
    }
}

fn a_perl_server_with_listen_fds() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("server", LISTEN_FDS);
    let _daemon = Daemon::start(
        &dir,
        &service(
            "perl",
            &format!("tcp:127.0.0.1:{port}"),
            &[&program],
            "wait = true\nactivation = \"listen-fds\"",
        ),
    );
    let answer = Peer::tcp(port).send("word\n").read_text();
    assert!(answer.ends_with("word\n"), "{answer}");
}

fn a_perl_server_with_wait() {
    let (dir, port) = (Dir::new(), free_port());
    let program = dir.script("server", ACCEPT_LOOP);
    let _daemon = Daemon::start(
        &dir,
        &service(
            "perl",
            &format!("tcp:127.0.0.1:{port}"),
            &[&program],
            "wait = true",
        ),
    );
    for word in ["one", "two", "three"] {
        let answer = Peer::tcp(port).send(format!("{word}\n")).read_text();
        assert!(answer.ends_with(&format!(" {word}\n")), "{answer}");
    }
}
