/*
 * Batches and their scheduler: each item has one outcome, whatever happens.
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_wait fork
 * wrap: pipe2 read write pwritev2
 * wrap: fz_engine_room
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
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "batches.h"
#include "faults.h"
#include "os/loop.h"
#include "sched/batch.h"
#include "sched/batch_pool.h"
#include "sched/event.h"
#include "sched/pool.h"
#include "shared/arena.h"
#include "worker/blob.h"
#include "worker/change.h"
#include "worker/wire.h"

enum { TRIAL_MAX = 5000, TRIAL_CHUNKS = 1000 };

/* The strips of all batches. */
static struct {
	bool fails;           /* there is no memory for one */
	unsigned asked, live; /* how often; those that were not given back */
	void (*release)(void *owner, uint64_t offset);
	uint64_t least_n, most_done; /* seen when it was asked */
} strips;

/* A scheduler and its pool. */
struct bench {
	struct world *w;
	struct items_home *home;
	struct fz_pool *pool;
	struct fz_batch_pool *sched;
	struct fz_batch_pool_opts opts; /* set before bench_open() */
	uint32_t max_tasks;             /* the same */
};

/* What became of one item. */
struct outcome {
	bool placed;
	unsigned ndone, nfailed, attempt;
	enum fz_err_kind kind;
	uint64_t value;
};

/* One batch of a bench. */
struct trial {
	struct bench *bench;
	struct fz_batch *batch;
	struct fz_batch_opts opts; /* set before trial_start() */
	uint64_t items[TRIAL_MAX];
	uint32_t most; /* items that go together, 0: all */
	uint64_t bad;  /* the one that cannot be sent, 0: none */
	uint32_t chunks[TRIAL_CHUNKS], nchunks; /* as they were encoded */
	struct outcome outcomes[TRIAL_MAX + 1]; /* by index */
	uint64_t ndone, nfailed, nplaced;
	unsigned nevents[4]; /* by kind; of each item */
};

static int
setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	void *w;

	memset(&strips, 0, sizeof(strips));
	strips.least_n = UINT64_MAX;
	world_setup(&w);
	b->w = w;
	b->home = items_home_new();
	b->opts.workers = 2;
	*state = b;
	return 0;
}

static void
bench_close(struct bench *b)
{
	fz_batch_pool_free(b->sched);
	fz_pool_free(b->pool);
	b->sched = NULL;
	b->pool = NULL;
}

static int
teardown(void **state)
{
	struct bench *b = *state;
	void *w = b->w;

	bench_close(b);
	assert_int_equal(strips.live, 0);
	items_home_free(b->home);
	free(b);
	return world_teardown(&w);
}

/* 0, or -1 where there is no memory. */
static int
bench_open(struct bench *b)
{
	struct fz_pool_opts opts = { .engine = &b->w->engine,
		.max = b->opts.workers != 0 ? b->opts.workers : 1,
		.max_tasks = b->max_tasks,
		.main = items_serve,
		.main_ctx = b->home };

	b->pool = fz_pool_new(&opts, NULL);
	b->opts.engine = &b->w->engine;
	b->opts.pool = b->pool;
	if (b->pool != NULL)
		b->sched = fz_batch_pool_new(&b->opts, NULL);
	return b->sched != NULL ? 0 : -1;
}

static struct fz_blob *
encode(void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure)
{
	struct trial *t = ctx;
	struct fz_blob *part;

	if (first == t->bad) {
		fz_err_set(&failure->err, FZ_ERR_UNSENDABLE, "it is bad");
		return NULL;
	}
	if (first < t->bad && first + *n > t->bad)
		*n = (uint32_t)(t->bad - first);
	if (t->most != 0 && *n > t->most)
		*n = t->most;
	if (t->nchunks < TRIAL_CHUNKS)
		t->chunks[t->nchunks++] = *n;
	part = items_part(t->items + first - 1, *n);
	if (part == NULL)
		fz_err_nomem(&failure->err, "an item");
	return part;
}

/* `n` items that are kept, with values from 1 on; a failure stops nothing. */
static void
trial_init(struct trial *t, struct bench *b, uint64_t n)
{
	memset(t, 0, sizeof(*t));
	t->bench = b;
	t->opts = (struct fz_batch_opts){ .kind = FZ_WIRE_MAP,
		.n = n,
		.policy = FZ_POLICY_CONTINUE,
		.limits = { .timeout_ns = FZ_CLOCK_NEVER },
		.events = true,
		.encode = encode,
		.ctx = t };
	for (uint64_t i = 0; i < TRIAL_MAX; i++)
		t->items[i] = ITEM_OF(ITEM_KEEP, i + 1);
	items_forget(b->home->shared, TRIAL_MAX + 1);
}

/* All items do `op` with `value`. */
static void
trial_fill(struct trial *t, enum item_op op, uint32_t value)
{
	for (uint64_t i = 0; i < TRIAL_MAX; i++)
		t->items[i] = ITEM_OF(op, value);
}

static int
trial_start(struct trial *t)
{
	if (t->bench->sched == NULL)
		assert_int_equal(bench_open(t->bench), 0);
	t->opts.owner = fz_batch_pool_owner(t->bench->sched);
	t->batch = fz_batch_new(&t->opts, NULL);
	if (t->batch == NULL)
		return -1;
	fz_batch_start(t->batch);
	return 0;
}

static void
take_values(struct trial *t, const struct fz_batch_result *result)
{
	struct fz_arena *shm = t->bench->w->engine.shm;
	const unsigned char *at = fz_blob_map(result->blob, shm, NULL);

	for (uint32_t i = 0; i < result->n; i++) {
		struct outcome *o = &t->outcomes[result->first + i];

		assert_true(result->first + i <= TRIAL_MAX);
		o->ndone++;
		t->ndone++;
		if (result->strip) {
			assert_non_null(at);
			assert_false(result->whole);
			o->value = items_slot(at, result->skip + i);
			o->placed = true;
			t->nplaced++;
		} else if (at != NULL && result->blob->len != ITEMS_BULK)
			o->value =
			    fz_le64_load(at + 8 * (size_t)(result->skip + i));
	}
	if (at != NULL)
		fz_blob_unmap(result->blob, shm, at);
	fz_blob_unref(result->blob);
}

/* Take all results and events that there are. */
static void
trial_take(struct trial *t)
{
	struct fz_event event;
	struct fz_batch_result result;

	while (fz_batch_take(t->batch, &result) == 1) {
		struct outcome *o = &t->outcomes[result.first];

		assert_true(result.n != 0);
		if (result.failure == NULL) {
			take_values(t, &result);
			continue;
		}
		assert_int_equal(result.n, 1);
		o->nfailed++;
		t->nfailed++;
		o->kind = result.failure->err.kind;
		o->attempt = result.failure->attempt;
		fz_blob_unref(result.failure->value);
		free(result.failure);
	}
	while (fz_batch_next_event(t->batch, &event) == 1)
		t->nevents[event.kind] += event.n;
}

