/* MAP_ANONYMOUS and environ are no part of C or POSIX headers. */
#define _GNU_SOURCE
#include "sched/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/container.h"
#include "base/err.h"
#include "os/fd.h"
#include "os/jobserver.h"
#include "os/loop.h"
#include "worker/child_port.h"
#include "worker/engine.h"

enum { SLOTS_OF_MAKE = 4096 }; /* tokens at most that one process takes */
#define TOKEN '+'

struct fz_slots {
	struct fz_engine *engine;
	unsigned refs;
	unsigned n;    /* of all processes; 0: no limit yet */
	int shared[2]; /* for programs that workers start, -1: make's are */
	int in, out;   /* our ends: reading never waits; `in` from first use */
	unsigned used; /* slots of this process, its own counted */
	unsigned char *tokens; /* that it holds; make may want them back as
				* they were */
	unsigned ntokens, tokens_cap;
	bool dry;     /* there was no token, and the watch waits for one */
	bool is_ours; /* this process has made them */
	struct fz_account *account; /* of this process, or NULL */
	struct fz_account *page;    /* where it is no worker's */
	struct fz_slots_waiter *waiters;
	struct fz_watch watch;
	struct fz_defer settle;
	bool settling; /* it was called, and put itself at the end */
	struct fz_fork_hook hook;
	/* For workers; what it was made of, as long as it was that. */
	char **environ_, **made_of;
	unsigned made_for;
	bool entered; /* it is the environment of this process */
};

#define SLOTS_OF(member, ptr) FZ_CONTAINER_OF(ptr, struct fz_slots, member)

/* ---- tokens ------------------------------------------------------------- */

/*
 * What an account holds whose process has left: it has written back all that
 * was counted. Those below end, and are to take no more and to write back
 * nothing a second time.
 */
#define GONE (INT32_MIN / 2)

static bool
is_gone(int32_t held)
{
	return held < GONE / 2;
}

static bool
may_take(struct fz_account *account)
{
	for (; account != NULL; account = account->above) {
		if (is_gone(atomic_load(&account->held)))
			return false;
	}
	return true;
}

/* Own account first, then those above: see slots.h. False: one is gone. */
static bool
count(struct fz_account *account)
{
	bool good = true;

	for (; account != NULL; account = account->above)
		good &= !is_gone(atomic_fetch_add(&account->held, 1));
	return good;
}

static bool
uncount(struct fz_account *account, int32_t n)
{
	bool good = true;

	if (account == NULL)
		return true;
	good = uncount(account->above, n);
	return !is_gone(atomic_fetch_sub(&account->held, n)) && good;
}

/*
 * The account of a process that has overwritten it may say any number: no more
 * tokens can be lost than are neither here nor in the pipe.
 */
static int32_t
at_most_missing(const struct fz_slots *s, int32_t n)
{
	int32_t missing = SLOTS_OF_MAKE;

	if (s->shared[0] != -1)
		missing = (int32_t)(s->n - 1 - s->ntokens -
				    fz_jobserver_count(s->shared[0]));
	if (missing < 0)
		missing = 0;
	return n < missing ? n : missing;
}

enum { WRITE_MAX = 256 }; /* tokens in one write: a part of a page */

static bool
has_room(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	int rc;

	do
		rc = poll(&pfd, 1, 0);
	while (rc == -1 && errno == EINTR);
	return rc == 1 && (pfd.revents & POLLOUT) != 0;
}

/*
 * The pipe has room for all tokens there are. One that is full holds bytes that
 * are none, as many as the tokens that are lost here: waiting for a reader
 * could take for ever.
 */
static void
write_tokens(const struct fz_slots *s, const unsigned char *tokens, unsigned n)
{
	for (unsigned some; n > 0 && has_room(s->out); n -= some) {
		some = n < WRITE_MAX ? n : WRITE_MAX;
		fz_fd_write_all(s->out, tokens, some);
		tokens += some;
	}
}

static void
write_new_tokens(const struct fz_slots *s, unsigned n)
{
	unsigned char some[WRITE_MAX];

	memset(some, TOKEN, WRITE_MAX);
	for (; n > WRITE_MAX && has_room(s->out); n -= WRITE_MAX)
		write_tokens(s, some, WRITE_MAX);
	write_tokens(s, some, n < WRITE_MAX ? n : WRITE_MAX);
}

static bool
read_token(struct fz_slots *s)
{
	unsigned char *token = s->tokens + s->ntokens;

	if (s->dry || s->ntokens == s->tokens_cap)
		return false;
	if (!may_take(s->account)) {
		s->dry = true; /* for ever */
		return false;
	}
	if (s->in == -1)
		s->in = fz_jobserver_reader(s->shared[0]);
	if (s->in == -1 || fz_fd_read(s->in, token, 1) != 1)
		return false;
	if (!count(s->account)) {
		write_tokens(s, token, 1);
		return false;
	}
	s->ntokens++;
	return true;
}

/* Give up the tokens beyond the first `keep`. */
static void
give_up_tokens(struct fz_slots *s, unsigned keep)
{
	unsigned n = s->ntokens - keep;

	s->ntokens = keep;
	if (uncount(s->account, (int32_t)n))
		write_tokens(s, s->tokens + keep, n);
}

/* ---- taking and giving -------------------------------------------------- */

/* A slot that needs no system call: its own, or one of a token it has. */
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

/* Each may wait again. */
static void
tell_waiters(struct fz_slots *s)
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
	tell_waiters(s);
}

