# Connects to port 1214 as a collector, or as something worse, would. One JSON line says what came of it.
#
#   peer.pl COUNT WINDOW MODE
#
# COUNT connections, of which WINDOW are open at a time (the oldest is awaited, to its end, when there are more).
# MODE: notify   the notifier's 15 bytes
#       empty    nothing, closed at once
#       junk     1,000 random bytes
#       huge     as much as the other side takes, up to 64 MiB
#       slow     a byte each 100 ms, on all connections side by side, until the other side has had enough
#       silent   nothing, kept open until the other side has had enough
#       reset    a notification, then a reset
use strict;
use warnings;
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);
use Errno;

my ($count, $window, $mode) = @ARGV;
my %said = (connected => 0, refused => 0, received_bytes => 0, sent_bytes => 0, unanswered => 0);
my @open;
$SIG{PIPE} = 'IGNORE';

sub send_bytes {
    my ($peer, $bytes) = @_;
    my $sent = syswrite $peer, $bytes;
    $said{sent_bytes} += $sent if defined $sent;
    return defined $sent;
}

# Reads to the end: nothing must ever come, and the end must, within two minutes: a thousand processes take their time on a
# small machine that has other tests to run.
sub await_end {
    my ($peer) = @_;
    for (;;) {
        my $readable = '';
        vec($readable, fileno $peer, 1) = 1;
        if (!select($readable, undef, undef, 120)) {
            $said{unanswered}++;
            last;
        }
        my $length = sysread $peer, my $bytes, 65536;
        last if !$length;    # end or reset
        $said{received_bytes} += $length;
    }
    close $peer;
}

for (1 .. $count) {
    socket my $peer, PF_INET, SOCK_STREAM, IPPROTO_TCP or die "socket: $!";
    if (!connect $peer, pack_sockaddr_in(1214, INADDR_LOOPBACK)) {
        $said{refused}++;
        next;
    }
    $said{connected}++;
    if ($mode eq 'notify') {
        send_bytes($peer, 'dequeue_actions');
    } elsif ($mode eq 'junk') {
        send_bytes($peer, join '', map { chr int rand 256 } 1 .. 1000);
    } elsif ($mode eq 'huge') {
        my $block = "\xff" x 65536;
        for (1 .. 1024) { last if !send_bytes($peer, $block) }
    } elsif ($mode eq 'reset') {
        send_bytes($peer, 'dequeue_actions');
        setsockopt $peer, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        close $peer;
        next;
    }
    shutdown $peer, 1 if $mode ne 'silent' && $mode ne 'slow';
    push @open, $peer;
    await_end(shift @open) while @open > $window;
}
if ($mode eq 'slow') {
    my @talking = @open;
    for (1 .. 300) {
        @talking = grep { send_bytes($_, 'd') } @talking or last;
        select undef, undef, undef, 0.1;
    }
}
await_end($_) for @open;
print '{', join(',', map { qq("$_":$said{$_}) } sort keys %said), "}\n";
