#!/bin/bash
# Limits, kills and clean-up by cgroups on a host that has them all: systemd as
# the first process, cgroup version 2 alone, root. Changes units and files: for
# a machine of its own.
#
#   cgroups.sh [USHERD [USHERCTL [UNIT]]]
#
# UNIT is config/systemd/usherd.service. Needs python3. Prints a line for each
# thing proved and ends with 1 if any was not.
set -u
USHERD=${1:-/usr/sbin/usherd}
USHERCTL=${2:-/usr/bin/usherctl}
UNIT=${3:-/etc/systemd/system/usherd.service}
DIR=$(mktemp -d /srv/cgroups.XXXXXX)
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
logged() { journalctl -u usherd --no-pager -o cat --since "@$began" | grep -qF -- "$1"; }
ask() { # PORT: all that comes
    timeout 60 python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(b"".join(iter(lambda: s.recv(4096), b"")).decode(), end="")' "$1"
}
hold() { # PORT: a connection on descriptor 3, and the first line that comes
    exec 3<>"/dev/tcp/127.0.0.1/$1" && IFS= read -r -t 60 line <&3 && echo "$line"
}

cat >"$DIR/usherd.toml" <<T
[daemon]
runtime_dir = "/run/usherd"
resources = { tasks = 200 }

[defaults]
user = "nobody"
isolation = "none"

[service.cat]
listen = "tcp:127.0.0.1:7000"
exec = ["/bin/sh", "-c", "echo here; exec cat"]

[service.bomb]
listen = "tcp:127.0.0.1:7001"
exec = ["/usr/bin/python3", "-c", "b = bytearray(200 << 20); print(len(b))"]
resources = { memory = "40M" }

[service."forks@+"]
listen = "tcp:127.0.0.1:7002"
exec = ["/usr/bin/python3", "-c", '''
import os, signal
n, children = 0, []
try:
    while n < 300:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
        n += 1
except OSError as err:
    print(n, err.strerror, flush=True)
for pid in children:
    os.kill(pid, signal.SIGKILL)
''']
resources = { tasks = 20 }

[service.busy]
listen = "tcp:127.0.0.1:7003"
exec = ["/usr/bin/python3", "-c", '''
import time
print("busy", flush=True)
end = time.monotonic() + 4
while time.monotonic() < end: pass
print(time.process_time())
input()
''']
resources = { cpu = "20%" }

[service.tree]
listen = "tcp:127.0.0.1:7004"
stop = { grace = "1s" }
exec = ["/usr/bin/python3", "-c", '''
import os, signal, sys
r, w = os.pipe()
for n in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(w, b"%d " % os.getpid())
            os.closerange(0, 3)
            os.close(w)
            signal.pause()
        os._exit(0)
os.close(w)
print(b"".join(iter(lambda: os.read(r, 99), b"")).decode(), flush=True)
sys.stdin.readline()
''']

[service.disk]
listen = "tcp:127.0.0.1:7005"
exec = ["/bin/sh", "-c", "echo here; exec cat"]
resources = { io = { "/" = { write = "2M" } } }
T

mkdir "$DIR/operations.d"
cat >"$DIR/operations.d/test.toml" <<T
[operation."test.long"]
description = "Takes its time"
result = "output"
exec = ["/bin/sleep", "600"]
time_limit = "1h"
resources = { memory = "64M", cpu = "50%", io = { "/" = { write = "3M" }, "/proc" = { write = "1M" } } }
T

none_of() { local one; for one in $1; do kill -0 "$one" 2>/dev/null && return 1; done; return 0; }
leaf() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
of_service() { echo "$1/usherd/servers/s-$2"; }

limits_hold() { # TOP: the cgroup that usherd divides
    local top=$1 said dir before after
    ask 7001 >/dev/null
    check "a memory bomb is told as such" within 30 logged "killed by the kernel: out of memory (limit 40M) service=bomb"
    check "and counted" bash -c "$USHERCTL stats bomb | grep -q 'oom killed *1'"
    said=$(ask 7002)
    check "a fork bomb is bounded ($said)" bash -c 'set -- $1; [ "$1" -gt 5 ] && [ "$1" -lt 20 ]' _ "$said"
    check "a service with a strange name has its limit" grep -qx 20 "$(of_service "$top" 'forks@+')/pids.max"
    check "all servers have theirs" grep -qx 200 "$top/usherd/servers/pids.max"
    hold 7003 >/dev/null
    IFS= read -r -t 120 said <&3
    check "CPU is throttled ($said s of 4)" python3 -c "import sys; sys.exit(not 0 < float('$said') < 2.2)"
    dir=$(of_service "$top" busy)
    check "and the kernel says so" bash -c "awk '/^nr_throttled/ && \$2 > 0 { found = 1 } END { exit !found }' $dir/cpu.stat"
    exec 3>&-
    exec 3<>/dev/tcp/127.0.0.1/7004; IFS= read -r -t 60 said <&3
    check "five processes are left alone ($said)" [ "$(wc -w <<<"$said")" = 5 ]
    check "which share a cgroup" [ "$(for p in $said; do leaf "$p"; done | sort -u | wc -l)" = 1 ]
    check "stop ends them all" "$USHERCTL" stop tree
    check "every one" within 10 none_of "$said"
    exec 3>&-
    hold 7005 >/dev/null
    check "the disk is limited" grep -q 'wbps=2097152' "$(of_service "$top" disk)/io.max"
    exec 3>&-
    before=$(find "$top/usherd/servers" -mindepth 2 -type d | wc -l)
    for _ in 1 2 3 4 5 6 7 8; do ask 7002 >/dev/null; done
    after=$(find "$top/usherd/servers" -mindepth 2 -type d | wc -l)
    check "cgroups are used again ($before, then $after)" [ "$after" -le $((before + 1)) ]
}

