/*
 * Batches at one worker: each item is told once, whatever becomes of it.
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_wait fork
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
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "batches.h"
#include "faults.h"
#include "os/fd.h"
#include "os/loop.h"
#include "shared/arena.h"
#include "worker/blob.h"
#include "worker/child_port.h"
#include "worker/wire.h"
#include "worker/worker.h"

enum { MANY = 2000, KEEPER_STRIPS = 400 };

enum fate { UNTOLD, DONE, FAILED, RETURNED };

/* How results come that could wait: all tests run in each of these ways. */
static enum way { KEPT, PLACED, MIXED } way;

/* A batch, and what was told of each item. */
struct batch {
	struct fz_job job;
	uint32_t n, ntold, next;
	enum fate fate[MANY];
	uint64_t value[MANY]; /* of what is done */
	struct fz_arena *shm; /* where its strip is */
	uint32_t nplaced;
	int nstarted, nframes, nlost;
	bool torn; /* it may be told of what nobody has written */
	bool bulk;
	struct fz_failure failure; /* the last one */
	char raised[8];
};

struct keeper {
	struct world *w;
	struct items_home *home;
	struct fz_worker *worker; /* NULL: dead and freed */
	int nidle, ndead;
	struct fz_blob *strips[KEEPER_STRIPS]; /* of all its batches */
	int nstrips;
};

static struct batch *
batch_of(struct fz_job *job)
{
	return (struct batch *)job;
}

/* Items are told in order, and once. */
static void
tell(struct batch *b, uint32_t item, enum fate fate)
{
	assert_true(item < b->n);
	assert_int_equal(b->fate[item], UNTOLD);
	if (fate != RETURNED) {
		assert_int_equal(item, b->next);
		b->next++;
	}
	b->fate[item] = fate;
	b->ntold++;
}

static void
batch_done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	struct batch *b = batch_of(job);

	assert_int_equal(n, 1);
	tell(b, job->ndone - 1, values[0] != NULL ? DONE : FAILED);
	if (values[0] == NULL)
		return;
	b->bulk = values[0]->in_shm;
	if (!b->bulk && values[0]->len == 8)
		b->value[job->ndone - 1] = fz_le64_load(values[0]->bytes);
	fz_blob_unref(values[0]);
}

static void
batch_failed(struct fz_job *job, struct fz_failure *failure)
{
	struct batch *b = batch_of(job);

	tell(b, job->ndone - 1, FAILED);
	b->failure = *failure;
	if (failure->value != NULL && failure->value->len < sizeof(b->raised))
		memcpy(b->raised, failure->value->bytes, failure->value->len);
	fz_blob_unref(failure->value);
}

static void
batch_returned(struct fz_job *job, uint32_t nitems)
{
	for (uint32_t i = 0; i < nitems; i++)
		tell(batch_of(job), job->nitems + i, RETURNED);
	assert_int_equal(job->worker == NULL, job->ndone == job->nitems);
}

static void
batch_started(struct fz_job *job)
{
	batch_of(job)->nstarted++;
}

/* They are in the slots of these items; all others are as they were. */
static void
batch_placed(struct batch *b, uint32_t first, uint32_t n, uint32_t skip)
{
	struct fz_blob *strip = b->job.strip;
	const unsigned char *at = fz_blob_map(strip, b->shm, NULL);

	assert_non_null(at);
	assert_int_equal(skip, first);
	assert_true(ITEMS_SLOT * (size_t)(first + n) <= strip->len);
	for (uint32_t i = first; i < first + n; i++) {
		tell(b, i, DONE);
		if (!b->torn)
			b->value[i] = items_slot(at, i);
	}
	b->nplaced += n;
	fz_blob_unmap(strip, b->shm, at);
}

static void
batch_items(struct fz_job *job, uint32_t first, uint32_t n,
    struct fz_blob *blob, uint32_t skip)
{
	struct batch *b = batch_of(job);

	b->nframes++;
	b->nlost += blob == NULL;
	assert_int_equal(first + n, job->ndone);
	if (blob != NULL && blob == job->strip) {
		batch_placed(b, first, n, skip);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		tell(b, first + i, blob != NULL ? DONE : FAILED);
		if (blob == NULL || b->torn)
			continue;
		assert_true(blob->len >= 8 * (size_t)(skip + i + 1));
		b->value[first + i] =
		    fz_le64_load(blob->bytes + 8 * (size_t)(skip + i));
	}
}

static const struct fz_job_ops batch_ops = { batch_done, batch_failed,
	batch_returned, batch_started, batch_items };

static void
keeper_idle(void *ctx, struct fz_worker *worker)
{
	struct keeper *k = ctx;

	assert_null(worker->head);
	assert_int_equal(worker->njobs, 0);
	assert_int_equal(worker->nitems, 0);
	assert_int_equal(worker->nbytes, 0);
	k->nidle++;
}

