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
	bool unordered; /* items can be taken in the order in which they end */
};

/*
 * Create a stream without items, and begin to use the pools. The deadline
 * applies to the whole stream. NULL and `err` on failure.
 */
struct fz_stream *fz_stream_new(
    const struct fz_stream_opts *opts, struct fz_err *err);

/* Cancel the items that are not done, and free the stream. NULL is allowed. */
void fz_stream_free(struct fz_stream *stream);

/* As fz_run_limit() and fz_run_keep(); to be called before the first item. */
int fz_stream_limit(struct fz_stream *stream, uint32_t node,
    const struct fz_limits *limits, struct fz_err *err);
void fz_stream_keep(struct fz_stream *stream, uint32_t value);

/*
 * fz_stream_add(): add an item; its index is 1 + that of the item before. The
 * caller then sets the values from outside of its run, and calls
 * fz_stream_start() or fz_stream_skip(). NULL and `err` on failure.
 */
struct fz_run *fz_stream_add(struct fz_stream *stream, struct fz_err *err);
void fz_stream_start(struct fz_run *run);

/*
 * Mark an added item as done without values. `why` is kept for the caller. Its
 * event has the node FZ_GRAPH_NONE.
 */
void fz_stream_skip(struct fz_run *run, uint32_t why);

/*
 * Whether an item has neither values nor a failure, because it was skipped, or
 * was stopped after the failure of another item. Sets `*why` to the argument of
 * fz_stream_skip().
 */
bool fz_stream_was_skipped(const struct fz_run *run, uint32_t *why);

/* Size of the values of all items in bytes. */
size_t fz_stream_nbytes(const struct fz_stream *stream);

/* The flow of the stream, for the functions of run_lookup.h. */
struct fz_flow *fz_stream_flow(struct fz_stream *stream);

/* The id of the stream's change (worker/change.h). */
uint64_t fz_stream_id(const struct fz_stream *stream);

/* Whether any item was started and is not done. */
bool fz_stream_is_busy(const struct fz_stream *stream);

/* The index of a run's item, from 1. */
uint64_t fz_stream_index(const struct fz_run *run);

/* Whether fz_stream_take() would return an item. */
bool fz_stream_has_result(const struct fz_stream *stream);

/*
 * fz_stream_take(): take the next item that is done. Its run has the kept
 * values, or a failure (fz_run_failure()). NULL if there is none now.
 * fz_stream_release() must be called before the stream is freed.
 */
struct fz_run *fz_stream_take(struct fz_stream *stream);
void fz_stream_release(struct fz_run *run);

/*
 * Whether the stream has stopped after the failure of an item. The caller
 * should then add no more items.
 */
bool fz_stream_is_stopped(const struct fz_stream *stream);

/*
 * Kill the workers of running nodes, and wait for the ends of these workers. No
 * item can be added afterwards. Do not call this from a callback of the loop.
 * Later calls do nothing.
 */
void fz_stream_cancel(
    struct fz_stream *stream, enum fz_err_kind kind, const char *text);

/*
 * fz_stream_undecided(): among the nodes that wait for fz_stream_decide(), the
 * one that failed first: returns its run and sets `*node`. NULL if none waits.
 * See fz_run_undecided().
 */
const struct fz_run *fz_stream_undecided(
    const struct fz_stream *stream, uint32_t *node);
bool fz_stream_undecided_element(
    const struct fz_stream *stream, struct fz_run_element *element);
void fz_stream_decide(struct fz_stream *stream, uint64_t index, uint32_t node,
    uint64_t element, bool again);

/* Numbers of the nodes of all items that pool number `pool` runs. */
struct fz_run_counts fz_stream_counts(
    const struct fz_stream *stream, uint32_t pool);

/* Take the oldest event from the list. Returns 1; 0 if there is none. */
int fz_stream_next_event(struct fz_stream *stream, struct fz_job_event *event);

/*
 * For a stream whose nodes the caller runs: a run and its next node (`*node`);
 * NULL if there is none now. See fz_run_local_next().
 */
struct fz_run *fz_stream_local_next(struct fz_stream *stream, uint32_t *node);

/* Whether fz_stream_local_next() would return a run. */
bool fz_stream_local_ready(const struct fz_stream *stream);

#endif
