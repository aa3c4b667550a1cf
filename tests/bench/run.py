#!/usr/bin/python3
"""Measures usherd beside what it replaces, in one run on one machine.

    run.py [--usherd FILE] [--rounds N] [--seconds S] [--server bare|libc] [--quick] [--only WORD]

Builds the floor (plain C, see floor.c), the tiny server and the load
generator, then takes turns: every round measures each contestant once, and
the table shows the medians. Ratios are to the floor of the same run. xinetd
and openbsd-inetd take part where they are installed (XINETD, OPENBSD_INETD
name other places). As an ordinary user only the floor and usherd do. Servers
run as whoever runs the bench: a switch of users would bring the name service
into what is measured, for those that look accounts up at each start.
Prints Markdown; takes about two minutes.
"""
import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.geteuid() == 0
MANY = 1000
PORTS = 12000       # one block per contestant, below the kernel's own choice
CLIENTS = 32
REST = 20000        # microseconds: longer than any sandbox takes to build


def compile_one(folder, source, name, flags):
    subprocess.check_call([os.environ.get("CC", "cc"), "-O2", "-Wall", "-o", "%s/%s" % (folder, name),
                           "%s/%s.c" % (HERE, source)] + flags)


def compile_tiny(folder, server, name="tiny", more=()):
    bare = ["-static", "-nostdlib", "-fno-stack-protector"] if server == "bare" else ["-static", "-DLIBC"]
    compile_one(folder, "tiny", name, bare + list(more))


def compile_all(folder, server):
    compile_tiny(folder, server)
    compile_one(folder, "floor", "floor", [])
    compile_one(folder, "loadgen", "loadgen", [])


# ---------------------------------------------------------------- contestants

class Contestant:
    """A program that serves tiny on `port`, echo on `port + 1`, and tiny on
    the ports from `port + 2` if it was started with `many` services."""
    name = ""

    def __init__(self, folder, port):
        self.folder, self.port, self.process = folder, port, None

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def services(self, many):
        """(name, port, is echo) of everything to serve."""
        yield "tiny", self.port, False
        yield "echo", self.port + 1, True
        for nth in range(many):
            yield "s%d" % nth, self.port + 2 + nth, False

    def start(self, many=0):
        self.log = open(os.path.join(self.folder, self.name + ".log"), "w")
        self.process = subprocess.Popen(self.command(many), stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, cwd="/", start_new_session=True)
        wait_port(self.port + 1 + many)
        wait_port(self.port)
        return self

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def processes(self):
        """Helper, front and the like: not the servers they start."""
        return [self.process.pid]

    def cpu(self):
        return sum(cpu_seconds(pid) for pid in self.processes())

    def pss(self):
        return sum(pss(pid) for pid in self.processes())


class Floor(Contestant):
    name = "floor"

    def start(self, many=0):
        binary = self.folder + "/floor"
        self.process = subprocess.Popen([binary, "exec", str(self.port), self.folder + "/tiny"])
        self.echo = subprocess.Popen([binary, "echo", str(self.port + 1)])
        wait_port(self.port), wait_port(self.port + 1)
        return self

    def stop(self):
        for process in (self.process, self.echo):
            process.terminate(), process.wait()

    def processes(self):
        return children(self.process.pid)


class Usherd(Contestant):
    name = "usherd"
    binary = None
    # Of the server and of bwrap; sandboxes do not show the folder of the bench.
    isolation = '"none"'
    wrapper = []

    def command(self, many):
        t = []
        if ROOT:
            t += ['[daemon]', 'user = "nobody"']
        t += ['[defaults]'] + (['user = "root"'] if ROOT else [])
        t += ['instances = 10000', 'isolation = ' + self.isolation.replace("@", self.folder)]
        command = [word.replace("@", self.folder) for word in self.wrapper] + [self.folder + "/tiny"]
        for name, port, echo in self.services(many):
            t += ['[service.%s]' % name, 'listen = "tcp:127.0.0.1:%d"' % port]
            t += ['builtin = "echo"'] if echo else ['exec = ' + json.dumps(command)]
        return [self.binary, "--config", self.write("usherd.toml", "\n".join(t) + "\n")]

    def front(self):
        for pid in children(self.process.pid):
            try:
                with open("/proc/%d/cmdline" % pid, "rb") as f:
                    if f.read().startswith(b"usherd-front"):
                        return pid
            except OSError:
                pass
        return None

    def processes(self):
        return [pid for pid in (self.process.pid, self.front()) if pid]


