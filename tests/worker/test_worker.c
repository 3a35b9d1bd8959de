/*
 * One worker as its parent sees it: jobs, replies and values.
 *
 * wrap: syscall
 */
/* kill, syscall and usleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "keeper.h"
#include "os/loop.h"
#include "wire/blob.h"
#include "worker/worker.h"
#include "world.h"

static void
test_worker_does_a_job(void **state)
{
	struct world *w = *state;
	struct keeper k;
	struct task t = { 0 };

	keeper_start(w, &k);
	task_send_number(&k, &t, JOB_ADD, 42);
	assert_true(keeper_settle(w, &k));
	assert_int_equal(t.nstarted, 1);
	assert_int_equal(t.job.pid, k.worker->pid);
	assert_task_done(w, &t, 42);
	assert_int_equal(k.nidle, 1);
	fz_worker_free(k.worker);
}

static void
test_worker_does_jobs_in_order(void **state)
{
	struct world *w = *state;
	static struct task t[1000];
	struct keeper k;

	keeper_start(w, &k);
	for (uint64_t i = 0; i < 1000; i++) {
		t[i].job.timeout_ns = 0;
		task_send_number(&k, &t[i], JOB_ADD, i);
	}
	assert_int_equal(k.worker->njobs, 1000);
	while (k.worker->njobs != 0) {
		assert_true(fz_loop_turn(
				w->engine.loop, in_ms(PATIENCE_MS), NULL) >= 0);
		for (int i = 1; i < 1000; i++)
			assert_true(t[i - 1].ndone >= t[i].ndone);
	}
	for (uint64_t i = 0; i < 1000; i++)
		assert_task_done(w, &t[i], i);
	assert_int_equal(atomic_load(&w->shared->calls[JOB_ADD]), 1000);
	fz_worker_free(k.worker);
}

static void
test_worker_an_error_is_no_death(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	task_send_number(&k, &t, JOB_RAISE, 0);
	task_send_number(&k, &u, JOB_ADD, 1);
	assert_true(keeper_settle(w, &k));
	assert_int_equal(t.failure.pid, k.worker->pid);
	assert_memory_equal(t.value->bytes, "raised", 6);
	assert_task_failed(&t, FZ_ERR_ERROR);
	assert_task_done(w, &u, 1);
	fz_worker_free(k.worker);
}

static void
test_worker_passes_on_a_reply_with_too_few_values(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	task_send_number(&k, &t, JOB_TOO_MANY, 0);
	task_send_number(&k, &u, JOB_TOO_FEW, 0);
	assert_true(keeper_settle(w, &k));
	assert_task_failed(&t, FZ_ERR_CRASH);
	assert_int_equal(u.ndone, 1);
	assert_int_equal(u.nvalues, 0);
	fz_worker_free(k.worker);
}

static void
test_worker_prints_through_its_parent(void **state)
{
	struct world *w = *state;
	struct task t = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	task_send_blob(
	    &k, &t, JOB_PRINT, fz_blob_new("a line\nhalf", 11, NULL));
	assert_true(keeper_settle(w, &k));
	fz_worker_flush(k.worker);
	assert_string_equal(w->output, "a line\nhalf");
	assert_task_done(w, &t, 1);
	fz_worker_free(k.worker);
}

static void
test_worker_big_values_go_by_the_arena_and_come_back(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;
	const char *at;

	keeper_start(w, &k);
	task_send_number(&k, &t, JOB_BYTES, 8 << 20);
	assert_true(keeper_settle(w, &k));
	assert_true(t.value->in_arena);
	/* The value goes back to the worker without a copy. */
	task_send_blob(&k, &u, JOB_ECHO, fz_blob_ref(t.value));
	assert_true(keeper_settle(w, &k));
	at = fz_blob_map(u.value, w->engine.arena, NULL);
	assert_int_equal(u.value->len, 8 << 20);
	assert_int_equal(at[(8 << 20) - 1], 'x');
	fz_blob_unmap(u.value, w->engine.arena, at);
	/* A blob may live longer than the worker that made it. */
	fz_worker_free(k.worker);
	at = fz_blob_map(u.value, w->engine.arena, NULL);
	assert_int_equal(at[12345], 'x');
	fz_blob_unmap(u.value, w->engine.arena, at);
	task_fini(&t);
	task_fini(&u);
}

/* Each value is released before the next, so that all use the same extent. */
static void
test_worker_released_values_are_used_again(void **state)
{
	struct world *w = *state;
	uint64_t offset = 0;
	struct keeper k;

	keeper_start(w, &k);
	for (int i = 0; i < 20; i++) {
		struct task t = { 0 };

		task_send_number(&k, &t, JOB_BYTES, 4 << 20);
		assert_true(keeper_settle(w, &k));
		assert_true(t.value->in_arena);
		if (i == 2)
			offset = t.value->offset;
		if (i > 2)
			assert_true(t.value->offset <= offset + (16 << 20));
		task_fini(&t);
		fz_loop_turn(w->engine.loop, 0, NULL);
	}
	fz_worker_free(k.worker);
}

