/* pthread_sigmask and sigset_t are not in C11. */
#define _GNU_SOURCE
#include "os/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "base/vec.h"
#include "os/fd.h"
#include "os/pollfd.h"
#include "os/process.h"
#include "os/spin.h"

enum {
	LOOP_POLLED = 64,
	LOOP_ROUNDS = 16,   /* rounds of deferred calls in one turn */
	LOOP_BRIEF_MS = 20, /* see sleep_until_ready() */
};

struct fz_loop {
	/* the epoll set; -1: opened again by the next watch or turn */
	int epfd;
	/* [1]: watches of private descriptors, [0]: of all other ones */
	struct fz_list watches[2];
	struct fz_timer **heap; /* heap[1] fires first; heap[0] is not used */
	size_t ntimers, heap_cap;
	struct fz_list defers; /* deferred calls, the oldest first */
	struct fz_list hooks;
	struct fz_spin spin;
	/* asked during a spin whether to yield the processor; NULL: none */
	const struct fz_awaited *awaited;
	/* the descriptor for a host; closed until fz_loop_fd() is called */
	struct fz_pollfd pollfd;
	/* whether the turn may wait; NULL: always */
	bool (*may_sleep)(void *ctx);
	void *may_sleep_ctx;
	pthread_t user;      /* the last thread that used the loop */
	uint32_t generation; /* generation of the process that uses the loop */
	struct fz_foreign_fork foreign;
	/*
	 * The events that are being handled. fz_loop_unwatch() removes the
	 * events of its watch.
	 */
	struct epoll_event polled[LOOP_POLLED];
	int npolled, at;
};

static struct fz_watch *
watch_of(struct fz_list *link)
{
	return FZ_CONTAINER_OF(link, struct fz_watch, link);
}

static struct fz_defer *
defer_of(struct fz_list *link)
{
	return FZ_CONTAINER_OF(link, struct fz_defer, link);
}

static uint32_t
epoll_events(unsigned events)
{
	uint32_t e = 0;

	if (events & FZ_LOOP_READ)
		e |= EPOLLIN;
	if (events & FZ_LOOP_WRITE)
		e |= EPOLLOUT;
	if (events & FZ_LOOP_EDGE)
		e |= EPOLLET;
	return e;
}

static int
epoll_edit(const struct fz_loop *loop, int op, struct fz_watch *watch, int fd,
    unsigned events)
{
	struct epoll_event ev = { .events = epoll_events(events),
		.data.ptr = watch };

	return epoll_ctl(loop->epfd, op, fd, &ev);
}

/* Add a list of watches to the epoll set. Closed descriptors are skipped. */
static int
add_all(const struct fz_loop *loop, const struct fz_list *list)
{
	for (struct fz_list *link = list->next; link != list;
	     link = link->next) {
		struct fz_watch *w = watch_of(link);

		if (epoll_edit(loop, EPOLL_CTL_ADD, w, w->fd, w->events) != 0 &&
		    errno != EBADF)
			return -1;
	}
	return 0;
}

/* Open the epoll set and add all watches to it, if it is not open. */
static int
open_epoll(struct fz_loop *loop, struct fz_err *err)
{
	if (loop->epfd != -1)
		return 0;
	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epfd == -1)
		return fz_err_sys(err, errno, "epoll_create1");
	if (fz_fd_clear_standard(&loop->epfd, err) != 0) {
		fz_fd_close(&loop->epfd);
		return -1;
	}
	if (add_all(loop, &loop->watches[0]) != 0 ||
	    add_all(loop, &loop->watches[1]) != 0)
		fz_err_sys(err, errno, "epoll_ctl");
	else if (fz_pollfd_add(&loop->pollfd, loop->epfd, err) == 0)
		return 0;
	fz_fd_close(&loop->epfd);
	return -1;
}

