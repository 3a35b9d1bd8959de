/*
 * child_port.h - the worker's end of the link to its parent: calls in, replies
 * out.
 *
 * A function of the worker may overwrite the memory that it shares with its
 * parent, or close the descriptors. Therefore the port builds replies in memory
 * of its own and copies them to the mailbox (see mailbox.h). Before it writes,
 * it checks that its descriptor still refers to the same file.
 */
#ifndef FZ_CHILD_PORT_H
#define FZ_CHILD_PORT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"
#include "os/spin.h"
#include "shared/arena.h"
#include "shared/idle.h"
#include "wire/mailbox.h"
#include "wire/meter.h"
#include "wire/slot_line.h"
#include "wire/wire.h"

struct fz_err;

struct fz_call;
struct fz_port;

/* The operations that differ between the kinds of links. */
struct fz_port_ops {
	/* Handle a frame that is not a call. */
	void (*control)(struct fz_port *port, const struct fz_frame *frame);
	/*
	 * Called if the claim refuses to start item `seq` of `call`. Returns
	 * whether the parent allows the item nevertheless.
	 */
	bool (*grant)(struct fz_port *port, struct fz_call *call, uint32_t seq);
	/* Wait until calls can be read. NULL: the read itself waits. */
	void (*wait)(struct fz_port *port);
};

/* The longest time that replies wait to share a write with later ones. */
#define FZ_PORT_FLUSH_NS (FZ_CLOCK_MS / 2)

/* The items that may start, if the link shares no memory. */
struct fz_port_permit {
	/* all items with smaller numbers have started or were taken back */
	uint32_t floor;
	uint32_t end;     /* one above the last number that may start */
	uint32_t n;       /* number of items in the last grant */
	int64_t since_ns; /* time of the last grant */
	/* `held` of the mailbox decides which items start */
	bool held;
};

/* A mapped part of the arena. */
struct fz_span {
	const void *at;
	size_t len;
};

struct fz_port {
	int in, out;   /* blocking ends of the pipes */
	dev_t out_dev; /* identity of `out` */
	ino_t out_ino;
	const struct fz_port_ops *ops;
	struct fz_port_permit permit;
	/* for a worker on a node: the line to the gateway of the node */
	struct fz_slot_line slot;
	/*
	 * account of the worker's tokens; NULL: it has a jobserver of its own
	 */
	struct fz_account *account;
	struct fz_mailbox *mailbox;
	/* private memory for replies, which are copied to the mailbox */
	struct fz_mailbox_own *own;
	/* What the mailbox contains, unless a function has overwritten it. */
	uint32_t epoch;
	uint64_t written;              /* bytes of all replies so far */
	uint64_t word;                 /* `open`, as last written */
	struct fz_mailbox_open items;  /* the replies, and the open frame */
	struct fz_mailbox_sum replies; /* sum over the complete replies */
	/* sum over the complete replies and the bytes of the open frame */
	struct fz_mailbox_sum growing;
	/* arena for big values; NULL: all values are inline */
	struct fz_arena *arena;
	/* calls that were read and not processed */
	struct fz_wire_in wire;
	struct fz_buf frame;       /* the reply under construction */
	struct fz_arena_buf value; /* the worker encodes a value here */
	/* the fields of the mailbox with these names, as they were last read */
	uint32_t nexpected, cpu;
	struct fz_spin spin; /* polls before the worker sleeps for calls */
	/* number of the worker in its pool, from 1; 0: it has none */
	unsigned number;
	/*
	 * Whether this worker can start a call; NULL: always. If not, it takes
	 * no more calls, and its parent sends the call to another worker.
	 */
	bool (*accepts)(const struct fz_call *call);
	/* the last argument that was mapped; `at` is NULL if it was inline */
	struct fz_span mapped;
	/* the result buffer of a chunk; `at` is NULL: there is none */
	struct fz_span results;
	int64_t flushed_ns; /* time before the last write of replies */
	/* the state of the return of kept memory, see idle.h */
	struct fz_idle idle;
	bool lost; /* the claim was damaged: this worker takes no more calls */
	bool open; /* `frame` contains a reply that is not sent */
	bool items_measured; /* the items of the open frame are measured */
	struct fz_meter meter;
	uint32_t items_seq; /* number of the first item of the open frame */
	enum fz_wire_type items_type; /* FZ_WIRE_ITEMS, _VALUES or _STORED */
};