/*
 * Called a second time, so that whoever has something to run has taken what
 * became free in this step: tokens go to and fro only when nobody has.
 */
static void
settle(struct fz_defer *defer)
{
	struct fz_slots *s = SLOTS_OF(settle, defer);
	bool wanted = s->waiters != NULL && has_kept(s);

	if (wanted)
		tell_waiters(s);
	s->settling = wanted || !s->settling;
	if (s->settling)
		fz_loop_defer(s->engine->loop, defer);
	else
		fz_slots_trim(s);
}

/*
 * Some of our own workers are busy, or there would be a slot: if the watch
 * fails, the waiter is told when one of them is not any more.
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
	if (has_kept(slots) || read_token(slots)) {
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
		give_up_tokens(slots, need);
}

void
fz_slots_forget(struct fz_slots_waiter *waiter)
{
	if (waiter->prev != NULL)
		unlink_waiter(waiter);
}

void
fz_slots_died(struct fz_slots *slots, struct fz_account *account)
{
	int32_t n = atomic_exchange(&account->held, GONE);

	if (n == 0 || is_gone(n))
		return;
	n = at_most_missing(slots, n);
	/* Less than none: killed between two steps, one has counted wrong. */
	if (uncount(slots->account, n) && n > 0)
		write_new_tokens(slots, (unsigned)n);
}

/* ---- making and resizing ------------------------------------------------ */

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
	/* What all below hold, so that it can be written back at the end. */
	page = mmap(NULL, sizeof(*s->page), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) {
		fz_err_sys(err, errno, "mmap");
		goto fail;
	}
	s->account = s->page = page;
	s->n = SLOTS_OF_MAKE;
	engine->slots = s;
	return s;
fail:
	fz_slots_unref(s);
	return NULL;
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
		give_up_tokens(slots, 0);
	close_pipe(slots);
	fz_loop_undefer(slots->engine->loop, &slots->settle);
	fz_loop_unhook(&slots->hook);
	free(slots->tokens);
	free(slots->environ_);
	free(slots->made_of);
	if (slots->page != NULL)
		munmap(slots->page, sizeof(*slots->page));
	free(slots);
}

/* Tokens that were lost with somebody who was killed are made anew. */
static void
set_tokens(struct fz_slots *s, unsigned want)
{
	unsigned have = fz_jobserver_count(s->shared[0]);

	if (have < want)
		write_new_tokens(s, want - have);
	for (; have > want && read_token(s); have--)
		s->ntokens--;
}

int
fz_slots_resize(struct fz_slots *slots, unsigned n, struct fz_err *err)
{
	unsigned room;

	if (slots->engine->slots != NULL)
		return 0;
	if (!slots->is_ours) /* made by nobody yet, or by our parent */
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
	slots->dry = false; /* what was true then need not be so now */
	if (slots->used == 0) {
		fz_slots_trim(slots);
		set_tokens(slots, n - 1);
		slots->n = n;
	} else if (n > slots->n) {
		write_new_tokens(slots, n - slots->n);
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

/* ---- workers ------------------------------------------------------------ */

static bool
is_current(const struct fz_slots *s, char *const *env)
{
	size_t i = 0;

	if (s->environ_ == NULL || s->made_for != s->n)
		return false;
	while (env[i] != NULL && env[i] == s->made_of[i])
		i++;
	return env[i] == s->made_of[i];
}

/*
 * setenv() in the worker would cost it as much as its fork: it is only to
 * point to an environment that is there.
 */
int
fz_slots_prepare(struct fz_slots *slots, struct fz_err *err)
{
	static char *none[] = { NULL };
	char *const *env = environ != NULL ? environ : none;
	char **copy, **made_of;
	size_t n = 0;

	if (slots->entered || is_current(slots, env))
		return 0;
	while (env[n] != NULL)
		n++;
	copy = fz_jobserver_environ(env, slots->n, slots->shared);
	made_of = malloc((n + 1) * sizeof(*made_of));
	if (copy == NULL || made_of == NULL) {
		free(copy);
		free(made_of);
		return fz_err_nomem(err, "the environment of workers");
	}
	memcpy(made_of, env, (n + 1) * sizeof(*made_of));
	free(slots->environ_);
	free(slots->made_of);
	slots->environ_ = copy;
	slots->made_of = made_of;
	slots->made_for = slots->n;
	return 0;
}

void
fz_slots_enter(struct fz_slots *slots, struct fz_account *account)
{
	account->above = slots->account;
	slots->account = account;
	if (slots->engine->slots != slots) {
		fz_slots_ref(slots);
		slots->engine->slots = slots;
	}
	if (slots->entered)
		return;
	slots->entered = true;
	environ = slots->environ_;
	for (int i = 0; i < 2 && slots->shared[i] != -1; i++)
		fcntl(slots->shared[i], F_SETFD, 0);
}

void
fz_slots_leave(struct fz_slots *slots)
{
	struct fz_account *account = slots->account;
	unsigned own = slots->ntokens;
	int32_t held = (int32_t)own;

	slots->ntokens = 0;
	if (account != NULL) {
		held = atomic_exchange(&account->held, GONE);
		if (is_gone(held))
			return;
		held = at_most_missing(slots, held);
		if (!uncount(account->above, held))
			return;
	}
	write_tokens(slots, slots->tokens, own);
	if (held > (int32_t)own)
		write_new_tokens(slots, (unsigned)held - own);
}