/* Turn the loop until the batch is done; false when it takes too long. */
static bool
finishes(struct trial *t)
{
	int64_t until = in_ms(30000);

	while (!fz_batch_done(t->batch)) {
		if (!step_until(t->bench->w, until))
			return false;
		trial_take(t);
	}
	trial_take(t);
	return true;
}

static void
trial_fini(struct trial *t)
{
	fz_batch_free(t->batch);
	t->batch = NULL;
}

/* The same outcome for all items but those that were checked already. */
static void
assert_done(struct trial *t, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i <= to; i++) {
		assert_int_equal(t->outcomes[i].ndone, 1);
		assert_int_equal(t->outcomes[i].nfailed, 0);
	}
}

static void
assert_failed(
    struct trial *t, uint64_t item, enum fz_err_kind kind, unsigned attempt)
{
	assert_int_equal(t->outcomes[item].nfailed, 1);
	assert_int_equal(t->outcomes[item].ndone, 0);
	assert_int_equal(t->outcomes[item].kind, kind);
	assert_int_equal(t->outcomes[item].attempt, attempt);
}

/* No item has two, and the counts say the same; true: all have one. */
static bool
has_all_outcomes(struct trial *t)
{
	struct fz_batch_counts c = fz_batch_counts(t->batch);
	uint64_t n = 0;

	assert_int_equal(c.running, 0);
	for (uint64_t i = 1; i <= c.total; i++) {
		const struct outcome *o = &t->outcomes[i];

		assert_true(o->ndone + o->nfailed <= 1);
		n += o->ndone + o->nfailed;
	}
	return n == c.total;
}

static void
assert_all_done(struct trial *t)
{
	assert_true(finishes(t));
	assert_null(fz_batch_whole(t->batch));
	assert_done(t, 1, fz_batch_counts(t->batch).total);
	assert_true(has_all_outcomes(t));
}

static int
ran(struct trial *t, uint64_t item)
{
	return atomic_load(&t->bench->home->shared->ran[item]);
}

/* Until `n` items wait at the gate. */
static void
wait_for_gate(struct trial *t, int n)
{
	int64_t until = in_ms(20000);

	while (atomic_load(&t->bench->home->shared->waiting) < n) {
		assert_true(fz_clock_ns() < until);
		fz_loop_step(t->bench->w->engine.loop, in_ms(1), NULL);
	}
}

static void
open_gate(struct trial *t)
{
	atomic_store(&t->bench->home->shared->gate, true);
}

static struct trial t, u;

static void
give_back_strip(void *owner, uint64_t offset)
{
	strips.live--;
	strips.release(owner, offset);
}

struct fz_blob *__real_fz_engine_room(
    struct fz_engine *engine, size_t len, struct fz_err *err);
struct fz_blob *__wrap_fz_engine_room(
    struct fz_engine *engine, size_t len, struct fz_err *err);

struct fz_blob *
__wrap_fz_engine_room(struct fz_engine *engine, size_t len, struct fz_err *err)
{
	struct fz_blob *blob = NULL;
	uint64_t done = t.batch != NULL ? fz_batch_counts(t.batch).done : 0;

	strips.asked++;
	if (len / ITEMS_SLOT < strips.least_n)
		strips.least_n = len / ITEMS_SLOT;
	if (done > strips.most_done)
		strips.most_done = done;
	if (!strips.fails)
		blob = __real_fz_engine_room(engine, len, err);
	if (blob != NULL) {
		strips.live++;
		strips.release = blob->release;
		blob->release = give_back_strip;
	}
	return blob;
}

/* ---- all is well --------------------------------------------------------- */

static void
test_batch_each_item_is_called_once(void **state)
{
	trial_init(&t, *state, TRIAL_MAX);
	t.items[17] = ITEM_OF(ITEM_REPLY, 18);
	t.items[18] = ITEM_OF(ITEM_BULK, 0);
	trial_start(&t);
	assert_int_equal(fz_batch_pool_nbatches(t.bench->sched), 1);
	assert_ptr_equal(fz_batch_ctx(t.batch), &t);
	assert_all_done(&t);
	assert_int_equal(fz_batch_pool_nbatches(t.bench->sched), 0);
	for (uint64_t i = 1; i <= TRIAL_MAX; i++) {
		assert_int_equal(ran(&t, i), 1);
		if (i != 19)
			assert_int_equal(t.outcomes[i].value, i);
	}
	assert_int_equal(t.nevents[FZ_EVENT_DONE], TRIAL_MAX);
	assert_true(t.nevents[FZ_EVENT_START] != 0);
	assert_int_equal(t.nevents[FZ_EVENT_FAILED], 0);
	trial_fini(&t);
}

static void
test_batch_of_nothing_is_done(void **state)
{
	trial_init(&t, *state, 0);
	trial_start(&t);
	assert_true(fz_batch_done(t.batch));
	assert_int_equal(atomic_load(&t.bench->home->shared->births), 0);
	trial_fini(&t);
	fz_batch_free(NULL);
	fz_batch_pool_free(NULL);
}

static void
test_batch_workers_may_have_the_list(void **state)
{
	trial_init(&t, *state, 3000);
	t.opts.kind |= FZ_WIRE_INHERITED;
	trial_start(&t);
	assert_all_done(&t);
	assert_int_equal(t.nchunks, 0);
	for (uint64_t i = 1; i <= 3000; i++)
		assert_int_equal(t.outcomes[i].value, i);
	trial_fini(&t);
}

static void
test_batch_chunks_have_their_size(void **state)
{
	static const struct {
		uint32_t n, chunk, most; /* as the options */
		uint32_t first, largest; /* as they came to be */
	} cases[] = {
		{ 100, 7, 0, 7, 7 }, { 100, 1, 0, 1, 1 },
		{ 100, 1000, 0, 100, 100 },
		{ 100, 10, 3, 3, 3 },  /* no more go together */
		{ 1000, 0, 0, 1, 250 } /* measured; the tail in small ones */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint32_t sum = 0;

		trial_init(&t, *state, cases[i].n);
		t.opts.chunk = cases[i].chunk;
		t.most = cases[i].most;
		trial_start(&t);
		assert_all_done(&t);
		assert_int_equal(t.chunks[0], cases[i].first);
		for (uint32_t j = 0; j < t.nchunks; j++) {
			assert_true(t.chunks[j] <= cases[i].largest);
			sum += t.chunks[j];
		}
		/* More than all of them where some were taken back. */
		assert_true(sum >= cases[i].n);
		trial_fini(&t);
		bench_close(*state);
	}
}

