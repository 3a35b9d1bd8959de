/*
 * pipe.h - a pipe in shared memory: two ends, each with a queue of what it
 * sends.
 *
 * An end is over once no process uses it, or can come to use it. A process can
 * come to use an end that is in an unread message, or that it has
 * inherited: a forked child holds the open ends of its parent before it has
 * registered itself. So each instance keeps a record of each pipe that it has
 * handles of, counts its forks since, and each child counts itself in when it
 * registers.
 *
 * Parts are 0 and 1. Handles are the caller's; this process is the member of
 * the shared heap that fz_pipes_self() returns.
 */
#ifndef FZ_PIPE_H
#define FZ_PIPE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "os/children.h"
#include "shared/endpoint.h"
#include "shared/heap.h"
#include "shared/queue.h"

struct fz_err;

struct fz_pipe_end {
	struct fz_endpoint holders;
	struct fz_queue out;      /* what this end sends */
	_Atomic uint32_t nsent;   /* messages that this end was put into */
	_Atomic uint32_t nloaded; /* messages that it was taken out of */
	_Atomic uint32_t nclosed; /* processes that have closed it */
};

struct fz_pipe {
	struct fz_object object;
	struct fz_pipe_end end[2];
	/* By place of a member: its children that have registered here. */
	_Atomic uint32_t nregistered[FZ_HEAP_MEMBERS];
};

/* The pipes of one instance. */
struct fz_pipes {
	struct fz_membership *membership;
	struct fz_children *children;
	struct fz_pipe_record *records; /* of those that it has handles of */
	uint32_t self;                  /* the member; 0: no pipe yet */
	struct fz_children_hook hook;
};

/* `children` calls it at each fork from now on. */
void fz_pipes_init(struct fz_pipes *own, struct fz_membership *membership,
    struct fz_children *children);

/*
 * The member that this instance is, before it uses a pipe. A forked child
 * registers the ends that it has inherited with the first call. 0 and `err` if
 * it cannot become a member.
 */
uint32_t fz_pipes_self(struct fz_pipes *own, struct fz_err *err);

/* A new object is all zero before. */
void fz_pipe_init(struct fz_pipe *pipe);

/*
 * This process has one more handle, an open one, of that end. 0, or -1 and
 * `err`. Each one ends with fz_pipe_close() and then fz_pipe_forget().
 */
int fz_pipe_open(struct fz_pipes *own, struct fz_pipe *pipe, unsigned part,
    struct fz_err *err);

/* One of the open handles is closed. With the last this process leaves it. */
void fz_pipe_close(struct fz_pipes *own, struct fz_pipe *pipe, unsigned part);

/* One handle of the pipe, which is closed, is gone. */
void fz_pipe_forget(struct fz_pipes *own, const struct fz_pipe *pipe);

/*
 * The next child will use that end; fz_pipe_give_none(): it will use none.
 * Returns whether this process has handles of any pipe.
 */
void fz_pipe_give(struct fz_pipes *own, struct fz_pipe *pipe, unsigned part);
bool fz_pipe_give_none(struct fz_pipes *own);

/* The end was put into a message (n = 1), which was given up (n = -1). */
void fz_pipe_count_sent(struct fz_pipe *pipe, unsigned part, int n);

/* The end came out of a message; its handle is open already. */
void fz_pipe_count_loaded(
    struct fz_pipes *own, struct fz_pipe *pipe, unsigned part);

/* This process uses the end. */
void fz_pipe_use(struct fz_pipes *own, struct fz_pipe *pipe, unsigned part);

/* Whether an item that this end sends may be read, by this process as well. */
bool fz_pipe_is_connected(
    const struct fz_pipes *own, const struct fz_pipe *pipe, unsigned part);

/* What a receiver at `part` has seen of the other end. */
struct fz_pipe_receiver {
	const struct fz_pipes *own;
	struct fz_pipe *pipe;
	unsigned part;
	uint32_t nclosed; /* of the other end; 0 at first */
};

/*
 * Whether the other end is over: no item follows those in the queue. That takes
 * a look at all members, so without `late` only after a process has closed it.
 */
bool fz_pipe_has_ended(struct fz_pipe_receiver *r, bool late);

/* The queue that a receiver at `part` takes from. */
static inline struct fz_queue *
fz_pipe_in(struct fz_pipe *pipe, unsigned part)
{
	return &pipe->end[1 - part].out;
}

/* Free the memory of empty queues; the next item allocates some anew. */
void fz_pipe_compact(struct fz_pipe *pipe, uint32_t self);

#endif