static void
keeper_dead(void *ctx, struct fz_worker *worker)
{
	struct keeper *k = ctx;

	k->ndead++;
	k->worker = NULL;
	fz_worker_free(worker);
}

static const struct fz_worker_ops keeper_ops = { keeper_idle, keeper_dead };

static struct fz_worker *
keep_main(struct keeper *k, fz_worker_main serve_items)
{
	struct fz_worker_opts opts = {
		.engine = &k->w->engine,
		.ops = &keeper_ops,
		.ops_ctx = k,
		.main = serve_items,
		.main_ctx = k->home,
	};

	k->nidle = k->ndead = 0;
	atomic_store(&k->home->shared->gate, false);
	atomic_store(&k->home->shared->waiting, 0);
	k->worker = fz_worker_new(&opts, NULL);
	return k->worker;
}

static struct fz_worker *
keep(struct keeper *k)
{
	return keep_main(k, items_serve);
}

static void
let_go(struct keeper *k)
{
	if (k->worker != NULL)
		fz_worker_free(k->worker);
	k->worker = NULL;
	while (k->nstrips != 0)
		fz_blob_unref(k->strips[--k->nstrips]);
}

static int
setup(void **state)
{
	struct keeper *k = calloc(1, sizeof(*k));
	void *w;

	world_setup(&w);
	k->w = w;
	k->home = items_home_new();
	assert_non_null(keep(k));
	*state = k;
	return 0;
}

static int
teardown(void **state)
{
	struct keeper *k = *state;
	void *w = k->w;

	let_go(k);
	items_home_free(k->home);
	free(k);
	return world_teardown(&w);
}

static void
batch_init(struct batch *b, uint32_t n)
{
	assert_true(n <= MANY);
	memset(b, 0, sizeof(*b));
	b->n = n;
	b->job = (struct fz_job){
		.ops = &batch_ops, .nitems = n, .timeout_ns = FZ_CLOCK_NEVER
	};
}

/* Slots for its results, of which none is whole. None without memory. */
static void
lay_strip(struct keeper *k, struct batch *b)
{
	size_t len = ITEMS_SLOT * (size_t)b->n;
	struct fz_blob *strip;
	unsigned char *at;

	b->shm = k->w->engine.shm;
	if (way == KEPT || b->shm == NULL)
		return;
	assert_true(k->nstrips < KEEPER_STRIPS);
	strip = fz_engine_room(&k->w->engine, len, NULL);
	if (strip == NULL)
		return;
	k->strips[k->nstrips++] = strip;
	at = fz_arena_map_room(b->shm, strip->offset, len, NULL);
	if (at == NULL)
		return;
	memset(at, 0xee, len);
	fz_arena_unmap(b->shm, at, len);
	b->job.strip = strip;
}

/* The items of which the results could wait, in the way of the test. */
static struct fz_blob *
part_of(const struct batch *b, const uint64_t *items)
{
	uint64_t list[MANY];

	for (uint32_t i = 0; i < b->n; i++) {
		list[i] = items[i];
		if (items[i] >> 32 == ITEM_KEEP &&
		    (way == PLACED || (way == MIXED && i * 5 / 3 % 2 == 0)))
			list[i] |= ITEM_OF(ITEM_PLACE, 0);
	}
	return items_part(list, b->n);
}

/* Send the items of `b`; 0, or -1 where there is no memory for it. */
static int
send_items(struct keeper *k, struct batch *b, const uint64_t *items)
{
	struct fz_worker_batch head = { FZ_WIRE_MAP, 1 };
	struct fz_blob *part = part_of(b, items);
	int rc = -1;

	lay_strip(k, b);
	if (part != NULL)
		rc = fz_worker_send_batch(
		    k->worker, &b->job, &head, &part, 1, NULL);
	fz_blob_unref(part);
	return rc;
}

/* The same for `n` items that are all kept, with values from 0 on. */
static void
send_kept(struct keeper *k, struct batch *b, uint32_t n)
{
	uint64_t items[MANY];

	for (uint32_t i = 0; i < n; i++)
		items[i] = ITEM_OF(ITEM_KEEP, i);
	batch_init(b, n);
	assert_int_equal(send_items(k, b, items), 0);
}

/* Until the worker is idle or dead; false when it takes longer. */
static bool
settle(struct keeper *k)
{
	int64_t until = in_ms(20000);

	while (k->worker != NULL && k->worker->njobs != 0) {
		if (!step_until(k->w, until))
			return false;
	}
	return true;
}

static bool
dies(struct keeper *k)
{
	int64_t until = in_ms(20000);

	while (k->worker != NULL) {
		if (!step_until(k->w, until))
			return false;
	}
	return true;
}

/* Until an item waits at the gate. */
static void
wait_for_gate(struct keeper *k)
{
	int64_t until = in_ms(20000);

	while (atomic_load(&k->home->shared->waiting) == 0) {
		assert_true(fz_clock_ns() < until);
		fz_loop_step(k->w->engine.loop, in_ms(1), NULL);
	}
}

