/*
 * Batches while calls to the system fail.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2 fz_engine_room
 */
/* kill and usleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/err.h"
#include "batch_test.h"
#include "batches.h"
#include "faults.h"
#include "os/loop.h"
#include "sched/batch.h"
#include "sched/batch_pool.h"
#include "sched/pool.h"
#include "world.h"

static struct batch_test t, u;

static void
test_batch_fails_if_no_worker_can_start(void **state)
{
	struct batch_world *b = *state;

	batch_test_init(&t, b, 20);
	t.opts.limits.retries = 1;
	t.opts.limits.backoff_ns = FZ_CLOCK_MS;
	batch_test_start(&t);
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_true(batch_test_finishes(&t));
	faults_end();
	assert_true(has_all_outcomes(&t));
	for (uint64_t i = 1; i <= 20; i++)
		assert_item_failed(&t, i, FZ_ERR_ERROR, 2);
	batch_test_fini(&t);
	batch_test_init(&t, b, 20); /* the next batch succeeds */
	batch_test_start(&t);
	assert_all_items_done(&t);
	batch_test_fini(&t);
}

static void
test_batch_goes_on_with_the_workers_there_are(void **state)
{
	struct batch_world *b = *state;

	assert_int_equal(batch_world_open(b), 0);
	fz_pool_put_back(b->pool, fz_pool_take(b->pool, NULL, NULL));
	batch_test_init(&t, b, 500);
	batch_test_start(&t);
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_all_items_done(&t);
	faults_end();
	assert_int_equal(atomic_load(&b->home->shared->births), 1);
	batch_test_fini(&t);
}

static void
test_batch_is_cancelled_with_its_pool(void **state)
{
	struct batch_world *b = *state;

	batch_test_init(&t, b, 20);
	batch_test_fill(&t, ITEM_WAIT, 0);
	batch_test_start(&t);
	batch_test_wait(&t, 2);
	batch_world_close(b);
	assert_true(fz_batch_done(t.batch));
	assert_int_equal(fz_batch_whole(t.batch)->err.kind, FZ_ERR_CANCELLED);
	batch_test_take(&t);
	assert_int_equal(t.nfailed, 2);
	batch_test_fini(&t); /* the batch is freed after its dispatcher */
}

/* Take the results. Each item has one outcome, or the batch has failed. */
static bool
all_came(struct batch_test *batch_test, uint64_t ndone, uint64_t nfailed)
{
	batch_test_take(batch_test);
	if (!has_all_outcomes(batch_test))
		assert_non_null(fz_batch_whole(batch_test->batch));
	return fz_batch_whole(batch_test->batch) == NULL &&
	       batch_test->ndone == ndone && batch_test->nfailed == nfailed;
}

/*
 * Run all kinds of items, a failure, a retry, a function, and items that are
 * added later. Returns 0, or -1 if memory or descriptors were missing.
 */
static int
scenario(struct batch_world *b, bool forks)
{
	struct fz_blob *part = NULL, *code = NULL;
	int rc = -1;

	batch_test_init(&t, b, 7);
	t.items[1] = ITEM_OF(ITEM_REPLY, 2);
	t.items[2] = ITEM_OF(ITEM_RAISE, 3);
	t.items[3] = ITEM_OF(ITEM_BULK, 4);
	t.items[5] = ITEM_OF(ITEM_KILL_ONCE, 6);
	t.opts.chunk = 4;
	t.most = 3;
	t.opts.limits.retries = 1;
	t.opts.limits.timeout_ns = 20 * FZ_CLOCK_SECOND;
	batch_test_init(&u, b, 0);
	u.opts.growing = true;
	u.opts.encode = NULL;
	u.opts.limits.retries = 1;
	atomic_store(&b->home->shared->onces, 0);
	if (!forks)
		faults.fork_error = EAGAIN;
	if (batch_world_open(b) != 0 ||
	    (forks && fz_pool_prefork(b->pool, NULL) != 0) ||
	    (code = blob_of_number(0)) == NULL)
		goto out;
	fz_batch_pool_func(b->sched, 0, code);
	if (batch_test_start(&t) != 0 || batch_test_start(&u) != 0)
		goto out;
	rc = 0;
	for (int i = 0; i < 2; i++) {
		part = items_part(t.items, 1);
		if (part == NULL || fz_batch_add(u.batch, part, NULL) != 0)
			rc = -1;
	}
	fz_batch_end(u.batch);
	while (!fz_batch_done(t.batch) || !fz_batch_done(u.batch))
		fz_loop_turn(b->w->engine.loop, in_ms(PATIENCE_MS), NULL);
	if (!all_came(&t, 6, 1) || !all_came(&u, 2, 0))
		rc = -1;
out:
	batch_test_fini(&t);
	batch_test_fini(&u);
	batch_world_close(b);
	return rc;
}

static void
test_batch_without_memory_no_item_is_skipped(void **state)
{
	struct fz_err err = { 0 };

	batch_test_init(&t, *state, 0);
	t.opts.growing = true;
	assert_int_equal(batch_world_open(*state), 0);
	assert_int_equal(batch_test_start(&t), 0);
	assert_int_equal(fz_batch_grow(t.batch, 1, NULL), 0);
	faults_at(1); /* allocating the chunk of the previous item fails */
	assert_int_equal(fz_batch_skip(t.batch, &err), -1);
	assert_true(faults_end());
	assert_int_equal(err.code, ENOMEM);
	assert_int_equal(fz_batch_counts(t.batch).total, 1);
	assert_int_equal(fz_batch_skip(t.batch, NULL), 0);
	assert_int_equal(fz_batch_counts(t.batch).total, 2);
	fz_batch_end(t.batch);
	assert_true(batch_test_finishes(&t));
	assert_int_equal(t.outcomes[1].ndone, 1);
	batch_test_fini(&t);
}

static void
any_call_may_fail(struct batch_world *b, bool forks, int least)
{
	int rc, nfailed = 0;
	unsigned long n = 0;
	bool came;

	world_spare_valgrind(b->w);
	do {
		faults_at(++n);
		rc = scenario(b, forks);
		came = faults_end();
		nfailed += rc != 0;
		assert_no_children();
	} while (came);
	assert_int_equal(rc, forks ? 0 : -1);
	assert_true(nfailed > least);
	print_message("%lu calls, %d failures\n", n, nfailed);
}

static void
test_batch_any_call_may_fail(void **state)
{
	any_call_may_fail(*state, true, 10);
}

static void
test_batch_any_call_may_fail_when_forks_fail(void **state)
{
	any_call_may_fail(*state, false, 5);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, batch_world_setup, batch_world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_batch_fails_if_no_worker_can_start),
		TEST(test_batch_goes_on_with_the_workers_there_are),
		TEST(test_batch_is_cancelled_with_its_pool),
		TEST(test_batch_without_memory_no_item_is_skipped),
		TEST(test_batch_any_call_may_fail),
		TEST(test_batch_any_call_may_fail_when_forks_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