/* Call the hooks, the youngest first. A hook may remove itself. */
static void
call_hooks(struct fz_list *hooks)
{
	struct fz_fork_hook *hook;
	struct fz_list *older;

	for (struct fz_list *link = hooks->prev; link != hooks; link = older) {
		older = link->prev;
		hook = FZ_CONTAINER_OF(link, struct fz_fork_hook, link);
		hook->in_child(hook);
	}
}

/*
 * Drop what belongs to the parent, except the watches on private descriptors.
 */
static void
release_all(struct fz_loop *loop)
{
	struct fz_list *link;

	loop->generation = fz_process.generation;
	/*
	 * Close the set before a watch is removed: the parent shares the set
	 * and would lose the watch, too.
	 */
	fz_pollfd_close(&loop->pollfd);
	fz_fd_close(&loop->epfd);
	call_hooks(&loop->hooks);
	for (size_t i = 1; i <= loop->ntimers; i++)
		loop->heap[i]->index = 0;
	loop->ntimers = 0;
	while ((link = fz_list_first(&loop->watches[0])) != NULL)
		fz_loop_unwatch(loop, watch_of(link));
	/*
	 * Forget the other watches, but do not write to them, because a write
	 * copies a page.
	 */
	fz_list_init(&loop->watches[1]);
	while ((link = fz_list_first(&loop->defers)) != NULL)
		fz_list_remove(link);
	loop->npolled = 0;
	loop->spin = (struct fz_spin){ 0 };
	loop->awaited = NULL;
}

void
fz_loop_adopt(struct fz_loop *loop)
{
	if (loop->generation == fz_process.generation)
		return;
	release_all(loop);
	if (fz_process.inherits_private)
		fz_fd_close_private(false);
	fz_process.inherits_private = false;
}

/* Adopt a loop that this thread used last; any other is in an unknown state. */
static void
in_foreign_child(struct fz_foreign_fork *foreign)
{
	struct fz_loop *loop =
	    FZ_CONTAINER_OF(foreign, struct fz_loop, foreign);

	if (pthread_equal(loop->user, pthread_self()))
		fz_loop_adopt(loop);
}

struct fz_loop *
fz_loop_new(struct fz_err *err)
{
	struct fz_loop *loop = calloc(1, sizeof(*loop));

	if (loop == NULL) {
		fz_err_nomem(err, "an event loop");
		return NULL;
	}
	loop->epfd = -1;
	loop->pollfd = (struct fz_pollfd)FZ_POLLFD_CLOSED;
	fz_list_init(&loop->watches[0]);
	fz_list_init(&loop->watches[1]);
	fz_list_init(&loop->defers);
	fz_list_init(&loop->hooks);
	if (open_epoll(loop, err) != 0) {
		free(loop);
		return NULL;
	}
	loop->user = pthread_self();
	loop->generation = fz_process.generation;
	loop->foreign.in_child = in_foreign_child;
	fz_process_add_foreign(&loop->foreign);
	return loop;
}

void
fz_loop_free(struct fz_loop *loop)
{
	if (loop == NULL)
		return;
	fz_process_remove_foreign(&loop->foreign);
	fz_pollfd_close(&loop->pollfd);
	fz_fd_close(&loop->epfd);
	free(loop->heap);
	free(loop);
}

void
fz_loop_busy(struct fz_loop *loop, bool more)
{
	if (more)
		loop->spin.nbusy++;
	else if (loop->spin.nbusy != 0)
		loop->spin.nbusy--;
}

unsigned
fz_loop_nbusy(const struct fz_loop *loop)
{
	return loop->spin.nbusy;
}

void
fz_loop_await(struct fz_loop *loop, const struct fz_awaited *awaited)
{
	loop->awaited = awaited;
}

void
fz_loop_unawait(struct fz_loop *loop, const struct fz_awaited *awaited)
{
	if (loop->awaited == awaited)
		loop->awaited = NULL;
}

static unsigned
count(const struct fz_list *list)
{
	unsigned n = 0;

	for (struct fz_list *link = list->next; link != list; link = link->next)
		n++;
	return n;
}

