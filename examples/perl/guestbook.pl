#!/usr/bin/perl -T
# Prints what others left, then keeps one line of the visitor.
use strict;
use warnings;
use Fcntl qw(:flock);

$| = 1;
my $book = "/var/lib/guestbook/lines";
if (open my $old, "<", $book) {
    flock $old, LOCK_SH or die "lock: $!\n";
    print while <$old>;
    close $old;
}
print "your line: ";
my $line = <STDIN>;
exit unless defined $line;
$line =~ s/[^ -~]//g;    # printable ASCII and nothing else
open my $new, ">>", $book or die "$book: $!\n";    # stderr is usherd's log
flock $new, LOCK_EX or die "lock: $!\n";
printf $new "%s: %.200s\n", $ENV{REMOTE_ADDR}, $line;
print "thank you\n";
