/*
 * The chunks of a worker that is killed, and calls that fail.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
/* kill and usleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/err.h"
#include "batches.h"
#include "chunk_keeper.h"
#include "faults.h"
#include "os/loop.h"
#include "wire/blob.h"
#include "worker/worker.h"
#include "world.h"

static void
test_worker_chunk_death_keeps_what_was_finished(void **state)
{
	static const struct {
		enum item_op before[3]; /* the items before the last one */
		enum item_op last;
		uint32_t nfailed;
	} cases[] = {
		{ { ITEM_KEEP, ITEM_KEEP, ITEM_KEEP }, ITEM_KILL, 1 },
		{ { ITEM_FLUSH, ITEM_FLUSH, ITEM_FLUSH }, ITEM_KILL, 1 },
		{ { ITEM_FLUSH, ITEM_REPLY, ITEM_KEEP }, ITEM_KILL, 1 },
		{ { ITEM_REPLY, ITEM_REPLY, ITEM_REPLY }, ITEM_KILL, 1 },
		{ { ITEM_KEEP, ITEM_RAISE, ITEM_KEEP }, ITEM_KILL, 2 },
		{ { ITEM_KEEP, ITEM_KEEP, ITEM_REPLY }, ITEM_KILL_STORED, 0 },
		{ { ITEM_KEEP, ITEM_KEEP, ITEM_KEEP }, ITEM_KILL_HALF, 0 },
		{ { ITEM_KEEP, ITEM_REPLY, ITEM_KEEP }, ITEM_KILL_HALF, 0 },
		{ { ITEM_FLUSH, ITEM_KEEP, ITEM_KEEP }, ITEM_KILL_WRITTEN, 0 },
	};
	struct chunk_keeper *k = *state;
	static struct chunk b, c;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint64_t items[8] = { 0 };

		chunk_keeper_end(k);
		assert_non_null(chunk_keeper_start(k));
		for (uint32_t j = 0; j < 3; j++)
			items[j] = ITEM_OF(cases[i].before[j], j);
		items[3] = ITEM_OF(cases[i].last, 3);
		chunk_init(&b, 8);
		assert_int_equal(send_items(k, &b, items), 0);
		send_kept(k, &c, 3);
		assert_true(chunk_keeper_dies(k));
		for (uint32_t j = 0; j < 3; j++) {
			bool raised = cases[i].before[j] == ITEM_RAISE;

			assert_int_equal(b.fate[j], raised ? FAILED : DONE);
			assert_int_equal(b.value[j], raised ? 0 : j);
		}
		assert_int_equal(
		    b.fate[3], cases[i].last == ITEM_KILL ? FAILED : DONE);
		assert_int_equal(count_fates(&b, FAILED), cases[i].nfailed);
		if (cases[i].last == ITEM_KILL) {
			assert_int_equal(b.failure.err.kind, FZ_ERR_CRASH);
			assert_int_equal(b.failure.signal, SIGKILL);
		}
		assert_fates(&b, 4, 8, RETURNED);
		assert_fates(&c, 0, 3, RETURNED);
	}
}

static void
test_worker_chunk_killed_from_outside_at_any_time_loses_nothing(void **state)
{
	enum { ROUNDS = 100, ITEMS = CHUNK_MANY };
	struct chunk_keeper *k = *state;
	static struct chunk b;
	uint32_t nfailed = 0, ndone = 0;

	for (int round = 0; round < ROUNDS; round++) {
		uint32_t bad;

		chunk_keeper_end(k);
		assert_non_null(chunk_keeper_start(k));
		items_forget(k->home->shared, ITEMS + 1);
		send_kept(k, &b, ITEMS);
		chunk_keeper_wait_for_first(k, round * 137 % 10000);
		if (round % 3 == 0)
			fz_worker_peek(k->worker);
		kill(k->worker->pid, SIGKILL);
		assert_true(chunk_keeper_dies(k));
		bad = count_fates(&b, FAILED);
		assert_true(bad <= 1);
		assert_int_equal(b.ntold, ITEMS);
		for (uint32_t i = 0; i < ITEMS; i++) {
			int ran = atomic_load(&k->home->shared->ran[1 + i]);

			if (b.fate[i] != FAILED)
				assert_int_equal(ran, b.fate[i] == DONE);
			if (b.fate[i] == DONE)
				assert_int_equal(b.value[i], i);
		}
		nfailed += bad;
		ndone += count_fates(&b, DONE);
	}
	print_message("%d kills: %u items were done, %u were running\n", ROUNDS,
	    ndone, nfailed);
	assert_true(ndone != 0);
}

