# A server that forks its workers beforehand: they take requests from one pipe, answer into another, and are replaced
# when they have served some.
use strict;
use warnings;

my ($served_at_most, $workers) = (7, 3);
sub note { open(my $log, '>>', $ENV{STEPS_LOG}) or die; print $log "$_[0]\n"; close $log }
sub fail { note("FAIL $_[0]"); exit 97 }

pipe(my $requests, my $ask) or fail("pipe: $!");
pipe(my $answers, my $answer) or fail("pipe: $!");

sub worker {
    close $ask;
    close $answers;
    for (1 .. $served_at_most) {
        my $got = sysread($requests, my $record, 8) // fail("read: $!");
        exit 0 if $got == 0;
        my $n = unpack('Q', $record);
        syswrite($answer, pack('QQ', $n, $n * $n)) == 16 or fail("write: $!");
    }
    exit 5;
}

sub start { my $pid = fork() // fail("fork: $!"); worker() if !$pid; return $pid }

my %alive = map { start() => 1 } 1 .. $workers;
my $n = 0;
until (-e $ENV{STEPS_STOP}) {
    $n++;
    my %open = map { $n * 10 + $_ => 1 } 1 .. 4;
    syswrite($ask, pack('Q', $_)) == 8 or fail("ask: $!") for keys %open;
    while (%open) {
        while ((my $ended = waitpid(-1, 1)) > 0) {
            fail("worker $ended ended with $?") if $? != 5 << 8 || !delete $alive{$ended};
            $alive{ start() } = 1;
        }
        my $bits = '';
        vec($bits, fileno($answers), 1) = 1;
        next if select($bits, undef, undef, 0.01) <= 0;
        sysread($answers, my $record, 16) == 16 or fail("answer: $!");
        my ($asked, $square) = unpack('QQ', $record);
        fail("answer for $asked is $square") if !delete $open{$asked} || $square != $asked * $asked;
    }
    note("p main $n");
}
close $ask;
close $requests;
while ((my $ended = waitpid(-1, 0)) > 0) { fail("worker $ended ended with $?") if $? != 0 && $? != 5 << 8 }
note('DONE');
exit 7;