class Standard(Usherd):
    name = "usherd, standard"
    isolation = '{ preset = "standard", visible = ["@"] }'


class Strict(Usherd):
    name = "usherd, strict"
    isolation = '{ preset = "strict", visible = ["@"] }'


class Bwrap(Usherd):
    """What a sysadmin would write without presets: about what "standard" keeps apart."""
    name = "usherd, none, and bwrap"
    program = os.environ.get("BWRAP", "/usr/bin/bwrap")
    wrapper = [program, "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/", "--tmpfs", "/tmp",
               "--ro-bind", "@", "@", "--dev", "/dev", "--proc", "/proc"]


class Xinetd(Contestant):
    name = "xinetd"
    binary = os.environ.get("XINETD", "/usr/sbin/xinetd")

    def command(self, many):
        t = ["defaults", "{", "instances = UNLIMITED", "per_source = UNLIMITED", "cps = 1000000 1",
             "log_type = FILE /dev/null", "}"]
        for name, port, echo in self.services(many):
            t += ["service " + name, "{", "type = UNLISTED" + (" INTERNAL" if echo else ""),
                  "socket_type = stream", "protocol = tcp", "bind = 127.0.0.1", "port = %d" % port,
                  "wait = no", "user = root", "disable = no"]
            t += [] if echo else ["server = %s/tiny" % self.folder]
            t += ["}"]
        return [self.binary, "-dontfork", "-stayalive", "-pidfile", self.folder + "/xinetd.pid",
                "-f", self.write("xinetd.conf", "\n".join(t) + "\n")]


class OpenbsdInetd(Contestant):
    name = "openbsd-inetd"
    binary = next((p for p in (os.environ.get("OPENBSD_INETD"),
                               "/var/tmp/matrix-unpack/openbsd-inetd/usr/sbin/inetd", "/usr/sbin/inetd")
                   if p and os.path.exists(p)), "/usr/sbin/inetd")

    def command(self, many):
        t = []
        for name, port, echo in self.services(many):
            where = "127.0.0.1:%s" % ("echo" if echo else port)
            what = "internal" if echo else "%s/tiny tiny" % self.folder
            # Its internal services are known by name only, at their own port.
            if not echo:
                t.append("%s stream tcp nowait root %s" % (where, what))
        return [self.binary, "-i", "-R", "100000000", self.write("inetd.conf", "\n".join(t) + "\n")]

    def start(self, many=0):
        self.log = open(os.path.join(self.folder, self.name + ".log"), "w")
        self.process = subprocess.Popen(self.command(many), stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, cwd="/", start_new_session=True)
        wait_port(self.port)
        if many:
            wait_port(self.port + 1 + many)
        return self


# ---------------------------------------------------------------- what /proc says

def children(parent):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as f:
                    if f.read().rsplit(")", 1)[1].split()[1] == str(parent):
                        found.append(int(name))
            except OSError:
                pass
    return found


def cpu_seconds(pid):
    """On the CPU so far: to the nanosecond where the kernel says so."""
    total = 0.0
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/schedstat" % (pid, task)) as f:
                total += int(f.read().split()[0]) / 1e9
        return total
    except OSError:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss(pid):
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:")) / 1024


def wait_port(port, limit=60):
    """Until somebody listens; a probe would start a server."""
    want, end = ":%04X" % port, time.monotonic() + limit
    while time.monotonic() < end:
        for table in ("tcp", "tcp6"):
            with open("/proc/net/" + table) as f:
                for line in f:
                    fields = line.split()
                    if fields[1].endswith(want) and fields[3] == "0A":
                        return
        time.sleep(0.01)
    sys.exit("nobody listens on port %d" % port)


