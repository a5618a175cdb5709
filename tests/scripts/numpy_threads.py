"""Matrix products on OpenBLAS threads, while Python threads take steps."""
import sys
import threading
import time
import numpy
from steps import *

SIZE = 200
a = numpy.arange(SIZE * SIZE, dtype=numpy.float64).reshape(SIZE, SIZE) % 17
want = a @ a


def worker(me):
    n = 0
    while not stopping():
        check((a @ a == want).all(), "a product differs")
        n += 1
        step(f"t{me}", n)
        time.sleep(0.01)


threads = [threading.Thread(target=worker, args=(i,)) for i in range(2)]
for t in threads:
    t.start()
for t in threads:
    t.join()
note("DONE")
sys.exit(STATUS)
