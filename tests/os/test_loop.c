/*
 * The loop: watches, timers, what is deferred, and what a fork forgets.
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
/* kill is POSIX, which -std=c11 hides. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "os/fd.h"
#include "os/loop.h"
#include "os/process.h"

enum { MANY = 500 };

struct thing {
	struct fz_watch watch;
	struct fz_timer timer;
	struct fz_defer defer;
	struct fz_fork_hook hook;
	struct fz_loop *loop;
	int fd[2];
	int ncalls;
	unsigned events;
	struct thing *other; /* a call unwatches, disarms or defers it */
	int64_t again_ns;    /* delay for arming the timer again; 0: do not */
	bool always;         /* the timer is armed again every time */
};

static int order[MANY]; /* times of the timers that fired, in ns mod 1000 */
static int norder;

static struct thing *
thing_of_watch(struct fz_watch *watch)
{
	return (struct thing *)((char *)watch - offsetof(struct thing, watch));
}

static void
ready(struct fz_watch *watch, unsigned events)
{
	struct thing *t = thing_of_watch(watch);

	t->ncalls++;
	t->events = events;
	if (t->other != NULL)
		fz_loop_unwatch(t->loop, &t->other->watch);
}

static void
fired(struct fz_timer *timer)
{
	struct thing *t =
	    (struct thing *)((char *)timer - offsetof(struct thing, timer));

	t->ncalls++;
	if (norder < MANY)
		order[norder++] = (int)(t->timer.at_ns % 1000);
	if (t->other != NULL)
		fz_loop_disarm(t->loop, &t->other->timer);
	if (t->again_ns != 0) {
		fz_loop_arm(t->loop, timer, t->again_ns);
		if (!t->always)
			t->again_ns = 0;
	}
}

static void
deferred(struct fz_defer *defer)
{
	struct thing *t =
	    (struct thing *)((char *)defer - offsetof(struct thing, defer));

	t->ncalls++;
	if (t->other != NULL)
		fz_loop_defer(t->loop, &t->other->defer);
}

static void
thing_init(struct thing *t, struct fz_loop *loop)
{
	*t = (struct thing){ .watch = { .fd = -1, .ready = ready },
		.timer = { .fired = fired },
		.defer = { .call = deferred },
		.loop = loop,
		.fd = { -1, -1 } };
}

static void
thing_watch(struct thing *t)
{
	assert_int_equal(fz_fd_pipe(t->fd, NULL), 0);
	assert_int_equal(
	    fz_loop_watch(t->loop, &t->watch, t->fd[0], FZ_LOOP_READ, NULL), 0);
}

static void
thing_fini(struct thing *t)
{
	fz_loop_unwatch(t->loop, &t->watch);
	fz_loop_disarm(t->loop, &t->timer);
	fz_loop_undefer(&t->defer);
	fz_fd_close(&t->fd[0]);
	fz_fd_close(&t->fd[1]);
}

static int
setup(void **state)
{
	struct fz_loop *loop = fz_loop_new(NULL);

	norder = 0;
	*state = loop;
	return loop == NULL;
}

static int
teardown(void **state)
{
	fz_loop_free(*state);
	return 0;
}

static void
test_loop_reports_what_is_ready(void **state)
{
	struct fz_loop *loop = *state;
	struct thing t;

	thing_init(&t, loop);
	thing_watch(&t);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 0);
	assert_int_equal(write(t.fd[1], "x", 1), 1);
	assert_int_equal(fz_loop_turn(loop, FZ_CLOCK_NEVER, NULL), 1);
	assert_int_equal(t.ncalls, 1);
	assert_int_equal(t.events, FZ_LOOP_READ);
	thing_fini(&t);
}

static void
test_loop_end_of_file_is_ready_to_read(void **state)
{
	struct fz_loop *loop = *state;
	struct thing t;

	thing_init(&t, loop);
	thing_watch(&t);
	fz_fd_close(&t.fd[1]);
	assert_int_equal(fz_loop_turn(loop, FZ_CLOCK_NEVER, NULL), 1);
	assert_int_equal(t.events, FZ_LOOP_READ);
	thing_fini(&t);
}

