"""asyncio: tasks that sleep, a queue between them, a pool of threads that call back, a generator."""
import asyncio
import concurrent.futures
import os

from steps import STATUS, check, note, step, stopping


async def produce(queue):
    n = 0
    while not stopping():
        n += 1
        await queue.put((n, [n] * 100))
        await asyncio.sleep(0.01)
    await queue.put(None)
    return n


async def consume(queue):
    n = 0
    while (item := await queue.get()) is not None:
        n += 1
        check(item == (n, [n] * 100), f"item {n}")
        step("queue", n)
    return n


async def pooled(loop, pool):
    n = 0
    while not stopping():
        n += 1
        check(await loop.run_in_executor(pool, pow, n, 2) == n * n, f"square of {n}")
        step("pool", n)
        await asyncio.sleep(0.01)


async def main():
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue(2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made, seen, _ = await asyncio.gather(produce(queue), consume(queue), pooled(loop, pool))
    check(made == seen, "items were lost")
    note("DONE")


asyncio.run(main())
os._exit(STATUS)
