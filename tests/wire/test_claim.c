/*
 * Which numbers a worker has started, and which its parent has taken back.
 * wrap: syscall
 */
/* syscall is not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wire/claim.h"

enum { NUMBERS = 60000, BURST = 8 };

/* The fate of a number, as the worker has noted it. */
enum fate { UNSEEN, STARTED, REFUSED };

/* Memory that the test shares with the worker. */
struct race {
	struct fz_claim claim;
	_Atomic uint32_t sent; /* count of sent numbers, from `base` on */
	uint32_t base;
	_Atomic unsigned char fate[NUMBERS];
};

static bool lost; /* the claim was found to be damaged */

/* There is no membarrier(), as before Linux 4.16. */
static bool no_membarrier;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, int command, unsigned flags, int cpu);

long
__wrap_syscall(long number, int command, unsigned flags, int cpu)
{
	if (number != SYS_membarrier || !no_membarrier)
		return __real_syscall(number, command, flags, cpu);
	errno = ENOSYS;
	return -1;
}

static int
setup(void **state)
{
	struct race *r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(r != MAP_FAILED);
	fz_claim_init(&r->claim);
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	no_membarrier = false;
	munmap(*state, sizeof(struct race));
	return 0;
}

/* Change the claim as if all numbers below `next` were answered. */
static void
answered(struct fz_claim *c, uint32_t next)
{
	for (uint32_t at = 0; next - at >= UINT32_C(1) << 30;) {
		at += UINT32_C(1) << 30;
		fz_claim_start(c, at - 1, &lost);
		fz_claim_settle(c, at);
	}
	fz_claim_start(c, next - 1, &lost);
	fz_claim_settle(c, next);
}

/* Start the `n` numbers from `first` on. Returns how many were granted. */
static uint32_t
start(struct fz_claim *c, uint32_t first, uint32_t n)
{
	uint32_t granted = 0;

	for (uint32_t i = 0; i < n; i++)
		granted += fz_claim_start(c, first + i, &lost);
	return granted;
}

static void
test_claim_at_first_nothing_was_started(void **state)
{
	struct race *r = *state;

	assert_int_equal(fz_claim_started(&r->claim), 0);
	assert_int_equal(fz_claim_recall(&r->claim, 0), 0);
	assert_true(fz_claim_start(&r->claim, 0, &lost));
	assert_int_equal(fz_claim_started(&r->claim), 1);
}

static void
test_claim_recall_takes_back_all_that_was_not_started(void **state)
{
	struct race *r = *state;

	assert_int_equal(start(&r->claim, 0, 3), 3);
	assert_int_equal(fz_claim_recall(&r->claim, 10), 3);
	assert_int_equal(start(&r->claim, 3, 7), 0);
	assert_int_equal(fz_claim_started(&r->claim), 3);
	assert_int_equal(start(&r->claim, 10, 2), 2);
	assert_int_equal(fz_claim_started(&r->claim), 12);
}

static void
test_claim_recalled_numbers_never_start(void **state)
{
	struct race *r = *state;

	assert_int_equal(start(&r->claim, 0, 2), 2);
	assert_int_equal(fz_claim_recall(&r->claim, 5), 2);
	assert_int_equal(fz_claim_recall(&r->claim, 5), 2);
	assert_int_equal(start(&r->claim, 2, 2), 0);
	assert_int_equal(fz_claim_recall(&r->claim, 8), 2);
	assert_int_equal(start(&r->claim, 4, 4), 0);
	assert_int_equal(fz_claim_recall(&r->claim, 8), 2);
	assert_int_equal(start(&r->claim, 8, 1), 1);
	assert_int_equal(fz_claim_recall(&r->claim, 12), 9);
}

static void
test_claim_recall_takes_nothing_if_all_have_started(void **state)
{
	struct race *r = *state;

	assert_int_equal(start(&r->claim, 0, 4), 4);
	assert_int_equal(fz_claim_recall(&r->claim, 4), 4);
	assert_int_equal(fz_claim_started(&r->claim), 4);
	assert_int_equal(start(&r->claim, 4, 1), 1);
}

