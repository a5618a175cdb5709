# A coprocess that lives as long as the program, another one for each step, and a pipe from a command.
function fail(text) { print "FAIL " text >> ENVIRON["STEPS_LOG"]; exit 97 }
BEGIN {
  log_file = ENVIRON["STEPS_LOG"]
  kept = "sed -u 's/^/kept /'"
  while (system("test -e \"$STEPS_STOP\"") != 0) {
    n++
    print n |& kept
    kept |& getline line
    if (line != "kept " n) fail("the kept coprocess said '" line "'")
    brief = "sort -n"
    for (i = 5; i > 0; i--) print n + i |& brief
    close(brief, "to")
    for (i = 1; (brief |& getline line) > 0; i++) if (line != n + i) fail("sorted: '" line "'")
    if (i != 6 || close(brief) != 0) fail("the brief coprocess ended badly")
    "echo " n | getline line
    close("echo " n)
    if (line != n) fail("a command said '" line "'")
    print "p main " n >> log_file
    close(log_file)
  }
  close(kept, "to")
  if (close(kept) != 0) fail("the kept coprocess ended badly")
  print "DONE" >> log_file
  close(log_file)
  exit 7
}
