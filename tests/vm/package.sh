#!/bin/bash
# The package on a host that runs systemd: installed, upgraded, removed, purged
# and installed again, each time with what should be there and without what
# should not. For a machine of its own; run as root.
#
#   package.sh OLD.deb NEW.deb
#
# NEW is OLD with a higher version. Needs python3. Prints a line for each thing
# proved and ends with 1 if any was not.
set -u
OLD=$1 NEW=$2
DIR=$(mktemp -d /srv/package.XXXXXX)
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
# Everything that has its name, but for what the machine and this script brought.
leftovers() {
    find /etc /run /usr /var /lib -xdev -name '*usherd*' ! -path '/var/lib/dpkg/*' ! -path '/run/vmrun/*' \
        ! -path '/var/log/journal/*' ! -path '/var/cache/apparmor/*' -print 2>/dev/null
}
answers() { # PORT TEXT
    local got
    got=$(python3 -c '
import socket, sys
try:
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60)
    s.sendall(b"hello\n")
    s.shutdown(socket.SHUT_WR)
    print(b"".join(iter(lambda: s.recv(4096), b"")).decode(), end="")
except OSError as err:
    print(err)' "$1")
    [ "$got" = "$2" ] || { echo "got \"$got\""; return 1; }
}
exposure() { systemd-analyze security --no-pager usherd 2>/dev/null | sed -n 's/.*Overall exposure level.*: \([0-9.]*\).*/\1/p'; }
every_preset_serves() {
    for port in 7010 7011 7012; do
        within 60 answers $port hello || { echo "port $port"; return 1; }
    done
}
serves() { within 60 answers 7007 hello; }
front() { pgrep -x -f 'usherd-front --front.*'; }
front_is_confined() { [ "$(cat "/proc/$(front)/attr/apparmor/current")" = "usherd-front (enforce)" ]; }
status_of() { [ "$(dpkg-query -W -f '${db:Status-Status}' usherd 2>/dev/null)" = "$1" ]; }
main_pid() { systemctl show -p MainPID --value usherd; }

TABLE='[service.hello]
listen = "tcp:127.0.0.1:7007"
exec = ["/bin/cat"]
user = "nobody"'

# --- first installation ---------------------------------------------------------
check "is installed" dpkg -i "$OLD"
check "runs at once" systemctl is-active usherd
check "will run after the next boot" systemctl is-enabled usherd
check "has an account for the front" getent passwd usherd
check "the front runs as that account" test "$(ps -o user= -p "$(front)")" = usherd
if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] && command -v apparmor_parser >/dev/null; then
    check "the front is in its AppArmor profile, which is in force" front_is_confined
else
    say skipped "the AppArmor profile: needs apparmor"
fi
check "serves nobody until it is told to" test -z "$(ss -Hltnup | grep usherd)"
check "its table has no complaint" usherd check
check "usherctl finds it" usherctl status
check "logs to the journal" within 30 sh -c 'journalctl -u usherd -o cat --no-pager | grep -q "ready: "'
check "the units have no complaint" systemd-analyze verify --man=no usherd.service usherd-inetd.path

# --- in use ---------------------------------------------------------------------
echo "$TABLE" >/etc/usherd/services.d/hello.toml
echo "# Mine." >>/etc/usherd/usherd.toml
check "takes a new service" systemctl reload usherd
check "serves it" serves
check "an old line for inetd is served without a word to usherd" sh -c '
    echo "127.0.0.1:7009 stream tcp nowait nobody /bin/cat cat" >>/etc/inetd.conf'
check "  within a minute" within 60 answers 7009 hello

check "a ready table of the package can be switched on" usherctl enable cat-echo
check "  and serves" within 60 answers 7 hello
check "  by a file below /etc" test -d /etc/usherd/services.d/cat-echo.toml.d
rm -r /etc/usherd/services.d/cat-echo.toml.d
check "  and off again" systemctl reload usherd

# --- the unit -------------------------------------------------------------------
port=7010
for preset in none standard strict; do
    printf '[service.%s]\nlisten = "tcp:127.0.0.1:%d"\nexec = ["/bin/cat"]\nisolation = "%s"\n' $preset $port $preset
    port=$((port + 1))
done >/etc/usherd/services.d/presets.toml
check "takes a service of each preset" systemctl reload usherd
check "  and serves it" every_preset_serves
before=$(exposure)
mkdir -p /etc/systemd/system/usherd.service.d
# From the package itself: a small machine may be without /usr/share/doc.
dpkg-deb --fsys-tarfile "$OLD" | tar -xO ./usr/share/doc/usherd/examples/no-logins.conf \
    >/etc/systemd/system/usherd.service.d/no-logins.conf
systemctl daemon-reload
check "runs with what no-logins.conf takes" systemctl restart usherd
check "  and serves each preset" every_preset_serves
check "  the helper cannot load a module" sh -c "! grep -q '^CapEff:.*ffffffffff' /proc/$(main_pid)/status"
echo "       systemd-analyze security: $before, with no-logins.conf $(exposure)"
rm -r /etc/systemd/system/usherd.service.d /etc/usherd/services.d/presets.toml
systemctl daemon-reload
systemctl restart usherd

