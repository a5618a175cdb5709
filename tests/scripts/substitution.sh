# Process substitution, both ways, nested, with a file for each step.
fail() { echo "FAIL $1" >> "$STEPS_LOG"; exit 97; }
i=0
while ! [ -e "$STEPS_STOP" ]; do
  i=$((i + 1)) sum=$STEPS_DIR/sum.$((i + 1))
  diff <(seq $i $((i + 99))) <(cat <(seq $i $((i + 99)))) || fail "two equal streams differ at $i"
  lines=$(seq $i | tee >(cksum > "$sum") | wc -l)
  wait
  until [ -s "$sum" ]; do sleep 0.01; done
  [ "$lines" -eq $i ] || fail "$lines lines, not $i"
  [ "$(cat "$sum")" = "$(seq $i | cksum)" ] || fail "checksum at $i"
  echo "p main $i" >> "$STEPS_LOG"
done
echo DONE >> "$STEPS_LOG"
exit 7