static void
test_batch_grows_while_it_runs(void **state)
{
	struct fz_blob *part;

	trial_init(&t, *state, 0);
	t.opts.growing = true;
	t.opts.kind = FZ_WIRE_CALL;
	t.opts.encode = NULL;
	trial_start(&t);
	for (uint64_t i = 0; i < 20; i++) {
		assert_false(fz_batch_done(t.batch));
		part = items_part(t.items + i, 1);
		assert_int_equal(fz_batch_add(t.batch, part, NULL), 0);
		if (i % 3 == 0)
			fz_loop_step(t.bench->w->engine.loop, in_ms(5), NULL);
	}
	while (fz_batch_counts(t.batch).done != 20)
		fz_loop_step(t.bench->w->engine.loop, in_ms(5), NULL);
	assert_false(fz_batch_done(t.batch));
	fz_batch_end(t.batch);
	assert_true(fz_batch_done(t.batch));
	assert_all_done(&t);
	for (uint64_t i = 1; i <= 20; i++)
		assert_int_equal(t.outcomes[i].value, i);
	/* Now it is never called. */
	part = items_part(t.items, 1);
	assert_int_equal(fz_batch_add(t.batch, part, NULL), 0);
	assert_int_equal(fz_batch_counts(t.batch).total, 20);
	trial_fini(&t);
}

static void
test_batch_counts_what_runs_and_what_waits(void **state)
{
	struct fz_batch_counts c;

	trial_init(&t, *state, 10);
	t.opts.chunk = 1;
	t.items[0] = t.items[1] = ITEM_OF(ITEM_WAIT, 0);
	trial_start(&t);
	c = fz_batch_counts(t.batch);
	assert_int_equal(c.total, 10);
	assert_int_equal(c.waiting, 10);
	wait_for_gate(&t, 2);
	c = fz_batch_counts(t.batch);
	assert_int_equal(c.running, 2);
	assert_int_equal(c.waiting, 8);
	open_gate(&t);
	assert_all_done(&t);
	c = fz_batch_counts(t.batch);
	assert_int_equal(c.done, 10);
	assert_int_equal(c.running + c.waiting + c.failed, 0);
	trial_fini(&t);
}

static void
test_batch_two_of_them_go_in_turn(void **state)
{
	trial_init(&t, *state, 100);
	trial_init(&u, *state, 100);
	trial_fill(&t, ITEM_SLEEP, 1);
	trial_fill(&u, ITEM_SLEEP, 1);
	t.opts.chunk = u.opts.chunk = 2;
	trial_start(&t);
	trial_start(&u);
	assert_int_equal(fz_batch_pool_nbatches(t.bench->sched), 2);
	assert_true(finishes(&t));
	assert_true(fz_batch_counts(u.batch).done > 50);
	assert_all_done(&u);
	assert_done(&t, 1, 100);
	trial_fini(&t);
	trial_fini(&u);
}

/* Take all changes: whether the object is among them. */
static bool
has_changed(struct fz_engine *engine, uint64_t id)
{
	bool found = false;

	for (uint64_t i = 1; i != 0; found = found || i == id)
		i = fz_change_take(engine);
	return found;
}

static void
test_batch_has_changed_when_it_is_done(void **state)
{
	struct fz_engine *engine;

	trial_init(&t, *state, 5);
	trial_init(&u, *state, 5);
	t.items[0] = ITEM_OF(ITEM_SLEEP, 100);
	t.opts.chunk = u.opts.chunk = 1;
	trial_start(&t);
	trial_start(&u);
	engine = &t.bench->w->engine;
	assert_int_equal(fz_change_take(engine), 0);
	assert_all_done(&u);
	assert_true(has_changed(engine, fz_batch_id(u.batch)));
	assert_false(has_changed(engine, fz_batch_id(u.batch)));
	assert_all_done(&t);
	trial_fini(&t); /* its change is forgotten */
	assert_int_equal(fz_change_take(engine), 0);
	trial_fini(&u);
}

/* ---- failures ---------------------------------------------------------- */

static void
test_batch_items_are_tried_again(void **state)
{
	static const struct {
		enum item_op op;
		unsigned retries, attempt; /* the last one, 0: it is done */
		enum fz_err_kind kind;
	} cases[] = {
		{ ITEM_RAISE_ONCE, 0, 1, FZ_ERR_ERROR },
		{ ITEM_RAISE_ONCE, 1, 0, FZ_ERR_NONE },
		{ ITEM_RAISE, 2, 3, FZ_ERR_ERROR },
		{ ITEM_KILL_ONCE, 0, 1, FZ_ERR_CRASH },
		{ ITEM_KILL_ONCE, 1, 0, FZ_ERR_NONE },
		{ ITEM_KILL, 1, 2, FZ_ERR_CRASH },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		trial_init(&t, *state, 20);
		atomic_store(&t.bench->home->shared->onces, 0);
		t.items[6] = ITEM_OF(cases[i].op, 7);
		t.opts.limits.retries = cases[i].retries;
		trial_start(&t);
		assert_true(finishes(&t));
		assert_true(has_all_outcomes(&t));
		assert_done(&t, 1, 6);
		assert_done(&t, 8, 20);
		if (cases[i].attempt == 0)
			assert_int_equal(t.outcomes[7].value, 7);
		else
			assert_failed(&t, 7, cases[i].kind, cases[i].attempt);
		assert_int_equal(t.nevents[FZ_EVENT_RETRY],
		    cases[i].attempt != 0 ? cases[i].attempt - 1 : 1);
		assert_int_equal(
		    t.nevents[FZ_EVENT_FAILED] + t.nevents[FZ_EVENT_DONE], 20);
		for (uint64_t j = 1; j <= 20; j++)
			assert_true(j == 7 || ran(&t, j) == 1);
		trial_fini(&t);
	}
}

static void
test_batch_waits_before_it_tries_again(void **state)
{
	int64_t start = fz_clock_ns();

	trial_init(&t, *state, 3);
	t.items[1] = ITEM_OF(ITEM_RAISE, 0);
	t.opts.limits.retries = 2;
	t.opts.limits.backoff_ns = 30 * FZ_CLOCK_MS;
	trial_start(&t);
	assert_true(finishes(&t));
	assert_failed(&t, 2, FZ_ERR_ERROR, 3);
	assert_true(fz_clock_ns() - start >= (30 + 60) * FZ_CLOCK_MS);
	trial_fini(&t);
}

static void
test_batch_added_items_are_tried_again_with_their_part(void **state)
{
	trial_init(&t, *state, 0);
	t.opts.growing = true;
	t.opts.encode = NULL;
	t.opts.limits.retries = 1;
	t.items[0] = ITEM_OF(ITEM_RAISE_ONCE, 1);
	trial_start(&t);
	fz_batch_add(t.batch, items_part(t.items, 1), NULL);
	fz_batch_end(t.batch);
	assert_all_done(&t);
	assert_int_equal(t.outcomes[1].value, 1);
	assert_int_equal(ran(&t, 1), 2);
	trial_fini(&t);
}

static void
test_batch_an_item_that_cannot_be_sent_fails_alone(void **state)
{
	static const uint32_t bads[] = { 1, 5, 20 };

	for (int i = 0; i < 3; i++) {
		uint32_t bad = bads[i];

		trial_init(&t, *state, 20);
		t.bad = bad;
		t.opts.chunk = 10;
		t.opts.limits.retries = 5; /* of no use */
		trial_start(&t);
		assert_true(finishes(&t));
		assert_true(has_all_outcomes(&t));
		assert_failed(&t, bad, FZ_ERR_UNSENDABLE, 1);
		assert_int_equal(ran(&t, bad), 0);
		assert_done(&t, 1, bad - 1);
		assert_done(&t, bad + 1, 20);
		trial_fini(&t);
	}
}

