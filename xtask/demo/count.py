"""Two threads that count, one line for each number, until a stop file appears: count.py STOP."""
import os
import sys
import threading
import time


def count(name):
    n = 0
    while not os.path.exists(sys.argv[1]):
        n += 1
        os.write(1, f"{name} {n}\n".encode())
        time.sleep(0.01)


threads = [threading.Thread(target=count, args=(name,)) for name in ("alice", "bob")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(7)
