/*
 * batches.h - workers that call the items of batches, for tests.
 *
 * An item is a number: in its upper half what is to be done, in the lower one
 * a value. What it returns is eight bytes: that value, and what is added by
 * the function that has its number.
 */
#ifndef BATCHES_H
#define BATCHES_H

#include "world.h"
#include "worker/worker.h"

enum item_op {
	ITEM_KEEP,  /* its result waits in the open frame */
	ITEM_REPLY, /* it is a reply of its own */
	ITEM_FLUSH, /* as kept, and all that waits goes into the pipe */
	ITEM_BULK,  /* a reply of ITEMS_BULK bytes */
	ITEM_RAISE,
	ITEM_RAISE_LATE,   /* once another one waits at the gate */
	ITEM_RAISE_ONCE,   /* the first one of all, else as kept */
	ITEM_SLEEP,        /* for as many milliseconds */
	ITEM_PROBE,        /* its value is what the probe says */
	ITEM_WAIT,         /* until the gate is open */
	ITEM_KILL,         /* SIGKILL in the midst */
	ITEM_KILL_ONCE,    /* the first one of all, else as kept */
	ITEM_KILL_STORED,  /* with a reply that is whole but not written */
	ITEM_KILL_HALF,    /* with a part of it written */
	ITEM_KILL_WRITTEN, /* with all of it written, still counted as not */
	ITEM_STORE,        /* in the result buffer; if there is none as kept */
	ITEM_NAP_STORE,    /* the same, after a millisecond */
	ITEM_NOPS
};

#define ITEM_OF(op, value) ((uint64_t)(op) << 32 | (uint64_t)(value))

enum {
	ITEMS_MAX = 1 << 17,       /* items of which it is known what ran */
	ITEMS_BULK = 100 << 10,    /* so much goes by the arena */
	ITEMS_WORKER_MAX = 1 << 8, /* workers of which the items are counted */
	ITEMS_RAW = 16             /* bytes: a value, and the same inverted */
};

/* Shared by the test and all workers: reports and orders. */
struct items_shared {
	_Atomic int births, onces, waiting, nfuncs;
	_Atomic int nkept, nforgot; /* frames with kept values, without any */
	_Atomic bool gate;
	_Atomic int ncalls[ITEMS_WORKER_MAX]; /* of each worker, by birth */
	_Atomic unsigned char ran[ITEMS_MAX]; /* how often, by index */
};

/* What a worker inherits. */
struct items_home {
	struct items_shared *shared;
	uint64_t funcs[FZ_WORKER_FUNCS]; /* what each adds */
	uint64_t (*probe)(void *ctx);    /* called in the worker */
	void *probe_ctx;
	int birth; /* in the worker: its number */
	/*
	 * In the worker: the raw results of the chunk at hand, NULL: it has
	 * none.
	 */
	unsigned char *result_buffer;
	uint64_t first; /* item of that chunk */
};

/* A fz_worker_main; `ctx` is a struct items_home. */
int items_serve(void *ctx, struct fz_port *port);

/* Call the items of the current chunk. 0, or -1 if a result cannot be sent. */
int items_chunk(
    struct items_home *home, struct fz_port *port, struct fz_call *call);

struct items_home *items_home_new(void);
void items_home_free(struct items_home *home);

/* Forget that the items before `n` have run. */
void items_forget(struct items_shared *shared, uint64_t n);

/* Raw value `n` of a mapped result buffer; it must be whole. */
uint64_t items_slot(const unsigned char *buffer, size_t n);

/* All items as the part of a frame; NULL where there is no memory. */
struct fz_blob *items_part(const uint64_t *items, size_t n);

#endif
