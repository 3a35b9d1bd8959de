/*
 * batch.h - the items of one map or apply, and the result of each.
 *
 * A batch is a producer (dispatch.h). A chunk of items is cut off the batch
 * when a worker has room for a chunk. Results are reported in the order in
 * which they come. Items have indexes from 1.
 *
 *   item:  not cut -> in a chunk that waits -> sent -> done
 *                          ^                    |  \
 *                          +-- returned, retry -+   +-> failed
 */
#ifndef FZ_BATCH_H
#define FZ_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sched/limits.h"

struct fz_batch;
struct fz_blob;
struct fz_dispatcher;
struct fz_job_event;
struct fz_event_log;
struct fz_failure;
struct fz_trace;
struct fz_trace_names;
struct fz_worker;

/* The owner of batches; embedded in it. */
struct fz_batch_owner {
	struct fz_dispatcher *dispatcher;
	/*
	 * Called for each new batch. NULL: the owner has no list of its
	 * batches.
	 */
	void (*made)(struct fz_batch_owner *owner, struct fz_batch *batch);
	/* The batch is done: none of its jobs runs or will run. */
	void (*done)(struct fz_batch_owner *owner, struct fz_batch *batch);
	/*
	 * Send function number `func` to `worker` unless the worker has it. 0,
	 * or -1 and `err`.
	 */
	int (*prepare)(struct fz_batch_owner *owner, struct fz_worker *worker,
	    uint32_t func, struct fz_err *err);
	/*
	 * Called when the owner must decide about a retry. NULL: the owner
	 * waits for changes.
	 */
	void (*asked)(struct fz_batch_owner *owner);
	/* Called when there is a result. NULL: the owner waits for changes. */
	void (*answered)(struct fz_batch_owner *owner);
	/*
	 * Called when an item has failed and is not retried. NULL: the owner
	 * reads the results.
	 */
	void (*failed)(struct fz_batch_owner *owner, uint64_t item,
	    const struct fz_failure *failure);
};

struct fz_batch_opts {
	struct fz_batch_owner *owner;
	uint32_t pool; /* number of the pool in the dispatcher */
	uint32_t kind; /* enum fz_wire_kind */
	uint32_t func; /* number of the function; unused with FZ_WIRE_INLINE */
	uint64_t n;    /* number of items at the start */
	/*
	 * items are added by fz_batch_add() or fz_batch_grow() until
	 * fz_batch_end()
	 */
	bool growing;
	uint64_t seed;
	enum fz_policy policy;
	struct fz_limits limits;
	/* number of items in a chunk; 0: by measured time */
	uint32_t chunk;
	bool events; /* record events */
	/* a trace, which records events, too; NULL: none */
	struct fz_trace *trace;
	struct fz_trace_names *trace_name; /* name of the items in the trace */
	/* log for the events; NULL: the batch has its own */
	struct fz_event_log *log;
	/* `map` and `item` of the batch's events: see struct fz_job_event */
	uint32_t map;
	uint64_t item;
	size_t raw_size; /* bytes of a raw result; 0: none are raw */
	/*
	 * Encode up to `*n` items, from `first` on, into one blob. Set `*n` to
	 * the number of encoded items, because later items may need a blob of
	 * their own. NULL and `failure` if the first item cannot be encoded.
	 * The function is not called for FZ_WIRE_INHERITED or for added items,
	 * and must not raise.
	 */
	struct fz_blob *(*encode)(
	    void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure);
	void *ctx;
};

/* The results of consecutive items, or the failure of one. */
struct fz_batch_result {
	uint64_t first; /* index of the first item */
	/* number of results; `skip` others precede them in `blob` */
	uint32_t n, skip;
	/* the blob is one message and not a list of items */
	bool whole;
	bool raw;             /* the blob is a buffer of raw results in a row */
	bool known;           /* the results come from fz_batch_know() */
	struct fz_blob *blob; /* the receiver owns the reference */
	/*
	 * failure of the item, which the receiver owns; NULL: the items are
	 * done
	 */
	struct fz_failure *failure;
};

