<?php
// Workers that read their requests from one fifo and answer into another; a filter through proc_open.
function note(string $text): void { file_put_contents(getenv('STEPS_LOG'), "$text\n", FILE_APPEND); }
function check(bool $condition, string $text): void {
    if (!$condition) {
        note("FAIL $text");
        posix_kill(posix_getpid(), SIGKILL);
    }
}

$names = [getenv('STEPS_DIR') . '/requests', getenv('STEPS_DIR') . '/answers'];
foreach ($names as $name) check(posix_mkfifo($name, 0600), "fifo $name");
// Open for reading and writing: nobody waits for the other end.
[$requests, $answers] = array_map(fn ($name) => fopen($name, 'r+'), $names);
foreach ([$requests, $answers] as $stream) stream_set_read_buffer($stream, 0);

function start($requests, $answers): int {
    $pid = pcntl_fork();
    check($pid >= 0, 'fork');
    if ($pid > 0) return $pid;
    for ($i = 0; $i < 9; $i++) {
        $n = unpack('q', fread($requests, 8))[1];
        if ($n == 0) break;
        fwrite($answers, pack('qq', $n, $n * $n));
    }
    exit(4);
}

$alive = [];
for ($i = 0; $i < 3; $i++) $alive[start($requests, $answers)] = true;
$filter = proc_open(['sed', '-u', 's/^/> /'], [['pipe', 'r'], ['pipe', 'w']], $ends);
check($filter !== false, 'proc_open');
$n = 0;
while (true) {
    clearstatcache();
    if (file_exists(getenv('STEPS_STOP'))) break;
    $n++;
    $open = [];
    for ($i = 1; $i <= 4; $i++) {
        $open[$n * 10 + $i] = true;
        fwrite($requests, pack('q', $n * 10 + $i));
    }
    while ($open) {
        while (($pid = pcntl_waitpid(-1, $status, WNOHANG)) > 0) {
            check(isset($alive[$pid]) && pcntl_wexitstatus($status) == 4, "status $status of $pid");
            unset($alive[$pid]);
            $alive[start($requests, $answers)] = true;
        }
        $ready = [$answers];
        $none = null;
        if (stream_select($ready, $none, $none, 0, 10000) < 1) continue;
        [, $asked, $square] = unpack('q2', fread($answers, 16));
        check(isset($open[$asked]) && $square == $asked * $asked, "answer $square for $asked");
        unset($open[$asked]);
    }
    fwrite($ends[0], "$n\n");
    check(fgets($ends[1]) === "> $n\n", "filter at $n");
    note("p main $n");
}
foreach ($alive as $pid => $_) fwrite($requests, pack('q', 0));
foreach ($alive as $pid => $_) check(pcntl_waitpid($pid, $status) == $pid && pcntl_wexitstatus($status) == 4, 'the end');
fclose($ends[0]);
check(proc_close($filter) === 0, 'end of the filter');
note('DONE');
exit(7);
