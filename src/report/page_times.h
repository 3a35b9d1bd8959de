/*
 * page_times.h - the times of calls in order: quantiles and histograms of the
 * groups or functions of a run.
 */
#ifndef FZ_PAGE_TIMES_H
#define FZ_PAGE_TIMES_H

#include <stddef.h>
#include <stdint.h>

struct fz_sums;

enum { FZ_TIMES_BINS = 41 };

/* The time `took`, in microseconds, of each of `n` calls. */
struct fz_time {
	uint32_t key; /* number of a group or a function */
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

/* Collect the times of all calls by group. 0, or -1: there is no memory. */
int fz_times_of_groups(struct fz_times *times, const struct fz_sums *sums);

/*
 * Collect the times of calls by function. A function is omitted if the table
 * does not show it, or if it has only one record. 0, or -1: there is no memory.
 */
int fz_times_of_functions(struct fz_times *times, const struct fz_sums *sums);
void fz_times_fini(struct fz_times *times);

/*
 * The maximum time of the fastest `percent` % of the calls with this key; 0 if
 * there are none.
 */
uint64_t fz_times_quantile(
    const struct fz_times *times, uint32_t key, unsigned percent);

/*
 * Count the calls with this key by time. Bin `i` begins at 2^i microseconds;
 * bin 0 begins at 0. `*first` becomes the first bin that is not empty, `*end`
 * the bin after the last such bin; both are 0 if there are no calls.
 */
void fz_times_bins(const struct fz_times *times, uint32_t key,
    uint64_t counts[FZ_TIMES_BINS], unsigned *first, unsigned *end);

#endif
