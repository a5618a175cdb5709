# Several processes at a time, a new set for each step.
i=0
while ! [ -e "$STEPS_STOP" ]; do
  i=$((i + 1))
  words=$(seq 20 | xargs -P 3 -n 2 echo | wc -w)
  [ "$words" -eq 20 ] || { echo "FAIL $words words" >> "$STEPS_LOG"; exit 97; }
  echo "p main $i" >> "$STEPS_LOG"
done
echo DONE >> "$STEPS_LOG"
exit 7
