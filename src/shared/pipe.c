#include "shared/pipe.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "proc/proc.h"

/*
 * Time for a forked child to register. A child that has not registered by then
 * was killed, or does not exist.
 */
#define REGISTER_NS (5 * FZ_CLOCK_SECOND)
/*
 * Time after which an unread message counts as lost if no other process is
 * alive.
 */
#define UNREAD_NS FZ_CLOCK_SECOND

/* The state of a pipe in this instance, which has handles of it. */
struct fz_pipe_local {
	struct fz_pipe *pipe;
	struct fz_pipe_local *next;
	unsigned nhandles; /* number of handles that are not forgotten yet */
	unsigned nopen[2]; /* for each end: number of open handles */
	/* number of children, even of earlier members at this place */
	uint32_t nforked;
	/* number of the first child that may not have registered yet */
	uint64_t first_pending;
	int64_t forked_ns; /* time at which the last child was forked */
	/*
	 * `nsent` of each end, when is_in_message() last found no other process
	 */
	uint32_t nsent[2];
	int64_t sent_ns[2]; /* when `nsent` last changed, as seen here */
	/* for each end: fz_pipe_give() was called for the next child */
	bool given[2];
};

static struct fz_pipe_local *
find(const struct fz_pipes *own, const struct fz_pipe *pipe)
{
	struct fz_pipe_local *r = own->locals;

	while (r != NULL && r->pipe != pipe)
		r = r->next;
	return r;
}

static uint32_t
count_registered(const struct fz_pipes *own, const struct fz_pipe_local *r)
{
	return atomic_load(&r->pipe->nregistered[fz_heap_place(own->self)]);
}

static bool
has_pending(const struct fz_pipes *own, const struct fz_pipe_local *r)
{
	return (int32_t)(r->nforked - count_registered(own, r)) > 0;
}

static void
count_fork(struct fz_children_hook *hook)
{
	struct fz_pipes *own = FZ_CONTAINER_OF(hook, struct fz_pipes, hook);
	int64_t now = own->locals != NULL ? fz_clock_ns() : 0;

	for (struct fz_pipe_local *r = own->locals; r != NULL; r = r->next) {
		if (!has_pending(own, r))
			r->first_pending = own->children->nforks;
		r->nforked++;
		r->forked_ns = now;
	}
}

/* In a child of the member `parent`: register the inherited ends. */
static void
register_ends(struct fz_pipes *own, struct fz_pipe_local *r, uint32_t parent)
{
	for (unsigned i = 0; i < 2; i++) {
		if (r->nopen[i] != 0)
			fz_endpoint_hold(&r->pipe->end[i].holders, own->self);
		if (r->given[i])
			fz_endpoint_use(&r->pipe->end[i].holders, own->self);
		r->given[i] = false;
	}
	r->nforked = count_registered(own, r);
	atomic_fetch_add(&r->pipe->nregistered[fz_heap_place(parent)], 1);
}

/*
 * Called in a forked child that is no member yet: register the ends that it has
 * inherited. A child of fz_proc_fork() does this at once. A child that the host
 * has forked does it at its first use of a pipe. A fork that does not use pipes
 * therefore touches no shared memory.
 */
static void
register_child(struct fz_pipes *own)
{
	uint32_t parent = own->self, self;

	if (own->locals == NULL)
		return;
	self = fz_heap_join(own->membership, NULL);
	if (self == 0)
		return;
	own->self = self;
	for (struct fz_pipe_local *r = own->locals; r != NULL; r = r->next)
		register_ends(own, r, parent);
}

static void
born(struct fz_children_hook *hook)
{
	register_child(FZ_CONTAINER_OF(hook, struct fz_pipes, hook));
}

void
fz_pipes_init(struct fz_pipes *own, struct fz_membership *membership,
    struct fz_children *children)
{
	*own = (struct fz_pipes){ .membership = membership,
		.children = children,
		.hook = { .forked = count_fork, .born = born } };
	fz_children_add_hook(children, &own->hook);
}

uint32_t
fz_pipes_self(struct fz_pipes *own, struct fz_err *err)
{
	uint32_t self;

	/* the child may be a member already, because of another object */
	if (fz_heap_self(own->membership) != own->self)
		register_child(own);
	self = fz_heap_join(own->membership, err);
	if (self != 0)
		own->self = self;
	return self;
}

void
fz_pipe_init(struct fz_pipe *pipe)
{
	fz_queue_init(&pipe->end[0].out, &pipe->object, 0);
	fz_queue_init(&pipe->end[1].out, &pipe->object, 0);
}

static struct fz_pipe_local *
add_local(struct fz_pipes *own, struct fz_pipe *pipe, struct fz_err *err)
{
	struct fz_pipe_local *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		fz_err_nomem(err, "a pipe");
		return NULL;
	}
	r->pipe = pipe;
	r->nforked = count_registered(own, r);
	r->next = own->locals;
	own->locals = r;
	return r;
}

int
fz_pipe_open(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side,
    struct fz_err *err)
{
	struct fz_pipe_local *r = find(own, pipe);

