"""Rows by Python's multiprocessing: python3 python.py [ROW...].

Prints `row<TAB>median<TAB>unit`, nothing for a row it lacks; ../README.md says what each row is.
"""
import asyncio
import gc
import multiprocessing
import statistics
import sys
import time

JOBS = 10_000
PAIRS = 1_000_000
SQUARES = 100_000
ITEMS = 50_000
TRIPS = 1_000
CALLS = 50_000
BIG = 100_000_000
SWITCHES = 50_000
SLEEPERS = 10_000
WAITERS = 1_000


def echo(x):
    return x


def square(x):
    return x * x


def square_of_sum(x, y):
    return (x + y) ** 2


def numbers():
    """The shared hundred, from 10**10 to 10**12."""
    x = 7

    def below(n):
        nonlocal x
        x = (1664525 * x + 1013904223) % 2**32
        return x * n >> 32

    def number():
        high, low = below(2**31), below(2**31)
        return 10**10 + (high * 2**31 + low) % (10**12 - 10**10 + 1)

    return [number() for _ in range(100)]


def sum_of_factors(n):
    total, divisor = 0, 2
    while divisor * divisor <= n:
        while n % divisor == 0:
            total += divisor
            n //= divisor
        divisor += 1 if divisor == 2 else 2
    return total + (n if n > 1 else 0)


def first_result():
    with multiprocessing.Pool(2) as pool:
        pool.apply(echo, (1,))


def private_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what} is {got}, not {wanted}")


def measure(row, unit, per_second, samples, call):
    def sample():
        gc.collect()
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * per_second

    report(row, statistics.median(sample() for _ in range(samples)), unit)


def report(row, value, unit):
    print(f"{row}\t{value:.4g}\t{unit}", flush=True)


def with_pool(run):
    with multiprocessing.Pool(2) as pool:
        pool.map(echo, range(1000))
        run(pool)


def apply(pool):
    measure("pool_apply", "us", 1e6 / 500, 9,
            lambda: [pool.apply(echo, (i,)) for i in range(500)])


def jobs(pool):
    measure("pool_jobs", "us/job", 1e6 / JOBS, 5,
            lambda: pool.map(echo, range(JOBS), chunksize=1))


def batched(pool):
    measure("pool_batched", "us/job", 1e6 / JOBS, 9,
            lambda: pool.map(echo, range(JOBS), chunksize=100))


def squares(pool):
    measure("map_squares", "ms", 1e3, 9, lambda: pool.map(square, range(SQUARES)))


def starmap(pool):
    pairs = [(i, i + 1) for i in range(PAIRS)]
    measure("map_starmap", "ms", 1e3, 3, lambda: pool.starmap(square_of_sum, pairs))


def factor(pool):
    hundred = numbers()
    measure("pool_factor_once", "ms", 1e3, 5, lambda: expect(
        "sum of factors", sum(pool.map(sum_of_factors, hundred, chunksize=1)), 1461938895871))


def memory(pool):
    report("pool_memory", private_kib(multiprocessing.active_children()[0].pid), "KiB")


def detect(n):
    time.sleep(0.020)
    return n


def describe(n):
    time.sleep(0.010)  # the longer one of size and class
    return n


def join(n):
    time.sleep(0.001)
    return n