static void
test_loop_rewatch_changes_events(void **state)
{
	struct fz_loop *loop = *state;
	struct thing t;

	thing_init(&t, loop);
	assert_int_equal(fz_fd_pipe(t.fd, NULL), 0);
	assert_int_equal(fz_loop_watch(loop, &t.watch, t.fd[1], 0, NULL), 0);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 0);
	assert_int_equal(
	    fz_loop_rewatch(loop, &t.watch, FZ_LOOP_WRITE, NULL), 0);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 1);
	assert_int_equal(t.events, FZ_LOOP_WRITE);
	assert_int_equal(fz_loop_rewatch(loop, &t.watch, 0, NULL), 0);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 0);
	thing_fini(&t);
}

static void
test_loop_unwatch_in_a_callback_is_at_once(void **state)
{
	struct fz_loop *loop = *state;
	struct thing a, b;

	thing_init(&a, loop);
	thing_init(&b, loop);
	thing_watch(&a);
	thing_watch(&b);
	a.other = &b;
	b.other = &a;
	assert_int_equal(write(a.fd[1], "x", 1), 1);
	assert_int_equal(write(b.fd[1], "x", 1), 1);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 1);
	assert_int_equal(a.ncalls + b.ncalls, 1);
	thing_fini(&a);
	thing_fini(&b);
}

static void
test_loop_a_watch_may_end_itself(void **state)
{
	struct fz_loop *loop = *state;
	struct thing a;

	thing_init(&a, loop);
	thing_watch(&a);
	a.other = &a;
	assert_int_equal(write(a.fd[1], "x", 1), 1);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 1);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 0);
	assert_int_equal(a.ncalls, 1);
	assert_int_equal(a.watch.fd, -1);
	thing_fini(&a);
}

static void
test_loop_more_are_ready_than_one_poll_returns(void **state)
{
	struct fz_loop *loop = *state;
	struct thing t[100];
	int n = 0;

	for (int i = 0; i < 100; i++) {
		thing_init(&t[i], loop);
		thing_watch(&t[i]);
		assert_int_equal(write(t[i].fd[1], "x", 1), 1);
	}
	for (int i = 0; i < 100; i++)
		fz_loop_turn(loop, 0, NULL);
	for (int i = 0; i < 100; i++) {
		n += t[i].ncalls > 0;
		thing_fini(&t[i]);
	}
	assert_int_equal(n, 100);
}

/*
 * If the parent closes a descriptor that it still watches and that a child has
 * open, the kernel goes on reporting its events, with a pointer that may be
 * freed.
 */
static void
test_loop_forgets_a_descriptor_closed_too_early(void **state)
{
	struct fz_loop *loop = *state;
	struct thing t, other;
	pid_t pid;

	thing_init(&t, loop);
	thing_init(&other, loop);
	thing_watch(&t);
	thing_watch(&other);
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	fz_fd_close(&t.fd[0]);
	fz_loop_unwatch(loop, &t.watch);
	assert_int_equal(write(t.fd[1], "x", 1), 1);
	fz_fd_close(&t.fd[1]);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 0);
	assert_int_equal(t.ncalls, 0);
	/* The other descriptor is still watched. */
	assert_int_equal(write(other.fd[1], "x", 1), 1);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 1);
	assert_int_equal(other.ncalls, 1);
	thing_fini(&other);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void