/* Numbers of items. */
struct fz_batch_counts {
	uint64_t total, done, failed, running, waiting;
};

/* Make a batch. NULL and `err` on failure. */
struct fz_batch *fz_batch_new(
    const struct fz_batch_opts *opts, struct fz_err *err);

/* Cancel the items that are not done, and free the batch. NULL is allowed. */
void fz_batch_free(struct fz_batch *batch);

/* Begin to send items. */
void fz_batch_start(struct fz_batch *batch);

/*
 * Add an item, whose encoded form is `part`. Takes the reference, even on
 * failure. 0, or -1 and `err`.
 */
int fz_batch_add(
    struct fz_batch *batch, struct fz_blob *part, struct fz_err *err);

/*
 * Count the next item, which failed before it could be added. It gets no
 * result. 0, or -1 and `err`.
 */
int fz_batch_skip(struct fz_batch *batch, struct fz_err *err);

/* Add `n` items, which opts.encode encodes later. 0, or -1 and `err`. */
int fz_batch_grow(struct fz_batch *batch, uint64_t n, struct fz_err *err);

/*
 * Set the known result of an item, so that its function is not called. Must be
 * called in the order of the items, and before the start or before a later item
 * is added. If `item` is the next one of a growing batch, it is added. Takes
 * the reference, even on failure. 0, or -1 and `err`.
 */
int fz_batch_know(struct fz_batch *batch, uint64_t item, struct fz_blob *value,
    struct fz_err *err);

/* Declare that no more items will be added. */
void fz_batch_end(struct fz_batch *batch);

/* The id of the batch's change (worker/change.h). */
uint64_t fz_batch_id(const struct fz_batch *batch);

/* Whether the batch is done: none of its jobs runs or will run. */
bool fz_batch_done(const struct fz_batch *batch);

/*
 * Kill the workers of running items and wait until they have ended. Do not call
 * it from a callback of the loop. Later calls do nothing.
 */
void fz_batch_cancel(
    struct fz_batch *batch, enum fz_err_kind kind, const char *text);

/*
 * The reason why the batch failed as a whole, such as a cancel; NULL if it did
 * not.
 */
const struct fz_failure *fz_batch_whole(const struct fz_batch *batch);

struct fz_batch_counts fz_batch_counts(const struct fz_batch *batch);

/*
 * The item that failed first among those that wait for fz_batch_decide(),
 * because limits.ask is set; 0 if none waits. The batch still owns `*failure`.
 */
uint64_t fz_batch_undecided(
    const struct fz_batch *batch, const struct fz_failure **failure);

/*
 * Retry an item, or let it fail. Does nothing if the item does not wait for
 * this decision.
 */
void fz_batch_decide(struct fz_batch *batch, uint64_t item, bool again);

/* Whether fz_batch_take() would return a result. */
bool fz_batch_has_result(const struct fz_batch *batch);

/* Take the oldest result or event. Returns 1, or 0 if there is none. */
int fz_batch_take(struct fz_batch *batch, struct fz_batch_result *result);
int fz_batch_next_event(struct fz_batch *batch, struct fz_job_event *event);

/* Release the blob and the failure of a result. */
void fz_batch_drop_result(struct fz_batch_result *result);

/*
 * Without workers (local): the next item to call, or 0 if none is ready. Sets
 * its part (the caller owns the reference; NULL for FZ_WIRE_INHERITED). The
 * caller ends the item by fz_batch_local_done() or fz_batch_local_failed(),
 * which take the value.
 */
uint64_t fz_batch_local_next(struct fz_batch *batch, struct fz_blob **part);
/* whether an item is ready */
bool fz_batch_local_ready(const struct fz_batch *batch);
void fz_batch_local_done(
    struct fz_batch *batch, uint64_t item, struct fz_blob *value);
void fz_batch_local_failed(
    struct fz_batch *batch, uint64_t item, struct fz_failure *failure);

#endif
