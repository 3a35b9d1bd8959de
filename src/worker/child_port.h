/*
 * child_port.h - the worker's end of its two pipes: calls in, replies out.
 *
 * Beside the pipes, parent and worker share one cell of memory. It makes two
 * things exact that pipes leave open when a worker dies: which job had been
 * started, and which replies were whole though not yet written.
 *
 *   claim  which jobs were started (see claim.h).
 *   out    replies the worker has finished and not yet written to its pipe.
 *          A reply counts from the moment `nout` covers it. `epoch` moves
 *          before bytes of it are overwritten, so that the parent can copy
 *          replies that wait behind a long job and know if the copy is good.
 *   open   the frame of items behind those replies that is still growing:
 *          where it starts, its bytes and its items in one word. An item
 *          counts from the moment this word covers it. It means nothing
 *          where it does not start at `nout`.
 *
 * A function of the worker may overwrite this memory, or close the pipes. So
 * the worker builds replies in memory of its own and has only a copy of them in
 * the cell, keeps its own copy of what the cell says, and writes to its pipe
 * only if that is still the one that it was given. The parent checks all that
 * it reads.
 */
#ifndef FZ_CHILD_PORT_H
#define FZ_CHILD_PORT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "base/clock.h"
#include "os/spin.h"
#include "shared/arena.h"
#include "shared/idle.h"
#include "worker/claim.h"
#include "worker/wire.h"

struct fz_err;

/*
 * How many tokens of the jobserver (see slots.h) a worker and all below it
 * hold: who dies with some has them written back by its parent.
 */
struct fz_account {
	_Atomic int32_t held;
	struct fz_account *above; /* of its parent; for the worker alone */
};

#define FZ_CELL_OUT ((size_t)128 << 10)
#define FZ_CELL_IN ((size_t)128 << 10)
#define FZ_PORT_ITEM ((size_t)4096)
/* Items fill so many bytes, less than a pipe holds, and are written. */
#define FZ_PORT_ITEMS ((size_t)48 << 10)

struct fz_cell {
	struct fz_claim claim;
	_Atomic uint32_t nout;    /* bytes of out[] that are whole replies */
	_Atomic uint32_t writing; /* a reply that was never in out[] */
	_Atomic uint32_t nwhy;    /* of out[]: why the worker cannot start */
	_Atomic uint32_t epoch;   /* how often out[] was begun anew */
	_Atomic uint64_t open;    /* fz_cell_open(); 0: none */
	_Atomic int64_t start_ns; /* when the last timed job or batch started */
	struct fz_account account;
	unsigned char out[FZ_CELL_OUT];
};

/*
 * The worker's own memory before the cell: replies, and where it reads calls
 * to. Its first large malloc would have glibc tidy up, and so copy, much of the
 * inherited heap.
 */
struct fz_cell_own {
	unsigned char out[FZ_CELL_OUT];
	unsigned char in[FZ_CELL_IN];
};

static inline struct fz_cell_own *
fz_cell_own(struct fz_cell *cell)
{
	return (struct fz_cell_own *)(void *)((unsigned char *)cell -
					      sizeof(struct fz_cell_own));
}

/* The frame of items that grows behind the whole replies of a cell. */
struct fz_cell_open {
	uint32_t start, len, nitems; /* bytes of out[], header included */
};

enum { FZ_CELL_OPEN_ITEMS = (1 << 20) - 1 }; /* at most */

struct fz_cell_open fz_cell_open(const struct fz_cell *cell);

static inline uint64_t
fz_cell_open_word(const struct fz_cell_open *open)
{
	return (uint64_t)open->start << 40 | (uint64_t)open->len << 20 |
	       open->nitems;
}

/* A cell that later forks share. NULL and `err` on failure. */
struct fz_cell *fz_cell_new(struct fz_err *err);
void fz_cell_free(struct fz_cell *cell, bool kept); /* NULL is allowed */

/*
 * In the parent, after the fork: the cell is of one worker alone, and later
 * forks do not share it; what is the worker's own is the worker's. Whether the
 * parent is free of that now, for fz_cell_free().
 */
bool fz_cell_keep(struct fz_cell *cell);

struct fz_call;

struct fz_port {
	int in, out;   /* blocking ends of the pipes */
	dev_t out_dev; /* which pipe that is */
	ino_t out_ino;
	struct fz_cell *cell;
	struct fz_cell_own *own; /* its replies, of which the cell has a copy */
	uint32_t nout, epoch;    /* what the cell is to say */
	struct fz_arena *shm;    /* NULL: all values are inline */
	struct fz_wire_in wire;  /* calls not yet taken */
	struct fz_buf frame;     /* the reply under construction */
	struct fz_arena_buf value; /* where the worker encodes one value */
	struct fz_spin spin;       /* before it sleeps for calls */
	/*
	 * Whether this worker can start a call; where not, it takes no more,
	 * and its parent gives the call to another one. NULL: always.
	 */
	bool (*accepts)(const struct fz_call *call);
	int64_t flushed_ns;
	struct fz_idle idle;       /* since when it needs no more memory */
	bool open;                 /* `frame` holds a reply that was not sent */
	uint32_t items_seq;        /* of the first item of the open frame */
	struct fz_cell_open items; /* that frame; nitems is 0 where none is */
	enum fz_wire_type items_type; /* FZ_WIRE_ITEMS or _PLACED */
};

