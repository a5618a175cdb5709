"""A filter that lives long, and programs that come and go."""
import subprocess
import sys
from steps import *

cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
n = 0
while not stopping():
    n += 1
    cat.stdin.write(f"{n}\n")
    check(cat.stdout.readline() == f"{n}\n", f"line {n}")
    check(subprocess.run(["sh", "-c", f"exit {n % 100}"]).returncode == n % 100, f"status {n}")
    check(subprocess.check_output(["echo", str(n)], text=True) == f"{n}\n", f"output {n}")
    step("main", n)
cat.stdin.close()
check(cat.wait() == 0, "status of the filter")
note("DONE")
sys.exit(STATUS)
