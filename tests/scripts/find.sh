# find runs a program for each file, and one for all of them.
fail() { echo "FAIL $1" >> "$STEPS_LOG"; exit 97; }
for name in $(seq 12); do mkdir -p "$STEPS_DIR/tree/$name" && echo "$name" > "$STEPS_DIR/tree/$name/file"; done
i=0
while ! [ -e "$STEPS_STOP" ]; do
  i=$((i + 1))
  each=$(find "$STEPS_DIR/tree" -type f -exec sh -c 'read -r n < "$1"; echo $((n * 2))' sh {} \; | sort -n | tr '\n' ' ')
  [ "$each" = "$(seq 2 2 24 | tr '\n' ' ')" ] || fail "one by one: $each"
  all=$(find "$STEPS_DIR/tree" -type f -exec cat {} + | wc -l)
  [ "$all" -eq 12 ] || fail "all at once: $all"
  echo "p main $i" >> "$STEPS_LOG"
done
echo DONE >> "$STEPS_LOG"
exit 7
