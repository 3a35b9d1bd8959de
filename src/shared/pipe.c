#include "shared/pipe.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/proc.h"

/* A child that has not registered by then was killed, or never forked. */
#define REGISTER_NS (5 * FZ_CLOCK_SECOND)
/* If no other process lives, an unread message with an end is lost by then. */
#define UNREAD_NS FZ_CLOCK_SECOND

/* A pipe that this process has handles of. */
struct record {
	struct fz_pipe *pipe;
	struct record *next;
	unsigned nhandles;      /* that are not forgotten */
	unsigned nopen[2];      /* of these, by end */
	uint32_t nforked;       /* children, with earlier ones of this place */
	uint64_t first_pending; /* number of the first that may not register */
	int64_t forked_ns;      /* when the last one was forked */
	uint32_t nsent[2];      /* as last seen while no other process lived */
	int64_t sent_ns[2];     /* when that was seen first */
	bool given[2];          /* to the child that is forked next */
};

static struct record *records;
static uint32_t self; /* this process; 0 before the first pipe */

static struct record *
find(const struct fz_pipe *pipe)
{
	struct record *r = records;

	while (r != NULL && r->pipe != pipe)
		r = r->next;
	return r;
}

static uint32_t
count_registered(const struct record *r)
{
	return atomic_load(&r->pipe->nregistered[fz_heap_place(self)]);
}

static bool
has_pending(const struct record *r)
{
	return (int32_t)(r->nforked - count_registered(r)) > 0;
}

static void
count_fork(void)
{
	int64_t now = records != NULL ? fz_clock_ns() : 0;

	for (struct record *r = records; r != NULL; r = r->next) {
		if (!has_pending(r))
			r->first_pending = fz_proc_forks();
		r->nforked++;
		r->forked_ns = now;
	}
}

/* In a child of the member `parent`. */
static void
register_ends(struct record *r, uint32_t parent)
{
	for (unsigned i = 0; i < 2; i++) {
		if (r->nopen[i] != 0)
			fz_endpoint_hold(&r->pipe->end[i].holders, self);
		if (r->given[i])
			fz_endpoint_use(&r->pipe->end[i].holders, self);
		r->given[i] = false;
	}
	r->nforked = count_registered(r);
	atomic_fetch_add(&r->pipe->nregistered[fz_heap_place(parent)], 1);
}

/*
 * In a forked child, which is no member yet. A child of fz_proc_fork() does so
 * at once, a child of the host's own fork when it first uses a pipe: a fork
 * that has nothing to do with pipes touches no shared memory.
 */
static void
register_child(void)
{
	uint32_t parent = self;

	if (records == NULL)
		return;
	self = fz_heap_join(NULL);
	for (struct record *r = records; self != 0 && r != NULL; r = r->next)
		register_ends(r, parent);
}

static struct fz_proc_hook hook = { .forked = count_fork,
	.born = register_child };

uint32_t
fz_pipe_self(struct fz_err *err)
{
	if (fz_heap_self() == 0)
		register_child();
	self = fz_heap_join(err);
	return self;
}

void
fz_pipe_init(struct fz_pipe *pipe)
{
	fz_queue_init(&pipe->end[0].out, &pipe->object, 0);
	fz_queue_init(&pipe->end[1].out, &pipe->object, 0);
}

static struct record *
add_record(struct fz_pipe *pipe, struct fz_err *err)
{
	struct record *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		fz_err_nomem(err, "a pipe");
		return NULL;
	}
	fz_proc_hook(&hook);
	r->pipe = pipe;
	r->nforked = count_registered(r);
	r->next = records;
	records = r;
	return r;
}

int
fz_pipe_open(struct fz_pipe *pipe, unsigned part, struct fz_err *err)
{
	struct record *r = find(pipe);

	if (r == NULL && fz_pipe_self(err) != 0)
		r = add_record(pipe, err);
	if (r == NULL)
		return -1;
	r->nhandles++;
	r->nopen[part]++;
	fz_endpoint_hold(&pipe->end[part].holders, self);
	return 0;
}

