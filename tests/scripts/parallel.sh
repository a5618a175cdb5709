# GNU parallel with several jobs at a time, in order and with their statuses.
fail() { echo "FAIL $1" >> "$STEPS_LOG"; exit 97; }
i=0
while ! [ -e "$STEPS_STOP" ]; do
  i=$((i + 1))
  squares=$(seq 8 | parallel --will-cite -k -j 3 'echo $(({} * {}))' | tr '\n' ' ')
  [ "$squares" = "1 4 9 16 25 36 49 64 " ] || fail "squares: $squares"
  parallel --will-cite -j 2 'exit {}' ::: 0 1 0 1 0
  status=$?
  [ $status -eq 2 ] || fail "two jobs failed, parallel says $status"
  echo "p main $i" >> "$STEPS_LOG"
done
echo DONE >> "$STEPS_LOG"
exit 7
