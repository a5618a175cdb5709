"""One thread: a dictionary, a generator and an open file live on."""
import hashlib
import sys
import time
from steps import *


def numbers():
    n = 0
    while True:
        n += 1
        yield n


words, source, digest = {}, numbers(), hashlib.sha256()
log = open(sys.argv[0])
while not stopping():
    n = next(source)
    words[f"w{n}"] = [n] * 10
    digest.update(str(n).encode())
    step("main", n)
    time.sleep(0.01)
again = hashlib.sha256()
for i in range(1, n + 1):
    again.update(str(i).encode())
    check(words[f"w{i}"] == [i] * 10, f"word {i}")
check(again.digest() == digest.digest(), "digest")
check(log.readline().startswith('"""One thread'), "the file opened at the start")
note("DONE")
sys.exit(STATUS)