void
fz_pipe_close(struct fz_pipe *pipe, unsigned part)
{
	struct fz_pipe_end *end = &pipe->end[part];
	struct record *r = find(pipe);

	if (--r->nopen[part] != 0 || fz_heap_self() == 0)
		return;
	fz_endpoint_leave(&end->holders, self);
	if (r->nopen[1 - part] == 0)
		fz_pipe_compact(pipe);
	atomic_fetch_add(&end->nclosed, 1);
	fz_eventcount_notify(&end->out.items, FZ_EVENTCOUNT_ALL);
}

void
fz_pipe_forget(struct fz_pipe *pipe)
{
	struct record **at = &records, *r;

	while ((*at)->pipe != pipe)
		at = &(*at)->next;
	r = *at;
	if (--r->nhandles != 0)
		return;
	*at = r->next;
	free(r);
}

void
fz_pipe_give(struct fz_pipe *pipe, unsigned part)
{
	find(pipe)->given[part] = true;
}

bool
fz_pipe_give_none(void)
{
	for (struct record *r = records; r != NULL; r = r->next)
		r->given[0] = r->given[1] = false;
	return records != NULL;
}

void
fz_pipe_count_sent(struct fz_pipe *pipe, unsigned part, int n)
{
	atomic_fetch_add(&pipe->end[part].nsent, (uint32_t)n);
}

void
fz_pipe_count_loaded(struct fz_pipe *pipe, unsigned part)
{
	fz_pipe_use(pipe, part);
	atomic_fetch_add(&pipe->end[part].nloaded, 1);
}

void
fz_pipe_use(struct fz_pipe *pipe, unsigned part)
{
	fz_endpoint_use(&pipe->end[part].holders, self);
}

static bool
is_child_pending(struct record *r)
{
	if (!has_pending(r))
		return false;
	/* A child that was killed before it registered is reaped, or late. */
	if (fz_proc_newest() >= r->first_pending &&
	    fz_clock_ns() - r->forked_ns < REGISTER_NS)
		return true;
	r->nforked = count_registered(r);
	return false;
}

/* A process that was forked has a parent, which lives. */
static bool
is_alone(void)
{
	return !fz_proc_is_child() && fz_proc_newest() == 0;
}

/* Whether the end is in a message that may still be read. */
static bool
is_in_message(struct record *r, unsigned part)
{
	const struct fz_pipe_end *end = &r->pipe->end[part];
	uint32_t nsent = atomic_load(&end->nsent);

	if ((int32_t)(nsent - atomic_load(&end->nloaded)) <= 0)
		return false;
	if (!is_alone())
		return true;
	if (r->nsent[part] != nsent) {
		r->nsent[part] = nsent;
		r->sent_ns[part] = fz_clock_ns();
	}
	return fz_clock_ns() - r->sent_ns[part] < UNREAD_NS;
}

static bool
is_over(struct fz_pipe *pipe, unsigned part)
{
	const struct fz_endpoint *holders = &pipe->end[part].holders;
	struct record *r;

	if (!fz_endpoint_is_over(holders, self))
		return false;
	r = find(pipe);
	if (is_child_pending(r) || is_in_message(r, part))
		return false;
	/* A process may have registered between the two checks. */
	return fz_endpoint_is_over(holders, self);
}

bool
fz_pipe_is_connected(struct fz_pipe *pipe, unsigned part)
{
	unsigned other = 1 - part;

	return fz_endpoint_is_used(&pipe->end[other].holders, self) ||
	       !is_over(pipe, other);
}

bool
fz_pipe_has_ended(struct fz_pipe_receiver *r, bool late)
{
	unsigned other = 1 - r->part;
	uint32_t nclosed = atomic_load(&r->pipe->end[other].nclosed);

	if (!late && nclosed == r->nclosed)
		return false;
	r->nclosed = nclosed;
	return is_over(r->pipe, other);
}

void
fz_pipe_compact(struct fz_pipe *pipe)
{
	fz_queue_compact(&pipe->end[0].out, fz_heap_self());
	fz_queue_compact(&pipe->end[1].out, fz_heap_self());
}
