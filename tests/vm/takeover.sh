#!/bin/bash
# A host that runs another super-server gets usherd: its package pushes out the
# other one and serves what that served, under the same restrictions, also after
# a reboot, until it is purged. For a machine of its own with systemd; run as
# root, and once more after the reboot that it makes (VMRUN_BOOT=2).
#
#   takeover.sh xinetd|openbsd-inetd USHERD.deb
#
# The other one is installed already. Needs python3, and for openbsd-inetd tcpd.
# Every check is made of the old super-server first: it has to hold there too.
# Prints a line for each thing proved and ends with 1 if any was not.
set -u
OTHER=$1 DEB=$2 BOOT=${VMRUN_BOOT:-1}
DIR=/srv/takeover
failed=0
export DEBIAN_FRONTEND=noninteractive

say() { printf '%-6s %s\n' "$1" "$2"; }
check() { # WHAT COMMAND...
    local what=$1; shift
    if "$@" >"$DIR/said" 2>&1; then say ok "$what"; else say FAILED "$what"; sed 's/^/       /' "$DIR/said"; failed=1; fi
}
within() { # SECONDS COMMAND...: until it succeeds
    local until=$((SECONDS + $1)); shift
    until "$@"; do [ $SECONDS -ge $until ] && return 1; sleep 0.2; done
}
not() { ! "$@"; }

# --- servers and a client -------------------------------------------------------
mkdir -p "$DIR"
chmod 755 "$DIR"
cat >"$DIR/who" <<'EOF'
#!/bin/sh
echo "$(id -un) $(id -gn) umask $(umask) nice $(nice) $*"
EOF
cat >"$DIR/datagrams" <<'EOF'
#!/usr/bin/python3
# Answers what has come, and what comes within two seconds more; then ends.
import socket
s = socket.socket(fileno=0)
s.settimeout(2)
try:
    while True:
        text, peer = s.recvfrom(2048)
        s.sendto(b"got " + text, peer)
except TimeoutError:
    pass
EOF
cat >"$DIR/client" <<'EOF'
#!/usr/bin/python3
# ask PORT [SOURCE]: sends a line and prints what comes back.
# hold N PORT SOURCE: how many of so many talks at once are answered.
# datagram PORT: the same as ask.
import socket, sys

def connect(port, source="127.0.0.1"):
    s = socket.create_connection(("127.0.0.1", int(port)), timeout=30, source_address=(source, 0))
    s.settimeout(6)
    return s

def answer(s):
    try:
        s.sendall(b"hello\n")
        return s.recv(4096).decode()
    except (TimeoutError, ConnectionError):
        return ""

what, rest = sys.argv[1], sys.argv[2:]
try:
    if what == "ask":
        print(answer(connect(*rest)), end="")
    elif what == "hold":
        talks = [connect(*rest[1:]) for _ in range(int(rest[0]))]
        print(sum(answer(s) == "hello\n" for s in talks))
    elif what == "datagram":
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(30)
        s.sendto(b"hello\n", ("127.0.0.1", int(rest[0])))
        print(s.recv(4096).decode(), end="")
except (ConnectionError, TimeoutError) as err:
    print(type(err).__name__)
EOF
cat >"$DIR/knock" <<'EOF'
#!/usr/bin/python3
# Comes again and again, and says how long nobody answered.
import socket, time
gone, longest = None, 0.0
while True:
    try:
        with socket.create_connection(("127.0.0.1", 7002), timeout=30) as s:
            served = bool(s.recv(1))
    except OSError:
        served = False
    now = time.monotonic()
    if served and gone:
        longest, gone = max(longest, now - gone), None
        print(f"{longest:.1f}", flush=True)
    elif not served and gone is None:
        gone = now
    time.sleep(0.02)
EOF
chmod 755 "$DIR/who" "$DIR/datagrams" "$DIR/client" "$DIR/knock"
cp /bin/cat "$DIR/guarded"