static void
test_batch_a_timeout_is_of_one_item(void **state)
{
	trial_init(&t, *state, 20);
	t.items[3] = ITEM_OF(ITEM_SLEEP, 60000);
	t.opts.chunk = 10;
	t.opts.limits.timeout_ns = 100 * FZ_CLOCK_MS;
	trial_start(&t);
	assert_true(finishes(&t));
	assert_true(has_all_outcomes(&t));
	assert_failed(&t, 4, FZ_ERR_TIMEOUT, 1);
	assert_done(&t, 1, 3);
	assert_done(&t, 5, 20);
	trial_fini(&t);
}

/* The first waits at the gate, the second fails, all others take a moment. */
static void
start_policy(struct bench *b, enum fz_policy policy)
{
	int64_t until = in_ms(20000);

	trial_init(&t, b, 1000);
	trial_fill(&t, ITEM_SLEEP, 1);
	t.items[0] = ITEM_OF(ITEM_WAIT, 0);
	t.items[1] = ITEM_OF(ITEM_RAISE_LATE, 0);
	t.opts.chunk = 1;
	t.opts.policy = policy;
	trial_start(&t);
	while (t.nfailed == 0) {
		assert_true(step_until(b->w, until));
		trial_take(&t);
	}
	assert_failed(&t, 2, FZ_ERR_ERROR, 1);
}

static void
test_batch_policy_stop_lets_end_what_runs(void **state)
{
	start_policy(*state, FZ_POLICY_STOP);
	assert_false(fz_batch_done(t.batch));
	open_gate(&t);
	assert_true(finishes(&t));
	assert_done(&t, 1, 1);
	assert_false(has_all_outcomes(&t));
	assert_true(t.ndone < 500);
	assert_int_equal(t.nfailed, 1);
	assert_null(fz_batch_whole(t.batch));
	for (uint64_t i = 3; i <= 1000; i++)
		assert_int_equal(ran(&t, i), t.outcomes[i].ndone);
	trial_fini(&t);
}

static void
test_batch_policy_now_ends_what_runs(void **state)
{
	start_policy(*state, FZ_POLICY_NOW);
	assert_true(finishes(&t));
	assert_failed(&t, 1, FZ_ERR_CANCELLED, 1);
	assert_false(has_all_outcomes(&t));
	assert_null(fz_batch_whole(t.batch));
	trial_fini(&t);
}

static void
test_batch_policy_continue_calls_all(void **state)
{
	start_policy(*state, FZ_POLICY_CONTINUE);
	open_gate(&t);
	assert_true(finishes(&t));
	assert_true(has_all_outcomes(&t));
	assert_int_equal(t.ndone, 999);
	trial_fini(&t);
}

static void
test_batch_cancel_ends_all_at_once(void **state)
{
	const struct fz_failure *whole;
	uint64_t first;

	trial_init(&t, *state, 100);
	trial_init(&u, *state, 50);
	trial_fill(&t, ITEM_WAIT, 0);
	t.opts.limits.retries = 3;
	trial_start(&t);
	wait_for_gate(&t, 2);
	trial_start(&u); /* behind it */
	fz_batch_cancel(t.batch, FZ_ERR_INTERRUPTED, "by hand");
	assert_true(fz_batch_done(t.batch));
	whole = fz_batch_whole(t.batch);
	assert_int_equal(whole->err.kind, FZ_ERR_INTERRUPTED);
	assert_string_equal(whole->err.text, "by hand");
	fz_batch_cancel(t.batch, FZ_ERR_CANCELLED, "again");
	assert_int_equal(whole->err.kind, FZ_ERR_INTERRUPTED);
	trial_take(&t);
	assert_int_equal(t.nfailed, 2);
	assert_int_equal(t.ndone, 0);
	for (first = 1; t.outcomes[first].nfailed == 0; first++)
		continue;
	assert_failed(&t, first, FZ_ERR_INTERRUPTED, 1);
	open_gate(&t);
	assert_all_done(&u);
	trial_fini(&t);
	trial_fini(&u);
}

static void
test_batch_cancel_while_it_waits_for_another_attempt(void **state)
{
	int64_t until = in_ms(20000);

	trial_init(&t, *state, 1);
	t.items[0] = ITEM_OF(ITEM_RAISE, 0);
	t.opts.limits.retries = 1;
	t.opts.limits.backoff_ns = 600 * FZ_CLOCK_SECOND;
	trial_start(&t);
	while (t.nevents[FZ_EVENT_RETRY] == 0) {
		assert_true(step_until(t.bench->w, until));
		trial_take(&t);
	}
	assert_false(fz_batch_done(t.batch));
	fz_batch_pool_cancel(t.bench->sched, "all of it");
	assert_true(fz_batch_done(t.batch));
	assert_string_equal(fz_batch_whole(t.batch)->err.text, "all of it");
	trial_fini(&t);
}

/* With results that were not taken. */
static void
test_batch_may_be_freed_at_any_time(void **state)
{
	for (int i = 0; i < 10; i++) {
		trial_init(&t, *state, 2000);
		t.items[3] = ITEM_OF(ITEM_RAISE, 0);
		trial_start(&t);
		for (int j = 0; j < i; j++)
			fz_loop_step(t.bench->w->engine.loop, in_ms(1), NULL);
		trial_fini(&t);
		assert_int_equal(fz_batch_pool_nbatches(t.bench->sched), 0);
		assert_int_equal(fz_change_take(&t.bench->w->engine), 0);
	}
}

/* ---- workers ----------------------------------------------------------- */

static void
test_batch_a_worker_does_so_many_items_at_most(void **state)
{
	struct bench *b = *state;
	int sum = 0;

	b->max_tasks = 10;
	trial_init(&t, b, 100);
	t.opts.chunk = 4;
	trial_start(&t);
	assert_all_done(&t);
	assert_true(atomic_load(&b->home->shared->births) >= 10);
	for (int i = 0; i < ITEMS_WORKER_MAX; i++) {
		int n = atomic_load(&b->home->shared->ncalls[i]);

		assert_true(n <= 10);
		sum += n;
	}
	assert_int_equal(sum, 100);
	trial_fini(&t);
}

static void
test_batch_once_workers_leave_at_its_end(void **state)
{
	struct bench *b = *state;
	int64_t until = in_ms(20000);

	b->opts.once = true;
	for (int round = 1; round <= 2; round++) {
		trial_init(&t, b, 100);
		trial_start(&t);
		assert_all_done(&t);
		while (fz_pool_nworkers(b->pool) != 0)
			assert_true(step_until(b->w, until));
		assert_true(atomic_load(&b->home->shared->births) >= round);
		trial_fini(&t);
	}
}