unsigned
fz_loop_nwatched(const struct fz_loop *loop)
{
	return (unsigned)loop->ntimers + (count(&loop->defers) != 0) +
	       count(&loop->watches[0]) + count(&loop->watches[1]);
}

int
fz_loop_watch(struct fz_loop *loop, struct fz_watch *watch, int fd,
    unsigned events, struct fz_err *err)
{
	if (open_epoll(loop, err) != 0)
		return -1;
	if (epoll_edit(loop, EPOLL_CTL_ADD, watch, fd, events) != 0)
		return fz_err_sys(err, errno, "epoll_ctl");
	watch->fd = fd;
	watch->events = events;
	fz_list_push(&loop->watches[fz_fd_is_private(fd)], &watch->link);
	return 0;
}

int
fz_loop_rewatch(struct fz_loop *loop, struct fz_watch *watch, unsigned events,
    struct fz_err *err)
{
	if (watch->events == events)
		return 0;
	if (loop->epfd != -1 &&
	    epoll_edit(loop, EPOLL_CTL_MOD, watch, watch->fd, events) != 0)
		return fz_err_sys(err, errno, "epoll_ctl");
	watch->events = events;
	return 0;
}

void
fz_loop_unwatch(struct fz_loop *loop, struct fz_watch *watch)
{
	int saved = errno;

	if (watch->fd == -1)
		return;
	/*
	 * EPOLL_CTL_DEL fails if the descriptor is closed. A child that is
	 * being forked may still have a copy, for which the set would report
	 * events. Therefore the set is closed, and a new set is opened later.
	 */
	if (loop->epfd != -1 &&
	    epoll_ctl(loop->epfd, EPOLL_CTL_DEL, watch->fd, NULL) != 0)
		fz_fd_close(&loop->epfd);
	for (int i = loop->at; i < loop->npolled; i++) {
		if (loop->polled[i].data.ptr == watch)
			loop->polled[i].data.ptr = NULL;
	}
	fz_list_remove(&watch->link);
	watch->fd = -1;
	errno = saved;
}

int
fz_loop_own(struct fz_loop *loop, struct fz_watch *watch, int *fd,
    unsigned events, struct fz_err *err)
{
	if (fz_fd_nonblock(*fd, err) != 0 ||
	    fz_fd_make_private(*fd, err) != 0 ||
	    fz_loop_watch(loop, watch, *fd, events, err) != 0)
		return -1;
	*fd = -1;
	return 0;
}

void
fz_loop_close(struct fz_loop *loop, struct fz_watch *watch)
{
	int fd = watch->fd;

	fz_loop_unwatch(loop, watch);
	fz_fd_close(&fd);
}

static void
heap_put(struct fz_loop *loop, size_t index, struct fz_timer *timer)
{
	loop->heap[index] = timer;
	timer->index = index;
}

/* Move `timer` from the free index `i` to where it is in heap order. */
static void
heap_sift(struct fz_loop *loop, size_t i, struct fz_timer *timer)
{
	struct fz_timer **heap = loop->heap;

	for (; i > 1 && heap[i / 2]->at_ns > timer->at_ns; i /= 2)
		heap_put(loop, i, heap[i / 2]);
	for (;;) {
		size_t child = 2 * i;

		if (child < loop->ntimers &&
		    heap[child + 1]->at_ns < heap[child]->at_ns)
			child++;
		if (child > loop->ntimers || heap[child]->at_ns >= timer->at_ns)
			break;
		heap_put(loop, i, heap[child]);
		i = child;
	}
	heap_put(loop, i, timer);
}

static int
heap_reserve(struct fz_loop *loop)
{
	/* Indexes start at 1; heap[0] is never used. */
	struct fz_timer **heap = fz_vec_room(
	    loop->heap, &loop->heap_cap, loop->ntimers + 2, sizeof(*heap));

	if (heap == NULL)
		return -1;
	loop->heap = heap;
	return 0;
}