/* Until it calls the first item, and a moment longer. */
static void
wait_for_first(struct keeper *k, int moment)
{
	int64_t until = in_ms(20000);

	fz_loop_flush(k->w->engine.loop);
	while (atomic_load(&k->home->shared->ran[1]) == 0)
		assert_true(fz_clock_ns() < until);
	for (volatile int i = 0; i < moment; i++)
		continue;
}

static void
assert_fates(const struct batch *b, uint32_t from, uint32_t to, enum fate fate)
{
	for (uint32_t i = from; i < to; i++)
		assert_int_equal(b->fate[i], fate);
}

static uint32_t
count(const struct batch *b, enum fate fate)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->n; i++)
		n += b->fate[i] == fate;
	return n;
}

/* ---- a worker that is well ---------------------------------------------- */

static void
test_worker_batch_items_are_told_in_order(void **state)
{
	struct keeper *k = *state;
	static struct batch b;

	send_kept(k, &b, MANY);
	assert_int_equal(k->worker->nitems, MANY);
	assert_true(settle(k));
	assert_fates(&b, 0, MANY, DONE);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(b.value[i], i);
	assert_int_equal(k->nidle, 1);
	assert_int_equal(b.nplaced, way == KEPT     ? 0
				    : way == PLACED ? MANY
						    : b.nplaced);
	if (way == MIXED)
		assert_true(b.nplaced > MANY / 3 && b.nplaced < MANY);
	else
		assert_true(b.nframes < MANY / 10);
	assert_true(b.nstarted >= 1);
	assert_int_equal(k->worker->nsent, MANY);
}

static void
test_worker_batch_of_what_it_inherited_has_no_parts(void **state)
{
	struct fz_worker_batch head = { FZ_WIRE_MAP | FZ_WIRE_INHERITED, 70 };
	struct keeper *k = *state;
	static struct batch b;

	batch_init(&b, 5);
	lay_strip(k, &b);
	assert_int_equal(
	    fz_worker_send_batch(k->worker, &b.job, &head, NULL, 0, NULL), 0);
	assert_true(settle(k));
	assert_fates(&b, 0, 5, DONE);
	assert_int_equal(b.nplaced, way == KEPT ? 0 : 5);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(b.value[i], 70 + i);
}

