"""concurrent.futures: a pool of forked processes, one of spawned ones, and a pool of threads beside them."""
import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
from steps import *


def square(n):
    return n * n, os.getpid()


def main():
    n = 0
    spawn = multiprocessing.get_context("spawn")
    forked = concurrent.futures.ProcessPoolExecutor(2)
    forked.submit(square, 0).result()
    spawned = concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn)
    with forked, spawned, concurrent.futures.ThreadPoolExecutor(3) as threads:
        while not stopping():
            n += 1
            status = threads.submit(subprocess.call, ["sh", "-c", f"exit {n % 100}"])
            results = list(forked.map(square, range(10)))
            check([r for r, _ in results] == [i * i for i in range(10)], f"the forked pool at {n}")
            check(os.getpid() not in [pid for _, pid in results], "a worker is the parent")
            check(spawned.submit(pow, n, 2).result() == n * n, f"the spawned pool at {n}")
            check(status.result() == n % 100, f"status {n}")
            step("main", n)
    note("DONE")
    sys.exit(STATUS)


if __name__ == "__main__":
    main()
