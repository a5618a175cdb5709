# A stream through two more processes, checked number by number at its end.
n=0
while ! [ -e "$STEPS_STOP" ]; do
  n=$((n + 1))
  echo "number $n"
done | cat | cat | {
  n=0
  while read -r word number; do
    n=$((n + 1))
    [ "$word $number" = "number $n" ] || { echo "FAIL number $n came as '$word $number'" >> "$STEPS_LOG"; exit 97; }
    [ $((n % 1000)) -ne 0 ] || echo "p stream $((n / 1000))" >> "$STEPS_LOG"
  done
  echo DONE >> "$STEPS_LOG"
}
exit 7