static void
test_worker_chunk_short_and_interrupted_calls_lose_nothing(void **state)
{
	static const int errors[] = { EINTR, EAGAIN };
	struct chunk_keeper *k = *state;
	static struct chunk b;

	for (int round = 0; round < 2; round++) {
		faults_at(0);
		faults.most = 7;
		faults.odd_every = 3;
		faults.odd_error = errors[round];
		send_kept(k, &b, 300);
		assert_true(chunk_keeper_settle(k));
		assert_true(faults.nodd != 0);
		faults_end();
		assert_fates(&b, 0, 300, DONE);
		assert_int_equal(b.value[299], 299);
	}
}

/*
 * Run items whose results are sent in each way. Each item is reported once,
 * even if a call fails. Returns 0, or -1 if a call failed.
 */
static int
scenario(struct chunk_keeper *k, int *nlost)
{
	static const uint64_t items[6] = { ITEM_OF(ITEM_KEEP, 0),
		ITEM_OF(ITEM_FLUSH, 1), ITEM_OF(ITEM_REPLY, 2),
		ITEM_OF(ITEM_BULK, 3), ITEM_OF(ITEM_KEEP, 4),
		ITEM_OF(ITEM_KEEP, 5) };
	static struct chunk b;
	struct fz_blob *code = NULL;
	int rc = -1;

	if (chunk_keeper_start(k) == NULL)
		return -1;
	chunk_init(&b, 6);
	b.job.timeout_ns = 20 * FZ_CLOCK_SECOND;
	code = blob_of_number(0);
	if (code == NULL ||
	    fz_worker_send_func(k->worker, 0, code, NULL) != 0 ||
	    send_items(k, &b, items) != 0)
		goto out;
	while (k->worker != NULL && k->worker->njobs != 0) {
		fz_loop_turn(k->w->engine.loop, in_ms(PATIENCE_MS), NULL);
		if (k->worker != NULL)
			fz_worker_peek(k->worker);
	}
	assert_int_equal(b.ntold, 6);
	assert_int_equal(count_fates(&b, UNTOLD), 0);
	*nlost += b.nlost;
	if (count_fates(&b, DONE) == 6)
		rc = 0;
out:
	fz_blob_unref(code);
	chunk_keeper_end(k);
	return rc;
}

/*
 * Each call fails once. One of them is the allocation for a result that is then
 * lost, but the order of the calls depends on how the results arrive, so a
 * round can miss it.
 */
static void
test_worker_chunk_any_call_may_fail(void **state)
{
	enum { ROUNDS = 20 };
	struct chunk_keeper *k = *state;
	int rc, nlost = 0;

	chunk_keeper_end(k);
	for (int round = 0; round < ROUNDS; round++) {
		unsigned long n = 0;
		int nfailed = 0;

		do {
			faults_at(++n);
			rc = scenario(k, &nlost);
			nfailed += rc != 0;
			assert_no_children();
		} while (faults_end());
		assert_int_equal(rc, 0);
		assert_true(nfailed > 10);
		print_message("%lu calls, %d failures\n", n, nfailed);
		/* Stored results need no memory. */
		if (nlost != 0 || way == STORED)
			return;
	}
	fail_msg("no call of %d rounds loses a result", ROUNDS);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, chunk_keeper_setup, chunk_keeper_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_worker_chunk_death_keeps_what_was_finished),
		TEST(
		    test_worker_chunk_killed_from_outside_at_any_time_loses_nothing),
		TEST(
		    test_worker_chunk_short_and_interrupted_calls_lose_nothing),
		TEST(test_worker_chunk_any_call_may_fail),
	};

	return run_in_each_way(tests, sizeof(tests) / sizeof(*tests));
}