/* What to do next; `args` holds `nargs` parts. */
struct fz_call {
	enum fz_wire_type type; /* FZ_WIRE_JOB, _BATCH or _FUNC */
	bool timed;             /* note when each item starts */
	uint32_t seq, func, nargs;
	uint32_t nvalues; /* of a job: results that are wanted */
	uint32_t kind;    /* of a batch: enum fz_wire_kind */
	uint32_t nitems;  /* of a batch: from the one at hand on */
	uint64_t item;    /* of a batch: index of the one at hand */
	uint64_t seed;
	uint64_t memory; /* bytes the worker may use, 0: no limit */
	uint64_t strip;  /* of a batch: where in the arena, 0: nowhere */
	struct fz_reader args;
};

/* Start with these descriptors and cell. `shm` may be NULL. */
void fz_port_init(struct fz_port *port, int in, int out, struct fz_cell *cell,
    struct fz_arena *shm);

/*
 * Wait for the next call and claim it, or for a function to keep. Returns 1, 0
 * when the parent wants no more (end of file), or this worker does not accept
 * the call, or -1 and `err` for a broken
 * pipe or frame.
 */
int fz_port_next(
    struct fz_port *port, struct fz_call *call, struct fz_err *err);

/*
 * The item at hand is done: start the next one of the batch. False where there
 * is none, or the parent has taken the rest back.
 */
static inline bool
fz_port_advance(struct fz_port *port, struct fz_call *call)
{
	if (call->nitems <= 1)
		return false;
	if (call->timed)
		atomic_store(&port->cell->start_ns, fz_clock_ns());
	if (!fz_claim_start(&port->cell->claim, call->seq + 1))
		return false;
	call->seq++;
	call->item++;
	call->nitems--;
	return true;
}

/* Whether the open frame is of that type and can have the item at hand next. */
static inline bool
fz_port_continues(const struct fz_port *port, enum fz_wire_type type,
    const struct fz_call *call)
{
	const struct fz_cell_open *open = &port->items;

	return open->nitems != 0 && port->items_type == type &&
	       port->items_seq + open->nitems == call->seq &&
	       open->nitems < FZ_CELL_OPEN_ITEMS;
}

/* For fz_port_item(): where the open frame cannot take it. */
unsigned char *fz_port_open_item(
    struct fz_port *port, const struct fz_call *call, struct fz_err *err);

/*
 * Room for the result of the item at hand, of at most FZ_PORT_ITEM bytes; put
 * it there and end it with the number of bytes it took, or not at all. NULL
 * and `err` where the parent is gone.
 */
static inline unsigned char *
fz_port_item(
    struct fz_port *port, const struct fz_call *call, struct fz_err *err)
{
	const struct fz_cell_open *open = &port->items;

	if (!fz_port_continues(port, FZ_WIRE_ITEMS, call) ||
	    open->start + open->len > FZ_PORT_ITEMS)
		return fz_port_open_item(port, call, err);
	return port->own->out + open->start + open->len;
}

enum { FZ_PORT_FEW = 16 }; /* bytes copied at once: most items are small */

static inline void
fz_port_item_end(struct fz_port *port, size_t len)
{
	size_t at = port->items.start + port->items.len;

	if (len <= FZ_PORT_FEW)
		memcpy(port->cell->out + at, port->own->out + at, FZ_PORT_FEW);
	else
		memcpy(port->cell->out + at, port->own->out + at, len);
	port->items.len += (uint32_t)len;
	port->items.nitems++;
	atomic_store_explicit(&port->cell->open,
	    fz_cell_open_word(&port->items), memory_order_release);
}

/*
 * Items whose results are in their slots of the strip, from the one at hand on:
 * what is done for each of them, in as few steps as there can be. From begin to
 * end nothing else may be put.
 *
 *	begin
 *	do
 *		... place the result, or leave
 *		fz_port_run_placed()
 *	while (fz_port_run_advance())
 *	end
 */
struct fz_port_run {
	struct fz_cell *cell;
	uint64_t word; /* of the open frame, as fz_cell_open_word() */
	uint32_t seq;  /* of the item at hand */
	uint32_t left; /* items that may follow it */
	bool timed;
};

/* 0, or -1 and `err` where the parent is gone. */
int fz_port_run_begin(struct fz_port *port, const struct fz_call *call,
    struct fz_port_run *run, struct fz_err *err);

/* `call` is that of the item at hand again. Returns how many came before it. */
uint32_t fz_port_run_end(
    struct fz_port *port, struct fz_call *call, const struct fz_port_run *run);

static inline void
fz_port_run_placed(struct fz_port_run *run)
{
	atomic_store_explicit(
	    &run->cell->open, ++run->word, memory_order_release);
}

/* Start the next item; false: this run has none. */
static inline bool
fz_port_run_advance(struct fz_port_run *run)
{
	if (run->left == 0)
		return false;
	if (run->timed)
		atomic_store(&run->cell->start_ns, fz_clock_ns());
	if (!fz_claim_start(&run->cell->claim, run->seq + 1))
		return false;
	run->seq++;
	run->left--;
	return true;
}

/* A pause between batches: let items go that have waited long. */
int fz_port_pause(struct fz_port *port, struct fz_err *err);

/*
 * Build the reply to `call`: begin (`word` is the number of values of a
 * result, the kind of an error), encode each value into `port->value.buf` and
 * put it, send. A reply given up is begun again. Sending returns 0, or -1 and
 * `err`: kind memory where the reply did not fit (send a smaller one), any
 * other where the parent is gone.
 */
void fz_port_begin(struct fz_port *port, const struct fz_call *call,
    enum fz_wire_type type, uint32_t word);
void fz_port_put(struct fz_port *port);
int fz_port_send(struct fz_port *port, struct fz_err *err);

/* Write the replies that wait in the cell. 0, or -1 and `err`. */
int fz_port_flush(struct fz_port *port, struct fz_err *err);

#endif
