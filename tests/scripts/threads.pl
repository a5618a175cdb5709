# Perl's interpreter threads with a shared counter and a queue.
use strict;
use warnings;
use threads;
use threads::shared;
use Thread::Queue;

my $lock :shared;
sub note {
    my $text = shift;
    lock($lock);
    open(my $log, '>>', $ENV{STEPS_LOG}) or die;
    print $log "$text\n";
    close($log);
}

my $queue = Thread::Queue->new();
my $sum :shared = 0;
my @workers = map {
    my $id = $_;
    threads->create(sub {
        my $n = 0;
        while (defined(my $item = $queue->dequeue())) {
            note("p t$id " . ++$n);
            lock($sum);
            $sum += $item;
        }
        return $n;
    });
} (0, 1);
my ($made, $want) = (0, 0);
until (-e $ENV{STEPS_STOP}) {
    $queue->enqueue(++$made);
    $want += $made;
    note("p main $made");
    select(undef, undef, undef, 0.01);
}
$queue->end();
my $done = 0;
$done += $_->join() for @workers;
note($done == $made && $sum == $want ? 'DONE' : "FAIL $done of $made items, sum $sum of $want");
exit 7;
