/*
 * page_spans.h - the timeline of the workers of a run. If there are too many
 * spans, those that are close to each other are merged.
 */
#ifndef FZ_PAGE_SPANS_H
#define FZ_PAGE_SPANS_H

#include <stddef.h>
#include <stdint.h>

struct fz_sums;
struct fz_sums_span;

enum {
	FZ_SPANS_MOST = 4000,  /* maximum number of spans on the timeline */
	FZ_SPANS_WORKERS = 200 /* maximum number of workers on the timeline */
};

/* A worker's spans: `n` elements of fz_spans.list, from index `from` on. */
struct fz_spans_worker {
	uint32_t worker; /* index of the worker in fz_sums.workers */
	size_t from, n;
};

struct fz_spans {
	struct fz_sums_span *list;       /* spans by worker, then by start */
	struct fz_spans_worker *workers; /* sorted by first start */
	size_t nworkers; /* number of shown workers; at most FZ_SPANS_WORKERS */
	/*
	 * microseconds; spans of a worker with less time between them were
	 * merged; 0: no spans were merged
	 */
	int64_t gap;
};

/* Build the timeline. 0, or -1: no memory. fz_spans_fini() in either case. */
int fz_spans_init(struct fz_spans *spans, const struct fz_sums *sums);
void fz_spans_fini(struct fz_spans *spans);

#endif
