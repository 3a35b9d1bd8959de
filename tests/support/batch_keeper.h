/* batch_keeper.h - one worker that calls the items of batches, and their fates.
 */
#ifndef BATCH_KEEPER_H
#define BATCH_KEEPER_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include "batches.h"
#include "shared/arena.h"
#include "worker/worker.h"
#include "world.h"

enum { BATCH_MANY = 2000, KEEPER_BUFFERS = 400 };

enum fate { UNTOLD, DONE, FAILED, RETURNED };

/* How results come that could wait: all tests run in each of these ways. */
enum way { KEPT, STORED, MIXED };

extern enum way way;

/* A batch, and what was told of each item. */
struct batch {
	struct fz_job job;
	uint32_t n, ntold, next;
	enum fate fate[BATCH_MANY];
	uint64_t value[BATCH_MANY]; /* of what is done */
	struct fz_arena *arena;     /* where its result buffer is */
	uint32_t nraw;
	int nstarted, nframes, nlost;
	bool torn; /* it may be told of what nobody has written */
	bool bulk;
	struct fz_failure failure; /* the last one */
	char raised[8];
};

struct batch_keeper {
	struct world *w;
	struct items_home *home;
	struct fz_worker *worker; /* NULL: dead and freed */
	int nidle, ndead;
	struct fz_blob *buffers[KEEPER_BUFFERS]; /* of all its batches */
	int nbuffers;
};

void batch_done(struct fz_job *job, struct fz_blob **values, uint32_t n);

void batch_failed(struct fz_job *job, struct fz_failure *failure);

void batch_returned(struct fz_job *job, uint32_t nitems);

void batch_started(struct fz_job *job);

struct fz_worker *batch_keeper_start_main(
    struct batch_keeper *k, fz_worker_main serve_items);

struct fz_worker *batch_keeper_start(struct batch_keeper *k);

void batch_keeper_end(struct batch_keeper *k);

int batch_keeper_setup(void **state);

int batch_keeper_teardown(void **state);

void batch_init(struct batch *b, uint32_t n);

/* Slots for its results, of which none is whole. None without memory. */
void add_result_buffer(struct batch_keeper *k, struct batch *b);

/* Send the items of `b`; 0, or -1 where there is no memory for it. */
int send_items(struct batch_keeper *k, struct batch *b, const uint64_t *items);

/* The same for `n` items that are all kept, with values from 0 on. */
void send_kept(struct batch_keeper *k, struct batch *b, uint32_t n);

/* Until the worker is idle or dead; false when it takes longer. */
bool batch_keeper_settle(struct batch_keeper *k);

bool batch_keeper_dies(struct batch_keeper *k);

/* Until an item waits at the gate. */
void batch_keeper_wait(struct batch_keeper *k);

/* Until it calls the first item, and a moment longer. */
void batch_keeper_wait_for_first(struct batch_keeper *k, int moment);

void assert_fates(
    const struct batch *b, uint32_t from, uint32_t to, enum fate fate);

uint32_t count_fates(const struct batch *b, enum fate fate);

struct CMUnitTest;

/* Run the tests, once for each way in which results come. */
int run_in_each_way(const struct CMUnitTest *tests, size_t n);

#endif