gets() { # EXPECTED COMMAND...
    local expected=$1 got; shift
    got=$("$DIR/client" "$@")
    [ "$got" = "$expected" ] || { echo "got \"$got\", not \"$expected\""; return 1; }
}
gets_at_most() { # N COMMAND...: some, and no more
    local most=$1 got; shift
    got=$("$DIR/client" "$@")
    [ "$got" -ge 1 ] && [ "$got" -le "$most" ] || { echo "got \"$got\""; return 1; }
}
gets_nothing() { # COMMAND...: the connection is refused or closed
    local got
    got=$("$DIR/client" "$@")
    case $got in "" | ConnectionRefusedError | ConnectionResetError) ;; *) echo "got \"$got\""; return 1 ;; esac
}

# --- what the other one serves ---------------------------------------------------
write_xinetd() {
    # Half a day that does not have now in it, nor the next half hour.
    local window="0:00-11:59"
    if [ "$(date +%H)" -lt 12 ] && [ "$(date -d '+30 minutes' +%H)" -lt 12 ]; then window="13:00-23:59"; fi
    rm -f /etc/xinetd.d/*
    cat >/etc/xinetd.d/takeover <<EOF
service echo
{
    type        = INTERNAL UNLISTED
    socket_type = stream
    protocol    = tcp
    port        = 7001
    wait        = no
    user        = root
    only_from   = 127.0.0.1
}
service who
{
    type        = UNLISTED
    socket_type = stream
    protocol    = tcp
    port        = 7002
    wait        = no
    user        = nobody
    group       = daemon
    umask       = 027
    nice        = 5
    server      = $DIR/who
    server_args = one two
    cps         = 1000 1
}
service few
{
    type        = UNLISTED
    socket_type = stream
    protocol    = tcp
    port        = 7003
    wait        = no
    user        = nobody
    server      = /bin/cat
    instances   = 2
}
service one-each
{
    type        = UNLISTED
    socket_type = stream
    protocol    = tcp
    port        = 7004
    wait        = no
    user        = nobody
    server      = /bin/cat
    per_source  = 1
}
service guarded
{
    type        = UNLISTED
    socket_type = stream
    protocol    = tcp
    port        = 7005
    wait        = no
    user        = nobody
    server      = $DIR/guarded
}
service datagrams
{
    type        = UNLISTED
    socket_type = dgram
    protocol    = udp
    port        = 7006
    wait        = yes
    user        = nobody
    server      = $DIR/datagrams
}
service not-now
{
    type         = UNLISTED
    socket_type  = stream
    protocol     = tcp
    port         = 7007
    wait         = no
    user         = nobody
    server       = /bin/cat
    access_times = $window
}
service off
{
    type        = UNLISTED
    socket_type = stream
    protocol    = tcp
    port        = 7008
    wait        = no
    user        = nobody
    server      = /bin/cat
    disable     = yes
}
EOF
}
write_inetd() {
    cat >/etc/inetd.conf <<EOF
# As it has grown over the years.
echo	stream	tcp	nowait	root	internal
7002	stream	tcp	nowait.1000	nobody.daemon	$DIR/who	who one two
127.0.0.3:7003	stream	tcp	nowait	nobody	/bin/cat	cat
7004	stream	tcp	nowait.3	nobody	/bin/cat	cat
7005	stream	tcp	nowait	nobody	/usr/sbin/tcpd	$DIR/guarded
7006	dgram	udp	wait	nobody	$DIR/datagrams	datagrams
#7008	stream	tcp	nowait	nobody	/bin/cat	cat
EOF
}
write_hosts() {
    echo "guarded: 127.0.0.1" >/etc/hosts.allow
    echo "guarded: ALL" >/etc/hosts.deny
}

# --- what has to hold of both ------------------------------------------------------
check_xinetd() { # WHO
    check "$1: a built-in service answers" within 60 gets hello ask 7001
    check "$1:   only whom only_from names" gets_nothing ask 7001 127.0.0.2
    check "$1: a server has its user, group, umask, nice and arguments" \
        gets "nobody daemon umask 0027 nice 5 one two" ask 7002
    check "$1: instances bounds the talks at once" gets 2 hold 3 7003 127.0.0.1
    check "$1: per_source bounds those of one address" gets 1 hold 2 7004 127.0.0.1
    check "$1:   and not those of another" gets 1 hold 1 7004 127.0.0.2
    check "$1: hosts.allow lets in" gets hello ask 7005
    check "$1: hosts.deny keeps out" gets_nothing ask 7005 127.0.0.2
    check "$1: datagrams are answered" gets "got hello" datagram 7006
    check "$1: access_times keeps out" gets_nothing ask 7007
    check "$1: what is disabled is closed" gets ConnectionRefusedError ask 7008
}
check_openbsd_inetd() { # WHO
    check "$1: a built-in service answers" within 60 gets hello ask 7
    check "$1: a server has its user, group and arguments" \
        gets "nobody daemon umask 0022 nice 0 one two" ask 7002
    check "$1: a service of one address is not at another" gets ConnectionRefusedError ask 7003
    # The third one in a minute is one too many for openbsd-inetd, as it counts.
    check "$1: a service has only so many starts a minute" gets_at_most 3 hold 5 7004 127.0.0.1
    check "$1: hosts.allow lets in" gets hello ask 7005
    check "$1: hosts.deny keeps out" gets_nothing ask 7005 127.0.0.2
    check "$1: datagrams are answered" gets "got hello" datagram 7006
    check "$1: what is commented out is closed" gets ConnectionRefusedError ask 7008
}
check_all() { "check_${OTHER/-/_}" "$1"; }

if [ "$BOOT" -eq 1 ]; then
    write_hosts
    case $OTHER in
    xinetd) write_xinetd; unit=xinetd ;;
    openbsd-inetd) write_inetd; unit=inetd ;;
    *) echo "xinetd or openbsd-inetd, not $OTHER"; exit 64 ;;
    esac
    systemctl restart "$unit"
    check_all "$OTHER"

    "$DIR/knock" >"$DIR/gap" &
    knock=$!
    # apt removes the other one first, dpkg does it meanwhile.
    case $OTHER in
    xinetd) install=(apt-get -q install -y --no-install-recommends) ;;
    *) install=(dpkg -i) ;;
    esac
    check "${install[0]} puts the package in its place" "${install[@]}" "$DEB"
    sed 's/^/       /' "$DIR/said"
    check "$OTHER is not installed any more" \
        test "$(dpkg-query -W -f '${db:Status-Status}' "$OTHER")" != installed
    check "  and does not run" not pgrep -x 'xinetd|inetd'
    check "usherd runs" systemctl is-active usherd
    check_all usherd
    kill $knock
    echo "       for $(tail -n 1 "$DIR/gap") s nobody answered, while one took the place of the other"
    [ $failed -eq 0 ] || journalctl -u usherd --no-pager -o cat | tail -n 40
    echo $failed >"$DIR/failed"
    systemctl reboot
    exec sleep infinity
fi

failed=$(cat "$DIR/failed")
check "usherd runs after a reboot" within 60 systemctl is-active usherd
check_all "usherd after a reboot"
check "what $OTHER left is purged" dpkg -P "$OTHER"
if [ "$OTHER" = xinetd ]; then
    check "usherd reloads" systemctl reload usherd
    check "  and serves still what was taken over" gets hello ask 7001
fi
check "usherd is purged" dpkg -P usherd
check "nobody listens any more" gets ConnectionRefusedError ask 7002
check "nothing of it is left" test -z "$(find /etc /run /usr /var/lib -xdev -name '*usherd*' \
    ! -path '/run/vmrun/*' ! -path '/var/lib/dpkg/*' ! -path '/run/systemd/*')"
exit "$failed"
