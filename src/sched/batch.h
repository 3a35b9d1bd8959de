/*
 * batch.h - the items of one map or apply, and the result of each.
 *
 * A batch is a producer (dispatch.h) that is cut into chunks when a worker has
 * room for one; its results are reported in the order in which they come.
 * Items have indexes from 1.
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
	/* NULL: the owner has no list of its batches. */
	void (*made)(struct fz_batch_owner *owner, struct fz_batch *batch);
	/* The batch is done: none of its jobs runs or will run. */
	void (*done)(struct fz_batch_owner *owner, struct fz_batch *batch);
	/*
	 * Send `worker` function number `func` unless the worker has it.
	 * 0, or -1 and `err`.
	 */
	int (*prepare)(struct fz_batch_owner *owner, struct fz_worker *worker,
	    uint32_t func, struct fz_err *err);
	/* The owner decides about a retry. NULL: it waits for changes. */
	void (*asked)(struct fz_batch_owner *owner);
	/* There is a result. NULL: the owner waits for changes. */
	void (*answered)(struct fz_batch_owner *owner);
	/* An item has failed for good. NULL: the owner reads the results. */
	void (*failed)(struct fz_batch_owner *owner, uint64_t item,
	    const struct fz_failure *failure);
};

struct fz_batch_opts {
	struct fz_batch_owner *owner;
	uint32_t pool; /* number of the pool in the dispatcher */
	uint32_t kind; /* enum fz_wire_kind */
	uint32_t func; /* number of the function; unused with FZ_WIRE_INLINE */
	uint64_t n;    /* items at the start */
	bool growing;  /* items are added or grown until fz_batch_end() */
	uint64_t seed;
	enum fz_policy policy;
	struct fz_limits limits;
	uint32_t chunk;         /* items in a chunk, 0: by measured time */
	bool events;            /* record events */
	struct fz_trace *trace; /* records them, too; NULL: none */
	struct fz_trace_names *trace_name; /* one: of the items */
	struct fz_event_log *log;          /* for the events; NULL: its own */
	uint32_t map; /* of its events: see struct fz_job_event */
	uint64_t item;
	size_t raw_size; /* bytes of a raw result, 0: none are raw */
	/*
	 * Encode up to `*n` items from `first` on as the one part of their
	 * frame; make `*n` smaller if later items cannot be encoded with the
	 * first. NULL and `failure` if the first cannot be encoded. Not called
	 * for FZ_WIRE_INHERITED nor for added items. May not raise.
	 */
	struct fz_blob *(*encode)(
	    void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure);
	void *ctx;
};

/* The results of consecutive items, or the failure of one. */
struct fz_batch_result {
	uint64_t first;       /* index of the first item */
	uint32_t n, skip;     /* results, behind `skip` others in `blob` */
	bool whole;           /* the blob is one message, no list of items */
	bool raw;             /* the blob is a buffer of raw results in a row */
	bool known;           /* from fz_batch_know() */
	struct fz_blob *blob; /* the reference is the taker's */
	struct fz_failure *failure; /* NULL: they are done; the taker's */
};

/* Numbers of items. */
struct fz_batch_counts {
	uint64_t total, done, failed, running, waiting;
};

/* NULL and `err` on failure. */
struct fz_batch *fz_batch_new(
    const struct fz_batch_opts *opts, struct fz_err *err);

/* Cancels what is not done. NULL is allowed. */
void fz_batch_free(struct fz_batch *batch);

/* Begin to send items. */
void fz_batch_start(struct fz_batch *batch);

/*
 * Add an item, which is encoded in `part`. Takes the reference, also on
 * failure. 0, or -1 and `err`.
 */
int fz_batch_add(
    struct fz_batch *batch, struct fz_blob *part, struct fz_err *err);

/*
 * Count the next item, which failed before it could be added. It is not
 * reported. 0, or -1 and `err`.
 */
int fz_batch_skip(struct fz_batch *batch, struct fz_err *err);

/* Add `n` items, which opts.encode gets later. 0, or -1 and `err`. */
int fz_batch_grow(struct fz_batch *batch, uint64_t n, struct fz_err *err);

/*
 * The result of an item is known, so that it is not called; the calls are in
 * the order of the items, before the start or before a later item is added. The
 * next item of a growing batch is added if it is not there yet. Takes the
 * reference, also on failure. 0, or -1 and `err`.
 */
int fz_batch_know(struct fz_batch *batch, uint64_t item, struct fz_blob *value,
    struct fz_err *err);

/* Declare that no more items will be added. */
void fz_batch_end(struct fz_batch *batch);

/* The id of its changes (worker/change.h). */
uint64_t fz_batch_id(const struct fz_batch *batch);

/* Whether the batch is done: none of its jobs runs or will run. */
bool fz_batch_done(const struct fz_batch *batch);

/*
 * Kill what runs and wait until it has ended. Not from a callback of the loop.
 * Later calls do nothing.
 */
void fz_batch_cancel(
    struct fz_batch *batch, enum fz_err_kind kind, const char *text);

/* Why the batch failed as a whole, as by a cancel; NULL: it did not. */
const struct fz_failure *fz_batch_whole(const struct fz_batch *batch);

struct fz_batch_counts fz_batch_counts(const struct fz_batch *batch);

/*
 * The item that failed first of those that wait for fz_batch_decide(), because
 * the limits say so; 0: there is none. `*failure` stays the batch's.
 */
uint64_t fz_batch_undecided(
    const struct fz_batch *batch, const struct fz_failure **failure);

/* Retry an item, or let it fail. Does nothing if it does not wait for this. */
void fz_batch_decide(struct fz_batch *batch, uint64_t item, bool again);

/* Whether fz_batch_take() has something. */
bool fz_batch_has_result(const struct fz_batch *batch);

/* Take the oldest result or event. Returns 1, or 0 if there is none. */
int fz_batch_take(struct fz_batch *batch, struct fz_batch_result *result);
int fz_batch_next_event(struct fz_batch *batch, struct fz_job_event *event);

/* Release the blob and the failure of a result. */
void fz_batch_drop_result(struct fz_batch_result *result);

/*
 * Without workers (local): the next item to call, 0 if none is ready, and its
 * part as above (the reference is the caller's; NULL for FZ_WIRE_INHERITED).
 * The caller ends the item by one of the other two, which take the value.
 */
uint64_t fz_batch_local_next(struct fz_batch *batch, struct fz_blob **part);
bool fz_batch_local_ready(const struct fz_batch *batch); /* is one ready? */
void fz_batch_local_done(
    struct fz_batch *batch, uint64_t item, struct fz_blob *value);
void fz_batch_local_failed(
    struct fz_batch *batch, uint64_t item, struct fz_failure *failure);

#endif
