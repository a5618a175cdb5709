# A background job, a coprocess and process substitution, all at once.
coproc DOUBLE { while read -r x; do echo $((x * 2)); done; }
(
  i=0
  while ! [ -e "$STEPS_STOP" ]; do
    i=$((i + 1))
    echo "p job $i" >> "$STEPS_LOG"
    sleep 0.02
  done
) &
job=$!
i=0
while ! [ -e "$STEPS_STOP" ]; do
  i=$((i + 1))
  echo $i >&"${DOUBLE[1]}"
  read -r twice <&"${DOUBLE[0]}"
  [ "$twice" = $((i * 2)) ] || { echo "FAIL $i doubled is '$twice'" >> "$STEPS_LOG"; exit 97; }
  [ "$(wc -l < <(seq $((i % 50))))" -eq $((i % 50)) ] || { echo "FAIL substitution $i" >> "$STEPS_LOG"; exit 97; }
  echo "p main $i" >> "$STEPS_LOG"
done
wait $job || { echo "FAIL job" >> "$STEPS_LOG"; exit 97; }
echo DONE >> "$STEPS_LOG"
exit 7
