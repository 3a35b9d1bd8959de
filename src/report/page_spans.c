#include "report/page_spans.h"

#include <stdbool.h>
#include <stdlib.h>

#include "report/page_sums.h"

/* A worker and the start of its first call. */
struct start {
	int64_t first;
	uint32_t worker;
};

static int
compare_starts(const void *a, const void *b)
{
	const struct start *x = a, *y = b;

	if (x->first != y->first)
		return x->first > y->first ? 1 : -1;
	return x->worker > y->worker ? 1 : -1;
}

static int
compare_spans(const void *a, const void *b)
{
	const struct fz_sums_span *x = a, *y = b;

	if (x->at != y->at)
		return x->at > y->at ? 1 : -1;
	return (x->length > y->length) - (x->length < y->length);
}

/* Choose the workers that started first. 0, or -1: there is no memory. */
static int
choose_workers(struct fz_spans *spans, const struct fz_sums *s)
{
	size_t n = s->nworkers;
	struct start *list = malloc((n + 1) * sizeof(*list));

	spans->nworkers = n < FZ_SPANS_WORKERS ? n : FZ_SPANS_WORKERS;
	spans->workers = calloc(spans->nworkers + 1, sizeof(*spans->workers));
	if (list != NULL && spans->workers != NULL) {
		for (size_t i = 0; i < n; i++)
			list[i] =
			    (struct start){ s->workers[i].first, (uint32_t)i };
		qsort(list, n, sizeof(*list), compare_starts);
		for (size_t i = 0; i < spans->nworkers; i++)
			spans->workers[i].worker = list[i].worker;
	}
	free(list);
	return list != NULL && spans->workers != NULL ? 0 : -1;
}

/* Whether the spans are sorted by start, as most lists are. */
static bool
is_sorted(const struct fz_sums_span *list, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		if (list[i].at < list[i - 1].at)
			return false;
	}
	return true;
}

/*
 * Copy the spans of the shown workers, grouped by worker and sorted by start.
 * `row` is scratch memory with room for all workers.
 */
static void
copy_spans(struct fz_spans *spans, const struct fz_sums *s, size_t *row)
{
	size_t at = 0;

	for (size_t i = 0; i < s->nworkers; i++)
		row[i] = SIZE_MAX;
	for (size_t i = 0; i < spans->nworkers; i++)
		row[spans->workers[i].worker] = i;
	for (size_t i = 0; i < s->nspans; i++) {
		if (row[s->spans[i].worker] != SIZE_MAX)
			spans->workers[row[s->spans[i].worker]].n++;
	}
	for (size_t i = 0; i < spans->nworkers; i++) {
		spans->workers[i].from = at;
		at += spans->workers[i].n;
		spans->workers[i].n = 0;
	}
	for (size_t i = 0; i < s->nspans; i++) {
		size_t r = row[s->spans[i].worker];
		struct fz_spans_worker *w;

		if (r == SIZE_MAX)
			continue;
		w = &spans->workers[r];
		spans->list[w->from + w->n++] = s->spans[i];
	}
	for (size_t i = 0; i < spans->nworkers; i++) {
		const struct fz_spans_worker *w = &spans->workers[i];

		if (!is_sorted(&spans->list[w->from], w->n))
			qsort(&spans->list[w->from], w->n, sizeof(*spans->list),
			    compare_spans);
	}
}

/* Whether a span of a worker is merged with the one before. */
static bool
is_near(const struct fz_sums_span *last, const struct fz_sums_span *span,
    int64_t gap)
{
	return last->group == span->group && last->failed == span->failed &&
	       span->at - (last->at + last->length) < gap &&
	       (last->length < gap || span->length < gap);
}

/* Merge adjacent spans for which is_near() is true. */
static void
merge(struct fz_sums_span *list, struct fz_spans_worker *w, int64_t gap)
{
	size_t n = 0;

	list += w->from;
	for (size_t i = 0; i < w->n; i++) {
		struct fz_sums_span *last = n != 0 ? &list[n - 1] : NULL;
		int64_t length;

		if (last == NULL || !is_near(last, &list[i], gap)) {
			list[n++] = list[i];
			continue;
		}
		length = list[i].at + list[i].length - last->at;
		if (length > last->length)
			last->length = length;
		last->n += list[i].n;
	}
	w->n = n;
}

/* Merge spans with a growing gap until at most FZ_SPANS_MOST are left. */
static void
merge_all(struct fz_spans *spans, const struct fz_sums *s)
{
	int64_t wall = (int64_t)s->total.wall;
	size_t total = 0;

	for (size_t i = 0; i < spans->nworkers; i++)
		total += spans->workers[i].n;
	while (total > FZ_SPANS_MOST) {
		if (spans->gap == 0)
			spans->gap = wall / FZ_SPANS_MOST + 1;
		else
			spans->gap *= 2;
		total = 0;
		for (size_t i = 0; i < spans->nworkers; i++) {
			merge(spans->list, &spans->workers[i], spans->gap);
			total += spans->workers[i].n;
		}
		/* neighbours differ, so a larger gap would merge no more */
		if (spans->gap > 4 * wall)
			break;
	}
}

int
fz_spans_init(struct fz_spans *spans, const struct fz_sums *s)
{
	size_t *row = malloc((s->nworkers + 1) * sizeof(*row));
	int status = -1;

	*spans = (struct fz_spans){ 0 };
	spans->list = malloc((s->nspans + 1) * sizeof(*spans->list));
	if (row != NULL && spans->list != NULL)
		status = choose_workers(spans, s);
	if (status == 0) {
		copy_spans(spans, s, row);
		merge_all(spans, s);
	}
	free(row);
	return status;
}

void
fz_spans_fini(struct fz_spans *spans)
{
	free(spans->list);
	free(spans->workers);
}
