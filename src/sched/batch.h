/*
 * batch.h - the items of one map or apply: which come next, what became of
 * each.
 *
 * A batch is a source (dispatch.h) that is cut into chunks when a worker has
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
struct fz_event;
struct fz_failure;
struct fz_worker;

/* What has the batches of one pool; embedded there. */
struct fz_batch_owner {
	struct fz_dispatcher *dispatcher;
	/* `batch` was made; nothing of it runs or will run. */
	void (*made)(struct fz_batch_owner *owner, struct fz_batch *batch);
	void (*done)(struct fz_batch_owner *owner, struct fz_batch *batch);
	/*
	 * Before `worker` gets items of the batch: it is to have the function
	 * in slot `func`. 0, or -1 and `err`.
	 */
	int (*prepare)(struct fz_batch_owner *owner, struct fz_worker *worker,
	    uint32_t func, struct fz_err *err);
};

struct fz_batch_opts {
	struct fz_batch_owner *owner;
	uint32_t kind; /* enum fz_wire_kind */
	uint32_t func; /* slot of the workers, whatever for FZ_WIRE_INLINE */
	uint64_t n;    /* items there are from the start */
	bool growing;  /* fz_batch_add() may come; `n` is 0 */
	uint64_t seed;
	enum fz_policy policy;
	struct fz_limits limits;
	uint32_t chunk; /* items in one, 0: by measured time */
	bool events;    /* record them */
	bool told;      /* its owner is to report that it is done */
	size_t slot;    /* bytes that hold a small result, 0: none do */
	/*
	 * Encode up to `*n` items from `first` on as the one part of their
	 * frame; `*n` is made smaller where later ones cannot be encoded with
	 * it. NULL and `failure` where the first one cannot. Not called for
	 * FZ_WIRE_INHERITED nor for added items. May not raise.
	 */
	struct fz_blob *(*encode)(
	    void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure);
	void *ctx;
};

/* What has become of some items. */
struct fz_batch_news {
	uint64_t first;
	uint32_t n, skip;     /* results, behind `skip` others in `blob` */
	bool whole;           /* it is one message, not a list of items */
	bool strip;           /* it is one slot after the other */
	struct fz_blob *blob; /* the taker's reference */
	struct fz_failure *failure; /* of the one item `first`; the taker's */
};

/* How far it is, in items. */
struct fz_batch_counts {
	uint64_t total, done, failed, running, waiting;
};

/* NULL and `err` on failure. */
struct fz_batch *fz_batch_new(
    const struct fz_batch_opts *opts, struct fz_err *err);

/* Cancels what is not done. NULL is allowed. */
void fz_batch_free(struct fz_batch *batch);

/* Have what is ready sent. */
void fz_batch_start(struct fz_batch *batch);

/*
 * One more item, the part of a frame of its own; takes the reference, also on
 * failure. 0, or -1 and `err`.
 */
int fz_batch_add(
    struct fz_batch *batch, struct fz_blob *part, struct fz_err *err);

/*
 * `n` more items, which opts.encode gets when they are sent. 0, or -1 and
 * `err`.
 */
int fz_batch_grow(struct fz_batch *batch, uint64_t n, struct fz_err *err);

/* Nanoseconds that an item takes lately, the way to its worker included; 0: not
 * known yet. */
int64_t fz_batch_mean_ns(const struct fz_batch *batch);

/* There will be no more items. */
void fz_batch_end(struct fz_batch *batch);

/* What it was made with. */
void *fz_batch_ctx(const struct fz_batch *batch);

/* Nothing of it runs or will run. */
bool fz_batch_done(const struct fz_batch *batch);

/*
 * End what runs, at once, and wait until it has ended. Not from a callback of
 * the loop. Later calls do nothing.
 */
void fz_batch_cancel(
    struct fz_batch *batch, enum fz_err_kind kind, const char *text);

/* Why all of it ended: a cancel or deadline; NULL: it did not. */
const struct fz_failure *fz_batch_whole(const struct fz_batch *batch);

struct fz_batch_counts fz_batch_counts(const struct fz_batch *batch);

/* Whether there are news. */
bool fz_batch_has_news(const struct fz_batch *batch);

/* Take the oldest news or event. Returns 1, or 0 where there is none. */
int fz_batch_take(struct fz_batch *batch, struct fz_batch_news *news);
int fz_batch_next_event(struct fz_batch *batch, struct fz_event *event);

/*
 * If there are no workers (local): the next item to call here, 0
 * where none is ready, with its part as above (the caller's reference; NULL
 * for FZ_WIRE_INHERITED). The caller ends it by one of the other two, which
 * take what they are given.
 */
uint64_t fz_batch_local_next(struct fz_batch *batch, struct fz_blob **part);
void fz_batch_local_done(
    struct fz_batch *batch, uint64_t item, struct fz_blob *value);
void fz_batch_local_failed(
    struct fz_batch *batch, uint64_t item, struct fz_failure *failure);

#endif