test_loop_timers_fire_in_order(void **state)
{
	struct fz_loop *loop = *state;
	static struct thing t[MANY];
	uint32_t x = 12345;

	for (int i = 0; i < MANY; i++) {
		thing_init(&t[i], loop);
		x = x * 1664525 + 1013904223;
		assert_int_equal(
		    fz_loop_arm(loop, &t[i].timer, 1000 + x % 1000), 0);
	}
	/* Rearm some for earlier or later times, and disarm some. */
	for (int i = 0; i < MANY; i += 3) {
		x = x * 1664525 + 1013904223;
		fz_loop_arm(loop, &t[i].timer, 1000 + x % 1000);
	}
	for (int i = 1; i < MANY; i += 5)
		fz_loop_disarm(loop, &t[i].timer);
	fz_loop_disarm(loop, &t[1].timer);
	assert_int_equal(fz_loop_turn(loop, FZ_CLOCK_NEVER, NULL), 1);
	assert_int_equal(norder, MANY - MANY / 5);
	for (int i = 1; i < norder; i++)
		assert_true(order[i - 1] <= order[i]);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(t[i].timer.index, 0);
}

static void
test_loop_waits_for_a_timer_and_not_longer(void **state)
{
	struct fz_loop *loop = *state;
	int64_t start = fz_clock_ns();
	struct thing t;

	thing_init(&t, loop);
	fz_loop_arm(loop, &t.timer, start + 600 * FZ_CLOCK_SECOND);
	assert_int_equal(fz_loop_turn(loop, start + 5 * FZ_CLOCK_MS, NULL), 0);
	assert_int_equal(t.ncalls, 0);
	fz_loop_arm(loop, &t.timer, start + 20 * FZ_CLOCK_MS);
	while (t.ncalls == 0)
		fz_loop_turn(loop, FZ_CLOCK_NEVER, NULL);
	assert_true(fz_clock_ns() - start >= 20 * FZ_CLOCK_MS);
	thing_fini(&t);
}

static void
test_loop_a_timer_may_rearm_itself(void **state)
{
	struct fz_loop *loop = *state;
	struct thing t;

	thing_init(&t, loop);
	t.again_ns = fz_clock_ns() + 2 * FZ_CLOCK_MS;
	fz_loop_arm(loop, &t.timer, 1);
	while (t.ncalls < 2)
		assert_true(fz_loop_turn(loop, FZ_CLOCK_NEVER, NULL) >= 0);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 0);
	thing_fini(&t);
}

/* Timers and deferred calls that repeat at once: each turn still ends. */
static void
test_loop_endless_deferred_calls_block_nothing(void **state)
{
	struct fz_loop *loop = *state;
	struct thing timer, a, b, pipe;

	thing_init(&timer, loop);
	thing_init(&a, loop);
	thing_init(&b, loop);
	thing_init(&pipe, loop);
	timer.always = true;
	timer.again_ns = 1;
	fz_loop_arm(loop, &timer.timer, 1);
	a.other = &b; /* each deferred call defers the other one */
	b.other = &a;
	fz_loop_defer(loop, &a.defer);
	thing_watch(&pipe);
	assert_int_equal(write(pipe.fd[1], "x", 1), 1);
	for (int i = 1; i <= 3; i++) {
		assert_int_equal(fz_loop_turn(loop, FZ_CLOCK_NEVER, NULL), 1);
		assert_int_equal(timer.ncalls, i);
		assert_int_equal(pipe.ncalls, i);
	}
	assert_true(a.ncalls > 0 && b.ncalls > 0);
	a.other = b.other = NULL;
	thing_fini(&timer);
	thing_fini(&a);
	thing_fini(&b);
	thing_fini(&pipe);
}

static void
test_loop_a_timer_may_disarm_a_due_one(void **state)
{
	struct fz_loop *loop = *state;
	struct thing a, b;

	thing_init(&a, loop);
	thing_init(&b, loop);
	a.other = &b;
	fz_loop_arm(loop, &a.timer, 1);
	fz_loop_arm(loop, &b.timer, 2);
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 1);
	assert_int_equal(a.ncalls, 1);
	assert_int_equal(b.ncalls, 0);
	fz_loop_arm(loop, &b.timer, FZ_CLOCK_NEVER);
	assert_int_equal(b.timer.index, 0);
}