static void
test_worker_leaves_by_itself_when_dismissed(void **state)
{
	struct world *w = *state;
	struct keeper k;

	keeper_start(w, &k);
	fz_worker_dismiss(k.worker);
	assert_true(keeper_dies(w, &k));
	assert_int_equal(k.death.signal, 0);
	assert_int_equal(atomic_load(&w->shared->leaves), 1);
}

static void
test_worker_runs_in_a_host_without_standard_descriptors(void **state)
{
	struct world *w = *state;
	struct task t = { 0 };
	struct keeper k;
	bool done;
	int keep_fd[3];

	fz_engine_arena(&w->engine);
	for (int i = 0; i < 3; i++) {
		keep_fd[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
		close(i);
	}
	keeper_start(w, &k);
	task_send_blob(&k, &t, JOB_PRINT, fz_blob_new("there\n", 6, NULL));
	done = keeper_settle(w, &k);
	if (k.worker != NULL) {
		fz_worker_flush(k.worker);
		fz_worker_free(k.worker);
	}
	for (int i = 0; i < 3; i++) {
		dup2(keep_fd[i], i);
		close(keep_fd[i]);
	}
	assert_true(done);
	assert_task_done(w, &t, 1);
	assert_string_equal(w->output, "there\n");
}

static void
test_worker_without_an_arena_big_values_go_inline(void **state)
{
	struct world *w = *state;
	struct fz_blob *big = blob_of_bytes(bulk_size());
	struct task t = { 0 };
	struct keeper k;

	w->engine.arena_tried = true;
	keeper_start(w, &k);
	task_send_blob(&k, &t, JOB_ECHO, big);
	assert_true(keeper_settle(w, &k));
	assert_int_equal(t.ndone, 1);
	assert_false(t.value->in_arena);
	assert_int_equal(t.value->len, bulk_size());
	assert_int_equal(t.value->bytes[bulk_size() - 1], 'x');
	task_fini(&t);
	fz_worker_free(k.worker);
}

static void
test_worker_that_does_not_read_never_blocks_its_parent(void **state)
{
	struct world *w = *state;
	int64_t start, until, before;
	struct task t = { 0 };
	struct keeper k;

	w->engine.arena_tried = true;
	w->shared->mode = START_NEVER_READS;
	keeper_start(w, &k);
	task_send_blob(&k, &t, JOB_ECHO, blob_of_bytes(bulk_size()));
	start = fz_clock_ns();
	fz_loop_turn(w->engine.loop, 0, NULL);
	assert_true(fz_clock_ns() - start < 20 * FZ_CLOCK_SECOND);
	before = cpu_ms();
	until = in_ms(300);
	while (turn_until(w, until))
		continue;
	assert_true(cpu_ms() - before < 100); /* the loop sleeps */
	fz_worker_end(k.worker, FZ_ERR_CANCELLED, "enough");
	assert_task_returned(&t);
}

static void
test_worker_killed_while_it_reads_a_big_argument_loses_nothing(void **state)
{
	struct world *w = *state;
	struct fz_blob *big = blob_of_bytes(bulk_size());
	struct task t = { 0 };
	struct keeper k;

	w->engine.arena_tried = true;
	w->shared->mode = START_FIRST_DIES_HALFWAY;
	keeper_start(w, &k);
	task_send_blob(&k, &t, JOB_ECHO, fz_blob_ref(big));
	assert_true(keeper_dies(w, &k));
	assert_task_returned(&t);
	keeper_start(w, &k);
	task_init(&t, JOB_ECHO);
	task_send_blob(&k, &t, JOB_ECHO, big);
	assert_true(keeper_settle(w, &k));
	assert_int_equal(t.ndone, 1);
	task_fini(&t);
	fz_worker_free(k.worker);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_worker_does_a_job),
		TEST(test_worker_does_jobs_in_order),
		TEST(test_worker_an_error_is_no_death),
		TEST(test_worker_passes_on_a_reply_with_too_few_values),
		TEST(test_worker_prints_through_its_parent),
		TEST(test_worker_big_values_go_by_the_arena_and_come_back),
		TEST(test_worker_released_values_are_used_again),
		TEST(test_worker_leaves_by_itself_when_dismissed),
		TEST(test_worker_runs_in_a_host_without_standard_descriptors),
		TEST(test_worker_without_an_arena_big_values_go_inline),
		TEST(test_worker_that_does_not_read_never_blocks_its_parent),
		TEST(
		    test_worker_killed_while_it_reads_a_big_argument_loses_nothing),
	};

	return run_with_and_without_pidfd(
	    tests, sizeof(tests) / sizeof(*tests));
}
