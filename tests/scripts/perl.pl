# The log stays open and unbuffered; a hash and a closure live on.
use strict;
use warnings;
use IO::Handle;
open(my $log, '>', $ENV{STEPS_LOG}) or die;
$log->autoflush(1);
my ($n, %seen) = (0);
my $next = sub { return ++$n };
while (!-e $ENV{STEPS_STOP}) {
    my $k = $next->();
    $seen{$k} = join ',', 1 .. ($k % 50);
    print $log "p main $k\n";
    select(undef, undef, undef, 0.01);
}
for my $k (1 .. $n) {
    next if $seen{$k} eq join ',', 1 .. ($k % 50);
    print $log "FAIL entry $k\n";
    exit 97;
}
print $log "DONE\n";
exit 7;