# ---------------------------------------------------------------- measurements

class Bench:
    def __init__(self, folder, rounds, seconds):
        self.folder, self.rounds, self.seconds = folder, rounds, seconds

    def generate(self, *words):
        out = subprocess.check_output([self.folder + "/loadgen"] + [str(w) for w in words], text=True)
        values = {k: float(v) for k, v in (word.split("=") for word in out.split())}
        if values["failed"] > values.get("done", 0) / 100:
            print("%d connections failed: %s" % (values["failed"], words), file=sys.stderr)
        return values

    def rate(self, contestant, ports=1, offset=0):
        """(connections a second, microseconds of the daemon for each)"""
        before = contestant.cpu()
        got = self.generate("rate", contestant.port + offset, ports, CLIENTS, self.seconds)
        return got["per_second"], (contestant.cpu() - before) / max(got["done"], 1) * 1e6

    def latency(self, contestant, rest=0):
        got = self.generate("latency", contestant.port, 100 if rest else 400, *([rest] if rest else []))
        return got["median_us"], got["p99_us"]

    def echo(self, contestant):
        return self.generate("echo", contestant.port + 1, 1, CLIENTS, self.seconds / 2)["per_second"],

    def turns(self, contestants, measure):
        """Medians of each contestant's values, measured in turn."""
        seen = {c.name: [] for c in contestants}
        for _ in range(self.rounds):
            for c in contestants:
                seen[c.name].append(measure(c))
        return {name: [statistics.median(column) for column in zip(*rows)] for name, rows in seen.items()}


def table(title, head, rows):
    print("\n### %s\n\n| %s |\n|%s" % (title, " | ".join(head), " --- |" * len(head)))
    for row in rows:
        print("| %s |" % " | ".join(row))
    sys.stdout.flush()


def bench_requests(bench, contestants):
    rates = bench.turns(contestants, bench.rate)
    table("A process for each connection, %d clients" % CLIENTS,
          ["", "connections/s", "of the floor", "CPU of the daemon, us"],
          [[n, "%.0f" % r[0], "%.2f" % (r[0] / rates["floor"][0]), "%.0f" % r[1]] for n, r in rates.items()])
    waits = bench.turns(contestants, bench.latency)
    table("First byte, one client", ["", "median, us", "of the floor", "p99, us"],
          [[n, "%.0f" % w[0], "%.2f" % (w[0] / waits["floor"][0]), "%.0f" % w[1]] for n, w in waits.items()])
    those = [c for c in contestants if c.name != "openbsd-inetd"]
    echoes = bench.turns(those, bench.echo)
    table("Built-in echo, %d clients" % CLIENTS, ["", "connections/s", "of the C loop"],
          [[n, "%.0f" % e[0], "%.2f" % (e[0] / echoes["floor"][0])] for n, e in echoes.items()])