limits_change_while_servers_run() { # TOP
    local dir own
    hold 7000 >/dev/null
    dir=$(of_service "$1" cat)
    check "a limit is set for a service" "$USHERCTL" run resource.set service=cat memory=30M tasks=50
    check "the kernel has its memory" grep -qx 31457280 "$dir/memory.max"
    check "and its tasks" grep -qx 50 "$dir/pids.max"
    check "a line in a list of addresses" "$USHERCTL" run spam.block list=spam prefix=192.0.2.1
    check "leaves it" grep -qx 31457280 "$dir/memory.max"
    check "it is told" bash -c "$USHERCTL --json run resource.get service=cat | grep -q 31457280"
    check "no more than the table gives" bash -c "! $USHERCTL run resource.set service=bomb memory=41M"
    check "less than that" "$USHERCTL" run resource.set service=bomb memory=30M
    check "some of it moves" "$USHERCTL" run resource.move from=bomb to=cat memory=10M
    check "to the other service" grep -qx 41943040 "$dir/memory.max"
    local id
    id=$("$USHERCTL" --json instances cat | python3 -c 'import json, sys; print(json.load(sys.stdin)["instances"][0]["id"])')
    check "a limit is set for an instance" "$USHERCTL" run resource.set service=cat instance="$id" memory=20M cpu=50
    check "the kernel has it" bash -c "grep -qx 20971520 $dir/i*/memory.max && grep -q '^50000 ' $dir/i*/cpu.max"
    check "a reload brings the table's back" "$USHERCTL" reload --yes
    check "no limit" grep -qx max "$dir/memory.max"
    own=$(grep -lx 20971520 "$dir"/i*/memory.max)
    check "the instance keeps its own" test -n "$own"
    exec 3>&-
    check "which nobody inherits" within 10 test ! -e "$own"
}

operations_have_limits() { # TOP
    "$USHERCTL" run test.long >/dev/null 2>&1 &
    local asker=$!
    check "an operation has the limit of its own" within 20 grep -qx 67108864 "$(of_service "$1" @operations)"/i*/memory.max
    check "and of its CPU" grep -q '^50000 ' "$(of_service "$1" @operations)"/i*/cpu.max
    check "and of its disk" grep -q 'wbps=3145728' "$(of_service "$1" @operations)"/i*/io.max
    check "and what cannot be limited is told" logged "operation test.long: resources are not in force"
    kill $asker
    check "which ends with who asked for it" within 20 bash -c "! grep -qx 67108864 '$(of_service "$1" @operations)'/i*/memory.max 2>/dev/null"
}

servers_stand_still() { # TOP: the kernel freezes all of a service's
    local dir
    hold 7000 >/dev/null
    dir=$(of_service "$1" cat)
    python3 - "$dir" <<'P' >"$DIR/froze" 2>&1
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect("/run/usherd/admin.sock")
def call(method):
    s.sendall(json.dumps({"method": "org.usherd.Admin." + method, "parameters": {"service": "cat"}}).encode() + b"\0")
    said = b""
    while not said.endswith(b"\0"): said += s.recv(4096)
    return json.loads(said[:-1])["parameters"]
events = lambda: open(sys.argv[1] + "/cgroup.events").read()
assert call("Freeze")["instances"] == 1
assert "frozen 1" in events(), events()
assert call("Thaw")["was_frozen"] is True
assert "frozen 0" in events(), events()
call("Freeze")
P
    check "servers stand still" test ! -s "$DIR/froze"
    check "and go on when nobody is there to thaw them" within 10 grep -q 'frozen 0' "$dir/cgroup.events"
    exec 3>&-
}

