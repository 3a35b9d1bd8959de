/* batch_test.h - a batch under test, and the outcomes of its items. */
#ifndef BATCH_TEST_H
#define BATCH_TEST_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include "base/err.h"
#include "batches.h"
#include "sched/batch.h"
#include "sched/batch_pool.h"
#include "sched/pool.h"
#include "world.h"

enum { BATCH_TEST_MAX = 5000, BATCH_TEST_CHUNKS = 1000 };

/* The result buffers of all batches. */
struct result_buffers {
	const struct batch_test *last; /* the batch that was started last */
	bool fails;                    /* there is no memory for a buffer */
	unsigned asked, live;          /* requests; buffers not yet freed */
	void (*release)(void *owner, uint64_t offset);
	/* over all requests: minimum of asked items, maximum of done ones */
	uint64_t least_n, most_done;
};

extern struct result_buffers result_buffers;

/* A pool, and the part of the scheduler that runs batches on it. */
struct batch_world {
	struct world *w;
	struct items_home *home;
	struct fz_pool *pool;
	struct fz_batch_pool *sched;
	struct fz_batch_pool_opts opts; /* set before batch_world_open() */
	uint32_t max_tasks;             /* set before batch_world_open() */
};

/* The outcome of one item. */
struct outcome {
	bool stored;
	unsigned ndone, nfailed, attempt;
	enum fz_err_kind kind;
	uint64_t value;
};

/* A batch and its outcomes. */
struct batch_test {
	struct batch_world *world;
	struct fz_batch *batch;
	struct fz_batch_opts opts; /* set before batch_test_start() */
	uint64_t items[BATCH_TEST_MAX];
	uint32_t most; /* maximum number of items in a chunk; 0: no limit */
	uint64_t bad;  /* index of an item that cannot be sent; 0: none */
	uint32_t chunks[BATCH_TEST_CHUNKS], nchunks; /* sizes of the chunks */
	struct outcome outcomes[BATCH_TEST_MAX + 1]; /* by index of the item */
	uint64_t ndone, nfailed, nraw;
	unsigned nevents[4]; /* events of items, by kind */
};

int batch_world_setup(void **state);

void batch_world_close(struct batch_world *b);

int batch_world_teardown(void **state);

/* Returns 0, or -1 if there is no memory. */
int batch_world_open(struct batch_world *b);

/* `n` items ITEM_KEEP with values from 1 on; failures do not stop the batch. */
void batch_test_init(struct batch_test *t, struct batch_world *b, uint64_t n);

void batch_test_fill(struct batch_test *t, enum item_op op, uint32_t value);

int batch_test_start(struct batch_test *t);

/* Take all results and events that there are. */
void batch_test_take(struct batch_test *t);

/* Turn the loop until the batch is done. Returns false if that takes long. */
bool batch_test_finishes(struct batch_test *t);

void batch_test_fini(struct batch_test *t);

/* Check that the items of this range are done. */
void assert_items_done(struct batch_test *t, uint64_t from, uint64_t to);

void assert_item_failed(struct batch_test *t, uint64_t item,
    enum fz_err_kind kind, unsigned attempt);

/*
 * Check that no item has two outcomes, and that the counts are right. Returns
 * whether each item has an outcome.
 */
bool has_all_outcomes(struct batch_test *t);

void assert_all_items_done(struct batch_test *t);

int times_run(struct batch_test *t, uint64_t item);

/* Turn the loop until `n` items wait at the gate. */
void batch_test_wait(struct batch_test *t, int n);

void batch_test_open_gate(struct batch_test *t);

void batch_test_note_pid(void *ctx, pid_t pid);

#endif
