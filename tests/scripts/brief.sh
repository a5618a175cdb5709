# Short processes in every way that a shell has, as many as it can, by two shells at once.
fail() { echo "FAIL $1" >> "$STEPS_LOG"; exit 97; }
swarm() {
  i=0
  while ! [ -e "$STEPS_STOP" ]; do
    i=$((i + 1))
    /bin/true || fail "true: $?"
    [ "$(echo "$i")" = "$i" ] || fail "substitution $i"
    (exit $((i % 7)))
    [ $? -eq $((i % 7)) ] || fail "subshell $i"
    /bin/true & /bin/false & /bin/sh -c 'exit 3' &
    wait $!
    [ $? -eq 3 ] || fail "background $i"
    wait
    echo "$i" | /bin/cat | { read -r n; [ "$n" -eq $i ]; } || fail "pipe $i"
    echo "p $1 $i" >> "$STEPS_LOG"
  done
}
swarm second &
(swarm first) || exit 97
wait $! || fail "the second shell: $?"
echo DONE >> "$STEPS_LOG"
exit 7
