/*
 * pipe.h - a pipe in shared memory: two ends, each with a queue of the items
 * that it sends.
 *
 * An end is over when no process uses it or can begin to use it. A process can
 * begin to use an end that is in an unread message, or that it has inherited: a
 * forked child holds the open ends of its parent even before it has registered.
 * So each instance has local state for each pipe of which it has handles, and
 * counts its forks there. Each child adds itself to a shared count when it
 * registers.
 *
 * The ends are the sides 0 and 1. The caller owns the handles. This process is
 * the member of the shared heap that fz_pipes_self() returns.
 */
#ifndef FZ_PIPE_H
#define FZ_PIPE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proc/children.h"
#include "shared/endpoint.h"
#include "shared/heap.h"
#include "shared/queue.h"

struct fz_err;

struct fz_pipe_end {
	struct fz_endpoint holders;
	struct fz_queue out; /* the items that this end sends */
	/* number of messages that this end was put into */
	_Atomic uint32_t nsent;
	/* number of messages that this end was taken out of */
	_Atomic uint32_t nloaded;
	/* number of processes that have closed the end */
	_Atomic uint32_t nclosed;
};

struct fz_pipe {
	struct fz_object object;
	struct fz_pipe_end end[2];
	/*
	 * By place of a member: the number of its children that have registered
	 * here.
	 */
	_Atomic uint32_t nregistered[FZ_HEAP_MEMBERS];
};

/* The pipes of one instance. */
struct fz_pipes {
	struct fz_membership *membership;
	struct fz_children *children;
	/* the state for each pipe of which the instance has handles */
	struct fz_pipe_local *locals;
	/* the number of the member; 0: no pipe was used yet */
	uint32_t self;
	struct fz_children_hook hook;
};

/* From now on `children` calls own->hook at each fork. */
void fz_pipes_init(struct fz_pipes *own, struct fz_membership *membership,
    struct fz_children *children);

/*
 * The number of this instance as a member; call it before a use of a pipe. The
 * first call in a forked child registers the inherited ends. 0 and `err` if
 * this instance cannot become a member.
 */
uint32_t fz_pipes_self(struct fz_pipes *own, struct fz_err *err);

/* Initialise a pipe whose memory is all zero. */
void fz_pipe_init(struct fz_pipe *pipe);

/*
 * Count one more open handle of the end `side`. 0, or -1 and `err`. Each handle
 * ends with fz_pipe_close() and then fz_pipe_forget().
 */
int fz_pipe_open(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side,
    struct fz_err *err);

/* Count one open handle less. With the last one this process leaves the end. */
void fz_pipe_close(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side);

/* Count one closed handle less. */
void fz_pipe_forget(struct fz_pipes *own, const struct fz_pipe *pipe);

/*
 * fz_pipe_give(): note that the next child will use the end.
 * fz_pipe_give_none(): note that the next child will use no end. Returns
 * whether this process has handles of any pipe.
 */
void fz_pipe_give(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side);
bool fz_pipe_give_none(struct fz_pipes *own);

/*
 * Count that the end was put into a message (n = 1), or that this message was
 * not sent (n = -1).
 */
void fz_pipe_count_sent(struct fz_pipe *pipe, unsigned side, int n);

/* Count that the end was read from a message; its handle is open already. */
void fz_pipe_count_loaded(
    struct fz_pipes *own, struct fz_pipe *pipe, unsigned side);

/* Note that this process uses the end. */
void fz_pipe_use(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side);

/*
 * Whether a process, this one included, may read the items that this end sends.
 */
bool fz_pipe_is_connected(
    const struct fz_pipes *own, const struct fz_pipe *pipe, unsigned side);

/* The state of a receiver at `side`. */
struct fz_pipe_receiver {
	const struct fz_pipes *own;
	struct fz_pipe *pipe;
	unsigned side;
	/* `nclosed` of the other end at the last check; 0 at first */
	uint32_t nclosed;
};

/*
 * Whether the other end is over, so no item follows those in the queue. The
 * check visits all members. Without `late` it is therefore made only after a
 * process has closed that end.
 */
bool fz_pipe_has_ended(struct fz_pipe_receiver *r, bool late);

/* The queue that a receiver at `side` takes from. */
static inline struct fz_queue *
fz_pipe_in(struct fz_pipe *pipe, unsigned side)
{
	return &pipe->end[1 - side].out;
}

/* Free the memory of empty queues; the next item allocates memory again. */
void fz_pipe_compact(struct fz_pipe *pipe, uint32_t self);

#endif
