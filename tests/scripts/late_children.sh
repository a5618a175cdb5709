# A shell that starts other programs only once there is a file `go` in its directory.
i=0
while ! [ -e "$STEPS_STOP" ]; do
  i=$((i + 1))
  if [ -e "$STEPS_DIR/go" ]; then
    /bin/sleep 0.2 || { echo "FAIL sleep: $?" >> "$STEPS_LOG"; exit 97; }
  fi
  echo "p sh $i" >> "$STEPS_LOG"
done
echo DONE >> "$STEPS_LOG"
exit 7
