#include "report/page_times.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "report/page_sums.h"

/* A radix sort, because qsort would take longer than the rest of the page. */
enum { DIGIT_BITS = 11, NDIGITS = 1 << DIGIT_BITS };

/* The digit of an element at bit `shift`, of its key or of its time. */
static size_t
digit_of(const struct fz_time *time, unsigned shift, bool by_key)
{
	uint64_t v = by_key ? time->key : time->took;

	return v >> shift & (NDIGITS - 1);
}

/* Sort the elements of `from` by one digit into `to`. */
static void
sort_digit(const struct fz_time *from, struct fz_time *to, size_t n,
    unsigned shift, bool by_key)
{
	size_t starts[NDIGITS] = { 0 }, at = 0;

	for (size_t i = 0; i < n; i++)
		starts[digit_of(&from[i], shift, by_key)]++;
	for (size_t i = 0; i < NDIGITS; i++) {
		size_t count = starts[i];

		starts[i] = at;
		at += count;
	}
	for (size_t i = 0; i < n; i++)
		to[starts[digit_of(&from[i], shift, by_key)]++] = from[i];
}

/* Sort a list by keys or times, and keep the order of equals. 0, or -1. */
static int
sort(struct fz_time *list, size_t n, bool by_key)
{
	struct fz_time *other = malloc((n + 1) * sizeof(*other)), *from = list,
		       *to = other;
	uint64_t bits = 0;

	if (other == NULL)
		return -1;
	for (size_t i = 0; i < n; i++)
		bits |= by_key ? list[i].key : list[i].took;
	for (unsigned shift = 0; shift < 64 && bits >> shift != 0;
	     shift += DIGIT_BITS) {
		struct fz_time *sorted = to;

		sort_digit(from, to, n, shift, by_key);
		to = from;
		from = sorted;
	}
	if (from != list)
		memcpy(list, from, n * sizeof(*list));
	free(other);
	return 0;
}

int
fz_times_sort(struct fz_time *list, size_t n)
{
	return sort(list, n, false);
}

static struct fz_time
time_of(const struct fz_sums_span *span, uint32_t key)
{
	uint64_t length = (uint64_t)span->length;

	return (struct fz_time){ key, span->n,
		span->n != 0 ? length / span->n : length };
}

/* Sort by key, then by time. 0, or -1: there is no memory. */
static int
end(struct fz_times *times)
{
	if (sort(times->list, times->n, false) == 0 &&
	    sort(times->list, times->n, true) == 0)
		return 0;
	fz_times_fini(times);
	return -1;
}

/* Allocate room for all times. 0, or -1: there is no memory. */
static int
begin(struct fz_times *times, const struct fz_sums *sums)
{
	times->n = 0;
	times->list = malloc((sums->nspans + 1) * sizeof(*times->list));
	return times->list != NULL ? 0 : -1;
}

int
fz_times_of_groups(struct fz_times *times, const struct fz_sums *sums)
{
	if (begin(times, sums) != 0)
		return -1;
	for (size_t i = 0; i < sums->nspans; i++)
		times->list[times->n++] =
		    time_of(&sums->spans[i], sums->spans[i].group);
	return end(times);
}

int
fz_times_of_functions(struct fz_times *times, const struct fz_sums *sums)
{
	if (begin(times, sums) != 0)
		return -1;
	for (size_t i = 0; i < sums->nspans; i++) {
		const struct fz_sums_span *span = &sums->spans[i];
		const struct fz_sums_function *f =
		    &sums->functions[span->function];

		if (f->is_shown && f->nspans > 1)
			times->list[times->n++] = time_of(span, span->function);
	}
	return end(times);
}

void
fz_times_fini(struct fz_times *times)
{
	free(times->list);
}

/* Index of the first element whose key is at least `key`. */
static size_t
first_of(const struct fz_times *times, uint32_t key)
{
	size_t low = 0, high = times->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (times->list[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint64_t
fz_times_quantile(const struct fz_times *times, uint32_t key, unsigned percent)
{
	size_t from = first_of(times, key), end = from;
	uint64_t sum = 0, seen = 0;

	while (end < times->n && times->list[end].key == key)
		sum += times->list[end++].n;
	for (size_t i = from; i < end; i++) {
		seen += times->list[i].n;
		if (seen * 100 >= percent * sum)
			return times->list[i].took;
	}
	return 0;
}

static unsigned
bin_of(uint64_t took)
{
	unsigned bin = 0;

	for (; took >= 2 && bin < FZ_TIMES_BINS - 1; took /= 2)
		bin++;
	return bin;
}

void
fz_times_bins(const struct fz_times *times, uint32_t key,
    uint64_t counts[FZ_TIMES_BINS], unsigned *first, unsigned *end)
{
	size_t i = first_of(times, key);

	memset(counts, 0, FZ_TIMES_BINS * sizeof(*counts));
	*first = *end = 0;
	for (; i < times->n && times->list[i].key == key; i++) {
		unsigned bin = bin_of(times->list[i].took);

		counts[bin] += times->list[i].n;
		if (*end == 0)
			*first = bin;
		*end = bin + 1;
	}
}
