/* kill and usleep are not in C11. */
#define _GNU_SOURCE
#include "chunk_keeper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "batches.h"
#include "os/loop.h"
#include "shared/arena.h"
#include "wire/blob.h"
#include "wire/wire.h"
#include "worker/worker.h"
#include "world.h"

enum way way;

static struct chunk *
chunk_of(struct fz_job *job)
{
	return (struct chunk *)job;
}

/* Note the fate of an item: fates are reported in order, and once. */
static void
note_fate(struct chunk *b, uint32_t item, enum fate fate)
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

void
chunk_done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	struct chunk *b = chunk_of(job);

	assert_int_equal(n, 1);
	note_fate(b, job->ndone - 1, values[0] != NULL ? DONE : FAILED);
	if (values[0] == NULL)
		return;
	b->bulk = values[0]->in_arena;
	if (!b->bulk && values[0]->len == 8)
		b->value[job->ndone - 1] = fz_le64_load(values[0]->bytes);
	fz_blob_unref(values[0]);
}

void
chunk_failed(struct fz_job *job, struct fz_failure *failure)
{
	struct chunk *b = chunk_of(job);

	note_fate(b, job->ndone - 1, FAILED);
	b->failure = *failure;
	if (failure->value != NULL && failure->value->len < sizeof(b->raised))
		memcpy(b->raised, failure->value->bytes, failure->value->len);
	fz_blob_unref(failure->value);
}

void
chunk_returned(struct fz_job *job, uint32_t nitems)
{
	for (uint32_t i = 0; i < nitems; i++)
		note_fate(chunk_of(job), job->nitems + i, RETURNED);
	assert_int_equal(job->worker == NULL, job->ndone == job->nitems);
}

void
chunk_started(struct fz_job *job)
{
	chunk_of(job)->nstarted++;
}

/* The raw results are in the slots of these items; no other slot is used. */
static void
chunk_stored(struct chunk *b, uint32_t first, uint32_t n, uint32_t skip)
{
	struct fz_blob *buffer = b->job.result_buffer;
	const unsigned char *at = fz_blob_map(buffer, b->arena, NULL);

	assert_non_null(at);
	assert_int_equal(skip, first);
	assert_true(ITEMS_RAW * (size_t)(first + n) <= buffer->len);
	for (uint32_t i = first; i < first + n; i++) {
		note_fate(b, i, DONE);
		if (!b->torn)
			b->value[i] = items_slot(at, i);
	}
	b->nraw += n;
	fz_blob_unmap(buffer, b->arena, at);
}

static void
chunk_items(struct fz_job *job, uint32_t first, uint32_t n,
    struct fz_blob *blob, uint32_t skip)
{
	struct chunk *b = chunk_of(job);

	b->nframes++;
	b->nlost += blob == NULL;
	assert_int_equal(first + n, job->ndone);
	if (blob != NULL && blob == job->result_buffer) {
		chunk_stored(b, first, n, skip);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		note_fate(b, first + i, blob != NULL ? DONE : FAILED);
		if (blob == NULL || b->torn)
			continue;
		assert_true(blob->len >= 8 * (size_t)(skip + i + 1));
		b->value[first + i] =
		    fz_le64_load(blob->bytes + 8 * (size_t)(skip + i));
	}
}

static const struct fz_job_ops chunk_ops = { chunk_done, chunk_failed,
	chunk_returned, chunk_started, chunk_items };

static void
chunk_keeper_idle(void *ctx, struct fz_worker *worker)
{
	struct chunk_keeper *k = ctx;

	assert_null(worker->head);
	assert_int_equal(worker->njobs, 0);
	assert_int_equal(worker->nitems, 0);
	assert_int_equal(worker->nbytes, 0);
	k->nidle++;
}

static void
chunk_keeper_dead(void *ctx, struct fz_worker *worker)
{
	struct chunk_keeper *k = ctx;

	k->ndead++;
	k->worker = NULL;
	fz_worker_free(worker);
}

static const struct fz_worker_ops chunk_keeper_ops = { chunk_keeper_idle,
	chunk_keeper_dead };

