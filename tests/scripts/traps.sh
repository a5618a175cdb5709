# Signals of children run traps, each once, or are ignored; for bash and for dash.
fail() { trap - EXIT; echo "FAIL $1" >> "$STEPS_LOG"; exit 97; }
got=0
trap 'got=$((got + 1))' USR1
trap 'fail "an ignored signal came"' USR2
trap '' USR2
trap 'echo DONE >> "$STEPS_LOG"' EXIT
i=0
while ! [ -e "$STEPS_STOP" ]; do
  i=$((i + 1))
  (trap - EXIT; kill -USR1 $$; kill -USR2 $$; exit $((i % 90)))
  status=$?
  [ $status -eq $((i % 90)) ] || fail "status $status of child $i"
  [ $got -eq $i ] || fail "$got traps ran for $i signals"
  echo "p main $i" >> "$STEPS_LOG"
done
exit 7
