/*
 * The chunks of one worker: order, functions, recall, peek and timeouts.
 */
/* kill and usleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "batches.h"
#include "chunk_keeper.h"
#include "os/loop.h"
#include "wire/blob.h"
#include "wire/child_items.h"
#include "wire/child_port.h"
#include "wire/wire.h"
#include "worker/worker.h"
#include "world.h"

static void
test_worker_chunk_items_end_in_order(void **state)
{
	struct chunk_keeper *k = *state;
	static struct chunk b;

	send_kept(k, &b, CHUNK_MANY);
	assert_int_equal(k->worker->nitems, CHUNK_MANY);
	assert_true(chunk_keeper_settle(k));
	assert_fates(&b, 0, CHUNK_MANY, DONE);
	for (uint32_t i = 0; i < CHUNK_MANY; i++)
		assert_int_equal(b.value[i], i);
	assert_int_equal(k->nidle, 1);
	assert_int_equal(b.nraw, way == KEPT     ? 0
				 : way == STORED ? CHUNK_MANY
						 : b.nraw);
	if (way == MIXED)
		assert_true(b.nraw > CHUNK_MANY / 3 && b.nraw < CHUNK_MANY);
	else
		assert_true(b.nframes < CHUNK_MANY / 10);
	assert_true(b.nstarted >= 1);
	assert_int_equal(k->worker->nsent, CHUNK_MANY);
}

static void
test_worker_chunk_of_what_it_inherited_has_no_parts(void **state)
{
	struct fz_worker_chunk head = { FZ_WIRE_MAP | FZ_WIRE_INHERITED, 70 };
	struct chunk_keeper *k = *state;
	static struct chunk b;

	chunk_init(&b, 5);
	add_result_buffer(k, &b);
	assert_int_equal(
	    fz_worker_send_chunk(k->worker, &b.job, &head, NULL, 0, NULL), 0);
	assert_true(chunk_keeper_settle(k));
	assert_fates(&b, 0, 5, DONE);
	assert_int_equal(b.nraw, way == KEPT ? 0 : 5);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(b.value[i], 70 + i);
}

static void
test_worker_chunk_may_have_replies_and_errors_among_its_items(void **state)
{
	static const uint64_t items[] = { ITEM_OF(ITEM_KEEP, 1),
		ITEM_OF(ITEM_KEEP, 2), ITEM_OF(ITEM_REPLY, 3),
		ITEM_OF(ITEM_KEEP, 4), ITEM_OF(ITEM_RAISE, 5),
		ITEM_OF(ITEM_BULK, 6), ITEM_OF(ITEM_KEEP, 7) };
	struct chunk_keeper *k = *state;
	static struct chunk b;

	chunk_init(&b, 7);
	assert_int_equal(send_items(k, &b, items), 0);
	assert_true(chunk_keeper_settle(k));
	for (uint32_t i = 0; i < 7; i++)
		assert_int_equal(b.fate[i], i == 4 ? FAILED : DONE);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(b.value[i], i + 1);
	assert_int_equal(b.failure.err.kind, FZ_ERR_ERROR);
	assert_string_equal(b.raised, "raised");
	assert_true(b.bulk);
	assert_int_equal(b.value[6], 7);
	assert_int_equal(k->nidle, 1);
}

static void
test_worker_chunk_calls_the_function_that_was_sent(void **state)
{
	struct chunk_keeper *k = *state;
	static struct chunk b;

	for (uint64_t add = 100; add <= 200; add += 100) {
		struct fz_blob *code = blob_of_number(add);

		assert_int_equal(
		    fz_worker_send_func(k->worker, 63, code, NULL), 0);
		fz_blob_unref(code);
		chunk_init(&b, 1);
		b.job.func = 63;
		assert_int_equal(
		    send_items(k, &b, (uint64_t[]){ ITEM_OF(0, 7) }), 0);
		assert_true(chunk_keeper_settle(k));
		assert_int_equal(b.value[0], add + 7);
	}
}

static void
test_worker_chunk_recall_inside_keeps_the_running_item(void **state)
{
	struct chunk_keeper *k = *state;
	static const uint64_t items[10] = { ITEM_OF(ITEM_KEEP, 1),
		ITEM_OF(ITEM_KEEP, 2), ITEM_OF(ITEM_WAIT, 3) };
	static struct chunk b, c;

	chunk_init(&b, 10);
	assert_int_equal(send_items(k, &b, items), 0);
	send_kept(k, &c, 5);
	chunk_keeper_wait(k);
	assert_int_equal(fz_worker_recall(k->worker), 7 + 5);
	assert_fates(&b, 3, 10, RETURNED);
	assert_fates(&c, 0, 5, RETURNED);
	assert_ptr_equal(b.job.worker, k->worker);
	assert_int_equal(b.job.nitems, 3);
	assert_int_equal(k->worker->nsent, 3);
	assert_int_equal(fz_worker_recall(k->worker), 0);
	send_kept(k, &c, 4); /* another chunk after the rest of the first */
	assert_int_equal(k->nidle, 0);
	atomic_store(&k->home->shared->gate, true);
	assert_true(chunk_keeper_settle(k));
	assert_fates(&b, 0, 3, DONE);
	assert_int_equal(b.value[2], 3);
	assert_fates(&c, 0, 4, DONE);
	assert_int_equal(k->nidle, 1);
	assert_int_equal(k->worker->nsent, 7);
}

