#!/bin/bash
# Attempts to use up the host from inside of sandboxes, on a host that has all
# mechanisms: systemd as the first process, cgroup version 2 alone, root. For a
# machine of its own. What needs no cgroups is in tests/suite/escape.
#
#   escape.sh [USHERD]
#
# Needs python3. Prints a line for each thing proved and ends with 1 if any was not.
set -u
USHERD=${1:-/usr/sbin/usherd}
DIR=$(mktemp -d /srv/escape.XXXXXX)
CG=/sys/fs/cgroup
failed=0

[ -f $CG/cgroup.controllers ] || { echo "skipped: needs cgroup version 2 alone"; exit 0; }

say() { printf '%-6s %s\n' "$1" "$2"; }
check() { # WHAT COMMAND...
    local what=$1; shift
    if "$@" >"$DIR/said" 2>&1; then say ok "$what"; else say FAILED "$what"; sed 's/^/       /' "$DIR/said"; failed=1; fi
}
within() { # SECONDS COMMAND...: until it succeeds
    local until=$((SECONDS + $1)); shift
    until "$@"; do [ $SECONDS -ge $until ] && return 1; sleep 0.2; done
}
ask() { # PORT: all that comes
    timeout 60 python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(b"".join(iter(lambda: s.recv(4096), b"")).decode(), end="")' "$1"
}

# A fork bomb that goes on until nothing goes any more and says how far it came; it leaves
# everything behind. A memory bomb. Many small servers that fill a limit together.
FORKS='
import os, signal
n = 0
try:
    while True:
        if os.fork() == 0:
            os.setsid()
            os.closerange(0, 3)
            signal.pause()
        n += 1
except OSError as err:
    print(n, err.strerror, flush=True)
'
EATS='
b = []
while True:
    b.append(bytearray(1 << 20))
'
SMALL='
import sys
b = bytearray(2 << 20)
print("here", flush=True)
sys.stdin.readline()
'
# As many that are smaller than usherd's helper: what shares its memory must not be the largest.
TINY='
import os
print("here", flush=True)
os.execv("/bin/sh", ["sh", "-c", "i=0; while [ $i -lt 600 ]; do sleep 600 & i=$((i + 1)); done; wait"])
'
# As root on the system bus: what systemd would do for it is done as root without any limit.
BUS='
import subprocess
done = subprocess.run(["/usr/bin/systemd-run", "-q", "--wait", "/usr/bin/touch", "/srv/escaped"], capture_output=True, text=True)
print(done.returncode, done.stderr.strip().splitlines()[:1])
'
service() { # NAME PORT PRESET PROGRAM MORE
    printf "[service.%s]\nlisten = \"tcp:127.0.0.1:%s\"\nisolation = \"%s\"\nexec = [\"/usr/bin/python3\", \"-c\", '''%s''']\n%s\n" "$@"
}
{
    printf '[daemon]\nruntime_dir = "/run/usherd"\n[defaults]\nuser = "nobody"\n'
    printf '[service.cat]\nlisten = "tcp:127.0.0.1:7000"\nexec = ["/bin/sh", "-c", "echo here"]\n'
    port=7001
    for preset in none standard strict; do
        service "forks-$preset" $port $preset "$FORKS" 'resources = { tasks = 30, memory = "200M" }'
        service "eats-$preset" $((port + 1)) $preset "$EATS" 'resources = { tasks = 30, memory = "60M" }'
        service "small-$preset" $((port + 2)) $preset "$SMALL" 'resources = { memory = "60M" }
instances = 100'
        service "tiny-$preset" $((port + 3)) $preset "$TINY" 'resources = { memory = "40M" }
instances = 100'
        port=$((port + 4))
    done
    service bus 7030 standard "$BUS" 'user = "root"'
} >"$DIR/usherd.toml"

cat >/etc/systemd/system/usherd-escape.service <<T
[Service]
ExecStart=$USHERD --config $DIR/usherd.toml
Delegate=yes
Restart=always
RestartSec=0
T
systemctl daemon-reload
systemctl start usherd-escape
main_pid() { systemctl show -P MainPID usherd-escape; }
helper=$(main_pid)
unharmed() { [ "$(main_pid)" = "$helper" ] && [ "$(ask 7000)" = here ]; }
check "it serves" within 30 unharmed
servers=$CG/system.slice/usherd-escape.service/usherd/servers
populated() { grep -q 'populated 1' "$servers/s-$1/cgroup.events"; }
no_bomb() { ! pgrep -f 'os.closerange' >/dev/null; }

port=7001
for preset in none standard strict; do
    said=$(ask $port)
    check "$preset: a fork bomb ends at the limit ($said)" bash -c 'set -- $1; [ "$1" -gt 5 ] && [ "$1" -lt 30 ]' _ "$said"
    check "$preset: nobody notices" unharmed
    if [ $preset = strict ]; then
        check "$preset: nothing of it is left" within 20 no_bomb
    fi
    pkill -9 -f 'os.closerange'
    ask $((port + 1)) >/dev/null
    check "$preset: a memory bomb is told" within 30 bash -c "journalctl -u usherd-escape -o cat | grep -q 'out of memory (limit 60M) service=eats-$preset'"
    check "$preset: nobody notices" unharmed
    held=()
    for _ in $(seq 20); do
        exec {fd}<>"/dev/tcp/127.0.0.1/$((port + 2))" || break
        held+=("$fd")
        IFS= read -r -t 10 _ <&"$fd"
    done
    check "$preset: many that are small, and usherd is none of those that are killed" unharmed
    for fd in "${held[@]}"; do exec {fd}>&-; done
    held=()
    for _ in $(seq 6); do
        exec {fd}<>"/dev/tcp/127.0.0.1/$((port + 3))" || break
        held+=("$fd")
        IFS= read -r -t 10 _ <&"$fd"
    done
    check "$preset: many that are tiny, and usherd is none of those that are killed" unharmed
    for fd in "${held[@]}"; do exec {fd}>&-; done
    pkill -9 -x sleep
    # Should it not have been unharmed, the next ones are tried nevertheless.
    within 30 bash -c '[ "$(systemctl show -P ActiveState usherd-escape)" = active ]'
    helper=$(main_pid)
    port=$((port + 4))
done

said=$(ask 7030)
check "root without capabilities has nothing done for it by systemd ($said)" \
    bash -c '[ -n "$1" ] && ! test -e /srv/escaped' _ "$said"

systemctl stop usherd-escape
check "nothing is left" bash -c "! test -d $CG/system.slice/usherd-escape.service && ! pgrep -x usherd-keeper"
rm -rf "$DIR" /etc/systemd/system/usherd-escape.service /srv/escaped
exit $failed
