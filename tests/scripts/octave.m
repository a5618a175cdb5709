% A matrix product per step; each step opens the log anew.
function note(text)
  f = fopen(getenv("STEPS_LOG"), "a");
  fprintf(f, "%s\n", text);
  fclose(f);
end
m = mod(reshape(1:10000, 100, 100), 7);
want = m * m;
n = 0; seen = [];
while ! exist(getenv("STEPS_STOP"), "file")
  n++;
  seen(n) = n * n;
  if ! isequal(m * m, want)
    note("FAIL product"); exit(97);
  end
  note(sprintf("p main %d", n));
  pause(0.01);
end
if sum(seen) == sum((1:n) .^ 2) note("DONE"); else note("FAIL sum"); end
exit(7);
