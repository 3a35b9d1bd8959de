/*
 * batches.h - workers that call the items of batches, for tests.
 *
 * An item is a number: in its upper half what is to be done, in the lower one
 * a value. What it returns is eight bytes: that value, and what is added by
 * the function that is in its slot.
 */
#ifndef BATCHES_H
#define BATCHES_H

/* Behind <cmocka.h> and what it needs. */
#include "world.h"

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
	ITEM_PLACE,        /* in the strip; as kept where there is none */
	ITEM_NAP_PLACE,    /* the same, after a millisecond */
	ITEM_NOPS
};

#define ITEM_OF(op, value) ((uint64_t)(op) << 32 | (uint64_t)(value))

enum {
	ITEMS_MAX = 1 << 17,       /* items of which it is known what ran */
	ITEMS_BULK = 100 << 10,    /* so much goes by the arena */
	ITEMS_WORKER_MAX = 1 << 8, /* workers of which the items are counted */
	ITEMS_SLOT = 16            /* bytes: a value, and the same inverted */
};

/* What all workers tell of, and are told by. */
struct items_shared {
	_Atomic int births, onces, waiting, nfuncs;
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
	/* In the worker: the slots of the batch at hand, NULL: it has none. */
	unsigned char *strip;
	uint64_t first; /* item of that batch */
};

/* ---- in a worker -------------------------------------------------------- */

static inline int
items_keep(struct fz_port *port, const struct fz_call *call, uint64_t v)
{
	unsigned char *room = fz_port_item(port, call, NULL);

	if (room == NULL)
		return -1;
	fz_le64_store(room, v);
	fz_port_item_end(port, 8);
	return 0;
}

static inline int
items_raise(struct fz_port *port, const struct fz_call *call)
{
	fz_port_begin(port, call, FZ_WIRE_ERROR, FZ_ERR_ERROR);
	fz_buf_put(&port->value.buf, "raised", 6);
	fz_port_put(port);
	return fz_port_send(port, NULL);
}

/* A reply in the cell, of which `n` bytes are written: the end. */
static inline void
items_die(struct fz_port *port, size_t n)
{
	put_number(port, 1);
	port->flushed_ns = fz_clock_ns() + FZ_CLOCK_SECOND;
	fz_port_send(port, NULL);
	if (n > atomic_load(&port->cell->nout))
		n = atomic_load(&port->cell->nout);
	if (write(port->out, port->cell->out, n) != (ssize_t)n)
		_exit(92);
	raise(SIGKILL);
}

/* Do one item. 0, or -1 where nobody takes its result. */
static inline int
items_call(struct items_home *home, struct fz_port *port,
    const struct fz_call *call, uint64_t item)
{
	struct items_shared *shared = home->shared;
	uint64_t v = (item & UINT32_MAX) + home->funcs[call->func];
	enum item_op op = (enum item_op)(item >> 32);

	if ((op == ITEM_RAISE_ONCE || op == ITEM_KILL_ONCE) &&
	    atomic_fetch_add(&shared->onces, 1) != 0)
		op = ITEM_KEEP;
	switch (op) {
	case ITEM_PROBE:
		v = home->probe(home->probe_ctx);
		break;
	case ITEM_SLEEP:
		nap(item & UINT32_MAX);
		break;
	case ITEM_WAIT:
		atomic_fetch_add(&shared->waiting, 1);
		while (!atomic_load(&shared->gate))
			usleep(100);
		break;
	case ITEM_KILL:
	case ITEM_KILL_ONCE:
		raise(SIGKILL);
		break;
	case ITEM_RAISE_LATE:
		while (atomic_load(&shared->waiting) == 0)
			usleep(100);
		return items_raise(port, call);
	case ITEM_RAISE:
	case ITEM_RAISE_ONCE:
		return items_raise(port, call);
	case ITEM_KEEP:
		break;
	case ITEM_PLACE:
		break;
	case ITEM_NAP_PLACE:
		nap(1);
		break;
	case ITEM_FLUSH:
		if (items_keep(port, call, v) != 0)
			return -1;
		return fz_port_flush(port, NULL);
	default:
		fz_port_begin(port, call, FZ_WIRE_RESULT, 1);
		if (op == ITEM_BULK)
			job_bytes(port, ITEMS_BULK);
		else if (op == ITEM_REPLY)
			put_number(port, v);
		else
			items_die(port, op == ITEM_KILL_STORED ? 0
					: op == ITEM_KILL_HALF ? 21
							       : FZ_CELL_OUT);
		return fz_port_send(port, NULL);
	}
	return items_keep(port, call, v);
}

/* Item number `i` of the batch whose items are at `at`, NULL: it has none. */
static inline uint64_t
items_at(const struct items_home *home, const unsigned char *at, uint64_t i)
{
	if (at != NULL)
		return fz_le64_load(at + 8 * (i - home->first));
	return ITEM_OF(home->strip != NULL ? ITEM_PLACE : ITEM_KEEP, i);
}

static inline void
items_note(struct items_home *home, uint64_t i)
{
	atomic_fetch_add(&home->shared->ran[i % ITEMS_MAX], 1);
	atomic_fetch_add(
	    &home->shared->ncalls[home->birth % ITEMS_WORKER_MAX], 1);
}

