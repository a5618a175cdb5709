<?php
// An array and a kept-open file.
$log = fopen(getenv('STEPS_LOG'), 'a');
$n = 0;
$sums = [0];
while (true) {
    clearstatcache();
    if (file_exists(getenv('STEPS_STOP'))) break;
    $n++;
    $sums[$n] = $sums[$n - 1] + $n;
    fwrite($log, "p main $n\n");
    usleep(10000);
}
fwrite($log, $sums[$n] === intdiv($n * ($n + 1), 2) ? "DONE\n" : "FAIL sum\n");
exit(7);