static void
test_batch_an_idle_worker_gets_of_what_another_has(void **state)
{
	struct bench *b = *state;
	int sum = 0, most = 0;

	b->opts.workers = 3;
	trial_init(&t, b, 150);
	t.opts.chunk = 50;
	for (int i = 0; i < 100; i++)
		t.items[i] = ITEM_OF(ITEM_SLEEP, 5);
	trial_start(&t);
	assert_all_done(&t);
	for (int i = 0; i < 3; i++) {
		int n = atomic_load(&b->home->shared->ncalls[i]);

		sum += n;
		if (n > most)
			most = n;
	}
	assert_int_equal(sum, 150);
	assert_true(most >= 60);
	trial_fini(&t);
}

static void
test_batch_workers_may_all_be_forked_before(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_open(b), 0);
	assert_false(fz_batch_pool_is_local(b->sched));
	assert_int_equal(fz_pool_prefork(b->pool, NULL), 0);
	assert_int_equal(fz_pool_nworkers(b->pool), 2);
	trial_init(&t, b, 100);
	trial_start(&t);
	fz_loop_flush(b->w->engine.loop); /* with no step of the loop */
	while (atomic_load(&b->home->shared->ran[1]) == 0)
		usleep(100);
	assert_all_done(&t);
	assert_int_equal(fz_pool_nworkers(b->pool), 2);
	trial_fini(&t);
}

/* `n` items are called by function `slot`, which adds `add`. */
static void
call_slot(struct bench *b, uint32_t slot, uint64_t add)
{
	trial_init(&t, b, 10);
	t.opts.func = slot;
	trial_start(&t);
	assert_all_done(&t);
	for (uint64_t i = 1; i <= 10; i++)
		assert_int_equal(t.outcomes[i].value, i + add);
	trial_fini(&t);
}

/* As who defines a function does: here, and for workers that are there. */
static void
define(struct bench *b, uint32_t slot, uint64_t add)
{
	b->home->funcs[slot] = add;
	fz_batch_pool_func(b->sched, slot, blob_of_number(add));
}

static int
nfuncs(struct bench *b)
{
	return atomic_load(&b->home->shared->nfuncs);
}

static void
test_batch_workers_get_functions_newer_than_they_are(void **state)
{
	struct bench *b = *state;

	b->opts.workers = 1;
	assert_int_equal(bench_open(b), 0);
	define(b, 3, 100);
	call_slot(b, 3, 100); /* inherited */
	assert_int_equal(nfuncs(b), 0);
	define(b, 5, 1000);
	call_slot(b, 5, 1000); /* sent, once */
	call_slot(b, 5, 1000);
	call_slot(b, 3, 100);
	assert_int_equal(nfuncs(b), 1);
	define(b, 3, 200); /* another one in the same slot */
	call_slot(b, 3, 200);
	assert_int_equal(nfuncs(b), 2);
	trial_init(&t, b, 1);
	t.items[0] = ITEM_OF(ITEM_KILL, 0);
	trial_start(&t);
	assert_true(finishes(&t));
	trial_fini(&t);
	call_slot(b, 3, 200); /* the next worker has both from its birth */
	call_slot(b, 5, 1000);
	assert_int_equal(nfuncs(b), 2);
	define(b, 5, 2000);
	call_slot(b, 5, 2000);
	assert_int_equal(nfuncs(b), 3);
}

/* In a worker: 7 where nothing of its parent's goes on, and its own works. */
static uint64_t
probe_child(void *ctx)
{
	struct bench *b = ctx;

	if (!fz_batch_done(t.batch) || fz_batch_pool_nbatches(b->sched) != 0 ||
	    fz_change_take(&b->w->engine) != 0)
		return 1;
	if (fz_batch_whole(t.batch)->err.kind != FZ_ERR_CLOSED)
		return 2;
	fz_batch_free(t.batch);
	trial_init(&u, b, 5);
	if (trial_start(&u) != 0 || !finishes(&u) || u.ndone != 5)
		return 3;
	trial_fini(&u);
	bench_close(b);
	return 7;
}

static void
test_batch_in_a_worker_those_of_its_parent_are_closed(void **state)
{
	struct bench *b = *state;

	b->home->probe = probe_child;
	b->home->probe_ctx = b;
	b->opts.workers = 1;
	trial_init(&u, b, 0);
	trial_start(&u); /* it is done, and its change was not taken */
	trial_init(&t, b, 3);
	t.items[0] = ITEM_OF(ITEM_PROBE, 0);
	t.opts.limits.retries = 1;
	trial_start(&t);
	assert_all_done(&t);
	assert_int_equal(t.outcomes[1].value, 7);
	assert_int_equal(fz_change_take(&b->w->engine), fz_batch_id(u.batch));
	trial_fini(&u);
	trial_fini(&t);
}

/* The function comes with the items: there is none to be sent. */
static void
test_batch_a_function_may_be_in_the_part(void **state)
{
	struct bench *b = *state;

	b->opts.workers = 1;
	assert_int_equal(bench_open(b), 0);
	assert_int_equal(fz_pool_prefork(b->pool, NULL), 0);
	define(b, 0, 100);
	trial_init(&t, b, 10);
	t.opts.kind |= FZ_WIRE_INLINE;
	trial_start(&t);
	assert_all_done(&t);
	assert_int_equal(nfuncs(b), 0);
	trial_fini(&t);
	call_slot(b, 0, 100);
	assert_int_equal(nfuncs(b), 1);
}

static void
note_pid(void *ctx, pid_t pid)
{
	*(pid_t *)ctx = pid;
}

static void
test_batch_workers_killed_200_times_lose_nothing(void **state)
{
	struct bench *b = *state;
	uint64_t before = 0;
	int nkills = 0;

	trial_init(&t, b, TRIAL_MAX);
	for (int i = 0; i < TRIAL_MAX; i += 3)
		t.items[i] = ITEM_OF(ITEM_SLEEP, 1);
	t.opts.limits.retries = UINT32_MAX - 1;
	trial_start(&t);
	while (!fz_batch_done(t.batch)) {
		pid_t pid = 0;

		fz_loop_step(b->w->engine.loop, in_ms(1), NULL);
		trial_take(&t);
		if (nkills == 200 || t.ndone == before)
			continue;
		before = t.ndone;
		fz_pool_pids(b->pool, note_pid, &pid);
		if (pid != 0)
			nkills += kill(pid, SIGKILL) == 0;
	}
	assert_all_done(&t);
	assert_int_equal(nkills, 200);
	print_message("200 kills: %u items were tried again\n",
	    t.nevents[FZ_EVENT_RETRY]);
	assert_true(t.nevents[FZ_EVENT_RETRY] <= 200);
	for (uint64_t i = 1; i <= TRIAL_MAX; i++)
		assert_true(ran(&t, i) >= 1);
	trial_fini(&t);
}

/* ---- results that are placed --------------------------------------------- */

