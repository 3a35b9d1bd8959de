/*
 * batch.h - the items of one map or apply, and the result of each.
 *
 * A batch is a producer (dispatch.h). When a worker can get more work, the next
 * items of the batch become a chunk for it. Results are reported in the order
 * in which they arrive. Items have indexes from 1.
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

/* What an owner of batches provides. Embedded in the owner's object. */
struct fz_batch_owner {
	struct fz_dispatcher *dispatcher;
	/*
	 * Called for each new batch. NULL: the owner needs no list of its
	 * batches.
	 */
	void (*made)(struct fz_batch_owner *owner, struct fz_batch *batch);
	/* Called when a batch is done: none of its jobs runs or will run. */
	void (*done)(struct fz_batch_owner *owner, struct fz_batch *batch);
	/*
	 * Send function number `func` to `worker` if the worker lacks it. 0, or
	 * -1 and `err`.
	 */
	int (*prepare)(struct fz_batch_owner *owner, struct fz_worker *worker,
	    uint32_t func, struct fz_err *err);
	/*
	 * Called when an item waits for fz_batch_decide(). NULL: the change of
	 * the batch notifies the owner.
	 */
	void (*asked)(struct fz_batch_owner *owner);
	/* Called when there is a result. NULL: the owner waits for changes. */
	void (*answered)(struct fz_batch_owner *owner);
	/*
	 * Called when an item has failed finally. NULL: the owner reads only
	 * the results.
	 */
	void (*failed)(struct fz_batch_owner *owner, uint64_t item,
	    const struct fz_failure *failure);
};

struct fz_batch_opts {
	struct fz_batch_owner *owner;
	uint32_t pool; /* number of the pool in the dispatcher */
	uint32_t kind; /* enum fz_wire_kind, with flags */
	uint32_t func; /* number of the function, unless FZ_WIRE_INLINE */
	uint64_t n;    /* number of items at the start */
	/*
	 * items may be added by fz_batch_add() or fz_batch_grow(), until
	 * fz_batch_end() is called
	 */
	bool growing;
	uint64_t seed;
	enum fz_policy policy;
	struct fz_limits limits;
	/* number of items in a chunk; 0: chosen by measured times */
	uint32_t chunk;
	bool events; /* list the events for fz_batch_next_event() */
	/* the trace that gets the events; NULL: none */
	struct fz_trace *trace;
	struct fz_trace_names *trace_name; /* name of the items in a trace */
	/* the log that gets the events; NULL: a log of this batch */
	struct fz_event_log *log;
	/* `map` and `item` of the batch's events: see struct fz_job_event */
	uint32_t map;
	uint64_t item;
	size_t raw_size; /* bytes of a raw result; 0: no result is raw */
	/*
	 * Encode up to `*n` items into one blob; the first one is item `first`.
	 * Set `*n` to the number of items in the blob, which may be less. NULL
	 * and `failure` if item `first` cannot be encoded. Not called for
	 * FZ_WIRE_INHERITED, and not for items of fz_batch_add(). Must not
	 * raise a Lua error.
	 */
	struct fz_blob *(*encode)(
	    void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure);
	void *ctx;
};

/* The results of consecutive items, or the failure of one item. */
struct fz_batch_result {
	uint64_t first; /* index of the first item */
	/* number of results; in `blob` they follow `skip` other results */
	uint32_t n, skip;
	/* the blob is the message of a single result */
	bool whole;
	bool raw;             /* the blob is an array of raw results */
	bool known;           /* the result was set by fz_batch_know() */
	struct fz_blob *blob; /* the receiver owns the reference */
	/*
	 * failure of the item, owned by the receiver; NULL: it has not failed
	 */
	struct fz_failure *failure;
};

/* Numbers of items of a batch, by their state. */
struct fz_batch_counts {
	uint64_t total, done, failed, running, waiting;
};

/* Create a batch. NULL and `err` on failure. */
struct fz_batch *fz_batch_new(
    const struct fz_batch_opts *opts, struct fz_err *err);

/* Cancel the items that have not ended, and free the batch. NULL is allowed. */
void fz_batch_free(struct fz_batch *batch);

/* Start to send items to workers. */
void fz_batch_start(struct fz_batch *batch);

/*
 * Add an item; `part` is its encoded form. Takes over the reference to `part`,
 * even on failure. 0, or -1 and `err`.
 */
int fz_batch_add(
    struct fz_batch *batch, struct fz_blob *part, struct fz_err *err);

/*
 * Count the next item, which could not be added, as failed. No result is
 * reported for it. 0, or -1 and `err`.
 */
int fz_batch_skip(struct fz_batch *batch, struct fz_err *err);

/* Add `n` items, which opts.encode encodes later. 0, or -1 and `err`. */
int fz_batch_grow(struct fz_batch *batch, uint64_t n, struct fz_err *err);

/*
 * Set the known result of an item, so that its function is not called. Call
 * this in the order of the items, before the start or before a later item is
 * added. The next index of a growing batch adds an item. Takes the reference,
 * even on failure. 0, or -1 and `err`.
 */
int fz_batch_know(struct fz_batch *batch, uint64_t item, struct fz_blob *value,
    struct fz_err *err);

/* Declare that no further items will be added. */
void fz_batch_end(struct fz_batch *batch);

/* The id of the batch's change (worker/change.h). */
uint64_t fz_batch_id(const struct fz_batch *batch);

/* Whether the batch is done: none of its jobs runs or will run. */
bool fz_batch_done(const struct fz_batch *batch);

/*
 * Kill the workers of running items and wait until they have ended. Not for a
 * callback of the loop. Later calls do nothing.
 */
void fz_batch_cancel(
    struct fz_batch *batch, enum fz_err_kind kind, const char *text);

/*
 * The reason why the batch as a whole has failed, such as a cancellation; NULL
 * if only items have failed, or none.
 */
const struct fz_failure *fz_batch_whole(const struct fz_batch *batch);

struct fz_batch_counts fz_batch_counts(const struct fz_batch *batch);

/*
 * The first item that waits for fz_batch_decide(), because limits.ask is set; 0
 * if none waits. Sets `*failure`, which the batch owns.
 */
uint64_t fz_batch_undecided(
    const struct fz_batch *batch, const struct fz_failure **failure);

/*
 * Decide about an item that waits for this decision: try it again if `again`,
 * else let it fail. Does nothing if the item does not wait.
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
 * For a batch whose items the caller calls. fz_batch_local_next(): the next
 * item to call; 0 if none is ready. `*part` becomes its encoded form, a
 * reference that the caller owns; NULL for FZ_WIRE_INHERITED.
 * fz_batch_local_done() or fz_batch_local_failed() then ends the item, and
 * takes over the value or failure.
 */
uint64_t fz_batch_local_next(struct fz_batch *batch, struct fz_blob **part);
/* fz_batch_local_ready(): whether an item is ready */
bool fz_batch_local_ready(const struct fz_batch *batch);
void fz_batch_local_done(
    struct fz_batch *batch, uint64_t item, struct fz_blob *value);
void fz_batch_local_failed(
    struct fz_batch *batch, uint64_t item, struct fz_failure *failure);

#endif