struct fz_worker *
chunk_keeper_start_main(struct chunk_keeper *k, fz_worker_main serve_items)
{
	struct fz_worker_opts opts = {
		.engine = &k->w->engine,
		.ops = &chunk_keeper_ops,
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

struct fz_worker *
chunk_keeper_start(struct chunk_keeper *k)
{
	return chunk_keeper_start_main(k, items_serve);
}

void
chunk_keeper_end(struct chunk_keeper *k)
{
	if (k->worker != NULL)
		fz_worker_free(k->worker);
	k->worker = NULL;
	while (k->nbuffers != 0)
		fz_blob_unref(k->buffers[--k->nbuffers]);
}

int
chunk_keeper_setup(void **state)
{
	struct chunk_keeper *k = calloc(1, sizeof(*k));
	void *w;

	world_setup(&w);
	k->w = w;
	k->home = items_home_new();
	fz_clock_share();
	assert_non_null(chunk_keeper_start(k));
	*state = k;
	return 0;
}

int
chunk_keeper_teardown(void **state)
{
	struct chunk_keeper *k = *state;
	void *w = k->w;

	chunk_keeper_end(k);
	items_home_free(k->home);
	free(k);
	return world_teardown(&w);
}

void
chunk_init(struct chunk *b, uint32_t n)
{
	assert_true(n <= CHUNK_MANY);
	memset(b, 0, sizeof(*b));
	b->n = n;
	b->job = (struct fz_job){
		.ops = &chunk_ops, .nitems = n, .timeout_ns = FZ_CLOCK_NEVER
	};
}

void
add_result_buffer(struct chunk_keeper *k, struct chunk *b)
{
	size_t len = ITEMS_RAW * (size_t)b->n;
	struct fz_blob *buffer;
	unsigned char *at;

	b->arena = k->w->engine.arena;
	if (way == KEPT || b->arena == NULL)
		return;
	assert_true(k->nbuffers < KEEPER_BUFFERS);
	buffer = fz_engine_room(&k->w->engine, len, NULL);
	if (buffer == NULL)
		return;
	k->buffers[k->nbuffers++] = buffer;
	at = fz_arena_map_room(b->arena, buffer->offset, len, NULL);
	if (at == NULL)
		return;
	memset(at, 0xee, len);
	fz_arena_unmap(b->arena, at, len);
	b->job.result_buffer = buffer;
}

/* Items with results that may be kept or stored, as `way` says. */
static struct fz_blob *
part_of(const struct chunk *b, const uint64_t *items)
{
	uint64_t list[CHUNK_MANY];

	for (uint32_t i = 0; i < b->n; i++) {
		list[i] = items[i];
		if (items[i] >> 32 == ITEM_KEEP &&
		    (way == STORED || (way == MIXED && i * 5 / 3 % 2 == 0)))
			list[i] |= ITEM_OF(ITEM_STORE, 0);
	}
	return items_part(list, b->n);
}

int
send_items(struct chunk_keeper *k, struct chunk *b, const uint64_t *items)
{
	struct fz_worker_chunk head = { FZ_WIRE_MAP, 1 };
	struct fz_blob *part = part_of(b, items);
	int rc = -1;

	add_result_buffer(k, b);
	if (part != NULL)
		rc = fz_worker_send_chunk(
		    k->worker, &b->job, &head, &part, 1, NULL);
	fz_blob_unref(part);
	return rc;
}

void
send_kept(struct chunk_keeper *k, struct chunk *b, uint32_t n)
{
	uint64_t items[CHUNK_MANY];

	for (uint32_t i = 0; i < n; i++)
		items[i] = ITEM_OF(ITEM_KEEP, i);
	chunk_init(b, n);
	assert_int_equal(send_items(k, b, items), 0);
}

bool
chunk_keeper_settle(struct chunk_keeper *k)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (k->worker != NULL && k->worker->njobs != 0) {
		if (!turn_until(k->w, until))
			return false;
	}
	return true;
}

bool
chunk_keeper_dies(struct chunk_keeper *k)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (k->worker != NULL) {
		if (!turn_until(k->w, until))
			return false;
	}
	return true;
}

void
chunk_keeper_wait(struct chunk_keeper *k)
{
	wait_for_count(k->w, &k->home->shared->waiting, 1);
}

void
chunk_keeper_wait_for_first(struct chunk_keeper *k, int moment)
{
	int64_t until = in_ms(PATIENCE_MS);

	fz_loop_flush(k->w->engine.loop);
	while (atomic_load(&k->home->shared->ran[1]) == 0)
		assert_true(fz_clock_ns() < until);
	for (volatile int i = 0; i < moment; i++)
		continue;
}

void
assert_fates(const struct chunk *b, uint32_t from, uint32_t to, enum fate fate)
{
	for (uint32_t i = from; i < to; i++)
		assert_int_equal(b->fate[i], fate);
}

uint32_t
count_fates(const struct chunk *b, enum fate fate)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->n; i++)
		n += b->fate[i] == fate;
	return n;
}

int
run_in_each_way(const struct CMUnitTest *tests, size_t n)
{
	static const char *const names[] = { "kept", "stored", "mixed" };
	int nfailed = 0;

	for (way = KEPT; way <= MIXED; way++)
		nfailed +=
		    _cmocka_run_group_tests(names[way], tests, n, NULL, NULL);
	return nfailed;
}