/* `n` items in chunks of `chunk`, with results that would fit a slot. */
static void
place_init(struct bench *b, uint64_t n, uint32_t chunk)
{
	trial_init(&t, b, n);
	for (uint64_t i = 0; i < TRIAL_MAX; i++)
		t.items[i] = ITEM_OF(ITEM_PLACE, i + 1);
	t.opts.slot = ITEMS_SLOT;
	t.opts.chunk = chunk;
}

/* Each item that is done has its own value, wherever it was stored. */
static void
assert_values(struct trial *trial)
{
	for (uint64_t i = 1; i <= TRIAL_MAX; i++) {
		if (trial->outcomes[i].ndone != 0)
			assert_int_equal(trial->outcomes[i].value, i);
	}
}

static void
test_batch_results_are_placed(void **state)
{
	struct bench *b = *state;

	b->opts.workers = 1; /* a second one might get a rest without slots */
	place_init(b, TRIAL_MAX, 500);
	trial_start(&t);
	assert_all_done(&t);
	assert_values(&t);
	assert_int_equal(t.nplaced, TRIAL_MAX);
	assert_int_equal(strips.asked, TRIAL_MAX / 500);
	trial_fini(&t);
	assert_int_equal(strips.live, 0);
}

static void
test_batch_results_of_an_inherited_list_are_placed(void **state)
{
	place_init(*state, 3000, 0);
	t.opts.kind |= FZ_WIRE_INHERITED;
	trial_start(&t);
	assert_all_done(&t);
	assert_values(&t);
	assert_true(t.nplaced > 2000); /* the tail may be in small chunks */
	assert_true(strips.least_n >= 256);
	trial_fini(&t);
}

static void
test_batch_only_long_chunks_have_a_strip(void **state)
{
	static const struct {
		uint32_t chunk, most;
		size_t slot;
		bool placed;
	} cases[] = { { 256, 0, ITEMS_SLOT, true },
		{ 255, 0, ITEMS_SLOT, false }, { 512, 0, 0, false },
		{ 512, 255, ITEMS_SLOT, false } /* no more go together */ };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		strips.asked = 0;
		place_init(*state, 1024, cases[i].chunk);
		t.opts.slot = cases[i].slot;
		t.most = cases[i].most;
		trial_start(&t);
		assert_all_done(&t);
		assert_values(&t);
		/* What is stolen from a chunk may be too short for one. */
		assert_int_equal(t.nplaced >= 256, cases[i].placed);
		assert_int_equal(strips.asked != 0, cases[i].placed);
		assert_true(t.nplaced == 0 || cases[i].placed);
		trial_fini(&t);
	}
}

static void
test_batch_without_memory_for_a_strip_results_are_sent(void **state)
{
	strips.fails = true;
	place_init(*state, 3000, 500);
	trial_start(&t);
	assert_all_done(&t);
	assert_values(&t);
	assert_int_equal(t.nplaced, 0);
	assert_int_equal(strips.asked, 6);
	trial_fini(&t);
}

/* Once that is known: what is sent ahead before has strips. */
static void
test_batch_where_most_results_do_not_fit_there_are_no_strips(void **state)
{
	place_init(*state, TRIAL_MAX, 300);
	for (uint64_t i = 0; i < TRIAL_MAX; i++)
		t.items[i] =
		    ITEM_OF(i % 3 == 0 ? ITEM_PLACE : ITEM_KEEP, i + 1);
	trial_start(&t);
	assert_all_done(&t);
	assert_values(&t);
	assert_true(strips.asked != 0 && strips.asked < 17);
	assert_true(strips.most_done < 256);
	assert_true(t.nplaced > 0 && t.nplaced < TRIAL_MAX / 3);
	trial_fini(&t);
}

static void
test_batch_where_most_results_fit_there_are_strips(void **state)
{
	place_init(*state, TRIAL_MAX, 300);
	for (uint64_t i = 0; i < TRIAL_MAX; i++)
		t.items[i] =
		    ITEM_OF(i % 3 != 0 ? ITEM_PLACE : ITEM_KEEP, i + 1);
	trial_start(&t);
	assert_all_done(&t);
	assert_values(&t);
	assert_int_equal(strips.asked, 16); /* not the tail of 200 */
	assert_true(strips.most_done > 256);
	trial_fini(&t);
}

/* Replies, errors and items that are sent, among those that are placed. */
static void
test_batch_placed_and_other_results_are_told_apart(void **state)
{
	struct bench *b = *state;

	b->opts.workers = 1; /* a second one might get a rest without slots */
	place_init(b, TRIAL_MAX, 1000);
	for (uint64_t i = 0; i < TRIAL_MAX; i += 10)
		t.items[i] = ITEM_OF(ITEM_REPLY, i + 1);
	for (uint64_t i = 5; i < TRIAL_MAX; i += 10)
		t.items[i] = ITEM_OF(ITEM_KEEP, i + 1);
	for (uint64_t i = 7; i < TRIAL_MAX; i += 100)
		t.items[i] = ITEM_OF(ITEM_RAISE, i + 1);
	t.items[1000] = ITEM_OF(ITEM_FLUSH, 1001);
	t.opts.limits.retries = 1;
	trial_start(&t);
	assert_true(finishes(&t));
	assert_true(has_all_outcomes(&t));
	assert_values(&t);
	for (uint64_t i = 0; i < TRIAL_MAX; i++) {
		assert_int_equal(t.outcomes[i + 1].nfailed, i % 100 == 7);
		assert_int_equal(
		    t.outcomes[i + 1].placed, i % 5 != 0 && i % 100 != 7);
	}
	trial_fini(&t);
}

/* With its results, taken or not, the strips go back. */
static void
test_batch_strips_go_back_whatever_becomes_of_it(void **state)
{
	struct bench *b = *state;
	size_t held = 0;

	for (int i = 0; i < 60; i++) {
		items_forget(b->home->shared, TRIAL_MAX + 1);
		atomic_store(&b->home->shared->gate, false);
		atomic_store(&b->home->shared->waiting, 0);
		place_init(b, TRIAL_MAX, 1000);
		t.opts.limits.retries = 3;
		if (i % 6 == 0) /* cancelled in its midst */
			t.items[1500] = ITEM_OF(ITEM_WAIT, 1501);
		if (i % 6 == 1)
			t.items[1500] = ITEM_OF(ITEM_KILL_ONCE, 1501);
		if (i % 6 == 2) /* its worker is ended, the rest returned */
			t.items[1500] = ITEM_OF(ITEM_SLEEP, 60000);
		if (i % 6 == 2)
			t.opts.limits.timeout_ns = 5 * FZ_CLOCK_MS;
		if (i % 6 == 2)
			t.opts.limits.retries = 0;
		if (i % 6 == 3) { /* all else stops */
			t.items[1500] = ITEM_OF(ITEM_RAISE, 1501);
			t.opts.policy = FZ_POLICY_NOW;
			t.opts.limits.retries = 0;
		}
		atomic_store(&b->home->shared->onces, 0);
		trial_start(&t);
		if (i % 6 == 0) {
			wait_for_gate(&t, 1);
			fz_batch_cancel(t.batch, FZ_ERR_CANCELLED, "by hand");
		} else if (i % 6 == 4) { /* freed, with result */
			for (int j = 0; j < i; j++)
				fz_loop_step(b->w->engine.loop, in_ms(1), NULL);
		} else {
			assert_true(finishes(&t));
		}
		if (i % 6 != 4)
			trial_take(&t);
		assert_values(&t);
		trial_fini(&t);
		assert_int_equal(strips.live, 0);
		if (i == 11)
			held = fz_arena_held(b->w->engine.shm);
	}
	assert_true(strips.asked > 60);
	/* Each has 16 kB: all of them would be much more. */
	assert_true(fz_arena_held(b->w->engine.shm) <= held + (64 << 10));
}