/* A worker starts a number, but reads the floor only after a recall. */
static void
test_claim_a_number_below_the_floor_may_have_been_granted(void **state)
{
	struct race *r = *state;

	assert_int_equal(start(&r->claim, 0, 3), 3);
	assert_int_equal(fz_claim_recall(&r->claim, 5), 3);
	assert_true(fz_claim_granted(&r->claim, 2, &lost));
	assert_false(fz_claim_granted(&r->claim, 3, &lost));
	assert_false(fz_claim_granted(&r->claim, 4, &lost));
	assert_true(fz_claim_granted(&r->claim, 5, &lost));
}

static void
test_claim_waits_for_a_parent_that_is_about_to_decide(void **state)
{
	struct race *r = *state;
	int status;
	pid_t pid;

	atomic_store(&r->claim.floor, fz_claim_word(5));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fz_claim_start(&r->claim, 3, &lost));
	usleep(20000);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	atomic_store(&r->claim.granted, fz_claim_word(4));
	atomic_store(&r->claim.decided, fz_claim_word(5));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 1);
}

static void
test_claim_settle_keeps_what_is_known(void **state)
{
	struct race *r = *state;
	static const uint32_t bases[] = { 0, UINT32_C(1) << 30,
		UINT32_C(3) << 30, UINT32_MAX - 3 };

	for (size_t i = 0; i < sizeof(bases) / sizeof(*bases); i++) {
		uint32_t base = bases[i];

		fz_claim_init(&r->claim);
		answered(&r->claim, base);
		assert_int_equal(start(&r->claim, base, 3), 3);
		assert_int_equal(fz_claim_started(&r->claim), base + 3);
		assert_int_equal(
		    fz_claim_recall(&r->claim, base + 8), base + 3);
		fz_claim_settle(&r->claim, base + 3);
		assert_int_equal(fz_claim_started(&r->claim), base + 3);
		assert_int_equal(start(&r->claim, base + 3, 5), 0);
		assert_int_equal(start(&r->claim, base + 8, 1), 1);
		assert_int_equal(fz_claim_started(&r->claim), base + 9);
	}
}

/* Numbers wrap around, and no number starts that is beyond the permit. */
static void
test_claim_a_permit_ends(void **state)
{
	struct race *r = *state;
	uint32_t end = 0;

	fz_claim_permit(&r->claim, 0);
	for (int i = 0; i < 600; i++) {
		assert_int_equal(start(&r->claim, end, 1), 0);
		fz_claim_permit(&r->claim, end + 3);
		assert_int_equal(start(&r->claim, end, 5), 3);
		end += 1 << 23;
		fz_claim_permit(&r->claim, end);
	}
	assert_false(lost);
	assert_true(fz_claim_is_whole(&r->claim));
}

/* Numbers wrap around twice; recalls are made as queue_job() makes them. */
static void
test_claim_numbers_wrap(void **state)
{
	enum { STEP = 1 << 24, ROUNDS = 512 };
	struct race *r = *state;
	uint32_t at = 0;

	for (int i = 0; i < ROUNDS; i++) {
		fz_claim_settle(&r->claim, at);
		assert_int_equal(start(&r->claim, at, 2), 2);
		assert_int_equal(fz_claim_started(&r->claim), at + 2);
		if (i % 7 == 0) {
			assert_int_equal(
			    fz_claim_recall(&r->claim, at + 4), at + 2);
			assert_int_equal(start(&r->claim, at + 2, 2), 0);
			assert_int_equal(start(&r->claim, at + 4, 1), 1);
			assert_int_equal(fz_claim_started(&r->claim), at + 5);
		}
		at += STEP;
		/* Start the last two numbers; earlier ones have started. */
		assert_int_equal(start(&r->claim, at - 2, 2), 2);
	}
	assert_int_equal(at, 0);
}

static void
test_claim_without_membarrier_the_worker_has_a_fence(void **state)
{
	struct race *r = *state;

	no_membarrier = true;
	fz_claim_init(&r->claim);
	fz_claim_enter();
	assert_int_not_equal(r->claim.fenced, 0);
	test_claim_recall_takes_back_all_that_was_not_started(state);
}

/* The worker: start all numbers that are sent, in order. */
static void
start_all(struct race *r, uint32_t total)
{
	uint32_t at = 0, nlooks = 0;

	fz_claim_enter();
	while (at < total) {
		if (at ==
		    atomic_load_explicit(&r->sent, memory_order_acquire)) {
			if (++nlooks % 8192 == 0)
				sched_yield();
			continue;
		}
		atomic_store(&r->fate[at],
		    fz_claim_start(&r->claim, r->base + at, &lost) ? STARTED
								   : REFUSED);
		at++;
	}
	_exit(0);
}

