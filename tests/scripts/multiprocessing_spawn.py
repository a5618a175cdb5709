"""Workers that are spawned as new interpreters, with a semaphore tracker beside them, and a manager."""
import multiprocessing
import sys
from steps import *


def serve(questions, answers, lock, count):
    for n in iter(questions.get, None):
        with lock:
            count.value += 1
        answers.put((n, n * n))


def main():
    spawn = multiprocessing.get_context("spawn")
    questions, answers = spawn.Queue(), spawn.Queue()
    lock, count = spawn.Lock(), spawn.Value("l", 0, lock=False)
    servers = [spawn.Process(target=serve, args=(questions, answers, lock, count)) for _ in range(2)]
    for server in servers:
        server.start()
    n = 0
    while not stopping():
        for _ in range(20):
            n += 1
            questions.put(n)
        seen = sorted(answers.get() for _ in range(20))
        check(seen == [(i, i * i) for i in range(n - 19, n + 1)], f"answers at {n}: {seen}")
        step("main", n // 20)
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
