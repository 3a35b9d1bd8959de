/* MAP_ANONYMOUS is an extension. */
#define _GNU_SOURCE
#include "sched/slots.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/container.h"
#include "base/err.h"
#include "os/fd.h"
#include "os/jobserver.h"
#include "os/process.h"
#include "sched/slots_state.h"
#include "wire/child_port.h"
#include "worker/engine.h"

#define SLOTS_OF(member, ptr) FZ_CONTAINER_OF(ptr, struct fz_slots, member)

/*
 * Whether this process can use a slot without a system call: its own slot, or a
 * token that it holds.
 */
static bool
has_kept(const struct fz_slots *s)
{
	return s->used < 1 + s->ntokens;
}

static void
unlink_waiter(struct fz_slots_waiter *waiter)
{
	*waiter->prev = waiter->next;
	if (waiter->next != NULL)
		waiter->next->prev = waiter->prev;
	waiter->prev = NULL;
}

/* Notify and remove all waiters. A waiter may wait again. */
static void
notify_waiters(struct fz_slots *s)
{
	struct fz_slots_waiter *list = s->waiters;

	s->waiters = NULL;
	if (list != NULL)
		list->prev = &list;
	while (list != NULL) {
		struct fz_slots_waiter *waiter = list;

		unlink_waiter(waiter);
		waiter->freed(waiter);
	}
}

static void
token_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_slots *s = SLOTS_OF(watch, watch);

	(void)events;
	s->dry = false;
	fz_loop_rewatch(s->engine->loop, watch, 0, NULL);
	notify_waiters(s);
}

/*
 * Called twice: in between, waiters can acquire the slots that became free in
 * this turn, and only then are unused tokens written back.
 */
static void
settle(struct fz_defer *defer)
{
	struct fz_slots *s = SLOTS_OF(settle, defer);
	bool wanted = s->waiters != NULL && has_kept(s);

	if (wanted)
		notify_waiters(s);
	s->settling = wanted || !s->settling;
	if (s->settling)
		fz_loop_defer(s->engine->loop, defer);
	else
		fz_slots_trim(s);
}

/*
 * If no slot is free, a worker of this process is busy. When it becomes idle
 * the waiter is notified, even if the pipe cannot be watched.
 */
static void
wait_for_slot(struct fz_slots *s, struct fz_slots_waiter *waiter)
{
	struct fz_loop *loop = s->engine->loop;
	int rc;

	if (waiter->prev == NULL) {
		waiter->next = s->waiters;
		waiter->prev = &s->waiters;
		if (waiter->next != NULL)
			waiter->next->prev = &waiter->next;
		s->waiters = waiter;
	}
	if (s->dry)
		return;
	if (s->watch.fd == -1)
		rc = fz_loop_watch(loop, &s->watch, s->in, FZ_LOOP_READ, NULL);
	else
		rc = fz_loop_rewatch(loop, &s->watch, FZ_LOOP_READ, NULL);
	s->dry = rc == 0;
}

bool
fz_slots_take(struct fz_slots *slots, struct fz_slots_waiter *waiter)
{
	if (has_kept(slots) || fz_slots_read_token(slots)) {
		slots->used++;
		return true;
	}
	wait_for_slot(slots, waiter);
	return false;
}

bool
fz_slots_has_free(const struct fz_slots *slots)
{
	return has_kept(slots) || !slots->dry;
}

void
fz_slots_give(struct fz_slots *slots)
{
	slots->used--;
	fz_loop_defer(slots->engine->loop, &slots->settle);
}

void
fz_slots_trim(struct fz_slots *slots)
{
	unsigned need = slots->used > 1 ? slots->used - 1 : 0;

	if (slots->ntokens > need)
		fz_slots_give_up_tokens(slots, need);
}

void
fz_slots_forget(struct fz_slots_waiter *waiter)
{
	if (waiter->prev != NULL)
		unlink_waiter(waiter);
}

static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_slots *s = SLOTS_OF(hook, hook);

	s->used = s->ntokens = 0;
	s->dry = s->is_ours = s->settling = false;
	s->waiters = NULL;
}

struct fz_slots *
fz_slots_new(struct fz_engine *engine, struct fz_err *err)
{
	struct fz_slots *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		fz_err_nomem(err, "slots");
		return NULL;
	}
	s->engine = engine;
	s->refs = 1;
	s->shared[0] = s->shared[1] = s->in = s->out = -1;
	s->watch = (struct fz_watch){ .fd = -1, .ready = token_ready };
	s->settle.call = settle;
	s->hook.in_child = in_child;
	fz_loop_hook(engine->loop, &s->hook);
	return s;
}