static void
test_worker_batch_may_have_replies_and_errors_among_its_items(void **state)
{
	static const uint64_t items[] = { ITEM_OF(ITEM_KEEP, 1),
		ITEM_OF(ITEM_KEEP, 2), ITEM_OF(ITEM_REPLY, 3),
		ITEM_OF(ITEM_KEEP, 4), ITEM_OF(ITEM_RAISE, 5),
		ITEM_OF(ITEM_BULK, 6), ITEM_OF(ITEM_KEEP, 7) };
	struct keeper *k = *state;
	static struct batch b;

	batch_init(&b, 7);
	assert_int_equal(send_items(k, &b, items), 0);
	assert_true(settle(k));
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
test_worker_batch_calls_the_function_that_was_sent(void **state)
{
	struct keeper *k = *state;
	static struct batch b;

	for (uint64_t add = 100; add <= 200; add += 100) {
		struct fz_blob *code = blob_of_number(add);

		assert_int_equal(
		    fz_worker_send_func(k->worker, 63, code, NULL), 0);
		fz_blob_unref(code);
		batch_init(&b, 1);
		b.job.func = 63;
		assert_int_equal(
		    send_items(k, &b, (uint64_t[]){ ITEM_OF(0, 7) }), 0);
		assert_true(settle(k));
		assert_int_equal(b.value[0], add + 7);
	}
}

/* ---- taken back ---------------------------------------------------------- */

static void
test_worker_batch_recall_in_its_midst_keeps_what_runs(void **state)
{
	struct keeper *k = *state;
	static const uint64_t items[10] = { ITEM_OF(ITEM_KEEP, 1),
		ITEM_OF(ITEM_KEEP, 2), ITEM_OF(ITEM_WAIT, 3) };
	static struct batch b, c;

	batch_init(&b, 10);
	assert_int_equal(send_items(k, &b, items), 0);
	send_kept(k, &c, 5);
	wait_for_gate(k);
	assert_int_equal(fz_worker_recall(k->worker), 7 + 5);
	assert_fates(&b, 3, 10, RETURNED);
	assert_fates(&c, 0, 5, RETURNED);
	assert_ptr_equal(b.job.worker, k->worker);
	assert_int_equal(b.job.nitems, 3);
	assert_int_equal(k->worker->nsent, 3);
	assert_int_equal(fz_worker_recall(k->worker), 0);
	send_kept(k, &c, 4); /* one more behind the rest */
	assert_int_equal(k->nidle, 0);
	atomic_store(&k->home->shared->gate, true);
	assert_true(settle(k));
	assert_fates(&b, 0, 3, DONE);
	assert_int_equal(b.value[2], 3);
	assert_fates(&c, 0, 4, DONE);
	assert_int_equal(k->nidle, 1);
	assert_int_equal(k->worker->nsent, 7);
}

/* Once the items before have been told, too. */
static void
test_worker_batch_recall_after_a_peek_keeps_what_runs(void **state)
{
	struct keeper *k = *state;
	static const uint64_t items[6] = { ITEM_OF(ITEM_KEEP, 1),
		ITEM_OF(ITEM_KEEP, 2), ITEM_OF(ITEM_WAIT, 3) };
	static struct batch b;

	batch_init(&b, 6);
	assert_int_equal(send_items(k, &b, items), 0);
	wait_for_gate(k);
	fz_worker_peek(k->worker);
	assert_fates(&b, 0, 2, DONE);
	assert_int_equal(b.ntold, 2);
	assert_int_equal(fz_worker_recall(k->worker), 3);
	assert_fates(&b, 3, 6, RETURNED);
	atomic_store(&k->home->shared->gate, true);
	assert_true(settle(k));
	assert_int_equal(b.fate[2], DONE);
	assert_int_equal(k->nidle, 1);
}

static void
test_worker_batch_recall_races_with_its_items(void **state)
{
	enum { ROUNDS = 100, ITEMS = 400 };
	struct keeper *k = *state;
	uint64_t items[ITEMS];
	static struct batch b;
	uint32_t nback = 0, nsplit = 0;

	for (uint32_t i = 0; i < ITEMS; i++)
		items[i] = ITEM_OF(i % 40 == 20 ? ITEM_SLEEP : ITEM_KEEP, 1);
	for (int round = 0; round < ROUNDS; round++) {
		uint32_t back;

		items_forget(k->home->shared, ITEMS + 1);
		batch_init(&b, ITEMS);
		assert_int_equal(send_items(k, &b, items), 0);
		wait_for_first(k, 0);
		usleep((useconds_t)(round * 97 % 10000));
		back = fz_worker_recall(k->worker);
		assert_true(settle(k));
		assert_int_equal(count(&b, RETURNED), back);
		assert_int_equal(count(&b, DONE), ITEMS - back);
		for (uint32_t i = 0; i < ITEMS; i++)
			assert_int_equal(
			    atomic_load(&k->home->shared->ran[1 + i]),
			    b.fate[i] == DONE);
		nback += back;
		nsplit += back != 0 && back != ITEMS;
	}
	print_message("%u of %u items were taken back, %u batches in their "
		      "midst\n",
	    nback, ROUNDS * ITEMS, nsplit);
	assert_true(nsplit != 0);
}

static void
test_worker_batch_has_begun_once_an_item_is_started(void **state)
{
	static const uint64_t items[4] = { ITEM_OF(ITEM_KEEP, 0),
		ITEM_OF(ITEM_WAIT, 1), ITEM_OF(ITEM_KEEP, 2) };
	struct keeper *k = *state;
	static struct batch b, c;

	assert_false(fz_worker_has_begun(k->worker));
	batch_init(&b, 4);
	assert_int_equal(send_items(k, &b, items), 0);
	send_kept(k, &c, 3);
	assert_false(fz_worker_has_begun(k->worker)); /* it was not written */
	fz_worker_write(k->worker);
	while (atomic_load(&k->home->shared->waiting) == 0)
		usleep(100);
	assert_true(fz_worker_has_begun(k->worker));
	fz_worker_peek(k->worker);
	assert_true(fz_worker_has_begun(k->worker));
	assert_int_equal(fz_worker_recall(k->worker), 2 + 3);
	assert_true(fz_worker_has_begun(k->worker));
	atomic_store(&k->home->shared->gate, true);
	assert_true(settle(k));
	assert_false(fz_worker_has_begun(k->worker));
	send_kept(k, &c, 3);
	assert_false(fz_worker_has_begun(k->worker));
	assert_true(settle(k));
	assert_fates(&c, 0, 3, DONE);
}

/* ---- death ------------------------------------------------------------- */

static void
test_worker_batch_death_keeps_what_was_finished(void **state)
{
	static const struct {
		enum item_op before[3]; /* how the items before it went */
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
	struct keeper *k = *state;
	static struct batch b, c;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint64_t items[8] = { 0 };

		let_go(k);
		assert_non_null(keep(k));
		for (uint32_t j = 0; j < 3; j++)
			items[j] = ITEM_OF(cases[i].before[j], j);
		items[3] = ITEM_OF(cases[i].last, 3);
		batch_init(&b, 8);
		assert_int_equal(send_items(k, &b, items), 0);
		send_kept(k, &c, 3);
		assert_true(dies(k));
		for (uint32_t j = 0; j < 3; j++) {
			bool raised = cases[i].before[j] == ITEM_RAISE;

			assert_int_equal(b.fate[j], raised ? FAILED : DONE);
			assert_int_equal(b.value[j], raised ? 0 : j);
		}
		assert_int_equal(
		    b.fate[3], cases[i].last == ITEM_KILL ? FAILED : DONE);
		assert_int_equal(count(&b, FAILED), cases[i].nfailed);
		if (cases[i].last == ITEM_KILL) {
			assert_int_equal(b.failure.err.kind, FZ_ERR_CRASH);
			assert_int_equal(b.failure.signal, SIGKILL);
		}
		assert_fates(&b, 4, 8, RETURNED);
		assert_fates(&c, 0, 3, RETURNED);
	}
}

static void
test_worker_batch_killed_from_outside_at_any_time_loses_nothing(void **state)
{
	enum { ROUNDS = 100, ITEMS = MANY };
	struct keeper *k = *state;
	static struct batch b;
	uint32_t nfailed = 0, ndone = 0;

	for (int round = 0; round < ROUNDS; round++) {
		uint32_t bad;

		let_go(k);
		assert_non_null(keep(k));
		items_forget(k->home->shared, ITEMS + 1);
		send_kept(k, &b, ITEMS);
		wait_for_first(k, round * 137 % 10000);
		if (round % 3 == 0)
			fz_worker_peek(k->worker);
		kill(k->worker->pid, SIGKILL);
		assert_true(dies(k));
		bad = count(&b, FAILED);
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
		ndone += count(&b, DONE);
	}
	print_message("%d kills: %u items were done, %u in the midst\n", ROUNDS,
	    ndone, nfailed);
	assert_true(ndone != 0);
}

/* ---- peek and time ----------------------------------------------------- */

static void
test_worker_batch_what_was_peeked_at_is_not_told_again(void **state)
{
	static const uint64_t items[8] = { ITEM_OF(ITEM_KEEP, 0),
		ITEM_OF(ITEM_KEEP, 1), ITEM_OF(ITEM_REPLY, 2),
		ITEM_OF(ITEM_KEEP, 3), ITEM_OF(ITEM_KEEP, 4),
		ITEM_OF(ITEM_WAIT, 5), ITEM_OF(ITEM_KEEP, 6),
		ITEM_OF(ITEM_REPLY, 7) };
	struct keeper *k = *state;
	static struct batch b;

	batch_init(&b, 8);
	assert_int_equal(send_items(k, &b, items), 0);
	wait_for_gate(k);
	fz_worker_peek(k->worker);
	assert_fates(&b, 0, 5, DONE);
	assert_int_equal(b.ntold, 5);
	fz_worker_peek(k->worker);
	assert_int_equal(b.ntold, 5);
	assert_int_equal(k->worker->nitems, 3);
	atomic_store(&k->home->shared->gate, true);
	assert_true(settle(k));
	assert_fates(&b, 0, 8, DONE);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(b.value[i], i);
	assert_int_equal(k->nidle, 1);
}

/* What the cell has comes behind what is in the pipe, and is not lost. */
static void
test_worker_batch_peek_before_what_was_written_takes_nothing(void **state)
{
	static const uint64_t items[5] = { ITEM_OF(ITEM_FLUSH, 0),
		ITEM_OF(ITEM_KEEP, 1), ITEM_OF(ITEM_KEEP, 2),
		ITEM_OF(ITEM_WAIT, 3), ITEM_OF(ITEM_KEEP, 4) };
	struct keeper *k = *state;
	static struct batch b;

	batch_init(&b, 5);
	assert_int_equal(send_items(k, &b, items), 0);
	fz_loop_flush(k->w->engine.loop);
	while (atomic_load(&k->home->shared->waiting) == 0)
		usleep(100);
	fz_worker_peek(k->worker);
	assert_int_equal(b.ntold, 0);
	atomic_store(&k->home->shared->gate, true);
	assert_true(settle(k));
	assert_fates(&b, 0, 5, DONE);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(b.value[i], i);
}

/* While the worker writes over what is copied. */
static void
test_worker_batch_peek_never_takes_a_torn_item(void **state)
{
	struct keeper *k = *state;
	static struct batch b[20];
	int64_t until = in_ms(20000);

	for (int i = 0; i < 20; i++)
		send_kept(k, &b[i], MANY);
	while (k->worker->njobs != 0) {
		fz_worker_peek(k->worker);
		if (k->worker->njobs != 0)
			assert_true(step_until(k->w, until));
	}
	for (int i = 0; i < 20; i++) {
		assert_fates(&b[i], 0, MANY, DONE);
		for (uint32_t j = 0; j < MANY; j++)
			assert_int_equal(b[i].value[j], j);
	}
}

/* Each item has the time, not all of them together. */
static void
test_worker_batch_a_timeout_ends_one_item(void **state)
{
	static const uint64_t items[8] = { ITEM_OF(ITEM_SLEEP, 200),
		ITEM_OF(ITEM_SLEEP, 200), ITEM_OF(ITEM_KEEP, 2),
		ITEM_OF(ITEM_SLEEP, 60000) };
	struct keeper *k = *state;
	static struct batch b;

	batch_init(&b, 8);
	b.job.timeout_ns = 350 * FZ_CLOCK_MS;
	assert_int_equal(send_items(k, &b, items), 0);
	assert_true(dies(k));
	assert_fates(&b, 0, 3, DONE);
	assert_int_equal(b.fate[3], FAILED);
	assert_int_equal(b.failure.err.kind, FZ_ERR_TIMEOUT);
	assert_non_null(strstr(b.failure.err.text, "0.35 s"));
	assert_fates(&b, 4, 8, RETURNED);
}

/* ---- a worker that lies -------------------------------------------------- */

/* A frame with `len` bytes behind the number `n`. */
static void
write_frame(struct fz_port *port, enum fz_wire_type type, uint32_t seq,
    uint32_t n, size_t len)
{
	struct fz_buf *frame = &port->frame;

	fz_buf_clear(frame);
	fz_wire_begin(frame, type, 0, seq);
	fz_buf_put_u32(frame, n);
	for (size_t i = 0; i < len; i++)
		fz_buf_put_u32(frame, 7);
	fz_wire_end(frame, 0);
	fz_fd_write_all(port->out, frame->data, frame->len);
}

/* What a function of the worker may write to its pipe, as it is to a job. */
enum lie {
	LIE_ITEMS,       /* results of items, to what is no batch */
	LIE_PLACED,      /* the same in a strip that there is not */
	LIE_AHEAD,       /* a reply to what was not sent */
	LIE_NEXT,        /* a reply to the job after this one */
	LIE_BEFORE,      /* replies to what came before all */
	LIE_NONE,        /* results of no item */
	LIE_MANY,        /* more results than bytes */
	LIE_SHORT,       /* a frame without its number */
	LIE_CALL,        /* a frame of the parent's */
	LIE_HALF,        /* the first bytes of one that is very long */
	LIE_HALF_OF_TWO, /* a reply, and the first bytes of another */
	LIE_GARBAGE,
	LIE_CLOSED, /* none: its pipe is closed, and a file opened */
	NLIES
};

static enum lie lie;
static char closed_path[40];

static void
write_head(struct fz_port *port, enum fz_wire_type type, uint32_t seq,
    uint64_t len, const char *body)
{
	struct fz_buf *frame = &port->frame;

	fz_buf_clear(frame);
	fz_wire_begin(frame, type, 0, seq);
	fz_le64_store(frame->data + 8, len);
	fz_buf_put(frame, body, strlen(body));
	fz_fd_write_all(port->out, frame->data, frame->len);
}

static void
tell_lie(struct fz_port *port, uint32_t seq)
{
	char garbage[64];

	switch (lie) {
	case LIE_ITEMS:
		write_frame(port, FZ_WIRE_ITEMS, seq, 1, 4);
		break;
	case LIE_PLACED:
		write_frame(port, FZ_WIRE_STORED, seq, 1, 0);
		break;
	case LIE_AHEAD:
		write_frame(port, FZ_WIRE_RESULT, seq + 100000, 0, 0);
		break;
	case LIE_NEXT:
		write_frame(port, FZ_WIRE_ITEMS, seq + 1, 1, 4);
		break;
	case LIE_BEFORE:
		write_frame(port, FZ_WIRE_ITEMS, seq - 5, 5, 8);
		break;
	case LIE_NONE:
		write_frame(port, FZ_WIRE_ITEMS, seq, 0, 4);
		break;
	case LIE_MANY:
		write_frame(port, FZ_WIRE_ITEMS, seq, 1 << 30, 4);
		break;
	case LIE_SHORT:
		write_head(port, FZ_WIRE_ITEMS, seq, 3, "abc");
		break;
	case LIE_CALL:
		write_frame(port, FZ_WIRE_JOB, seq, 1, 4);
		break;
	case LIE_HALF:
		write_head(port, FZ_WIRE_RESULT, seq, UINT64_C(1) << 39, "abc");
		break;
	case LIE_HALF_OF_TWO:
		fz_port_begin(
		    port, &(struct fz_call){ .seq = seq }, FZ_WIRE_RESULT, 1);
		put_number(port, 77);
		fz_port_send(port, NULL);
		fz_port_flush(port, NULL);
		write_head(port, FZ_WIRE_RESULT, seq + 1, 1 << 20, "abc");
		break;
	case LIE_CLOSED:
		close(port->out);
		/* It gets the number of the pipe. */
		if (open(closed_path, O_WRONLY) != port->out)
			_exit(97);
		break;
	default:
		memset(garbage, 'g', sizeof(garbage));
		fz_fd_write_all(port->out, garbage, sizeof(garbage));
	}
}

/* The lie comes before the reply. */
static int
serve_lie(void *ctx, struct fz_port *port)
{
	struct items_home *home = ctx;
	struct fz_call call;

	while (fz_port_next(port, &call, NULL) == 1) {
		if (call.type != FZ_WIRE_JOB) {
			if (items_batch(home, port, &call) != 0)
				return 96;
			continue;
		}
		tell_lie(port, call.seq);
		if (lie == LIE_HALF || lie == LIE_HALF_OF_TWO)
			continue;
		fz_port_begin(port, &call, FZ_WIRE_RESULT, 1);
		put_number(port, 77);
		if (fz_port_send(port, NULL) != 0)
			return 96;
	}
	return 0;
}

/* What `items` cannot be told of; the others are as of any batch. */
static const struct fz_job_ops job_ops = { batch_done, batch_failed,
	batch_returned, batch_started, NULL };

static void
send_plain_job(struct keeper *k, struct batch *b)
{
	batch_init(b, 1);
	b->job.ops = &job_ops;
	b->job.nvalues = 1;
	assert_int_equal(fz_worker_send(k->worker, &b->job, NULL, 0, NULL), 0);
}

/* A reply to what it was not sent costs a worker, and the job at hand. */
static void
test_worker_batch_a_lie_costs_one_worker_and_one_job(void **state)
{
	struct keeper *k = *state;
	static struct batch b, c;
	struct stat st;
	int fd;

	strcpy(closed_path, "/tmp/fzlua-closed-XXXXXX");
	fd = mkstemp(closed_path);
	assert_int_not_equal(fd, -1);
	for (int i = 0; i < NLIES; i++) {
		lie = (enum lie)i;
		let_go(k);
		assert_non_null(keep_main(k, serve_lie));
		send_plain_job(k, &b);
		send_plain_job(k, &c);
		assert_true(dies(k));
		if (lie == LIE_HALF_OF_TWO) { /* of the second one */
			assert_fates(&b, 0, 1, DONE);
			assert_int_equal(b.value[0], 77);
			assert_fates(&c, 0, 1, FAILED);
		} else {
			/* The reply itself may still be in the cell. */
			if (b.fate[0] == DONE)
				assert_int_equal(b.value[0], 77);
			else
				assert_fates(&b, 0, 1, FAILED);
			assert_int_not_equal(c.fate[0], UNTOLD);
		}
	}
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	close(fd);
	unlink(closed_path);
}

/* Of all its items, in a frame or in the cell: the worker is lost. */
static int
serve_placed_nowhere(void *ctx, struct fz_port *port)
{
	struct items_home *home = ctx;
	struct fz_direct run;
	struct fz_call call;

	while (fz_port_next(port, &call, NULL) == 1) {
		if (fz_direct_begin(port, &call, &run, NULL) != 0)
			return 96;
		do
			fz_direct_stored(&run);
		while (fz_direct_advance(&run));
		fz_direct_end(port, &call, &run);
		atomic_fetch_add(&home->shared->waiting, 1);
		while (!atomic_load(&home->shared->gate))
			usleep(100);
	}
	return 0;
}

static void
test_worker_batch_what_is_placed_nowhere_costs_the_worker(void **state)
{
	struct fz_worker_batch head = { FZ_WIRE_MAP | FZ_WIRE_INHERITED, 1 };
	struct keeper *k = *state;
	static struct batch b;

	for (int peeks = 0; peeks < 2; peeks++) {
		let_go(k);
		assert_non_null(keep_main(k, serve_placed_nowhere));
		batch_init(&b, 300);
		assert_int_equal(fz_worker_send_batch(
				     k->worker, &b.job, &head, NULL, 0, NULL),
		    0);
		wait_for_gate(k);
		if (peeks != 0)
			fz_worker_peek(k->worker);
		assert_int_equal(b.ntold, 0);
		atomic_store(&k->home->shared->gate, true);
		assert_true(dies(k));
		assert_fates(&b, 0, 300, FAILED);
		assert_int_equal(b.nlost, 0);
	}
}

/* The cell is the worker's to write: anything may stand there. */
static int
serve_wild_cell(void *ctx, struct fz_port *port)
{
	struct items_home *home = ctx;
	struct fz_cell *cell = port->cell;
	struct fz_call call;

	if (fz_port_next(port, &call, NULL) != 1)
		return 96;
	for (uint32_t i = 0; i < 200000; i++) {
		struct fz_cell_open open = { i % 3 != 0 ? 0 : i,
			FZ_WIRE_HEADER + 4 + i % 5 - 1,
			i * 31 & FZ_CELL_OPEN_ITEMS };

		if (i == 1000)
			atomic_fetch_add(&home->shared->waiting, 1);
		cell->out[0] = (unsigned char)(i % 2 != 0 ? FZ_WIRE_STORED : i);
		fz_le32_store(cell->out + 4, call.seq + i % 900 - 300);
		atomic_store(&cell->open, fz_cell_open_word(&open));
		atomic_store(&cell->nout, i % 11 != 0 ? 0 : i * 77);
	}
	raise(SIGKILL);
	return 0;
}

static void
test_worker_batch_a_wild_cell_tells_no_item_twice(void **state)
{
	struct fz_worker_batch head = { FZ_WIRE_MAP | FZ_WIRE_INHERITED, 1 };
	struct keeper *k = *state;
	static struct batch b, c;

	for (int round = 0; round < 10; round++) {
		let_go(k);
		assert_non_null(keep_main(k, serve_wild_cell));
		batch_init(&b, 300);
		b.torn = true;
		batch_init(&c, 1);
		c.job.ops = &job_ops;
		lay_strip(k, &b);
		assert_int_equal(fz_worker_send_batch(
				     k->worker, &b.job, &head, NULL, 0, NULL),
		    0);
		assert_int_equal(
		    fz_worker_send(k->worker, &c.job, NULL, 0, NULL), 0);
		wait_for_gate(k);
		while (k->worker != NULL) {
			fz_worker_peek(k->worker);
			fz_loop_step(k->w->engine.loop, in_ms(1), NULL);
		}
		assert_int_equal(count(&b, UNTOLD), 0);
		assert_int_equal(count(&c, UNTOLD), 0);
	}
}

/* ---- calls that fail --------------------------------------------------- */

static void
test_worker_batch_short_and_interrupted_calls_lose_nothing(void **state)
{
	static const int errors[] = { EINTR, EAGAIN };
	struct keeper *k = *state;
	static struct batch b;

	for (int round = 0; round < 2; round++) {
		faults_at(0);
		faults.most = 7;
		faults.odd_every = 3;
		faults.odd_error = errors[round];
		send_kept(k, &b, 300);
		assert_true(settle(k));
		assert_true(faults.nodd != 0);
		faults_end();
		assert_fates(&b, 0, 300, DONE);
		assert_int_equal(b.value[299], 299);
	}
}

/*
 * Items that go every way; each is told once, whatever fails. Returns 0, or
 * -1 where something could not be done.
 */
static int
scenario(struct keeper *k, int *nlost)
{
	static const uint64_t items[6] = { ITEM_OF(ITEM_KEEP, 0),
		ITEM_OF(ITEM_FLUSH, 1), ITEM_OF(ITEM_REPLY, 2),
		ITEM_OF(ITEM_BULK, 3), ITEM_OF(ITEM_KEEP, 4),
		ITEM_OF(ITEM_KEEP, 5) };
	static struct batch b;
	struct fz_blob *code = NULL;
	int rc = -1;

	if (keep(k) == NULL)
		return -1;
	batch_init(&b, 6);
	b.job.timeout_ns = 20 * FZ_CLOCK_SECOND;
	code = blob_of_number(0);
	if (code == NULL ||
	    fz_worker_send_func(k->worker, 0, code, NULL) != 0 ||
	    send_items(k, &b, items) != 0)
		goto out;
	while (k->worker != NULL && k->worker->njobs != 0) {
		fz_loop_step(k->w->engine.loop, in_ms(20000), NULL);
		if (k->worker != NULL)
			fz_worker_peek(k->worker);
	}
	assert_int_equal(b.ntold, 6);
	assert_int_equal(count(&b, UNTOLD), 0);
	*nlost += b.nlost;
	if (count(&b, DONE) == 6)
		rc = 0;
out:
	fz_blob_unref(code);
	let_go(k);
	return rc;
}

static void
test_worker_batch_any_call_may_fail(void **state)
{
	struct keeper *k = *state;
	int rc, nfailed = 0, nlost = 0;
	unsigned long n = 0;

	let_go(k);
	do {
		faults_at(++n);
		rc = scenario(k, &nlost);
		nfailed += rc != 0;
		assert_no_children();
	} while (faults_end());
	assert_int_equal(rc, 0);
	assert_true(nfailed > 10);
	if (way != PLACED) /* then there is memory for all */
		assert_true(nlost != 0);
	print_message("%lu calls, %d failures\n", n, nfailed);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_items_are_told_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_of_what_it_inherited_has_no_parts, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_may_have_replies_and_errors_among_its_items,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_calls_the_function_that_was_sent, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_recall_in_its_midst_keeps_what_runs,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_recall_after_a_peek_keeps_what_runs,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_recall_races_with_its_items, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_has_begun_once_an_item_is_started, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_death_keeps_what_was_finished, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_killed_from_outside_at_any_time_loses_nothing,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_what_was_peeked_at_is_not_told_again,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_peek_before_what_was_written_takes_nothing,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_peek_never_takes_a_torn_item, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_a_timeout_ends_one_item, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_a_lie_costs_one_worker_and_one_job, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_what_is_placed_nowhere_costs_the_worker,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_a_wild_cell_tells_no_item_twice, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_short_and_interrupted_calls_lose_nothing,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_batch_any_call_may_fail, setup, teardown),
	};

	static const char *const names[] = { "kept", "placed", "mixed" };
	int nfailed = 0;

	for (way = KEPT; way <= MIXED; way++)
		nfailed +=
		    cmocka_run_group_tests_name(names[way], tests, NULL, NULL);
	return nfailed;
}