static inline bool
items_is_placed(const struct items_home *home, uint64_t item)
{
	enum item_op op = (enum item_op)(item >> 32);

	return home->strip != NULL &&
	       (op == ITEM_PLACE || op == ITEM_NAP_PLACE);
}

/*
 * Place the results of the items from the one at hand on. 0: the one then at
 * hand is done, 1: it is of another kind, -1: nobody takes them.
 */
static inline int
items_run(struct items_home *home, struct fz_port *port, struct fz_call *call,
    const unsigned char *at)
{
	struct fz_direct run;
	int rc = 0;

	if (fz_direct_begin(port, call, &run, NULL) != 0)
		return -1;
	do {
		uint64_t i = call->item + (run.seq - call->seq);
		uint64_t item = items_at(home, at, i), v;
		unsigned char *slot =
		    home->strip + ITEMS_SLOT * (i - home->first);

		if (!items_is_placed(home, item)) {
			rc = 1;
			break;
		}
		items_note(home, i);
		if (item >> 32 == ITEM_NAP_PLACE)
			nap(1);
		v = (item & UINT32_MAX) + home->funcs[call->func];
		fz_le64_store(slot, v);
		fz_le64_store(slot + 8, ~v);
		fz_direct_stored(&run); /* whole before it counts */
	} while (fz_direct_advance(&run));
	fz_direct_end(port, call, &run);
	return rc;
}

static inline int
items_batch(struct items_home *home, struct fz_port *port, struct fz_call *call)
{
	struct fz_part part = { .bytes = NULL };
	const unsigned char *at = NULL;
	size_t len = ITEMS_SLOT * (size_t)call->nitems;
	int rc = 0;

	home->first = call->item;
	home->strip = NULL;
	if (call->type == FZ_WIRE_BATCH && call->strip != 0) {
		home->strip =
		    fz_arena_map_room(port->shm, call->strip, len, NULL);
		if (home->strip == NULL)
			_exit(89);
	}
	if (call->nargs != 0) {
		if (fz_wire_part(&call->args, &part) != 0)
			_exit(90);
		at = part.bytes;
		if (at == NULL)
			at = fz_arena_map(
			    port->shm, part.offset, part.len, NULL);
		if (at == NULL || part.len < 8 * (size_t)call->nitems)
			_exit(91);
	}
	do {
		uint64_t item = items_at(home, at, call->item);

		if (items_is_placed(home, item)) {
			rc = items_run(home, port, call, at);
		} else {
			items_note(home, call->item);
			rc = items_call(home, port, call, item);
		}
	} while (rc == 1 || (rc == 0 && fz_port_advance(port, call)));
	if (at != NULL && part.bytes == NULL)
		fz_arena_unmap(port->shm, at, part.len);
	if (home->strip != NULL)
		fz_arena_unmap(port->shm, home->strip, len);
	return rc == 0 ? fz_port_end_batch(port, NULL) : -1;
}

/* A fz_worker_main; `ctx` is a struct items_home. */
static inline int
items_serve(void *ctx, struct fz_port *port)
{
	struct items_home *home = ctx;
	struct fz_call call;
	int rc;

	home->birth = atomic_fetch_add(&home->shared->births, 1);
	while ((rc = fz_port_next(port, &call, NULL)) == 1) {
		if (call.type == FZ_WIRE_FUNC) {
			home->funcs[call.func] = next_number(port, &call);
			atomic_fetch_add(&home->shared->nfuncs, 1);
		} else if (items_batch(home, port, &call) != 0) {
			return 96;
		}
	}
	return rc == 0 ? 0 : 97;
}

/* ---- around a test ------------------------------------------------------ */

static inline struct items_home *
items_home_new(void)
{
	struct items_home *home = calloc(1, sizeof(*home));

	assert_non_null(home);
	home->shared = mmap(NULL, sizeof(*home->shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(home->shared != MAP_FAILED);
	return home;
}

static inline void
items_home_free(struct items_home *home)
{
	munmap(home->shared, sizeof(*home->shared));
	free(home);
}

/* Of the items before `n`: that they never ran. */
static inline void
items_forget(struct items_shared *shared, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		atomic_store(&shared->ran[i], 0);
}

/* The value in slot `n` of a strip that is mapped; it must be whole. */
static inline uint64_t
items_slot(const unsigned char *strip, size_t n)
{
	uint64_t v = fz_le64_load(strip + ITEMS_SLOT * n);

	assert_int_equal(fz_le64_load(strip + ITEMS_SLOT * n + 8), ~v);
	return v;
}

/* All items as the part of a frame; NULL where there is no memory. */
static inline struct fz_blob *
items_part(const uint64_t *items, size_t n)
{
	unsigned char *bytes = malloc(8 * n);
	struct fz_blob *blob = NULL;

	if (bytes == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++)
		fz_le64_store(bytes + 8 * i, items[i]);
	blob = fz_blob_new(bytes, 8 * n, NULL);
	free(bytes);
	return blob;
}

#endif
