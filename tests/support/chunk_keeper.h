/* chunk_keeper.h - a worker that calls the items of chunks, and their fates. */
#ifndef CHUNK_KEEPER_H
#define CHUNK_KEEPER_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include "batches.h"
#include "shared/arena.h"
#include "worker/worker.h"
#include "world.h"

enum { CHUNK_MANY = 2000, KEEPER_BUFFERS = 400 };

enum fate { UNTOLD, DONE, FAILED, RETURNED };

/* How the worker returns results: all tests run in each of these ways. */
enum way { KEPT, STORED, MIXED };

extern enum way way;

/* A chunk, and the fate of each item. */
struct chunk {
	struct fz_job job;
	uint32_t n, ntold, next;
	enum fate fate[CHUNK_MANY];
	uint64_t value[CHUNK_MANY]; /* results of items that are done */
	struct fz_arena *arena;     /* the arena of its result buffer */
	uint32_t nraw;
	int nstarted, nframes, nlost;
	bool torn; /* the buffer may report results that were not stored */
	bool bulk;
	struct fz_failure failure; /* the last failure */
	char raised[8];
};

struct chunk_keeper {
	struct world *w;
	struct items_home *home;
	struct fz_worker *worker; /* the worker; NULL after its death */
	int nidle, ndead;
	struct fz_blob *buffers[KEEPER_BUFFERS]; /* buffers of all chunks */
	int nbuffers;
};

void chunk_done(struct fz_job *job, struct fz_blob **values, uint32_t n);

void chunk_failed(struct fz_job *job, struct fz_failure *failure);

void chunk_returned(struct fz_job *job, uint32_t nitems);

void chunk_started(struct fz_job *job);

struct fz_worker *chunk_keeper_start_main(
    struct chunk_keeper *k, fz_worker_main serve_items);

struct fz_worker *chunk_keeper_start(struct chunk_keeper *k);

void chunk_keeper_end(struct chunk_keeper *k);

int chunk_keeper_setup(void **state);

int chunk_keeper_teardown(void **state);

void chunk_init(struct chunk *b, uint32_t n);

/* Give the chunk a buffer without raw results, unless there is no memory. */
void add_result_buffer(struct chunk_keeper *k, struct chunk *b);

/* Send the items of `b`. Returns 0, or -1 if there is no memory. */
int send_items(struct chunk_keeper *k, struct chunk *b, const uint64_t *items);

/* Send `n` items ITEM_KEEP, with values from 0 on. */
void send_kept(struct chunk_keeper *k, struct chunk *b, uint32_t n);

/* Turn the loop until the worker is idle or dead. False: it takes too long. */
bool chunk_keeper_settle(struct chunk_keeper *k);

bool chunk_keeper_dies(struct chunk_keeper *k);

/* Turn the loop until an item waits at the gate. */
void chunk_keeper_wait(struct chunk_keeper *k);

/* Turn the loop until the worker calls its first item, and a moment longer. */
void chunk_keeper_wait_for_first(struct chunk_keeper *k, int moment);

void assert_fates(
    const struct chunk *b, uint32_t from, uint32_t to, enum fate fate);

uint32_t count_fates(const struct chunk *b, enum fate fate);

struct CMUnitTest;

/* Run the tests once for each `way`. */
int run_in_each_way(const struct CMUnitTest *tests, size_t n);

#endif