int
fz_loop_arm(struct fz_loop *loop, struct fz_timer *timer, int64_t at_ns)
{
	if (at_ns == FZ_CLOCK_NEVER) {
		fz_loop_disarm(loop, timer);
		return 0;
	}
	timer->at_ns = at_ns;
	if (timer->index != 0) {
		heap_sift(loop, timer->index, timer);
		return 0;
	}
	if (heap_reserve(loop) != 0)
		return -1;
	heap_sift(loop, ++loop->ntimers, timer);
	return 0;
}

void
fz_loop_disarm(struct fz_loop *loop, struct fz_timer *timer)
{
	size_t index = timer->index;
	struct fz_timer *last;

	if (index == 0)
		return;
	timer->index = 0;
	last = loop->heap[loop->ntimers--];
	if (last != timer)
		heap_sift(loop, index, last);
}

void
fz_loop_defer(struct fz_loop *loop, struct fz_defer *defer)
{
	if (!fz_list_is_linked(&defer->link))
		fz_list_push(&loop->defers, &defer->link);
}

void
fz_loop_undefer(struct fz_defer *defer)
{
	fz_list_remove(&defer->link);
}

void
fz_loop_hook(struct fz_loop *loop, struct fz_fork_hook *hook)
{
	fz_list_push(&loop->hooks, &hook->link);
}

void
fz_loop_unhook(struct fz_fork_hook *hook)
{
	fz_list_remove(&hook->link);
}

static unsigned
watch_events(uint32_t e)
{
	unsigned events = 0;

	if (e & (EPOLLIN | EPOLLHUP | EPOLLERR))
		events |= FZ_LOOP_READ;
	if (e & (EPOLLOUT | EPOLLERR))
		events |= FZ_LOOP_WRITE;
	return events;
}

static int
epoll_poll(struct fz_loop *loop, int ms, const sigset_t *signals)
{
	return epoll_pwait(loop->epfd, loop->polled, LOOP_POLLED, ms, signals);
}

/*
 * Wait for `ms` milliseconds at most. Signals are blocked from the check to the
 * wait, because a signal that came between them would not end the wait.
 */
static int
sleep_guarded(struct fz_loop *loop, int ms)
{
	sigset_t all, before;
	int n, code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (!loop->may_sleep(loop->may_sleep_ctx))
		ms = 0;
	n = epoll_poll(loop, ms, &before);
	code = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = code;
	return n;
}

/*
 * The first LOOP_BRIEF_MS of a sleep are not guarded, because to block signals
 * and to unblock them takes a third of the time of a short sleep. If a signal
 * comes between the check and the wait, the sleep ends after LOOP_BRIEF_MS.
 */
static int
sleep_until_ready(struct fz_loop *loop, int ms)
{
	int brief = ms < 0 || ms > LOOP_BRIEF_MS ? LOOP_BRIEF_MS : ms, n;

	if (ms == 0 || loop->may_sleep == NULL)
		return epoll_poll(loop, ms, NULL);
	if (!loop->may_sleep(loop->may_sleep_ctx))
		brief = ms = 0;
	n = epoll_poll(loop, brief, NULL);
	if (n != 0 || brief == ms)
		return n;
	return sleep_guarded(loop, ms < 0 ? ms : ms - brief);
}

/* Whether to poll again before the sleep. */
static bool
spin_again(struct fz_loop *loop)
{
	if (loop->awaited != NULL && loop->spin.nbusy == 1)
		fz_spin_hold(
		    &loop->spin, loop->awaited->hold_until(loop->awaited));
	return fz_spin_again(&loop->spin);
}