static void
test_loop_calls_what_was_deferred_once(void **state)
{
	struct fz_loop *loop = *state;
	struct thing a, b, c;

	thing_init(&a, loop);
	thing_init(&b, loop);
	thing_init(&c, loop);
	a.other = &b; /* the deferred call of a defers b */
	fz_loop_defer(loop, &a.defer);
	fz_loop_defer(loop, &a.defer);
	fz_loop_defer(loop, &c.defer);
	fz_loop_undefer(&c.defer);
	fz_loop_undefer(&c.defer);
	assert_int_equal(fz_loop_turn(loop, FZ_CLOCK_NEVER, NULL), 1);
	assert_int_equal(a.ncalls, 1);
	assert_int_equal(b.ncalls, 1);
	assert_int_equal(c.ncalls, 0);
	fz_loop_defer(loop, &c.defer);
	assert_int_equal(fz_loop_turn(loop, FZ_CLOCK_NEVER, NULL), 1);
	assert_int_equal(c.ncalls, 1);
}

static void
hook_called(struct fz_fork_hook *hook)
{
	struct thing *t =
	    (struct thing *)((char *)hook - offsetof(struct thing, hook));

	t->ncalls++;
	if (t->other != NULL)
		fz_loop_unhook(&t->other->hook);
	else
		fz_loop_unhook(hook);
}

/* Checks in a child. Returns a bit for each check that failed. */
static int
child_checks(struct fz_loop *loop, struct thing *t, struct thing *u)
{
	int bad = 0;

	fz_loop_in_child(loop);
	bad |= (t->ncalls != 1) << 0;
	bad |= (u->ncalls != 1) << 1;
	bad |= (t->watch.fd != -1 || t->timer.index != 0) << 2;
	bad |= fz_list_is_linked(&t->defer.link) << 3;
	/* The loop is usable, with an epoll set of its own. */
	bad |=
	    (fz_loop_watch(loop, &t->watch, t->fd[0], FZ_LOOP_READ, NULL) != 0)
	    << 4;
	bad |= (fz_loop_turn(loop, FZ_CLOCK_NEVER, NULL) != 1) << 5;
	return bad;
}

static void
test_loop_a_child_releases_all(void **state)
{
	struct fz_loop *loop = *state;
	struct thing t, u;
	int status;
	pid_t pid;

	thing_init(&t, loop);
	thing_init(&u, loop);
	t.hook.in_child = u.hook.in_child = hook_called;
	thing_watch(&t);
	fz_loop_arm(loop, &t.timer, fz_clock_ns() + FZ_CLOCK_SECOND);
	fz_loop_hook(loop, &t.hook);
	fz_loop_hook(loop, &u.hook);
	fz_loop_defer(loop, &t.defer);
	assert_int_equal(write(t.fd[1], "x", 1), 1);
	pid = fork();
	if (pid == 0)
		_exit(child_checks(loop, &t, &u));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* The parent's watch, timer and defer are as they were. */
	assert_int_equal(fz_loop_turn(loop, 0, NULL), 1);
	assert_int_equal(t.ncalls, 2);
	assert_int_not_equal(t.timer.index, 0);
	fz_loop_unhook(&u.hook);
	fz_loop_unhook(&t.hook);
	fz_loop_unhook(&t.hook);
	thing_fini(&t);
}

static void
test_loop_a_signal_ends_a_turn(void **state)
{
	struct fz_loop *loop = *state;

	faults_at(1);
	assert_int_equal(fz_loop_turn(loop, FZ_CLOCK_NEVER, NULL), 0);
	assert_true(faults_end());
}

/* Use all kinds of events. Returns 0, or -1 if a call failed. */
static int
scenario(void)
{
	struct fz_loop *loop = fz_loop_new(NULL);
	struct thing t[20];
	int rc = -1, n = 0;

	if (loop == NULL)
		return -1;
	for (n = 0; n < 20; n++) {
		thing_init(&t[n], loop);
		if (fz_loop_arm(loop, &t[n].timer, n) != 0)
			goto out;
		if (fz_fd_pipe(t[n].fd, NULL) != 0)
			goto out;
		if (fz_loop_watch(loop, &t[n].watch, t[n].fd[1],
			n % 2 ? FZ_LOOP_WRITE : 0, NULL) != 0)
			goto out;
	}
	n--;
	if (fz_loop_rewatch(loop, &t[3].watch, FZ_LOOP_READ, NULL) != 0)
		goto out;
	fz_loop_unwatch(loop, &t[5].watch);
	if (fz_loop_turn(loop, 0, NULL) == 1 && t[7].ncalls == 2)
		rc = 0;
out:
	for (int i = 0; i <= n; i++)
		thing_fini(&t[i]);
	fz_loop_free(loop);
	return rc;
}

