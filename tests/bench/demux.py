#!/usr/bin/python3
"""Measures what telling requests apart by their first bytes costs, beside sslh and HAProxy, in one run.

    demux.py [--usherd FILE] [--rounds N] [--requests N] [--quick] [--only latency|engine]

One client connects, sends its request at once, and waits for the first byte of
the answer. Behind every port stands the same tiny server, started anew for each
connection by the same usherd; sslh and HAProxy relay to usherd's ports without
`match`. In every round each contestant answers each kind of request; the order
turns from round to round. `added` is the median over the rounds of the
difference to the port without `match` in the same round, with its quartiles;
that port takes part twice, so that the second line shows the noise.

Then `cargo bench --bench engine` shows what a decision costs without sockets.
Needs no root. What is not installed is skipped (SSLH, SSLH_SELECT and HAPROXY
name other places). Prints Markdown; takes about two minutes.
"""
import argparse
import datetime
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import opening
import run

PORT = run.PORTS + 10000
SMALL, LARGE, WEB = "small.customers.example", "large.customers.example", "web.customers.example"
PAUSE = 1000        # microseconds between the parts of a request
FIRST = 200         # octets of the first part

# Kind, what the server waits for, host name, request, sent in two parts.
REQUESTS = [
    ("a TLS hello of 517 B", "small", opening.hello(SMALL, 517), False),
    ("a TLS hello of 1,754 B", "large", opening.hello(LARGE, 1754, hybrid=True), False),
    ("an HTTP request of %d B" % len(opening.http(WEB)), "web", opening.http(WEB), False),
    ("a TLS hello of 517 B, its second part after %d ms" % (PAUSE // 1000), "small",
     opening.hello(SMALL, 517), True),
]
KINDS = ["small", "large", "web"]
DIRECT = {kind: PORT + nth for nth, kind in enumerate(KINDS)}
SINGLE = {kind: PORT + 3 + nth for nth, kind in enumerate(KINDS)}
SHARED = PORT + 6
SHOPS = ["shop-%02d.customers.example" % nth for nth in range(11)]


# ---------------------------------------------------------------- who takes part

class Contestant(run.Contestant):
    """Answers requests of `kind` at `at(kind)`."""

    def at(self, kind):
        return self.port

    def stop(self):
        # sslh has a process for each connection, all in one group of their own.
        os.killpg(self.process.pid, signal.SIGTERM)
        super().stop()


class Usherd(run.Usherd):
    """All of usherd's ports: without `match`, with one service, with twenty."""

    def command(self, many):
        rules = {"small": '{ tls.sni = "%s" }' % SMALL, "large": '{ tls.sni = "%s" }' % LARGE,
                 "web": '{ http.host = "%s" }' % WEB}
        others = ['{ tls.sni = "%s" }' % shop for shop in SHOPS]
        others += ['{ tls.sni = "*.wild.example" }', '{ ssh = true }', '{ redis = true }']
        others += ['{ http.host = "%s" }' % shop for shop in SHOPS[:3]]
        t = ['[daemon]', 'user = "nobody"'] if run.ROOT else []
        t += ['[defaults]'] + (['user = "root"'] if run.ROOT else [])
        t += ['instances = 10000']

        def service(name, port, kind, rule=None):
            t.extend(['[service.%s]' % name, 'listen = "tcp:127.0.0.1:%d"' % port,
                      'exec = ["%s/tiny-%s"]' % (self.folder, kind)])
            if rule:
                t.append("match = " + rule)

        for kind in KINDS:
            service("direct-" + kind, DIRECT[kind], kind)
            service("single-" + kind, SINGLE[kind], kind, rules[kind])
        # Those that are asked for come last.
        for nth, rule in enumerate(others):
            service("other-%d" % nth, SHARED, "small", rule)
        for kind in KINDS:
            service("shared-" + kind, SHARED, kind, rules[kind])
        return [self.binary, "--config", self.write("usherd.toml", "\n".join(t) + "\n")]

    def start(self, many=0):
        self.log = open(os.path.join(self.folder, "usherd.log"), "w")
        self.process = subprocess.Popen(self.command(many), stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, cwd="/", start_new_session=True)
        run.wait_port(SHARED)
        return self


class Ports(Contestant):
    """Some of usherd's ports, under a name of their own."""

    def __init__(self, name, ports):
        self.name, self.ports, self.process = name, ports, None

    def at(self, kind):
        return self.ports[kind]

    def start(self, many=0):
        pass

    def stop(self):
        pass


def find(variable, *names):
    """An installed program; the ways of ordinary users do not lead to sbin."""
    places = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    named = os.environ.get(variable)
    return named or next(filter(None, (shutil.which(name, path=places) for name in names)), None)


class Sslh(Contestant):
    """By name of hello, then ssh, then HTTP of any host: it knows no hosts."""
    binary, name = find("SSLH", "sslh", "sslh-fork"), "sslh, a process for each connection"

    def command(self, many):
        def protocol(name, kind, more=""):
            return '{ name: "%s"; host: "127.0.0.1"; port: "%d"; log_level: 0; %s }' % (name, DIRECT[kind], more)

        hosts = [(shop, "small") for shop in SHOPS + ["*.wild.example"]] + [(SMALL, "small"), (LARGE, "large")]
        protocols = [protocol("tls", kind, 'sni_hostnames: [ "%s" ];' % host) for host, kind in hosts]
        protocols += [protocol("ssh", "small"), protocol("http", "web")]
        text = ('verbose: 0; foreground: true; inetd: false; numeric: true; timeout: 5;\n'
                'listen: ( { host: "127.0.0.1"; port: "%d"; } );\nprotocols: (\n%s\n);\n'
                % (self.port, ",\n".join(protocols)))
        return [self.binary, "--config=" + self.write("sslh-%d.cfg" % self.port, text)]

    def start(self, many=0):
        return start_one(self, many)


class SslhSelect(Sslh):
    binary, name = find("SSLH_SELECT", "sslh-ev", "sslh-select"), "sslh, one process"


class Haproxy(Contestant):
    """The same names and protocols, in TCP mode; HTTP of any host, as hosts need its HTTP mode."""
    binary, name, more = find("HAPROXY", "haproxy"), "HAProxy", []

    def command(self, many):
        t = self.more + ["defaults", "mode tcp", "timeout connect 5s", "timeout client 30s", "timeout server 30s",
             "frontend all", "bind 127.0.0.1:%d" % self.port, "tcp-request inspect-delay 5s",
             "tcp-request content accept if { req.ssl_hello_type 1 } || HTTP || { req.payload(0,4) -m bin 5353482d }"]
        t += ["use_backend small if { req.ssl_sni -i %s }" % shop for shop in SHOPS]
        t += ["use_backend small if { req.ssl_sni -m end .wild.example }",
              "use_backend small if { req.payload(0,4) -m bin 5353482d }",
              "use_backend small if { req.ssl_sni -i %s }" % SMALL,
              "use_backend large if { req.ssl_sni -i %s }" % LARGE, "use_backend web if HTTP"]
        for kind in KINDS:
            t += ["backend " + kind, "server one 127.0.0.1:%d" % DIRECT[kind]]
        return [self.binary, "-db", "-q", "-f", self.write("haproxy-%d.cfg" % self.port, "\n".join(t) + "\n")]

    def start(self, many=0):
        return start_one(self, many)


class HaproxyOne(Haproxy):
    name, more = "HAProxy, one thread", ["global", "nbthread 1"]


def start_one(contestant, many):
    """As run.py does, for those with a single port."""
    log = os.path.join(contestant.folder, "%d.log" % contestant.port)
    contestant.log = open(log, "w")
    contestant.process = subprocess.Popen(contestant.command(many), stdin=subprocess.DEVNULL, stdout=contestant.log,
                                          stderr=contestant.log, cwd="/", start_new_session=True)
    run.wait_port(contestant.port)
    return contestant


# ---------------------------------------------------------------- measurements

def ask(folder, port, kind, split, count):
    """Microseconds to the first byte, and how many requests got none."""
    words = ["ask", port, count, "%s/%s.request" % (folder, kind)] + ([FIRST, PAUSE] if split else [])
    lines = subprocess.check_output([folder + "/loadgen"] + [str(w) for w in words], text=True).split()
    took = [float(line) for line in lines if line != "failed"]
    return took, len(lines) - len(took)


def check(contestant):
    """A bench of requests that reach the wrong server would be worth nothing."""
    for what, kind, request, split in REQUESTS:
        with socket.create_connection(("127.0.0.1", contestant.at(kind)), 10) as peer:
            peer.sendall(request[:FIRST] if split else request)
            if split:
                time.sleep(PAUSE / 1e6)
                peer.sendall(request[FIRST:])
            got = peer.makefile("rb").readline()
        if got != kind.encode() + b"\n":
            sys.exit("%s answers %s with %r" % (contestant.name, what, got))


def bench_latency(folder, contestants, rounds, count):
    summary = {c.name: [] for c in contestants}
    for what, kind, _, split in REQUESTS:
        seen = {c.name: [] for c in contestants}
        failures = {c.name: 0 for c in contestants}
        for nth in range(rounds):
            turn = nth % len(contestants)
            for c in contestants[turn:] + contestants[:turn]:
                took, failed = ask(folder, c.at(kind), kind, split, count)
                if not took:
                    sys.exit("%s answers nothing at all" % c.name)
                seen[c.name].append(took)
                failures[c.name] += failed
        for row in report(what, seen, failures):
            summary[row[0]].append(row[3] or "(%s us in all)" % row[1])
    run.table("Added to the first byte, us", [""] + [what for what, _, _, _ in REQUESTS],
              [[name] + cells for name, cells in summary.items()])


def report(what, seen, failures):
    medians = {name: [statistics.median(took) for took in rounds] for name, rounds in seen.items()}
    base = next(iter(medians.values()))
    rows = []
    for name, mine in medians.items():
        every = sorted(value for took in seen[name] for value in took)
        added = [a - b for a, b in zip(mine, base)]
        low, middle, high = statistics.quantiles(added, n=4) if len(added) > 1 else added * 3
        rows.append([name, "%.0f" % statistics.median(mine), "%.0f" % every[len(every) * 99 // 100]]
                    + (["", "1"] if mine is base else ["%+.0f (%+.0f to %+.0f)" % (middle, low, high),
                       "%.2f" % (statistics.median(a / b for a, b in zip(mine, base)))]))
        if failures[name]:
            print("%s: %d requests got no answer" % (name, failures[name]), file=sys.stderr)
    run.table("First byte for %s" % what, ["", "median, us", "p99, us", "added, us", "ratio"], rows)
    return rows


# ---------------------------------------------------------------- the run

def version(*command):
    got = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return next((line for line in got.stdout.splitlines() if line), "unknown")


def describe(binary, contestants):
    found = [version(binary, "--version")]
    for c in contestants:
        if isinstance(c, Sslh):
            found.append(version(c.binary, "-V"))
        elif isinstance(c, Haproxy):
            found.append(version(c.binary, "-v"))
    print("%s, Linux %s, %d CPUs, load %.1f. %s." % (datetime.date.today().isoformat(), platform.release(),
                                                  os.cpu_count(), os.getloadavg()[0], "; ".join(dict.fromkeys(found))))
    sys.stdout.flush()


def latency(a, folder):
    if not os.path.exists(a.usherd):
        sys.exit("no usherd at %s: cargo build --release" % a.usherd)
    run.compile_all(folder, "bare")
    for kind, request in {kind: request for _, kind, request, _ in REQUESTS}.items():
        with open("%s/%s.request" % (folder, kind), "wb") as f:
            f.write(request)
        run.compile_tiny(folder, "bare", "tiny-" + kind, ["-DREADS=%d" % len(request), '-DANSWER="%s"' % kind])
    Usherd.binary = os.path.abspath(a.usherd)
    usherd = Usherd(folder, PORT)
    contestants = [Ports("usherd, the only service", DIRECT), Ports("the same again", DIRECT),
                   Ports("usherd, one service with `match`", SINGLE),
                   Ports("usherd, the last of 20 by `match`", {kind: SHARED for kind in KINDS})]
    for nth, kind in enumerate((Haproxy, HaproxyOne, SslhSelect, Sslh)):
        if kind.binary and os.path.exists(kind.binary):
            contestants.append(kind(folder, SHARED + 1 + nth))
        else:
            print("skipped: %s (not installed)" % kind.name)
    started = []
    try:
        for c in [usherd] + contestants:
            started.append(c)
            c.start()
        for c in contestants:
            check(c)
        describe(a.usherd, contestants)
        bench_latency(folder, contestants, a.rounds, a.requests)
    finally:
        for c in reversed(started):
            if c.process and c.process.poll() is None:
                c.stop()


def engine(quick):
    home = os.path.dirname(os.path.dirname(run.HERE))
    cargo = shutil.which("cargo")
    if not cargo:
        return print("skipped: the engine alone (no cargo)")
    print("\n### The engine alone\n")
    sys.stdout.flush()
    command = [cargo, "bench", "-q", "--bench", "engine"] + (["--", "--quick"] if quick else [])
    subprocess.check_call(command, cwd=home)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    home = os.path.dirname(os.path.dirname(run.HERE))
    ap.add_argument("--usherd", default=os.environ.get("USHERD", home + "/target/release/usherd"))
    ap.add_argument("--rounds", type=int, default=20)
    ap.add_argument("--requests", type=int, default=200, help="of each contestant in each round")
    ap.add_argument("--quick", action="store_true", help="one short round: is the bench itself in order?")
    ap.add_argument("--only", choices=["latency", "engine"])
    a = ap.parse_args()
    if a.quick:
        a.rounds, a.requests = 2, 20
    if a.only != "engine":
        folder = tempfile.mkdtemp(prefix="usherd-bench-")
        os.chmod(folder, 0o755)
        try:
            latency(a, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if a.only != "latency":
        engine(a.quick)


if __name__ == "__main__":
    main()
