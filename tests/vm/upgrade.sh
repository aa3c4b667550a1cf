#!/bin/bash
# Restarts and upgrades under systemd: nothing is lost, servers go on. And the
# other ways to be started by systemd: by a socket unit, and by an ordinary
# user's manager. Changes units and files: for a machine of its own, with
# systemd 252 or newer and python3.
#
#   upgrade.sh [USHERD [USHERCTL [FOLDER]]]
#
# FOLDER is config/systemd. Prints a line for each thing proved and ends with 1
# if any was not.
set -u
USHERD=${1:-/usr/sbin/usherd}
USHERCTL=${2:-/usr/bin/usherctl}
UNITS=${3:-/usr/share/doc/usherd/systemd}
ROUNDS=${ROUNDS:-10} # of each
RATE=${RATE:-200}     # connections a second
DIR=$(mktemp -d /srv/upgrade.XXXXXX)
failed=0

[ -d /run/systemd/system ] || { echo "skipped: needs systemd as the first process"; exit 0; }

say() { printf '%-6s %s\n' "$1" "$2"; }
check() { # WHAT COMMAND...
    local what=$1; shift
    if "$@" >"$DIR/said" 2>&1; then say ok "$what"; else say FAILED "$what"; sed 's/^/       /' "$DIR/said"; failed=1; fi
}
within() { # SECONDS COMMAND...: until it succeeds
    local until=$((SECONDS + $1)); shift
    until "$@"; do [ $SECONDS -ge $until ] && return 1; sleep 0.2; done
}
ctl() { "$USHERCTL" --runtime-dir /run/usherd "$@"; }
running() { ctl instances --json | python3 -c '
import json, sys
print(*("%d %d" % (i["id"], i["pid"]) for i in json.load(sys.stdin)["instances"] if i["service"] == "held"))'; }
echoes() { # on descriptor 3
    echo on >&3 && IFS= read -r -t 60 line <&3 && [ "$line" = on ]
}
answers() { # PORT
    timeout 60 python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(b"x\n")
assert s.recv(9) == b"x\n"' "$1"
}
refused() { # PORT: accepted, and closed at once
    [ -z "$(timeout 60 python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(s.recv(9).decode(), end="")' "$1")" ]
}

cat >"$DIR/load.py" <<'P'
# load.py PER_SECOND PORT...: connections at fixed moments, whatever becomes of
# those before, until SIGTERM. Says how many were served, and what became of the others.
import collections, resource, select, signal, socket, sys, time
rate, ports = int(sys.argv[1]), [int(port) for port in sys.argv[2:]]
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
going, poll, open_, ends = [True], select.epoll(), {}, collections.Counter()
signal.signal(signal.SIGTERM, lambda *_: going.clear())
began, number = time.monotonic(), 0
def end(fd, how):
    poll.unregister(fd)
    open_.pop(fd)[0].close()
    ends[how] += 1
while going or open_:
    now = time.monotonic()
    while going and began + number / rate <= now:
        s = socket.socket()
        s.setblocking(False)
        err = s.connect_ex(("127.0.0.1", ports[number % len(ports)]))
        open_[s.fileno()] = [s, b"line %d\n" % number, b"", False, now]
        poll.register(s, select.EPOLLOUT)
        number += 1
    wait = max(0, min(0.05, began + number / rate - time.monotonic())) if going else 0.05
    for fd, event in poll.poll(wait):
        s, question, answer, sent, at = one = open_[fd]
        try:
            if not sent:
                s.send(question)
                one[3] = True
                poll.modify(fd, select.EPOLLIN)
                continue
            got = s.recv(100)
        except OSError as err:
            end(fd, str(err))
            continue
        one[2] = answer = answer + got
        if answer == question and got:
            s.shutdown(socket.SHUT_WR)
        elif not got:
            end(fd, "served" if answer == question else "answer %r" % answer)
    for fd in [fd for fd, one in open_.items() if now - one[4] > 120]:
        end(fd, "no answer")
print(dict(ends), "of", number, "in %.1f s" % (time.monotonic() - began))
sys.exit(set(ends) != {"served"})
P
under_load() { # WHAT COMMAND...: with $RATE connections a second
    local what=$1; shift
    python3 "$DIR/load.py" "$RATE" 7007 7007 7008 >"$DIR/load" 2>&1 &
    local load=$!
    sleep 1
    "$@" >"$DIR/did" 2>&1
    local status=$?
    sleep 1
    kill $load
    wait $load
    local lost=$?
    check "$what: $(cat "$DIR/load")" test "$status" = 0 -a "$lost" = 0
    [ "$status" = 0 ] || sed 's/^/       /' "$DIR/did"
}

mkdir -p /etc/usherd
cat >/etc/usherd/usherd.toml <<T
[defaults]
user = "nobody"
isolation = "none"
instances = 1000
backlog = 4096

[service.echo]
listen = "tcp:127.0.0.1:7007"
builtin = "echo"

[service.cat]
listen = "tcp:127.0.0.1:7008"
exec = ["/bin/cat"]

[service.held]
listen = "tcp:127.0.0.1:7009"
exec = ["/bin/cat"]
instances = 1
on_full = "refuse"
isolation = "standard"
resources = { memory = "60M" }
T
cp "$USHERD" "$DIR/usherd" && USHERD=$DIR/usherd
sed "s|/usr/sbin/usherd|$USHERD|" "$UNITS/usherd.service" >/etc/systemd/system/usherd.service
# No operator restarts more than five times in ten seconds, which is what systemd puts up with.
mkdir -p /etc/systemd/system/usherd.service.d
printf '[Unit]\nStartLimitIntervalSec=0\n' >/etc/systemd/system/usherd.service.d/often.conf
systemctl daemon-reload
check "the unit starts" systemctl start usherd
main() { systemctl show -P MainPID usherd; }

exec 3<>/dev/tcp/127.0.0.1/7009
check "a server runs" echoes
before=$(running)
cgroup=$(cut -d: -f3 "/proc/${before#* }/cgroup" 2>/dev/null)

restarts() { for _ in $(seq "$ROUNDS"); do systemctl restart usherd || return 1; done; }
upgrades() { for _ in $(seq "$ROUNDS"); do ctl upgrade || return 1; done; }
crash() { local old; old=$(main); kill -9 "$old"; within 60 eval '[ "$(main)" != '"$old"' ] && [ "$(systemctl is-active usherd)" = active ]'; }
same_server() { [ "$(running)" = "$before" ] && echoes && refused 7009; }

old=$(main)
under_load "$ROUNDS restarts lose none" restarts
check "it is another process" test "$(main)" != "$old"
check "the server is counted, limited, and goes on" same_server
old=$(main)
under_load "$ROUNDS upgrades lose none" upgrades
check "it is the same process" test "$(main)" = "$old"
check "the server is counted, limited, and goes on" same_server
check "a usherd that is killed is followed by another" crash
check "which has its listeners" answers 7008
check "the server is counted, limited, and goes on" same_server
limit() { grep -qx $((60 << 20)) "/sys/fs/cgroup${cgroup%/*}/memory.max"; }
check "its limit is in force" limit
check "it is where it was" test "$(cut -d: -f3 "/proc/${before#* }/cgroup")" = "$cgroup"
fed() { [ "$(systemctl show -P WatchdogTimestampMonotonic usherd)" -gt "$1" ]; }
seen=$(systemctl show -P WatchdogTimestampMonotonic usherd)
check "the watchdog is fed" within 45 fed "${seen:-0}"

stopped() { systemctl stop usherd && ! kill -0 "${before#* }" 2>/dev/null; }
check "stop ends the server too" stopped
check "nothing is left in the store" test "$(systemctl show -P NFileDescriptorStore usherd)" = 0
closed() { ! python3 -c 'import socket; socket.create_connection(("127.0.0.1", 7007))'; }
check "and closes the listeners" closed
exec 3>&-

# By a socket unit: the first connection starts it.
cat >>/etc/usherd/usherd.toml <<T
[service.web]
listen = "fd:web"
exec = ["/bin/cat"]
T
sed 's/8080/127.0.0.1:7010/' "$UNITS/usherd.socket" >/etc/systemd/system/usherd.socket
systemctl daemon-reload
check "the socket unit starts" systemctl start usherd.socket
check "nothing runs yet" test "$(systemctl is-active usherd)" = inactive
check "the first connection starts usherd and is served" answers 7010
check "so are the others" answers 7007
check "a restart keeps that socket" systemctl restart usherd
check "and serves it" answers 7010
systemctl stop usherd.socket usherd

# By an ordinary user's manager.
useradd --create-home friend 2>/dev/null
uid=$(id -u friend)
loginctl enable-linger friend
within 60 test -S "/run/user/$uid/systemd/private"
home=$(getent passwd friend | cut -d: -f6)
mkdir -p "$home/.config/usherd" "$home/.config/systemd/user"
chmod 755 "$DIR"
cat >"$home/.config/usherd/usherd.toml" <<T
[defaults]
isolation = "none"
[service.cat]
listen = "tcp:127.0.0.1:7011"
exec = ["/bin/cat"]
T
sed "s|/usr/sbin/usherd|$USHERD|" "$UNITS/usherd-user.service" >"$home/.config/systemd/user/usherd.service"
chown -R friend: "$home"
theirs() { runuser -u friend -- env XDG_RUNTIME_DIR="/run/user/$uid" "$@"; }
theirs systemctl --user daemon-reload
check "a user's unit starts" theirs systemctl --user start usherd
check "and serves" answers 7011
exec 3<>/dev/tcp/127.0.0.1/7011
check "a server of the user runs" echoes
check "a restart of it" theirs systemctl --user restart usherd
check "leaves the server alone" echoes
check "and serves" answers 7011
check "an upgrade of it" theirs "$USHERCTL" upgrade
check "leaves the server alone" echoes
check "and serves" answers 7011
theirs systemctl --user stop usherd

[ $failed = 0 ] || journalctl -u usherd --no-pager -o cat | tail -60
exit $failed
