# Pseudo-random bytes through two filters of a compressor and a copy; their number and digest are compared at the end.
fail() { echo "FAIL $1" >> "$STEPS_LOG"; exit 97; }
perl -MDigest::SHA -e '
  my ($state, $sent, $digest) = (1, 0, Digest::SHA->new(256));
  until (-e $ENV{STEPS_STOP}) {
    my $block = "";
    for (1 .. 1 + $state % 700) {
      $state = ($state * 1103515245 + 12345) & 0x7fffffff;
      $block .= pack("L", $state);
    }
    $digest->add($block);
    for (my $at = 0; $at < length $block;) { $at += syswrite(STDOUT, $block, length($block) - $at, $at) // die $! }
    $sent += length $block;
  }
  open my $file, ">", "$ENV{STEPS_DIR}/sent" or die;
  print $file "$sent ", $digest->hexdigest, "\n";
' | gzip -1 | cat | gzip -dc | perl -MDigest::SHA -e '
  my ($seen, $step, $digest) = (0, 0, Digest::SHA->new(256));
  while (my $count = sysread(STDIN, my $block, 5000)) {
    $digest->add($block);
    $seen += $count;
    while ($seen >= ($step + 1) << 18) {
      $step++;
      open my $log, ">>", $ENV{STEPS_LOG} or die;
      print $log "p stream $step\n";
    }
  }
  open my $file, ">", "$ENV{STEPS_DIR}/seen" or die;
  print $file "$seen ", $digest->hexdigest, "\n";
'
[ "${PIPESTATUS[*]}" = "0 0 0 0 0" ] || fail "statuses ${PIPESTATUS[*]}"
cmp "$STEPS_DIR/sent" "$STEPS_DIR/seen" || fail "sent and seen differ"
echo DONE >> "$STEPS_LOG"
exit 7
