/*
 * stream.h - many runs of one graph at the same time: a window of items.
 *
 * Each item has a run of its own, with its own attempts, errors and random
 * numbers. All runs share one dispatcher and the pools. The caller decides how
 * many items are under way: it adds an item, and takes those that are done.
 *
 *   fz_stream_add()   fz_stream_start()             fz_stream_take()
 *  ---------------> added ------------> under way ---> done ------> taken
 *                     |  fz_stream_skip()               ^            |
 *                     +---------------------------------+            |
 *   its memory is used for another item <-- fz_stream_release() <----+
 */
#ifndef FZ_STREAM_H
#define FZ_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sched/run.h"

struct fz_flow;
struct fz_job_event;
struct fz_stream;

struct fz_stream_opts {
	/*
	 * The options of the run of each item. After a failure, FZ_POLICY_STOP
	 * starts no functions of items whose results come later. FZ_POLICY_NOW
	 * also makes the failed item the next result.
	 */
	struct fz_run_opts run;
	bool unordered; /* take items in the order in which they are done */
};

/*
 * Make a stream without items, which uses the pools. NULL and `err` on failure.
 * The deadline is that of the whole stream.
 */
struct fz_stream *fz_stream_new(
    const struct fz_stream_opts *opts, struct fz_err *err);

/* Cancel the items that are not done, and free the stream. NULL is allowed. */
void fz_stream_free(struct fz_stream *stream);

/* See fz_run_limit() and fz_run_keep(). Call them before the first item. */
int fz_stream_limit(struct fz_stream *stream, uint32_t node,
    const struct fz_limits *limits, struct fz_err *err);
void fz_stream_keep(struct fz_stream *stream, uint32_t value);

/*
 * Add an item, whose index is one more than that of the item before. The caller
 * then sets the values of its run that come from outside, and starts or skips
 * it. NULL and `err` on failure.
 */
struct fz_run *fz_stream_add(struct fz_stream *stream, struct fz_err *err);
void fz_stream_start(struct fz_run *run);

/*
 * Mark the item as done without values. `why` is kept for the caller. The node
 * of its event is FZ_GRAPH_NONE.
 */
void fz_stream_skip(struct fz_run *run, uint32_t why);

/*
 * Whether an item has neither values nor a failure, because it was skipped, or
 * stopped after the failure of another one. `*why` is set to the `why` of
 * fz_stream_skip().
 */
bool fz_stream_was_skipped(const struct fz_run *run, uint32_t *why);

/* Bytes of the values of all items. */
size_t fz_stream_nbytes(const struct fz_stream *stream);

/* The flow of the stream, for run_lookup.h. */
struct fz_flow *fz_stream_flow(struct fz_stream *stream);

/* The id of the stream's change (worker/change.h). */
uint64_t fz_stream_id(const struct fz_stream *stream);

/* Whether an item was started and is not done. */
bool fz_stream_is_busy(const struct fz_stream *stream);

/* The index of the item of a run, from 1. */
uint64_t fz_stream_index(const struct fz_run *run);

/* Whether fz_stream_take() has an item. */
bool fz_stream_has_result(const struct fz_stream *stream);

/*
 * Take the next item that is done: its run has the values that were kept, or
 * the failure (fz_run_failure()). Release it before the stream is freed. NULL:
 * there is none.
 */
struct fz_run *fz_stream_take(struct fz_stream *stream);
void fz_stream_release(struct fz_run *run);

/*
 * Whether a failed item has stopped the stream, so no more items should be
 * read.
 */
bool fz_stream_is_stopped(const struct fz_stream *stream);

/*
 * Kill the workers of running nodes and wait until they have ended. No item can
 * be added after that. Do not call it from a callback of the loop. Later calls
 * do nothing.
 */
void fz_stream_cancel(
    struct fz_stream *stream, enum fz_err_kind kind, const char *text);

/*
 * Returns the run of the node that failed first among the nodes of all items
 * that wait for fz_stream_decide(), and sets `*node`. NULL if none waits. See
 * fz_run_undecided().
 */
const struct fz_run *fz_stream_undecided(
    const struct fz_stream *stream, uint32_t *node);
bool fz_stream_undecided_element(
    const struct fz_stream *stream, struct fz_run_element *element);
void fz_stream_decide(struct fz_stream *stream, uint64_t index, uint32_t node,
    uint64_t element, bool again);

/* Counts of the nodes of all items for pool number `pool`. */
struct fz_run_counts fz_stream_counts(
    const struct fz_stream *stream, uint32_t pool);

/* Take the oldest event. Returns 1, or 0 if there is none. */
int fz_stream_next_event(struct fz_stream *stream, struct fz_job_event *event);

/*
 * Without workers (local): the run with the next node to call, and that node;
 * NULL if there is none. See fz_run_local_next().
 */
struct fz_run *fz_stream_local_next(struct fz_stream *stream, uint32_t *node);

/* Whether fz_stream_local_next() would return a run. */
bool fz_stream_local_ready(const struct fz_stream *stream);

#endif
