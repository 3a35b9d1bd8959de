"""The pool's rows by Python's multiprocessing: python3 python.py [ROW...].

Prints `row<TAB>median<TAB>unit`, nothing for a row it lacks; ../README.md says what each row is.
"""
import gc
import multiprocessing
import statistics
import sys
import time

JOBS = 10_000
PAIRS = 1_000_000
SQUARES = 100_000


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


ROWS = {
    "pool_start": lambda: measure("pool_start", "ms", 1e3, 9, first_result),
    "pool_apply": lambda: with_pool(apply),
    "pool_jobs": lambda: with_pool(jobs),
    "pool_batched": lambda: with_pool(batched),
    "map_squares": lambda: with_pool(squares),
    "map_starmap": lambda: with_pool(starmap),
    "pool_factor_once": lambda: with_pool(factor),
    "pool_memory": lambda: with_pool(memory),
}

if __name__ == "__main__":
    multiprocessing.set_start_method("fork")  # the fastest, and what fzlua does
    for name in sys.argv[1:] or ROWS:
        if name in ROWS:
            ROWS[name]()
