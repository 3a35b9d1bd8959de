/*
 * pipe.h - a pipe in shared memory: two ends, and a queue for each direction.
 *
 * An end is over when no process uses it, and none can begin to use it. A
 * process can begin to use an end that it finds in an unread message, or that
 * it has inherited. A forked child holds the open ends of its parent even
 * before it has registered. Each instance therefore counts its forks, in local
 * state for each pipe of which it has handles. Each child adds itself to a
 * shared count when it registers.
 *
 * The two ends are called side 0 and side 1. The caller owns the handles.
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
	struct fz_queue out; /* the items that were sent at this end */
	/* number of messages into which this end was put */
	_Atomic uint32_t nsent;
	/* number of messages from which this end was read */
	_Atomic uint32_t nloaded;
	/* number of processes that have closed the end */
	_Atomic uint32_t nclosed;
};

struct fz_pipe {
	struct fz_object object;
	struct fz_pipe_end end[2];
	/*
	 * for each place of a member: how many children of its members have
	 * registered for this pipe
	 */
	_Atomic uint32_t nregistered[FZ_HEAP_MEMBERS];
};

/* The pipes of one instance. */
struct fz_pipes {
	struct fz_membership *membership;
	struct fz_children *children;
	/* local state of each pipe of which the instance has handles */
	struct fz_pipe_local *locals;
	/* member number of the instance; 0: it has not used a pipe yet */
	uint32_t self;
	struct fz_children_hook hook;
};

/* Initialise `own`. At each fork, `children` will call own->hook. */
void fz_pipes_init(struct fz_pipes *own, struct fz_membership *membership,
    struct fz_children *children);

/*
 * The member number of this instance. Call this before any use of a pipe. The
 * first call in a forked child registers the inherited ends. 0 and `err` if the
 * instance cannot become a member.
 */
uint32_t fz_pipes_self(struct fz_pipes *own, struct fz_err *err);

/* Initialise a pipe whose memory is all zero. */
void fz_pipe_init(struct fz_pipe *pipe);

/*
 * Count a new open handle of the end `side`. 0, or -1 and `err`. For each
 * handle, call fz_pipe_close() and then fz_pipe_forget().
 */
int fz_pipe_open(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side,
    struct fz_err *err);

/* Count one open handle less. The last one makes this process leave the end. */
void fz_pipe_close(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side);

/* Note that a closed handle was freed. */
void fz_pipe_forget(struct fz_pipes *own, const struct fz_pipe *pipe);

/*
 * fz_pipe_give(): note that the next forked child will use the end.
 * fz_pipe_give_none(): note that the next forked child will use no end; returns
 * whether this process has handles of any pipe.
 */
void fz_pipe_give(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side);
bool fz_pipe_give_none(struct fz_pipes *own);

/*
 * If `n` is 1, count a message into which the end was put. If `n` is -1, such a
 * message was not sent after all.
 */
void fz_pipe_count_sent(struct fz_pipe *pipe, unsigned side, int n);

/* Count that the end came in a message; its handle is open already. */
void fz_pipe_count_loaded(
    struct fz_pipes *own, struct fz_pipe *pipe, unsigned side);

/* Note that this process uses the end. */
void fz_pipe_use(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side);

/* Whether any process, even this one, may read what the end `side` sends. */
bool fz_pipe_is_connected(
    const struct fz_pipes *own, const struct fz_pipe *pipe, unsigned side);

/* What a process that receives at the end `side` must remember. */
struct fz_pipe_receiver {
	const struct fz_pipes *own;
	struct fz_pipe *pipe;
	unsigned side;
	/* `nclosed` of the other end at the last check; at first 0 */
	uint32_t nclosed;
};

/*
 * Whether the other end is over, so that no items will follow those in the
 * queue. The check looks at all members. It is therefore made only after a
 * process has closed the other end; or if `late`.
 */
bool fz_pipe_has_ended(struct fz_pipe_receiver *r, bool late);

/* The queue from which a receiver at the end `side` takes items. */
static inline struct fz_queue *
fz_pipe_in(struct fz_pipe *pipe, unsigned side)
{
	return &pipe->end[1 - side].out;
}

/* Free the memory of empty queues; a later item allocates it again. */
void fz_pipe_compact(struct fz_pipe *pipe, uint32_t self);

#endif
