"""Two threads that count into one log until a stop file appears: count.py LOG STOP."""
import os
import sys
import threading
import time

log, stop = sys.argv[1:]


def count(name):
    n = 0
    while not os.path.exists(stop):
        n += 1
        with open(log, "a") as f:
            f.write(f"{name} {n}\n")
        time.sleep(0.01)


threads = [threading.Thread(target=count, args=(name,)) for name in ("alice", "bob")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(7)
