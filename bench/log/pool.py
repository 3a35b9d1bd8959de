"""The same as fold.lua by a pool of two: python3 pool.py LOG BYTES"""
import collections
import multiprocessing
import re
import sys

REQUEST = re.compile(rb'" (\d+) (\d+)\n')


def pieces(path):
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            yield piece + file.readline()


def count(piece):
    sums = collections.Counter()
    for status, size in REQUEST.findall(piece):
        sums[status] += 1
        sums["bytes"] += int(size)
    return sums


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    total = collections.Counter()
    with multiprocessing.Pool(2) as pool:
        for sums in pool.imap_unordered(count, pieces(sys.argv[1])):
            total.update(sums)
    sys.exit(total["bytes"] != int(sys.argv[2]))
