"""A pool of processes, a queue each way, and a lock that all of them share."""
import multiprocessing
import sys
from steps import *


def square(n):
    return n * n


def serve(questions, answers, lock, count):
    for n in iter(questions.get, None):
        with lock:
            count.value += 1
        answers.put((n, n * n))


def main():
    questions, answers = multiprocessing.Queue(), multiprocessing.Queue()
    lock, count = multiprocessing.Lock(), multiprocessing.Value("l", 0, lock=False)
    servers = [multiprocessing.Process(target=serve, args=(questions, answers, lock, count)) for _ in range(2)]
    for server in servers:
        server.start()
    n = 0
    with multiprocessing.Pool(2) as pool:
        while not stopping():
            n += 1
            check(pool.map(square, range(10)) == [i * i for i in range(10)], f"pool at {n}")
            questions.put(n)
            check(answers.get() == (n, n * n), f"answer {n}")
            step("main", n)
    for _ in servers:
        questions.put(None)
    for server in servers:
        server.join()
        check(server.exitcode == 0, "status of a server")
    check(count.value == n, f"{count.value} questions were counted, {n} were asked")
    note("DONE")
    sys.exit(STATUS)


if __name__ == "__main__":
    main()
