/* batch_test.h - a batch under test, and what was reported of its items. */
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
	const struct batch_test *last; /* started last */
	bool fails;                    /* there is no memory for one */
	unsigned asked, live;          /* how often; how many are not freed */
	void (*release)(void *owner, uint64_t offset);
	uint64_t least_n, most_done; /* seen when it was asked */
};

extern struct result_buffers result_buffers;

/* A scheduler and its pool. */
struct batch_world {
	struct world *w;
	struct items_home *home;
	struct fz_pool *pool;
	struct fz_batch_pool *sched;
	struct fz_batch_pool_opts opts; /* set before batch_world_open() */
	uint32_t max_tasks;             /* the same */
};

/* What became of one item. */
struct outcome {
	bool stored;
	unsigned ndone, nfailed, attempt;
	enum fz_err_kind kind;
	uint64_t value;
};

/* One batch. */
struct batch_test {
	struct batch_world *world;
	struct fz_batch *batch;
	struct fz_batch_opts opts; /* set before trial_start() */
	uint64_t items[BATCH_TEST_MAX];
	uint32_t most; /* items that go together, 0: all */
	uint64_t bad;  /* the one that cannot be sent, 0: none */
	uint32_t chunks[BATCH_TEST_CHUNKS], nchunks; /* as they were encoded */
	struct outcome outcomes[BATCH_TEST_MAX + 1]; /* by index */
	uint64_t ndone, nfailed, nraw;
	unsigned nevents[4]; /* by kind; of each item */
};

int batch_world_setup(void **state);

void batch_world_close(struct batch_world *b);

int batch_world_teardown(void **state);

/* 0, or -1 where there is no memory. */
int batch_world_open(struct batch_world *b);

/* `n` items that are kept, with values from 1 on; a failure stops nothing. */
void batch_test_init(struct batch_test *t, struct batch_world *b, uint64_t n);

/* All items do `op` with `value`. */
void batch_test_fill(struct batch_test *t, enum item_op op, uint32_t value);

int batch_test_start(struct batch_test *t);

/* Take all results and events that there are. */
void batch_test_take(struct batch_test *t);

/* Turn the loop until the batch is done; false when it takes too long. */
bool batch_test_finishes(struct batch_test *t);

void batch_test_fini(struct batch_test *t);

/* The same outcome for all items but those that were checked already. */
void assert_items_done(struct batch_test *t, uint64_t from, uint64_t to);

void assert_item_failed(struct batch_test *t, uint64_t item,
    enum fz_err_kind kind, unsigned attempt);

/*
 * Check that no item has two outcomes, and that the counts agree. Returns
 * whether all have one.
 */
bool has_all_outcomes(struct batch_test *t);

void assert_all_items_done(struct batch_test *t);

int times_run(struct batch_test *t, uint64_t item);

/* Until `n` items wait at the gate. */
void batch_test_wait(struct batch_test *t, int n);

void batch_test_open_gate(struct batch_test *t);

void batch_test_note_pid(void *ctx, pid_t pid);

#endif
