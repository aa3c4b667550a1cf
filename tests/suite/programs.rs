//! Small servers for the tests, in what every Debian host has: sh and perl.
//! (Perl opens descriptor 0 for reading only and will not send on it; 1 is the same socket.)

/// Answers one datagram and ends.
pub const DATAGRAM_ONCE: &str = r#"#!/usr/bin/perl
my $peer = recv(STDIN, my $bytes, 65536, 0);
send(STDOUT, "$bytes from $$", 0, $peer);
"#;

/// Answers datagrams until none comes for a while.
pub const DATAGRAM_LOOP: &str = r#"#!/usr/bin/perl
while (1) {
    my $set = ''; vec($set, 0, 1) = 1;
    last unless select($set, undef, undef, 3);
    my $peer = recv(STDIN, my $bytes, 65536, 0);
    send(STDOUT, "$bytes from $$", 0, $peer);
}
"#;

/// Accepts connections from the listener on descriptor 0 until none comes for a while.
pub const ACCEPT_LOOP: &str = r#"#!/usr/bin/perl
use Socket;
while (1) {
    my $set = ''; vec($set, 0, 1) = 1;
    last unless select($set, undef, undef, 3);
    accept(my $peer, STDIN) or die "accept: $!";
    my $line = <$peer>;
    syswrite($peer, "$$ $line");
    close $peer;
}
"#;

/// Speaks the LISTEN_FDS protocol: accepts from descriptor 3.
pub const LISTEN_FDS: &str = r#"#!/usr/bin/perl
use Socket;
die "not for me" unless $ENV{LISTEN_PID} == $$ and $ENV{LISTEN_FDS} >= 1;
open(my $listener, '+<&=', 3) or die "descriptor 3: $!";
while (1) {
    my $set = ''; vec($set, 3, 1) = 1;
    last unless select($set, undef, undef, 3);
    accept(my $peer, $listener) or die "accept: $!";
    my $line = <$peer>;
    syswrite($peer, "$ENV{LISTEN_FDS} [$ENV{LISTEN_FDNAMES}] $line");
    close $peer;
}
"#;

/// LISTEN_FDS with a connection on descriptor 3.
pub const CONNECTION_ON_3: &str = r#"#!/usr/bin/perl
die "not for me" unless $ENV{LISTEN_PID} == $$ and $ENV{LISTEN_FDS} == 1;
open(my $peer, '+<&=', 3) or die "descriptor 3: $!";
my $line = <$peer>;
my $null = readlink("/proc/self/fd/0");
syswrite($peer, "stdin $null, peer said $line");
"#;