/* The outcomes of the items before the running one have been reported. */
static void
test_worker_chunk_recall_after_a_peek_keeps_the_running_item(void **state)
{
	struct chunk_keeper *k = *state;
	static const uint64_t items[6] = { ITEM_OF(ITEM_KEEP, 1),
		ITEM_OF(ITEM_KEEP, 2), ITEM_OF(ITEM_WAIT, 3) };
	static struct chunk b;

	chunk_init(&b, 6);
	assert_int_equal(send_items(k, &b, items), 0);
	chunk_keeper_wait(k);
	fz_worker_peek(k->worker);
	assert_fates(&b, 0, 2, DONE);
	assert_int_equal(b.ntold, 2);
	assert_int_equal(fz_worker_recall(k->worker), 3);
	assert_fates(&b, 3, 6, RETURNED);
	atomic_store(&k->home->shared->gate, true);
	assert_true(chunk_keeper_settle(k));
	assert_int_equal(b.fate[2], DONE);
	assert_int_equal(k->nidle, 1);
}

static void
test_worker_chunk_recall_races_with_its_items(void **state)
{
	enum { ROUNDS = 100, ITEMS = 400 };
	struct chunk_keeper *k = *state;
	uint64_t items[ITEMS];
	static struct chunk b;
	uint32_t nback = 0, nsplit = 0;
	int round = 0;

	for (uint32_t i = 0; i < ITEMS; i++)
		items[i] = ITEM_OF(i % 40 == 20 ? ITEM_SLEEP : ITEM_KEEP, 1);
	/* The loop goes on until a recall has split the chunk. */
	for (; round < ROUNDS || nsplit == 0; round++) {
		uint32_t back;

		items_forget(k->home->shared, ITEMS + 1);
		chunk_init(&b, ITEMS);
		assert_int_equal(send_items(k, &b, items), 0);
		chunk_keeper_wait_for_first(k, 0);
		usleep((useconds_t)(round * 97 % 10000));
		back = fz_worker_recall(k->worker);
		assert_true(chunk_keeper_settle(k));
		assert_int_equal(count_fates(&b, RETURNED), back);
		assert_int_equal(count_fates(&b, DONE), ITEMS - back);
		for (uint32_t i = 0; i < ITEMS; i++)
			assert_int_equal(
			    atomic_load(&k->home->shared->ran[1 + i]),
			    b.fate[i] == DONE);
		nback += back;
		nsplit += back != 0 && back != ITEMS;
	}
	print_message("%u of %u items were taken back, %u chunks in their "
		      "midst\n",
	    nback, (unsigned)round * ITEMS, nsplit);
}

static void
test_worker_chunk_has_begun_once_an_item_is_started(void **state)
{
	static const uint64_t items[4] = { ITEM_OF(ITEM_KEEP, 0),
		ITEM_OF(ITEM_WAIT, 1), ITEM_OF(ITEM_KEEP, 2) };
	struct chunk_keeper *k = *state;
	static struct chunk b, c;

	assert_false(fz_worker_has_begun(k->worker));
	chunk_init(&b, 4);
	assert_int_equal(send_items(k, &b, items), 0);
	send_kept(k, &c, 3);
	assert_false(fz_worker_has_begun(k->worker)); /* not yet written */
	fz_worker_write(k->worker);
	while (atomic_load(&k->home->shared->waiting) == 0)
		usleep(100);
	assert_true(fz_worker_has_begun(k->worker));
	fz_worker_peek(k->worker);
	assert_true(fz_worker_has_begun(k->worker));
	assert_int_equal(fz_worker_recall(k->worker), 2 + 3);
	assert_true(fz_worker_has_begun(k->worker));
	atomic_store(&k->home->shared->gate, true);
	assert_true(chunk_keeper_settle(k));
	assert_false(fz_worker_has_begun(k->worker));
	send_kept(k, &c, 3);
	assert_false(fz_worker_has_begun(k->worker));
	assert_true(chunk_keeper_settle(k));
	assert_fates(&c, 0, 3, DONE);
}

