# A child for each step, with a pipe to it; its status and what it says are checked.
use strict;
use warnings;

sub note { open(my $log, '>>', $ENV{STEPS_LOG}) or die; print $log "$_[0]\n"; close $log }
sub fail { note("FAIL $_[0]"); exit 97 }

my $n = 0;
until (-e $ENV{STEPS_STOP}) {
    $n++;
    pipe(my $reader, my $writer) or fail("pipe: $!");
    my $child = fork() // fail("fork: $!");
    if (!$child) { close $reader; print $writer "child $n\n"; close $writer; exit($n % 50) }
    close $writer;
    my $line = <$reader> // '';
    fail("child $n said '$line'") if $line ne "child $n\n";
    fail("wait: $!") if waitpid($child, 0) != $child;
    fail("status of $n is $?") if $? != ($n % 50) << 8;
    note("p main $n");
}
note('DONE');
exit 7;
