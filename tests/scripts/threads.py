"""Four threads with a queue, a lock, a condition and an event between them."""
import queue
import sys
import threading
import time
from steps import *

jobs, lock, finished, totals = queue.Queue(), threading.Lock(), threading.Event(), [0] * 4


def worker(me):
    n = 0
    while True:
        job = jobs.get()
        if job is None:
            return
        n += 1
        with lock:
            totals[me] += job
        step(f"t{me}", n)
        time.sleep(0.005)


threads = [threading.Thread(target=worker, args=(i,)) for i in range(4)]
for t in threads:
    t.start()
given = 0
while not stopping():
    for job in range(8):
        jobs.put(job)
        given += job
    jobs_left = jobs.qsize()
    finished.wait(0.02 + 0.005 * (jobs_left > 20))
for t in threads:
    jobs.put(None)
for t in threads:
    t.join()
check(sum(totals) == given, f"{sum(totals)} worked off of {given}")
note("DONE")
sys.exit(STATUS)
