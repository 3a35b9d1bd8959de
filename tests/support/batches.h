/*
 * batches.h - workers that call the items of batches, for tests.
 *
 * An item is a number. Its upper half is an operation, and its lower half
 * a value. The result has eight bytes: the value plus the number that belongs
 * to the called function.
 */
#ifndef BATCHES_H
#define BATCHES_H

#include "worker/worker.h"
#include "world.h"

enum item_op {
	ITEM_KEEP,  /* leave the result in the open frame */
	ITEM_REPLY, /* send the result as a reply of its own */
	ITEM_FLUSH, /* as ITEM_KEEP, and then write all to the pipe */
	ITEM_BULK,  /* reply with ITEMS_BULK bytes */
	ITEM_RAISE,
	ITEM_RAISE_LATE,   /* raise when another item waits at the gate */
	ITEM_RAISE_ONCE,   /* the first one raises, others as ITEM_KEEP */
	ITEM_SLEEP,        /* sleep for the value, in milliseconds */
	ITEM_PROBE,        /* return the value of the probe */
	ITEM_WAIT,         /* wait until the gate is open */
	ITEM_KILL,         /* kill the worker in this item */
	ITEM_KILL_ONCE,    /* the first one kills, others as ITEM_KEEP */
	ITEM_KILL_STORED,  /* ITEM_KILL, with the reply in the mailbox */
	ITEM_KILL_HALF,    /* ITEM_KILL, with a part of the reply written */
	ITEM_KILL_WRITTEN, /* ITEM_KILL, after a write that is not counted */
	ITEM_STORE,        /* store in the buffer; without one: ITEM_KEEP */
	ITEM_NAP_STORE,    /* ITEM_STORE, after a millisecond */
	ITEM_NOPS
};

#define ITEM_OF(op, value) ((uint64_t)(op) << 32 | (uint64_t)(value))

enum {
	ITEMS_MAX = 1 << 17,       /* items whose calls are counted */
	ITEMS_BULK = 100 << 10,    /* bytes that are sent in the arena */
	ITEMS_WORKER_MAX = 1 << 8, /* workers whose calls are counted */
	ITEMS_RAW = 16             /* bytes: a value, and its complement */
};

/* Memory that the test shares with all workers. */
struct items_shared {
	_Atomic int births, onces, waiting, nfuncs;
	_Atomic int sleeping;       /* ITEM_SLEEPs with a fixed end */
	_Atomic int nkept, nforgot; /* frames with and without kept values */
	_Atomic bool gate;
	_Atomic int ncalls[ITEMS_WORKER_MAX]; /* calls of workers by birth */
	_Atomic unsigned char ran[ITEMS_MAX]; /* calls of items by index */
};

/* State that a worker inherits. */
struct items_home {
	struct items_shared *shared;
	uint64_t funcs[FZ_WORKER_FUNCS]; /* number that each adds */
	uint64_t (*probe)(void *ctx);    /* called in the worker */
	void *probe_ctx;
	int birth; /* in the worker: its number, in the order of starts */
	/* in the worker: raw results of the current chunk; NULL: none */
	unsigned char *result_buffer;
	uint64_t first; /* the first item of the current chunk */
};

/* The main function of workers; `ctx` is a struct items_home. */
int items_serve(void *ctx, struct fz_port *port);

/* Call the items of the current chunk. 0, or -1 if a result cannot be sent. */
int items_chunk(
    struct items_home *home, struct fz_port *port, struct fz_call *call);

struct items_home *items_home_new(void);
void items_home_free(struct items_home *home);

/* Forget that the items before `n` have run. */
void items_forget(struct items_shared *shared, uint64_t n);

/* Raw value `n` of a mapped result buffer, which must be complete. */
uint64_t items_slot(const unsigned char *buffer, size_t n);

/* All items as the part of a frame; NULL if there is no memory. */
struct fz_blob *items_part(const uint64_t *items, size_t n);

#endif