static int
wait_ready(struct fz_loop *loop, int64_t until_ns, struct fz_err *err)
{
	int64_t at = until_ns;
	int ms = 0;

	if (loop->ntimers != 0 && loop->heap[1]->at_ns < at)
		at = loop->heap[1]->at_ns;
	if (fz_list_first(&loop->defers) == NULL)
		ms = fz_clock_poll_ms(
		    at != FZ_CLOCK_NEVER && at != 0 ? fz_clock_ns() : 0, at);
	loop->at = 0;
	loop->npolled = 0;
	if (open_epoll(loop, err) != 0)
		return -1;
	while (ms != 0 && loop->npolled == 0 && spin_again(loop))
		loop->npolled = epoll_poll(loop, 0, NULL);
	if (loop->npolled != 0)
		fz_spin_paid(&loop->spin);
	else
		loop->npolled = sleep_until_ready(loop, ms);
	if (loop->npolled >= 0)
		return 0;
	loop->npolled = 0;
	return errno == EINTR ? 0 : fz_err_sys(err, errno, "epoll_pwait");
}

static int
fire_timers(struct fz_loop *loop)
{
	int64_t now;
	int called = 0;

	if (loop->ntimers == 0)
		return 0;
	now = fz_clock_ns();
	/*
	 * Call each timer at most once: a timer may arm itself for a past time.
	 */
	for (size_t n = loop->ntimers; n > 0 && loop->ntimers != 0; n--) {
		struct fz_timer *timer = loop->heap[1];

		if (timer->at_ns > now)
			break;

		fz_loop_disarm(loop, timer);
		timer->fired(timer);
		called = 1;
	}
	return called;
}

/*
 * Deferred calls may defer others. After LOOP_ROUNDS rounds the rest is left to
 * the next turn, so that timers, descriptors and signals are served in between.
 */
static int
call_deferred(struct fz_loop *loop)
{
	struct fz_list *link;
	int called = 0;

	for (int round = 0; round < LOOP_ROUNDS; round++) {
		for (unsigned n = count(&loop->defers); n > 0; n--) {
			link = fz_list_first(&loop->defers);
			if (link == NULL)
				break;
			fz_list_remove(link);
			defer_of(link)->call(defer_of(link));
			called = 1;
		}
	}
	return called;
}

int
fz_loop_turn(struct fz_loop *loop, int64_t until_ns, struct fz_err *err)
{
	int called;

	loop->user = pthread_self();
	if (wait_ready(loop, until_ns, err) != 0)
		return -1;
	called = loop->npolled > 0;
	for (loop->at = 0; loop->at < loop->npolled;) {
		struct epoll_event *ev = &loop->polled[loop->at++];
		struct fz_watch *watch = ev->data.ptr;

		if (watch != NULL)
			watch->ready(watch, watch_events(ev->events));
	}
	called |= fire_timers(loop);
	return called | call_deferred(loop);
}

void
fz_loop_may_sleep(struct fz_loop *loop, bool (*may_sleep)(void *ctx), void *ctx)
{
	loop->may_sleep = may_sleep;
	loop->may_sleep_ctx = ctx;
}

int
fz_loop_fd(struct fz_loop *loop, struct fz_err *err)
{
	if (loop->pollfd.fd != -1)
		return loop->pollfd.fd;
	if (open_epoll(loop, err) != 0 ||
	    fz_pollfd_open(&loop->pollfd, err) != 0)
		return -1;
	if (fz_pollfd_add(&loop->pollfd, loop->epfd, err) == 0)
		return loop->pollfd.fd;
	fz_pollfd_close(&loop->pollfd);
	return -1;
}

void
fz_loop_arm_fd(struct fz_loop *loop, int64_t at_ns)
{
	if (loop->pollfd.fd == -1)
		return;
	if (loop->ntimers != 0 && loop->heap[1]->at_ns < at_ns)
		at_ns = loop->heap[1]->at_ns;
	if (fz_list_first(&loop->defers) != NULL || loop->epfd == -1)
		at_ns = 0;
	fz_pollfd_arm(&loop->pollfd, at_ns);
}

void
fz_loop_flush(struct fz_loop *loop)
{
	call_deferred(loop);
}

void
fz_loop_in_child(struct fz_loop *loop)
{
	release_all(loop);
	fz_fd_close_private(true);
	fz_process.inherits_private = false;
}