static void
test_worker_chunk_peeked_results_come_once(void **state)
{
	static const uint64_t items[8] = { ITEM_OF(ITEM_KEEP, 0),
		ITEM_OF(ITEM_KEEP, 1), ITEM_OF(ITEM_REPLY, 2),
		ITEM_OF(ITEM_KEEP, 3), ITEM_OF(ITEM_KEEP, 4),
		ITEM_OF(ITEM_WAIT, 5), ITEM_OF(ITEM_KEEP, 6),
		ITEM_OF(ITEM_REPLY, 7) };
	struct chunk_keeper *k = *state;
	static struct chunk b;

	chunk_init(&b, 8);
	assert_int_equal(send_items(k, &b, items), 0);
	chunk_keeper_wait(k);
	fz_worker_peek(k->worker);
	assert_fates(&b, 0, 5, DONE);
	assert_int_equal(b.ntold, 5);
	fz_worker_peek(k->worker);
	assert_int_equal(b.ntold, 5);
	assert_int_equal(k->worker->nitems, 3);
	atomic_store(&k->home->shared->gate, true);
	assert_true(chunk_keeper_settle(k));
	assert_fates(&b, 0, 8, DONE);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(b.value[i], i);
	assert_int_equal(k->nidle, 1);
}

/* Call two items, and wait before their measured values are appended. */
static int
serve_and_wait(void *ctx, struct fz_port *port)
{
	struct items_home *home = ctx;
	struct fz_call call;

	while (fz_port_next(port, &call, NULL) == 1) {
		do {
			unsigned char *room = fz_port_item(port, &call, NULL);

			if (room == NULL)
				return 96;
			fz_le64_store(room, call.item);
			usleep(2000);
			fz_port_item_end(port, 8);
		} while (fz_port_advance(port, &call));
		atomic_fetch_add(&home->shared->waiting, 1);
		while (!atomic_load(&home->shared->gate))
			usleep(100);
		if (fz_port_end_chunk(port, NULL) != 0)
			return 97;
	}
	return 0;
}

/* Send two measured items to a new worker, and wait until it waits. */
static void
send_measured(struct chunk_keeper *k, struct chunk *b, fz_worker_main main)
{
	struct fz_worker_chunk head = { FZ_WIRE_MAP | FZ_WIRE_INHERITED, 0 };

	chunk_keeper_end(k);
	assert_non_null(chunk_keeper_start_main(k, main));
	chunk_init(b, 2);
	b->job.measured = true;
	assert_int_equal(
	    fz_worker_send_chunk(k->worker, &b->job, &head, NULL, 0, NULL), 0);
	chunk_keeper_wait(k);
}

/* Let the worker go on. Both items are done, and took 4 ms at least. */
static void
settle_measured(struct chunk_keeper *k, struct chunk *b)
{
	atomic_store(&k->home->shared->gate, true);
	assert_true(chunk_keeper_settle(k));
	assert_fates(b, 0, 2, DONE);
	assert_true(b->job.used.took_ns >= 4 * FZ_CLOCK_MS);
}

static void
test_worker_chunk_peek_waits_for_what_was_measured(void **state)
{
	struct chunk_keeper *k = *state;
	static struct chunk b;

	send_measured(k, &b, serve_and_wait);
	fz_worker_peek(k->worker);
	assert_int_equal(b.ntold, 0);
	settle_measured(k, &b);
}

/* Call two items, and wait after the first one. */
static int
serve_and_wait_between(void *ctx, struct fz_port *port)
{
	struct items_home *home = ctx;
	struct fz_call call;

	while (fz_port_next(port, &call, NULL) == 1) {
		do {
			unsigned char *room = fz_port_item(port, &call, NULL);

			if (room == NULL)
				return 96;
			fz_le64_store(room, call.item);
			fz_port_item_end(port, 8);
			atomic_fetch_add(&home->shared->waiting, 1);
			while (!atomic_load(&home->shared->gate))
				usleep(100);
		} while (fz_port_advance(port, &call));
		if (fz_port_end_chunk(port, NULL) != 0)
			return 97;
	}
	return 0;
}

static void
test_worker_chunk_time_of_later_items_begins_at_the_last_new_one(void **state)
{
	struct chunk_keeper *k = *state;
	static struct chunk b;

	send_measured(k, &b, serve_and_wait_between);
	fz_worker_peek(k->worker);
	assert_fates(&b, 0, 1, DONE);
	usleep(5000);
	fz_worker_peek(k->worker); /* finds nothing new */
	settle_measured(k, &b);
}