/* The rest of a chunk goes to another worker, and has a strip of its own. */
static void
test_batch_placed_results_of_a_chunk_that_was_shared(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 10; i++) {
		items_forget(b->home->shared, TRIAL_MAX + 1);
		place_init(b, TRIAL_MAX, i % 2 != 0 ? TRIAL_MAX : 2500);
		for (uint64_t j = 0; j < TRIAL_MAX; j += 100)
			t.items[j] = ITEM_OF(ITEM_NAP_PLACE, j + 1);
		trial_start(&t);
		assert_all_done(&t);
		assert_values(&t);
		for (uint64_t j = 1; j <= TRIAL_MAX; j++)
			assert_int_equal(ran(&t, j), 1);
		trial_fini(&t);
		assert_int_equal(strips.live, 0);
	}
	assert_true(atomic_load(&b->home->shared->births) >= 2);
}

/* Otherwise it would go from one to the other, and neither gets to it. */
static void
test_batch_what_a_worker_has_not_begun_it_keeps(void **state)
{
	int64_t until = in_ms(30000);

	for (int i = 0; i < 10; i++) {
		place_init(*state, TRIAL_MAX, TRIAL_MAX);
		for (uint64_t j = 0; j < TRIAL_MAX; j += 100)
			t.items[j] = ITEM_OF(ITEM_NAP_PLACE, j + 1);
		trial_start(&t);
		while (!fz_batch_done(t.batch)) {
			assert_true(step_until(t.bench->w, until));
			assert_true(t.nchunks < TRIAL_CHUNKS);
			trial_take(&t);
		}
		assert_all_done(&t);
		trial_fini(&t);
	}
}

static void
test_batch_workers_killed_while_they_place_lose_nothing(void **state)
{
	struct bench *b = *state;
	uint64_t before = 0;
	int nkills = 0;

	for (int round = 0; round < 20; round++) {
		place_init(b, TRIAL_MAX, 700);
		for (uint64_t i = 0; i < TRIAL_MAX; i += 50)
			t.items[i] = ITEM_OF(ITEM_NAP_PLACE, i + 1);
		t.opts.limits.retries = UINT32_MAX - 1;
		trial_start(&t);
		before = 0;
		while (!fz_batch_done(t.batch)) {
			pid_t pid = 0;

			fz_loop_step(b->w->engine.loop, in_ms(1), NULL);
			trial_take(&t);
			if (nkills == 10 * (round + 1) || t.ndone == before)
				continue;
			before = t.ndone;
			fz_pool_pids(b->pool, note_pid, &pid);
			if (pid != 0)
				nkills += kill(pid, SIGKILL) == 0;
		}
		assert_all_done(&t);
		assert_values(&t);
		trial_fini(&t);
		assert_int_equal(strips.live, 0);
	}
	print_message("%d kills, %u strips\n", nkills, strips.asked);
	assert_true(nkills > 20);
}

/* ---- without workers --------------------------------------------------- */

static void
test_batch_local_items_are_called_by_who_asks(void **state)
{
	struct bench *b = *state;
	struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };
	struct fz_blob *part;

	b->opts.workers = 0;
	trial_init(&t, b, 3);
	trial_start(&t);
	assert_true(fz_batch_pool_is_local(b->sched));
	for (uint64_t i = 1; i <= 3; i++) {
		part = NULL;
		assert_int_equal(fz_batch_local_next(t.batch, &part), i);
		assert_int_equal(fz_le64_load(part->bytes), t.items[i - 1]);
		if (i == 2)
			fz_batch_local_failed(t.batch, i, &failure);
		else
			fz_batch_local_done(t.batch, i, fz_blob_ref(part));
		fz_blob_unref(part);
	}
	assert_int_equal(fz_batch_local_next(t.batch, &part), 0);
	assert_true(fz_batch_done(t.batch));
	assert_true(finishes(&t));
	assert_true(has_all_outcomes(&t));
	assert_done(&t, 1, 1);
	assert_failed(&t, 2, FZ_ERR_ERROR, 1);
	assert_done(&t, 3, 3);
	assert_int_equal(t.nevents[FZ_EVENT_START], 3);
	assert_int_equal(atomic_load(&b->home->shared->births), 0);
	trial_fini(&t);
}

static void
test_batch_local_retries_wait_too(void **state)
{
	struct bench *b = *state;
	struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };
	int64_t start = fz_clock_ns();
	struct fz_blob *part = NULL;
	uint64_t item;

	b->opts.workers = 0;
	trial_init(&t, b, 1);
	t.opts.kind |= FZ_WIRE_INHERITED;
	t.opts.limits.retries = 1;
	t.opts.limits.backoff_ns = 20 * FZ_CLOCK_MS;
	trial_start(&t);
	assert_int_equal(fz_batch_local_next(t.batch, &part), 1);
	assert_null(part);
	fz_batch_local_failed(t.batch, 1, &failure);
	while ((item = fz_batch_local_next(t.batch, &part)) == 0) {
		assert_false(fz_batch_done(t.batch));
		fz_loop_step(b->w->engine.loop, in_ms(100), NULL);
	}
	assert_true(fz_clock_ns() - start >= 20 * FZ_CLOCK_MS);
	fz_batch_local_done(t.batch, item, blob_of_number(9));
	assert_all_done(&t);
	assert_int_equal(t.outcomes[1].value, 9);
	trial_fini(&t);
}

/* An item's own code may cancel its batch, and then has no result. */
static void
test_batch_local_may_be_cancelled_within_an_item(void **state)
{
	struct bench *b = *state;
	struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };
	struct fz_blob *part = NULL;

	b->opts.workers = 0;
	trial_init(&t, b, 5);
	t.opts.kind |= FZ_WIRE_INHERITED;
	trial_start(&t);
	assert_int_equal(fz_batch_local_next(t.batch, &part), 1);
	assert_int_equal(fz_batch_local_next(t.batch, &part), 2);
	assert_int_equal(fz_batch_local_next(t.batch, &part), 3);
	fz_batch_local_done(t.batch, 1, blob_of_number(1));
	assert_int_equal(fz_batch_counts(t.batch).done, 1);
	fz_batch_cancel(t.batch, FZ_ERR_CANCELLED, "within");
	assert_true(fz_batch_done(t.batch));
	fz_batch_local_done(t.batch, 2, blob_of_number(1));
	failure.value = blob_of_number(1);
	fz_batch_local_failed(t.batch, 3, &failure);
	assert_int_equal(fz_batch_local_next(t.batch, &part), 0);
	assert_true(finishes(&t));
	assert_int_equal(t.ndone, 1);
	assert_int_equal(t.nfailed, 0);
	trial_fini(&t);
}