# --- without systemd ------------------------------------------------------------
# The script that a host with another init runs, asked not to hand over to systemctl.
initscript() { SYSTEMCTL_SKIP_REDIRECT=1 /etc/init.d/usherd "$@"; }
systemctl stop usherd
check "the init script says that usherd does not run" sh -c 'SYSTEMCTL_SKIP_REDIRECT=1 /etc/init.d/usherd status; [ $? -eq 3 ]'
check "  starts it, and it serves when that is done" initscript start
check "    " answers 7007 hello
check "  starts it once" initscript start
check "  says that it runs" initscript status
echo "nonsense = 1" >>/etc/usherd/services.d/hello.toml
check "  refuses a wrong table" not initscript reload
check "  does not restart with one" not initscript restart
check "    " answers 7007 hello
sed -i '$d' /etc/usherd/services.d/hello.toml
check "  reloads" initscript reload
echo "127.0.0.1:7008 stream tcp nowait nobody /bin/cat cat" >>/etc/inetd.conf
check "  hears of update-inetd" env SYSTEMCTL_SKIP_REDIRECT=1 /etc/init.d/usherd-inetd force-reload
check "    " within 10 answers 7008 hello
check "  restarts" initscript restart
check "    " answers 7007 hello
check "  stops it" initscript stop
check "    " not pgrep -x usherd
check "systemd starts it again" systemctl start usherd
check "  " serves

# --- upgrade --------------------------------------------------------------------
# A client in the middle of a talk, and one that comes again and again.
exec 3<>/dev/tcp/127.0.0.1/7007
python3 -c '
import socket, time
while True:
    try:
        s = socket.create_connection(("127.0.0.1", 7007), timeout=60)
        s.sendall(b"x")
        word = "served" if s.recv(1) == b"x" else "closed"
        s.close()
    except OSError as err:
        word = type(err).__name__
    print(word, flush=True)
    time.sleep(0.02)' >"$DIR/clients" &
clients=$!
within 60 test -s "$DIR/clients"
pid=$(main_pid)
check "is upgraded" dpkg -i --force-confold "$NEW"
check "runs after the upgrade" systemctl is-active usherd
check "  with the new program" sh -c "! readlink /proc/$(main_pid)/exe | grep -q deleted"
echo still here >&3
check "a talk outlasts the upgrade" bash -c 'IFS= read -r -t 60 line <&3 && [ "$line" = "still here" ]'
exec 3>&-
check "serves after the upgrade" serves
kill $clients
echo "       clients meanwhile: $(sort "$DIR/clients" | uniq -c | tr -s ' \n' ' ')"
check "no client was turned away meanwhile" not grep -qv served "$DIR/clients"
check "a changed table is kept" grep -q '^# Mine' /etc/usherd/usherd.toml
check "the same version once more" dpkg -i "$NEW"
check "  serves" serves

# --- removal and return ---------------------------------------------------------
check "is removed" dpkg -r usherd
check "does not run" not pgrep -x usherd
check "  nor its front" not front
check "nobody listens any more" test -z "$(ss -Hltn 'sport = :7007')"
check "the table stays" test -s /etc/usherd/services.d/hello.toml -a -s /etc/usherd/usherd.toml
check "systemd has forgotten it" test "$(systemctl show -p LoadState --value usherd)" = not-found
check "is installed again" dpkg -i "$NEW"
check "  and serves as before" serves
check "  with the changed table" grep -q '^# Mine' /etc/usherd/usherd.toml

# --- purge ----------------------------------------------------------------------
usherctl ban 192.0.2.1 --for 1h >/dev/null
check "is purged" dpkg -P usherd
check "does not run" not pgrep -x usherd
check "only what the administrator wrote is left" test "$(leftovers | sort | tr '\n' ' ')" = "/etc/usherd "
check "  that is, hello.toml" test "$(find /etc/usherd -type f)" = /etc/usherd/services.d/hello.toml
check "  and the account" getent passwd usherd
check "no unit is left behind" not grep -rq usherd /etc/systemd /var/lib/systemd/deb-systemd-helper-enabled
check "the profile is unloaded" not grep -q usherd /sys/kernel/security/apparmor/profiles
rm -r /etc/usherd /etc/inetd.conf

# --- a host that wants no daemon started -------------------------------------------
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
check "is installed where policy-rc.d says no" dpkg -i "$OLD"
check "  does not run there" not pgrep -x usherd
check "  nor after an upgrade" sh -c "dpkg -i '$NEW' && ! pgrep -x usherd"
rm /usr/sbin/policy-rc.d
check "  is purged" dpkg -P usherd
check "nothing is left" test -z "$(leftovers)"
check "no unit has failed" test -z "$(systemctl --failed --no-legend)"

rm -rf "$DIR"
exit $failed
