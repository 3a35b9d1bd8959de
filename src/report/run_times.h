/*
 * run_times.h - the times of calls in order: quantiles and histograms of the
 * groups or functions of a run.
 */
#ifndef FZ_RUN_TIMES_H
#define FZ_RUN_TIMES_H

#include <stddef.h>
#include <stdint.h>

struct fz_sums;

enum { FZ_TIMES_BINS = 41 };

/* `n` calls, each of which took `took`. */
struct fz_time {
	uint32_t key; /* number of the group or function */
	uint32_t n;
	uint64_t took;
};

struct fz_times {
	struct fz_time *list; /* sorted by keys, then by times */
	size_t n;
};

/*
 * Sort a list by times; equal elements keep their order. 0, or -1: there is no
 * memory.
 */
int fz_times_sort(struct fz_time *list, size_t n);

/* All calls, by group. 0, or -1: there is no memory. */
int fz_times_of_groups(struct fz_times *times, const struct fz_sums *sums);

/*
 * All calls, by function, for those functions in the table that have several
 * records. 0, or -1: there is no memory.
 */
int fz_times_of_functions(struct fz_times *times, const struct fz_sums *sums);
void fz_times_fini(struct fz_times *times);

/*
 * The time that `percent` % of the calls with this key have taken at most; 0 if
 * there are none.
 */
uint64_t fz_times_quantile(
    const struct fz_times *times, uint32_t key, unsigned percent);

/*
 * Count calls by time: bin `i` begins at 2^i microseconds, the first one at 0.
 * Sets the first bin with calls, and the bin after the last one with calls;
 * both are 0 if there are no calls.
 */
void fz_times_bins(const struct fz_times *times, uint32_t key,
    uint64_t counts[FZ_TIMES_BINS], unsigned *first, unsigned *end);

#endif
