# Vectors, a closure and a matrix; each step opens the log anew.
log <- Sys.getenv("STEPS_LOG")
note <- function(text) cat(text, "\n", file = log, sep = "", append = TRUE)
counter <- local({ n <- 0; function() { n <<- n + 1; n } })
seen <- numeric(0)
m <- matrix(1:10000 %% 7, 100)
want <- m %*% m
while (!file.exists(Sys.getenv("STEPS_STOP"))) {
  n <- counter()
  seen[n] <- n * n
  if (!identical(m %*% m, want)) { note("FAIL product"); quit(status = 97) }
  note(paste("p main", n))
  Sys.sleep(0.01)
}
note(if (sum(seen) == sum((1:n)^2)) "DONE" else "FAIL sum")
quit(status = 7)