usage_is_of_the_whole() {
    hold 7000 >/dev/null
    check "usage is told" bash -c "$USHERCTL --json instances cat | grep -q '\"tasks\":1\|\"tasks\": 1'"
    exec 3>&-
}

start_unit() { # DELEGATE
    systemctl stop usherd 2>/dev/null
    mkdir -p /etc/systemd/system/usherd.service.d
    cat >/etc/systemd/system/usherd.service.d/test.conf <<T
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=
ExecStart=$USHERD --config $DIR/usherd.toml
ExecStopPost=
ExecStopPost=-$USHERD --release
Delegate=$1
T
    systemctl daemon-reload
    began=$(date +%s.%N)
    systemctl start usherd
}
main_pid() { systemctl show -P MainPID usherd; }
restarted() { local pid; pid=$(main_pid); [ "$pid" != 0 ] && [ "$pid" != "$1" ] && systemctl is-active -q usherd; }

[ "$UNIT" = /etc/systemd/system/usherd.service ] || cp "$UNIT" /etc/systemd/system/usherd.service

echo "--- a unit with Delegate=yes"
start_unit yes
check "it starts" systemctl is-active usherd
top=$CG/system.slice/usherd.service
check "the helper is in a cgroup of its own" [ "$(leaf "$(main_pid)")" = /system.slice/usherd.service/usherd/helper ]
limits_hold "$top"
limits_change_while_servers_run "$top"
operations_have_limits "$top"
servers_stand_still "$top"
usage_is_of_the_whole
check "systemctl status shows the tree" bash -c 'systemctl status usherd --no-pager | grep -q helper'
check "reload works" systemctl reload usherd

hold 7000 >/dev/null
old=$(main_pid)
kill -9 "$old"
check "after a crash systemd starts another" within 30 restarted "$old"
echo hello >&3
check "whose predecessor's servers go on" bash -c 'IFS= read -r -t 20 line <&3 && [ "$line" = hello ]'
check "with new limits" grep -qx 200 "$top/usherd/servers/pids.max"
check "in the cgroup they had" test -d "$top/usherd/servers/s-cat"
check "where new ones are counted as before" bash -c '
    exec 4<>/dev/tcp/127.0.0.1/7000 && read -r -t 20 line <&4 && ls -d "$1"/usherd/servers/s-cat/i*/memory.events' _ "$top"
ask 7001 >/dev/null
check "and new servers have theirs" within 30 logged "out of memory (limit 40M)"
exec 3>&-
# A child may wait parked in it for the next request, which nobody makes for a minute.
check "which are empty when they end" within 120 grep -q 'populated 0' "$top/usherd/servers/s-cat/cgroup.events"

systemctl stop usherd
check "nothing is left of a unit that is stopped" bash -c "! test -d $top"
check "systemd is content" bash -c '! systemctl --failed --no-legend | grep .'

echo "--- a unit without"
start_unit no
check "it starts" systemctl is-active usherd
check "says what to do" logged "set Delegate=yes in usherd.service"
check "says which limits are not in force" logged "resources are not in force: tasks"
check "and serves" [ "$(hold 7000; exec 3>&-)" = here ]
exec 3<>/dev/tcp/127.0.0.1/7004; IFS= read -r -t 60 said <&3
"$USHERCTL" stop tree >/dev/null
exec 3>&-
check "a process may not have more memory than all may" bash -c "[ -z \"\$(timeout 60 bash -c 'cat </dev/tcp/127.0.0.1/7001')\" ]"
check "nothing was made in systemd's cgroup" bash -c "! test -d $top/usherd"
systemctl stop usherd
for pid in $said; do kill -9 "$pid" 2>/dev/null; done

echo "--- by hand, from a shell"
mkdir -p /run/usherd
"$USHERD" --config "$DIR/usherd.toml" 2>"$DIR/log" &
pid=$!
check "it serves" within 30 grep -q 'ready: ' "$DIR/log"
check "and says what to do" grep -q 'Delegate=yes' "$DIR/log"
kill $pid; wait $pid
check "and ends" [ $? = 0 ]

echo "--- by hand, in a scope that is delegated"
began=$(date +%s.%N)
systemd-run -q --scope --unit=byhand -p Delegate=yes "$USHERD" --config "$DIR/usherd.toml" 2>"$DIR/log" &
pid=$!
check "it serves" within 30 grep -q 'ready: ' "$DIR/log"
logged() { grep -qF -- "$1" "$DIR/log"; }
limits_hold "$CG/system.slice/byhand.scope"
kill $pid; wait $pid
check "and ends" [ $? = 0 ]
check "with nothing left" within 10 bash -c "! test -d $CG/system.slice/byhand.scope/usherd"

rm -rf "$DIR" /etc/systemd/system/usherd.service.d
exit $failed
