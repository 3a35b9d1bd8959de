/*
 * run_spans.h - the timeline of the workers of a run. Spans that are close to
 * each other are merged until few enough of them are left.
 */
#ifndef FZ_RUN_SPANS_H
#define FZ_RUN_SPANS_H

#include <stddef.h>
#include <stdint.h>

struct fz_sums;
struct fz_sums_span;

enum {
	FZ_SPANS_MOST = 4000,  /* maximum number of spans of all workers */
	FZ_SPANS_WORKERS = 200 /* maximum number of workers */
};

/* The spans of a worker: `n` elements of the list, the first one at `from`. */
struct fz_spans_worker {
	uint32_t worker; /* its number in the sums */
	size_t from, n;
};

struct fz_spans {
	struct fz_sums_span *list; /* spans of each worker, sorted by starts */
	struct fz_spans_worker *workers; /* sorted by their first starts */
	size_t nworkers;                 /* at most FZ_SPANS_WORKERS */
	/*
	 * spans that are less than this many microseconds apart are merged; 0:
	 * no spans are merged
	 */
	int64_t gap;
};

/* 0, or -1: there is no memory. Call fz_spans_fini() in either case. */
int fz_spans_init(struct fz_spans *spans, const struct fz_sums *sums);
void fz_spans_fini(struct fz_spans *spans);

#endif