static int
grow(struct fz_slots *s, unsigned ntokens, struct fz_err *err)
{
	unsigned char *tokens;

	if (ntokens <= s->tokens_cap)
		return 0;
	tokens = realloc(s->tokens, ntokens);
	if (tokens == NULL)
		return fz_err_nomem(err, "slots");
	s->tokens = tokens;
	s->tokens_cap = ntokens;
	return 0;
}

struct fz_slots *
fz_slots_of_make(struct fz_engine *engine, const int fd[2], struct fz_err *err)
{
	struct fz_slots *s = fz_slots_new(engine, err);
	int in = fd[0], out = fd[1];
	void *page;

	if (s == NULL) {
		fz_fd_close(&in);
		fz_fd_close(&out);
		return NULL;
	}
	s->in = in;
	s->out = out;
	if (grow(s, SLOTS_OF_MAKE, err) != 0)
		goto fail;
	/*
	 * Count the tokens of all descendants in an account, so that they can
	 * be written back at the end.
	 */
	page = mmap(NULL, sizeof(*s->page), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) {
		fz_err_sys(err, errno, "mmap");
		goto fail;
	}
	s->page = page;
	s->first.account = page;
	s->first.generation = fz_process.generation;
	s->lineage = &s->first;
	s->n = SLOTS_OF_MAKE;
	engine->slots = s;
	return s;
fail:
	fz_slots_unref(s);
	return NULL;
}

struct fz_slots *
fz_slots_of_parent(struct fz_engine *engine, unsigned n, const int fd[2],
    const struct fz_lineage *lineage, struct fz_err *err)
{
	struct fz_slots *s = fz_slots_new(engine, err);
	bool of_make = n == 0;
	int in = fd[0], out = fd[1];

	if (s == NULL) {
		fz_fd_close(&in);
		fz_fd_close(&out);
		return NULL;
	}
	s->in = of_make ? in : -1;
	s->out = out;
	for (int i = 0; i < 2 && !of_make; i++)
		s->shared[i] = fd[i];
	s->n = of_make ? SLOTS_OF_MAKE : n;
	if (grow(s, s->n, err) != 0) {
		fz_slots_unref(s);
		return NULL;
	}
	s->lineage = lineage;
	/* this program has inherited the environment for its workers already */
	s->entered = true;
	engine->slots = s;
	return s;
}

static void
close_pipe(struct fz_slots *s)
{
	fz_loop_unwatch(s->engine->loop, &s->watch);
	if (s->shared[0] == -1)
		fz_fd_close(&s->out);
	fz_fd_close(&s->in);
	fz_fd_close(&s->shared[0]);
	fz_fd_close(&s->shared[1]);
	s->out = -1;
	s->dry = false;
	s->n = 0;
}

void
fz_slots_ref(struct fz_slots *slots)
{
	slots->refs++;
}

void
fz_slots_unref(struct fz_slots *slots)
{
	if (slots == NULL || --slots->refs != 0)
		return;
	if (slots->ntokens != 0)
		fz_slots_give_up_tokens(slots, 0);
	close_pipe(slots);
	fz_loop_undefer(&slots->settle);
	fz_loop_unhook(&slots->hook);
	free(slots->tokens);
	free(slots->environ_);
	free(slots->made_of);
	if (slots->page != NULL)
		munmap(slots->page, sizeof(*slots->page));
	free(slots);
}

int
fz_slots_resize(struct fz_slots *slots, unsigned n, struct fz_err *err)
{
	unsigned room;

	if (slots->engine->slots != NULL)
		return 0;
	if (!slots->is_ours) /* there is no pipe, or it is the parent's */
		close_pipe(slots);
	if (slots->n == 0) {
		if (fz_fd_pipe(slots->shared, err) != 0)
			return -1;
		slots->out = slots->shared[1];
		slots->is_ours = true;
		slots->entered = false;
		slots->n = 1;
	}
	room = fz_jobserver_room(slots->shared[0]);
	if (n - 1 > room)
		n = room + 1;
	if (grow(slots, n, err) != 0)
		return -1;
	slots->dry = false; /* tokens may be added to the pipe now */
	if (slots->used == 0) {
		fz_slots_trim(slots);
		fz_slots_set_tokens(slots, n - 1);
		slots->n = n;
	} else if (n > slots->n) {
		fz_slots_write_new_tokens(slots, n - slots->n);
		slots->n = n;
	}
	return 0;
}

struct fz_slots *
fz_slots_for(const struct fz_engine *engine, struct fz_slots *own)
{
	if (engine->slots != NULL)
		return engine->slots;
	return own != NULL && own->n != 0 ? own : NULL;
}