static int nholds;

static int64_t
count_hold(const struct fz_awaited *awaited)
{
	(void)awaited;
	nholds++;
	return 0;
}

/*
 * Turn the loop once, with a wait. Returns how often the turn polled the
 * awaited process.
 */
static int
holds_of_turn(struct fz_loop *loop)
{
	nholds = 0;
	fz_loop_turn(loop, fz_clock_ns() + 2 * FZ_CLOCK_MS, NULL);
	return nholds;
}

/* Whether a turn polls the process. A turn that begins too late does not. */
static bool
holds(struct fz_loop *loop)
{
	int n = 0;

	for (int i = 0; i < 1000 && n == 0; i++)
		n = holds_of_turn(loop);
	return n != 0;
}

static void
test_loop_spins_for_the_one_busy_process(void **state)
{
	const struct fz_awaited first = { count_hold }, second = { count_hold };
	struct fz_loop *loop = *state;

	fz_loop_await(loop, &first);
	assert_int_equal(holds_of_turn(loop), 0); /* no process is busy */
	fz_loop_busy(loop, true);
	assert_true(holds(loop));
	fz_loop_await(loop, &second);
	fz_loop_unawait(loop, &first);
	assert_true(holds(loop));
	fz_loop_busy(loop, true); /* a second process is busy */
	assert_int_equal(holds_of_turn(loop), 0);
	fz_loop_busy(loop, false);
	fz_loop_unawait(loop, &second);
	assert_int_equal(holds_of_turn(loop), 0);
}

/* The child was not forked by the library, so no hook is called. */
static void
test_loop_of_a_foreign_child_does_not_await_a_worker_of_its_parent(void **state)
{
	const struct fz_awaited awaited = { count_hold };
	struct fz_loop *loop = *state;
	int status;
	pid_t pid;

	assert_int_equal(fz_process_watch_forks(), 0);
	fz_loop_busy(loop, true);
	fz_loop_await(loop, &awaited);
	pid = fork();
	if (pid == 0)
		_exit(holds_of_turn(loop) != 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(holds(loop));
	fz_loop_unawait(loop, &awaited);
}

static void
test_loop_any_call_may_fail(void **state)
{
	unsigned long n = 0;
	int rc;

	(void)state;
	do {
		faults_at(++n);
		rc = scenario();
	} while (faults_end());
	assert_int_equal(rc, 0);
	assert_true(n > 40);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_loop_reports_what_is_ready),
		TEST(test_loop_end_of_file_is_ready_to_read),
		TEST(test_loop_rewatch_changes_events),
		TEST(test_loop_unwatch_in_a_callback_is_at_once),
		TEST(test_loop_a_watch_may_end_itself),
		TEST(test_loop_more_are_ready_than_one_poll_returns),
		TEST(test_loop_forgets_a_descriptor_closed_too_early),
		TEST(test_loop_timers_fire_in_order),
		TEST(test_loop_waits_for_a_timer_and_not_longer),
		TEST(test_loop_a_timer_may_rearm_itself),
		TEST(test_loop_endless_deferred_calls_block_nothing),
		TEST(test_loop_a_timer_may_disarm_a_due_one),
		TEST(test_loop_calls_what_was_deferred_once),
		TEST(test_loop_a_child_releases_all),
		TEST(test_loop_a_signal_ends_a_turn),
		TEST(test_loop_spins_for_the_one_busy_process),
		TEST(
		    test_loop_of_a_foreign_child_does_not_await_a_worker_of_its_parent),
		TEST(test_loop_any_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