	if (fz_pipes_self(own, err) == 0)
		return -1;
	if (r == NULL)
		r = add_local(own, pipe, err);
	if (r == NULL)
		return -1;
	r->nhandles++;
	r->nopen[side]++;
	fz_endpoint_hold(&pipe->end[side].holders, own->self);
	return 0;
}

void
fz_pipe_close(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side)
{
	struct fz_pipe_end *end = &pipe->end[side];
	struct fz_pipe_local *r = find(own, pipe);

	if (--r->nopen[side] != 0 || fz_heap_self(own->membership) != own->self)
		/* other handles are open, or this child has not registered */
		return;
	fz_endpoint_leave(&end->holders, own->self);
	if (r->nopen[1 - side] == 0)
		fz_pipe_compact(pipe, own->self);
	atomic_fetch_add(&end->nclosed, 1);
	fz_eventcount_notify(&end->out.items, FZ_EVENTCOUNT_ALL);
}

void
fz_pipe_forget(struct fz_pipes *own, const struct fz_pipe *pipe)
{
	struct fz_pipe_local **at = &own->locals, *r;

	while ((*at)->pipe != pipe)
		at = &(*at)->next;
	r = *at;
	if (--r->nhandles != 0)
		return;
	*at = r->next;
	free(r);
}

void
fz_pipe_give(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side)
{
	find(own, pipe)->given[side] = true;
}

bool
fz_pipe_give_none(struct fz_pipes *own)
{
	for (struct fz_pipe_local *r = own->locals; r != NULL; r = r->next)
		r->given[0] = r->given[1] = false;
	return own->locals != NULL;
}

void
fz_pipe_count_sent(struct fz_pipe *pipe, unsigned side, int n)
{
	atomic_fetch_add(&pipe->end[side].nsent, (uint32_t)n);
}

void
fz_pipe_count_loaded(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side)
{
	fz_pipe_use(own, pipe, side);
	atomic_fetch_add(&pipe->end[side].nloaded, 1);
}

void
fz_pipe_use(struct fz_pipes *own, struct fz_pipe *pipe, unsigned side)
{
	fz_endpoint_use(&pipe->end[side].holders, own->self);
}

static bool
is_child_pending(const struct fz_pipes *own, struct fz_pipe_local *r)
{
	if (!has_pending(own, r))
		return false;
	/*
	 * The missing children were killed before they registered, if all of
	 * them are reaped, or if REGISTER_NS have passed.
	 */
	if (fz_children_newest(own->children) >= r->first_pending &&
	    fz_clock_ns() - r->forked_ns < REGISTER_NS)
		return true;
	r->nforked = count_registered(own, r);
	return false;
}

/*
 * Whether no other process can use a pipe of this instance. A forked process
 * has a parent, which can.
 */
static bool
is_alone(const struct fz_pipes *own)
{
	return !fz_proc_is_child() && fz_children_newest(own->children) == 0;
}

/* Whether the end is in an unread message that a process may still read. */
static bool
is_in_message(
    const struct fz_pipes *own, struct fz_pipe_local *r, unsigned side)
{
	const struct fz_pipe_end *end = &r->pipe->end[side];
	uint32_t nsent = atomic_load(&end->nsent);

	if ((int32_t)(nsent - atomic_load(&end->nloaded)) <= 0)
		return false;
	if (!is_alone(own))
		return true;
	if (r->nsent[side] != nsent) {
		r->nsent[side] = nsent;
		r->sent_ns[side] = fz_clock_ns();
	}
	return fz_clock_ns() - r->sent_ns[side] < UNREAD_NS;
}

static bool
is_over(const struct fz_pipes *own, const struct fz_pipe *pipe, unsigned side)
{
	const struct fz_endpoint *holders = &pipe->end[side].holders;
	struct fz_pipe_local *r;

	if (!fz_endpoint_is_over(holders, own->self))
		return false;
	r = find(own, pipe);
	if (is_child_pending(own, r) || is_in_message(own, r, side))
		return false;
	/* check again, because a process may have registered meanwhile */
	return fz_endpoint_is_over(holders, own->self);
}

bool
fz_pipe_is_connected(
    const struct fz_pipes *own, const struct fz_pipe *pipe, unsigned side)
{
	unsigned other = 1 - side;

	return fz_endpoint_is_used(&pipe->end[other].holders, own->self) ||
	       !is_over(own, pipe, other);
}

bool
fz_pipe_has_ended(struct fz_pipe_receiver *r, bool late)
{
	unsigned other = 1 - r->side;
	uint32_t nclosed = atomic_load(&r->pipe->end[other].nclosed);

	if (!late && nclosed == r->nclosed)
		return false;
	r->nclosed = nclosed;
	return is_over(r->own, r->pipe, other);
}

void
fz_pipe_compact(struct fz_pipe *pipe, uint32_t self)
{
	fz_queue_compact(&pipe->end[0].out, self);
	fz_queue_compact(&pipe->end[1].out, self);
}