/* Results in the mailbox come after those in the pipe, and are not lost. */
static void
test_worker_chunk_peek_before_what_was_written_takes_nothing(void **state)
{
	static const uint64_t items[5] = { ITEM_OF(ITEM_FLUSH, 0),
		ITEM_OF(ITEM_KEEP, 1), ITEM_OF(ITEM_KEEP, 2),
		ITEM_OF(ITEM_WAIT, 3), ITEM_OF(ITEM_KEEP, 4) };
	struct chunk_keeper *k = *state;
	static struct chunk b;

	chunk_init(&b, 5);
	assert_int_equal(send_items(k, &b, items), 0);
	fz_loop_flush(k->w->engine.loop);
	while (atomic_load(&k->home->shared->waiting) == 0)
		usleep(100);
	fz_worker_peek(k->worker);
	assert_int_equal(b.ntold, 0);
	atomic_store(&k->home->shared->gate, true);
	assert_true(chunk_keeper_settle(k));
	assert_fates(&b, 0, 5, DONE);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(b.value[i], i);
}

/* The parent copies results while the worker overwrites them. */
static void
test_worker_chunk_peek_never_takes_a_torn_item(void **state)
{
	struct chunk_keeper *k = *state;
	static struct chunk b[20];
	int64_t until = in_ms(PATIENCE_MS);

	for (int i = 0; i < 20; i++)
		send_kept(k, &b[i], CHUNK_MANY);
	while (k->worker->njobs != 0) {
		fz_worker_peek(k->worker);
		if (k->worker->njobs != 0)
			assert_true(turn_until(k->w, until));
	}
	for (int i = 0; i < 20; i++) {
		assert_fates(&b[i], 0, CHUNK_MANY, DONE);
		for (uint32_t j = 0; j < CHUNK_MANY; j++)
			assert_int_equal(b[i].value[j], j);
	}
}

/*
 * The timeout of 2,000 s holds for each item, not for all together: two items
 * may take 1,200 s each; the fourth takes longer.
 */
static void
test_worker_chunk_a_timeout_ends_one_item(void **state)
{
	static const uint64_t items[8] = { ITEM_OF(ITEM_SLEEP, 1200000),
		ITEM_OF(ITEM_SLEEP, 1200000), ITEM_OF(ITEM_KEEP, 2),
		ITEM_OF(ITEM_SLEEP, 1000000000) };
	struct chunk_keeper *k = *state;
	const _Atomic int *sleeping = &k->home->shared->sleeping;
	static struct chunk b;

	chunk_init(&b, 8);
	b.job.timeout_ns = 2000 * FZ_CLOCK_SECOND;
	assert_int_equal(send_items(k, &b, items), 0);
	for (int n = 1; n <= 2; n++) {
		wait_for_count(k->w, sleeping, n);
		pass_seconds(1200);
	}
	wait_for_count(k->w, sleeping, 3);
	/* Repeated, because the start of the item is noticed late. */
	for (int i = 0; k->worker != NULL; i++) {
		assert_true(i < 100);
		pass_seconds(2001);
		for (int64_t until = in_ms(20);
		     k->worker != NULL && turn_until(k->w, until);)
			continue;
	}
	assert_fates(&b, 0, 3, DONE);
	assert_int_equal(b.fate[3], FAILED);
	assert_int_equal(b.failure.err.kind, FZ_ERR_TIMEOUT);
	assert_non_null(strstr(b.failure.err.text, " 2000 s"));
	assert_fates(&b, 4, 8, RETURNED);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, chunk_keeper_setup, chunk_keeper_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_worker_chunk_items_end_in_order),
		TEST(test_worker_chunk_of_what_it_inherited_has_no_parts),
		TEST(
		    test_worker_chunk_may_have_replies_and_errors_among_its_items),
		TEST(test_worker_chunk_calls_the_function_that_was_sent),
		TEST(test_worker_chunk_recall_inside_keeps_the_running_item),
		TEST(
		    test_worker_chunk_recall_after_a_peek_keeps_the_running_item),
		TEST(test_worker_chunk_recall_races_with_its_items),
		TEST(test_worker_chunk_has_begun_once_an_item_is_started),
		TEST(test_worker_chunk_peeked_results_come_once),
		TEST(
		    test_worker_chunk_peek_before_what_was_written_takes_nothing),
		TEST(test_worker_chunk_peek_waits_for_what_was_measured),
		TEST(
		    test_worker_chunk_time_of_later_items_begins_at_the_last_new_one),
		TEST(test_worker_chunk_peek_never_takes_a_torn_item),
		TEST(test_worker_chunk_a_timeout_ends_one_item),
	};

	return run_in_each_way(tests, sizeof(tests) / sizeof(*tests));
}
