#!/bin/bash
# What a sandbox costs beside systemd's own: the time to the first byte of a
# tiny server started for each connection, by usherd and by a socket unit with
# Accept=yes. For a machine of its own with systemd; run as root.
#
#   bench.sh [USHERD [LOADGEN [TINY]]]
#
# LOADGEN and TINY are tests/bench/loadgen.c and tests/bench/tiny.c, compiled
# statically (see tests/bench/run.py). Prints Markdown. Ratios are to usherd with
# isolation = "none" in the same run; all take turns.
set -u
USHERD=${1:-/usr/sbin/usherd} LOADGEN=${2:-/usr/local/bin/loadgen} TINY=${3:-/usr/local/bin/tiny}
ROUNDS=3 COUNT=15
DIR=$(mktemp -d /run/bench.XXXXXX)
chmod 755 "$DIR"

cat >"$DIR/usherd.toml" <<E
[daemon]
user = "nobody"
runtime_dir = "$DIR/run"
state_dir = "$DIR/state"
[defaults]
user = "nobody"
log = []
E
port=17001
for preset in none standard strict; do
    printf '[service.%s]\nlisten = "tcp:127.0.0.1:%d"\nexec = ["%s"]\nisolation = "%s"\n' \
        $preset $port "$TINY" $preset >>"$DIR/usherd.toml"
    port=$((port + 1))
done

unit() { # NAME PORT: the directives of [Service] come on stdin
    printf '[Socket]\nListenStream=127.0.0.1:%d\nAccept=yes\nMaxConnections=1000\nTriggerLimitBurst=0\n' "$2" \
        >"/run/systemd/system/$1.socket"
    { printf '[Unit]\nCollectMode=inactive-or-failed\n[Service]\nExecStart=%s\nStandardInput=socket\nUser=nobody\n' "$TINY"
      cat; } >"/run/systemd/system/$1@.service"
}
unit bench-plain 17011 </dev/null
# About what "standard" keeps apart.
unit bench-boxed 17012 <<'E'
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
PrivateIPC=yes
ProtectHostname=yes
ProtectProc=invisible
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
SystemCallFilter=@system-service
E
systemctl daemon-reload
systemctl start bench-plain.socket bench-boxed.socket
"$USHERD" --config "$DIR/usherd.toml" >"$DIR/log" 2>&1 &
usherd=$!
trap 'kill $usherd; systemctl stop bench-plain.socket bench-boxed.socket' EXIT
until grep -q '^ready' "$DIR/log"; do sleep 0.1; done

contestants="none:17001 standard:17002 strict:17003 systemd:17011 systemd-boxed:17012"
for round in $(seq $ROUNDS); do
    for contestant in $contestants; do
        # 100 ms apart: longer than usherd builds a sandbox here.
        "$LOADGEN" latency "${contestant#*:}" $COUNT 100000 | sed -n 's/^median_us=\([0-9.]*\).*/\1/p' >>"$DIR/${contestant%:*}"
    done
done
median() { sort -n "$DIR/$1" | sed -n "$((ROUNDS / 2 + 1))p"; }
base=$(median none)
printf '| | first byte, us | of usherd, none |\n| --- | --- | --- |\n'
for contestant in $contestants; do
    name=${contestant%:*}
    awk -v n="$name" -v us="$(median "$name")" -v base="$base" 'BEGIN { printf "| %s | %.0f | %.2f |\n", n, us, us / base }'
done