def bench_isolation(bench, contestants):
    """First bytes, one after the other and with a rest between them, and rates."""
    rows = {c.name: [] for c in contestants}
    measures = [lambda c: bench.latency(c)[:1], lambda c: bench.latency(c, REST)[:1], lambda c: bench.rate(c)]
    for measure in measures:
        found = bench.turns(contestants, measure)
        for name, values in found.items():
            rows[name] += ["%.0f" % values[0], "%.2f" % (values[0] / found["floor"][0])]
    table("Isolation, one service", ["", "first byte, us", "of the floor", "the same, %d ms after the last" % (REST // 1000),
                                     "of the floor", "connections/s, %d clients" % CLIENTS, "of the floor"],
          [[name] + row for name, row in rows.items()])


def bench_many(bench, contestants):
    """The rate over a thousand services and over one of them, in turn."""
    rows = []
    for c in contestants:
        c.start(MANY)
        time.sleep(0.5)
        memory = c.pss()
        ones, alls = [], []
        for _ in range(bench.rounds):
            ones.append(bench.rate(c)[0])
            alls.append(bench.rate(c, MANY, 2)[0])
        one, every = statistics.median(ones), statistics.median(alls)
        rows.append([c.name, "%.0f" % one, "%.0f" % every, "%.2f" % (every / one), "%.1f" % memory])
        c.stop()
    table("%d services" % MANY, ["", "connections/s to one", "over all", "ratio", "idle memory (PSS), MiB"], rows)


def bench_usherd(usherd):
    """What only usherd is asked: start with 10,000 services, and a lost front."""
    many = 10000
    start = usherd.command(many)
    times = []
    for _ in range(3):
        began = time.monotonic()
        process = subprocess.Popen(start, stderr=subprocess.PIPE, text=True, cwd="/")
        for line in process.stderr:
            if "ready: " in line:
                times.append(time.monotonic() - began)
                break
        threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
        process.terminate(), process.wait()
    shown = "%.2f" % statistics.median(times) if times else "never ready"
    rows = [["start to ready, %d services, s" % many, shown]]

    usherd.start()
    kills = []
    for _ in range(3):
        time.sleep(5.2)     # a front that dies young is replaced with a pause
        front = usherd.front()
        os.kill(front, signal.SIGKILL)
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", usherd.port), 10) as peer:
            peer.recv(1)
        kills.append((time.monotonic() - began) * 1e3)
    usherd.stop()
    rows.append(["kill -9 of the front to the next first byte, ms", "%.1f" % statistics.median(kills)])
    table("usherd alone", ["", ""], rows)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    home = os.path.dirname(os.path.dirname(HERE))
    ap.add_argument("--usherd", default=os.environ.get("USHERD", home + "/target/release/usherd"))
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=1.5)
    ap.add_argument("--quick", action="store_true", help="one short round: is the bench itself in order?")
    ap.add_argument("--server", choices=["bare", "libc"], default="bare",
                    help="the tiny server without libc, or static with it (its start is most of the time then)")
    ap.add_argument("--only", choices=["requests", "isolation", "many", "usherd"])
    a = ap.parse_args()
    if a.quick:
        a.rounds, a.seconds = 1, 0.5
    # Not in /tmp, as no server is: a sandbox in which a part of it is to be seen has to be built from the ground.
    folder = tempfile.mkdtemp(prefix="usherd-bench-", dir="/opt" if ROOT else None)
    os.chmod(folder, 0o755)
    contestants, usherd = [], None
    try:
        compile_all(folder, a.server)
        bench = Bench(folder, a.rounds, a.seconds)
        contestants = [Floor(folder, PORTS)]
        if os.path.exists(a.usherd):
            Usherd.binary = os.path.abspath(a.usherd)
            usherd = Usherd(folder, PORTS + 2000)
            contestants.append(usherd)
        else:
            print("no usherd at %s: measuring the others" % a.usherd)
        for kind, port in ((Xinetd, PORTS + 4000), (OpenbsdInetd, PORTS + 6000)):
            if ROOT and os.path.exists(kind.binary):
                contestants.append(kind(folder, port))
            else:
                print("skipped: %s (%s)" % (kind.name, "not installed" if ROOT else "needs root"))
        if a.only in (None, "requests"):
            for c in contestants:
                c.start()
            bench_requests(bench, contestants)
            for c in contestants:
                c.stop()
        if usherd and a.only in (None, "isolation"):
            kinds = [Floor, Usherd, Standard, Strict]
            for kind, program in ((Bwrap, Bwrap.program), (Xinetd, Xinetd.binary)):
                if os.path.exists(program) and (ROOT or kind is Bwrap):
                    kinds.append(kind)
                else:
                    print("skipped: %s (not installed, or not for this user)" % kind.name)
            those = [kind(folder, PORTS + 8000 + 100 * n) for n, kind in enumerate(kinds)]
            contestants += those
            for c in those:
                c.start()
            bench_isolation(bench, those)
            for c in those:
                c.stop()
            contestants = [c for c in contestants if c not in those]
        bench.rounds = min(bench.rounds, 3)
        if a.only in (None, "many"):
            bench_many(bench, contestants[1:])
        if usherd and a.only in (None, "usherd"):
            bench_usherd(usherd)
    finally:
        for c in contestants:
            if c.process and c.process.poll() is None:
                c.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