def chained(row, unit, per_second, n, stages):
    """Each stage is the imap of a pool over the imap of the pool before."""
    pools = [multiprocessing.Pool(workers) for workers, _ in stages]

    def run():
        results = range(n)
        for pool, (_, function) in zip(pools, stages):
            results = pool.imap(function, results)
        expect("sum", sum(results), n * (n - 1) // 2)

    run()
    measure(row, unit, per_second / n, 3, run)
    for pool in pools:
        pool.terminate()


def run_beside(count, target, *args):
    processes = [multiprocessing.Process(target=target, args=args) for _ in range(count)]
    for process in processes:
        process.start()
    return processes


def produce(go, items):
    go.wait()
    for i in range(ITEMS):
        items.put(i)


def queue():
    def sample():
        go, items = multiprocessing.Event(), multiprocessing.Queue()
        (process,) = run_beside(1, produce, go, items)
        started = time.perf_counter()
        go.set()
        expect("sum", sum(items.get() for _ in range(ITEMS)), ITEMS * (ITEMS - 1) // 2)
        taken = time.perf_counter() - started
        process.join()
        return taken * 1e6 / ITEMS

    report("queue", statistics.median(sample() for _ in range(5)), "us/item")


def answer(there, back):
    while (x := there.get()) is not None:
        back.put(x)


def queue_roundtrip():
    there, back = multiprocessing.Queue(), multiprocessing.Queue()
    (process,) = run_beside(1, answer, there, back)

    def trips():
        for i in range(TRIPS):
            there.put(i)
            back.get()

    measure("queue_roundtrip", "us", 1e6 / TRIPS, 7, trips)
    there.put(None)
    process.join()


def repeat(statement, **names):
    """A function of n that runs the statement so often."""
    exec(f"def loop(n):\n for i in range(n):\n  {statement}\n", names)
    return names["loop"]


def per_call(row, loop):
    measure(row, "ns", 1e9 / CALLS, 7, lambda: loop(CALLS))


ADD = "with v.get_lock(): v.value += 1"


def contended():
    v, gun = multiprocessing.Value("q", 0), multiprocessing.Barrier(3)
    loop = repeat(ADD, v=v)

    def work():
        gun.wait()
        loop(CALLS)
        gun.wait()

    def sample():
        processes = run_beside(2, work)
        gun.wait()
        started = time.perf_counter()
        gun.wait()
        taken = time.perf_counter() - started
        for process in processes:
            process.join()
        return taken * 1e9 / (2 * CALLS)

    report("value_add_contended", statistics.median(sample() for _ in range(3)), "ns")


def give(end):
    big = bytes(BIG)
    while end.recv():
        end.send(big)


def pipe():
    a, b = multiprocessing.Pipe()
    (process,) = run_beside(1, give, b)

    def fetch():
        a.send(True)
        expect("length", len(a.recv()), BIG)

    measure("pipe_100M", "ms", 1e3, 5, fetch)
    a.send(False)
    process.join()


def manager(row, statement):
    with multiprocessing.Manager() as server:
        loop = repeat(statement, d=server.dict(key=1))
        measure(row, "us", 1e6 / TRIPS, 7, lambda: loop(TRIPS))


async def switches():
    async def passes():
        for _ in range(SWITCHES):
            await asyncio.sleep(0)

    await asyncio.gather(passes(), passes())


async def futures():
    loop = asyncio.get_running_loop()
    pending = loop.create_future()

    async def setter():
        for i in range(SWITCHES):
            pending.set_result(i)
            await asyncio.sleep(0)

    async def waiter():
        nonlocal pending
        for _ in range(SWITCHES):
            await pending
            pending = loop.create_future()

    # A waiter is woken after one round of the loop: the setter is in step with it.
    await asyncio.gather(waiter(), setter())


async def sleepers():
    await asyncio.gather(*[asyncio.sleep(i % 10 / 1000) for i in range(SLEEPERS)])


async def waiters():
    future = asyncio.get_running_loop().create_future()

    async def wait():
        await future

    tasks = [asyncio.create_task(wait()) for _ in range(WAITERS)]
    await asyncio.sleep(0)
    future.set_result(1)
    await asyncio.gather(*tasks)


def tasks(row, count, make):
    measure(row, "us", 1e6 / count, 9, lambda: asyncio.run(make()))


ROWS = {
    "pool_start": lambda: measure("pool_start", "ms", 1e3, 9, first_result),
    "pool_apply": lambda: with_pool(apply),
    "pool_jobs": lambda: with_pool(jobs),
    "pool_batched": lambda: with_pool(batched),
    "map_squares": lambda: with_pool(squares),
    "map_starmap": lambda: with_pool(starmap),
    "pool_factor_once": lambda: with_pool(factor),
    "pool_memory": lambda: with_pool(memory),
    "stream_items": lambda: chained("stream_items", "us", 1e6, 5000, [(1, echo)] * 3),
    "stream_frames": lambda: chained(
        "stream_frames", "ms", 1e3, 200, [(4, detect), (4, describe), (1, join)]),
    "queue": queue,
    "queue_roundtrip": queue_roundtrip,
    "lock": lambda: per_call("lock", repeat("l.acquire(); l.release()", l=multiprocessing.Lock())),
    "value_add": lambda: per_call("value_add", repeat(ADD, v=multiprocessing.Value("q", 0))),
    "value_add_contended": contended,
    "array_read": lambda: per_call(
        "array_read", repeat("a[i & 1023]", a=multiprocessing.Array("d", 1024))),
    "array_write": lambda: per_call(
        "array_write", repeat("a[i & 1023] = i", a=multiprocessing.Array("d", 1024))),
    "pipe_100M": pipe,
    "task_switch": lambda: tasks("task_switch", 2 * SWITCHES, switches),
    "task_futures": lambda: tasks("task_futures", SWITCHES, futures),
    "task_sleeping": lambda: tasks("task_sleeping", SLEEPERS, sleepers),
    "task_waiters": lambda: tasks("task_waiters", WAITERS, waiters),
    "manager_get": lambda: manager("manager_get", "d['key']"),
    "manager_set": lambda: manager("manager_set", "d['key'] = i"),
}

if __name__ == "__main__":
    multiprocessing.set_start_method("fork")  # the fastest, and what fzlua does
    for name in sys.argv[1:] or ROWS:
        if name in ROWS:
            ROWS[name]()