static void
spin(unsigned n)
{
	for (volatile unsigned i = 0; i < n; i++)
		continue;
}

/* xorshift: the same every time. */
static uint32_t
next_random(void)
{
	static uint32_t x = 2463534242u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

/* Each number is either started or recalled; both must occur. */
static void
race(struct race *r, uint32_t base)
{
	uint32_t total = getenv("LD_PRELOAD") != NULL ? NUMBERS / 10 : NUMBERS;
	static bool back[NUMBERS];
	uint32_t sent = 0, nback = 0, nsplit = 0, next;
	int status;
	pid_t pid;

	for (uint32_t i = 0; i < NUMBERS; i++)
		back[i] = false;
	r->base = base;
	if (base != 0)
		answered(&r->claim, base);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		start_all(r, total);
	while (sent < total) {
		next = sent + 1 + next_random() % BURST;
		if (next > total)
			next = total;
		atomic_store(&r->sent, next);
		spin(next_random() % 400);
		if (next_random() % 4 != 0) {
			uint32_t from =
			    fz_claim_recall(&r->claim, base + next) - base;

			assert_true(from <= next);
			nsplit += from > sent && from < next;
			for (uint32_t i = from; i < next; i++) {
				nback += !back[i];
				back[i] = true;
			}
		}
		if (next_random() % 8 != 0) /* usually wait for the worker */
			while (atomic_load(&r->fate[next - 1]) == UNSEEN)
				sched_yield();
		sent = next;
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (uint32_t i = 0; i < total; i++)
		assert_int_equal(
		    atomic_load(&r->fate[i]), back[i] ? REFUSED : STARTED);
	print_message("of %u numbers %u were taken back, %u times in the "
		      "midst of a burst\n",
	    total, nback, nsplit);
	assert_true(0 < nback && nback < total);
}

static void
test_claim_starts_race_with_recalls(void **state)
{
	race(*state, 0);
}

static void
test_claim_starts_race_with_recalls_when_numbers_wrap(void **state)
{
	race(*state, UINT32_MAX - NUMBERS / 20);
}

static void
test_claim_starts_race_with_recalls_by_a_fence(void **state)
{
	struct race *r = *state;

	no_membarrier = true;
	fz_claim_init(&r->claim);
	race(r, 0);
}

/* After a worker was killed, it is known which numbers it has started. */
static void
test_claim_shows_what_a_killed_worker_had_started(void **state)
{
	struct race *r = *state;

	for (int i = 0; i < 50; i++) {
		uint32_t started;
		int status;
		pid_t pid;

		fz_claim_init(&r->claim);
		for (uint32_t n = 0; n < NUMBERS; n++)
			atomic_store_explicit(
			    &r->fate[n], UNSEEN, memory_order_relaxed);
		atomic_store(&r->sent, NUMBERS);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			start_all(r, NUMBERS);
		while (atomic_load(&r->fate[0]) == UNSEEN)
			continue;
		spin(next_random() % 100000);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		started = fz_claim_started(&r->claim);
		assert_true(started > 0);
		/* The worker may have died before it noted the last number. */
		assert_int_equal(atomic_load(&r->fate[started - 1]) |
				     atomic_load(&r->fate[started / 2]),
		    STARTED);
		if (started < NUMBERS)
			assert_int_equal(
			    atomic_load(&r->fate[started]), UNSEEN);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_claim_at_first_nothing_was_started),
		TEST(test_claim_recall_takes_back_all_that_was_not_started),
		TEST(test_claim_recalled_numbers_never_start),
		TEST(test_claim_recall_takes_nothing_if_all_have_started),
		TEST(test_claim_a_number_below_the_floor_may_have_been_granted),
		TEST(test_claim_waits_for_a_parent_that_is_about_to_decide),
		TEST(test_claim_settle_keeps_what_is_known),
		TEST(test_claim_a_permit_ends),
		TEST(test_claim_numbers_wrap),
		TEST(test_claim_without_membarrier_the_worker_has_a_fence),
		TEST(test_claim_starts_race_with_recalls),
		TEST(test_claim_starts_race_with_recalls_when_numbers_wrap),
		TEST(test_claim_starts_race_with_recalls_by_a_fence),
		TEST(test_claim_shows_what_a_killed_worker_had_started),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
