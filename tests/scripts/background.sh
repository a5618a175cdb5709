# Background jobs with traps of their own, and a wait that a trap interrupts; for bash and for dash.
fail() { echo "FAIL $1" >> "$STEPS_LOG"; exit 97; }
(
  n=0
  trap 'echo "told $n" >> "$STEPS_LOG"; exit 9' TERM
  while :; do
    n=$((n + 1))
    echo "p job $n" >> "$STEPS_LOG"
    sleep 0.02
  done
) &
job=$!
got=0
trap 'got=$((got + 1))' USR1
i=0
while ! [ -e "$STEPS_STOP" ]; do
  i=$((i + 1))
  (kill -USR1 $$; sleep 0.02; exit $((i % 90))) &
  child=$!
  wait $child
  status=$?
  while [ $status -gt 128 ]; do wait $child; status=$?; done
  [ $status -eq $((i % 90)) ] || fail "status $status of job $i"
  [ $got -eq $i ] || fail "$got traps ran for $i signals"
  kill -0 $job || fail "the job is gone"
  echo "p main $i" >> "$STEPS_LOG"
done
kill -TERM $job
wait $job
status=$?
[ $status -eq 9 ] || fail "status $status of the job that was told to end"
echo DONE >> "$STEPS_LOG"
exit 7