/* The next call, or values to keep; `args` has `nargs` parts. */
struct fz_call {
	enum fz_wire_type type; /* FZ_WIRE_JOB, _CHUNK, _FUNC, _KEEP, _SETUP */
	bool timed;             /* note the time at which each item starts */
	bool measured;          /* report the usage of each item */
	uint32_t seq, func, nargs;
	uint32_t nvalues; /* number of results that are wanted from a job */
	uint32_t kind;    /* for a chunk: its enum fz_wire_kind */
	/*
	 * number of items that are left of a chunk, including the current one;
	 * 1 for a job
	 */
	uint32_t nitems;
	uint64_t item; /* index of the current item of a chunk in the list */
	uint64_t seed;
	/* limit of the worker's memory in bytes; 0: none */
	uint64_t memory;
	/* for a chunk: offset of its result buffer in the arena; 0: none */
	uint64_t result_buffer;
	/* for a FZ_WIRE_STEP: number of unread arguments in `args` */
	uint32_t nunread;
	uint32_t unread_seq; /* number of the item with the unread arguments */
	struct fz_reader args;
};

static inline bool
fz_call_is_step(const struct fz_call *call)
{
	return (call->kind & FZ_WIRE_KINDS) == FZ_WIRE_STEP;
}

/*
 * Initialise a port with the descriptors `in` and `out`. `arena` may be NULL.
 * 0, or -1 and `err`.
 */
int fz_port_init(struct fz_port *port, int in, int out,
    struct fz_mailbox *mailbox, struct fz_arena *arena, struct fz_err *err);

/*
 * Wait for a call, which is claimed, or for values to keep. Returns 1; 0 at the
 * end of the calls, or if this worker does not accept the call; -1 and `err`
 * for a broken descriptor or frame.
 */
int fz_port_next(
    struct fz_port *port, struct fz_call *call, struct fz_err *err);

/*
 * From now on sleep without polling first, because calls rarely follow each
 * other closely.
 */
void fz_port_sleep_at_once(struct fz_port *port);

/* The next argument, valid until fz_port_release(). 0, or -1 and `err`. */
int fz_port_argument(struct fz_port *port, struct fz_call *call,
    const void **bytes, size_t *len, struct fz_err *err);
void fz_port_release(struct fz_port *port);

/*
 * For a call of type FZ_WIRE_STEP: move to the arguments of the current item,
 * and set its seed. Arguments of earlier items that failed may be unread.
 */
void fz_port_step(struct fz_call *call);

/*
 * End the current item and start the next one of the chunk. False if there is
 * none, or if the parent has taken back the rest of the chunk.
 */
static inline bool
fz_port_advance(struct fz_port *port, struct fz_call *call)
{
	if (call->nitems <= 1)
		return false;
	if (call->timed)
		atomic_store(&port->mailbox->start_ns, fz_clock_ns());
	if (!fz_claim_start(
		&port->mailbox->claim, call->seq + 1, &port->lost) &&
	    !port->ops->grant(port, call, call->seq + 1))
		return false;
	call->seq++;
	call->item++;
	call->nitems--;
	return true;
}

/*
 * Map the memory where the results of the chunk `call` go, `size` bytes for
 * each item, until fz_port_end_chunk(). NULL if the results must be sent.
 */
void *fz_port_map_results(
    struct fz_port *port, const struct fz_call *call, size_t size);

/*
 * End the chunk: send its results if they have waited long, or if all are in
 * memory that the parent reads. 0, or -1 and `err`.
 */
int fz_port_end_chunk(struct fz_port *port, struct fz_err *err);

/*
 * Build the reply to `call`. fz_port_begin(): `word` is the number of values of
 * a result, or the kind of an error. fz_port_put(): add the value that was
 * encoded in `port->value.buf`. To abandon a reply, begin another one.
 * fz_port_send(): 0, or -1 and `err` of kind memory if the reply did not fit
 * (send a smaller one), of any other kind if the parent is gone.
 */
void fz_port_begin(struct fz_port *port, const struct fz_call *call,
    enum fz_wire_type type, uint32_t word);
void fz_port_put(struct fz_port *port);
int fz_port_send(struct fz_port *port, struct fz_err *err);

/*
 * For a measured FZ_WIRE_STEP: store the usage of the current item,
 * FZ_WIRE_USED bytes, at `p`. The value of the item follows.
 */
void fz_port_store_used(struct fz_port *port, unsigned char *p);

/* Append a frame without values to the replies. 0, or -1 and `err`. */
int fz_port_note(struct fz_port *port, enum fz_wire_type type, uint32_t seq,
    uint32_t number, struct fz_err *err);

/* Write the waiting replies to the parent. 0, or -1 and `err`. */
int fz_port_flush(struct fz_port *port, struct fz_err *err);

#endif
