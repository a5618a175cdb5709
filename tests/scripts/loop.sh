# A shell that starts another program for each step.
i=0
while ! [ -e "$STEPS_STOP" ]; do
  i=$((i + 1))
  echo "p sh $i" >> "$STEPS_LOG"
  /bin/sleep 0.01 || { echo "FAIL sleep: $?" >> "$STEPS_LOG"; exit 97; }
done
echo DONE >> "$STEPS_LOG"
exit 7
