#include "report/run_times.h"

#include <stdlib.h>
#include <string.h>

#include "report/run_sums.h"

static int
compare(const void *a, const void *b)
{
	const struct fz_time *x = a, *y = b;

	if (x->key != y->key)
		return x->key > y->key ? 1 : -1;
	return (x->took > y->took) - (x->took < y->took);
}

static struct fz_time
time_of(const struct fz_sums_span *span, uint32_t key)
{
	uint64_t length = (uint64_t)span->length;

	return (struct fz_time){ key, span->n,
		span->n != 0 ? length / span->n : length };
}

/* Room for the times of all spans. 0, or -1: there is no memory. */
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
	qsort(times->list, times->n, sizeof(*times->list), compare);
	return 0;
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
	qsort(times->list, times->n, sizeof(*times->list), compare);
	return 0;
}

void
fz_times_fini(struct fz_times *times)
{
	free(times->list);
}

/* The first time with a key that is not less. */
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