/* ---- calls that fail --------------------------------------------------- */

static void
test_batch_without_workers_to_be_had_it_fails(void **state)
{
	struct bench *b = *state;

	trial_init(&t, b, 20);
	t.opts.limits.retries = 1;
	t.opts.limits.backoff_ns = FZ_CLOCK_MS;
	trial_start(&t);
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_true(finishes(&t));
	faults_end();
	assert_true(has_all_outcomes(&t));
	for (uint64_t i = 1; i <= 20; i++)
		assert_failed(&t, i, FZ_ERR_ERROR, 2);
	trial_fini(&t);
	trial_init(&t, b, 20); /* and the next one works */
	trial_start(&t);
	assert_all_done(&t);
	trial_fini(&t);
}

static void
test_batch_goes_on_with_the_workers_there_are(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_open(b), 0);
	fz_pool_put_back(b->pool, fz_pool_take(b->pool, NULL, NULL));
	trial_init(&t, b, 500);
	trial_start(&t);
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_all_done(&t);
	faults_end();
	assert_int_equal(atomic_load(&b->home->shared->births), 1);
	trial_fini(&t);
}

static void
test_batch_is_cancelled_with_its_pool(void **state)
{
	struct bench *b = *state;

	trial_init(&t, b, 20);
	trial_fill(&t, ITEM_WAIT, 0);
	trial_start(&t);
	wait_for_gate(&t, 2);
	bench_close(b);
	assert_true(fz_batch_done(t.batch));
	assert_int_equal(fz_batch_whole(t.batch)->err.kind, FZ_ERR_CANCELLED);
	trial_take(&t);
	assert_int_equal(t.nfailed, 2);
	trial_fini(&t); /* after its scheduler */
}

/* Take what there is; each item has one outcome, or the batch has failed. */
static bool
all_came(struct trial *trial, uint64_t ndone, uint64_t nfailed)
{
	trial_take(trial);
	if (!has_all_outcomes(trial))
		assert_non_null(fz_batch_whole(trial->batch));
	return fz_batch_whole(trial->batch) == NULL && trial->ndone == ndone &&
	       trial->nfailed == nfailed;
}

/*
 * All kinds of items, a failure, a retry, a function, items that are added.
 * Returns 0, or -1 where something could not be done.
 */
static int
scenario(struct bench *b, bool forks)
{
	struct fz_blob *part = NULL, *code = NULL;
	int rc = -1;

	trial_init(&t, b, 7);
	t.items[1] = ITEM_OF(ITEM_REPLY, 2);
	t.items[2] = ITEM_OF(ITEM_RAISE, 3);
	t.items[3] = ITEM_OF(ITEM_BULK, 4);
	t.items[5] = ITEM_OF(ITEM_KILL_ONCE, 6);
	t.opts.chunk = 4;
	t.most = 3;
	t.opts.limits.retries = 1;
	t.opts.limits.timeout_ns = 20 * FZ_CLOCK_SECOND;
	trial_init(&u, b, 0);
	u.opts.growing = true;
	u.opts.encode = NULL;
	u.opts.limits.retries = 1;
	atomic_store(&b->home->shared->onces, 0);
	if (!forks)
		faults.fork_error = EAGAIN;
	if (bench_open(b) != 0 ||
	    (forks && fz_pool_prefork(b->pool, NULL) != 0) ||
	    (code = blob_of_number(0)) == NULL)
		goto out;
	fz_batch_pool_func(b->sched, 0, code);
	if (trial_start(&t) != 0 || trial_start(&u) != 0)
		goto out;
	rc = 0;
	for (int i = 0; i < 2; i++) {
		part = items_part(t.items, 1);
		if (part == NULL || fz_batch_add(u.batch, part, NULL) != 0)
			rc = -1;
	}
	fz_batch_end(u.batch);
	while (!fz_batch_done(t.batch) || !fz_batch_done(u.batch))
		fz_loop_step(b->w->engine.loop, in_ms(5000), NULL);
	if (!all_came(&t, 6, 1) || !all_came(&u, 2, 0))
		rc = -1;
out:
	trial_fini(&t);
	trial_fini(&u);
	bench_close(b);
	return rc;
}

static void
any_call_may_fail(struct bench *b, bool forks, int least)
{
	int rc, nfailed = 0;
	unsigned long n = 0;
	bool came;

	/* It would search a worker's whole slice when that kills itself. */
	if (on_valgrind())
		b->w->engine.shm_tried = true;
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
test_batch_any_call_may_fail_where_forks_do(void **state)
{
	any_call_may_fail(*state, false, 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_batch_each_item_is_called_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_of_nothing_is_done, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_workers_may_have_the_list, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_chunks_have_their_size, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_grows_while_it_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_counts_what_runs_and_what_waits, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_two_of_them_go_in_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_has_changed_when_it_is_done, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_items_are_tried_again, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_waits_before_it_tries_again, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_added_items_are_tried_again_with_their_part,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_an_item_that_cannot_be_sent_fails_alone, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_a_timeout_is_of_one_item, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_policy_stop_lets_end_what_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_policy_now_ends_what_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_policy_continue_calls_all, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_cancel_ends_all_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_cancel_while_it_waits_for_another_attempt, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_may_be_freed_at_any_time, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_a_worker_does_so_many_items_at_most, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_once_workers_leave_at_its_end, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_an_idle_worker_gets_of_what_another_has, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_what_a_worker_has_not_begun_it_keeps, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_workers_may_all_be_forked_before, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_workers_get_functions_newer_than_they_are, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_in_a_worker_those_of_its_parent_are_closed,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_a_function_may_be_in_the_part, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_workers_killed_200_times_lose_nothing, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_results_are_placed, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_results_of_an_inherited_list_are_placed, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_only_long_chunks_have_a_strip, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_without_memory_for_a_strip_results_are_sent,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_where_most_results_do_not_fit_there_are_no_strips,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_where_most_results_fit_there_are_strips, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_placed_and_other_results_are_told_apart, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_strips_go_back_whatever_becomes_of_it, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_placed_results_of_a_chunk_that_was_shared, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_workers_killed_while_they_place_lose_nothing,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_local_items_are_called_by_who_asks, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_local_retries_wait_too, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_local_may_be_cancelled_within_an_item, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_without_workers_to_be_had_it_fails, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_goes_on_with_the_workers_there_are, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_is_cancelled_with_its_pool, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_any_call_may_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_batch_any_call_may_fail_where_forks_do, setup,
		    teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
