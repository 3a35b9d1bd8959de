/*
 * world.h - an engine under test, with workers that misbehave on demand. At the
 * end it checks that no child and no descriptor is left.
 */
#ifndef WORLD_H
#define WORLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "jobs.h"
#include "worker/engine.h"

struct fz_blob;

struct world {
	struct fz_engine engine;
	struct shared *shared;
	int nfds; /* descriptors that were open before the test */
	char output[4096];
	size_t noutput;
};

int world_setup(void **state);
int world_teardown(void **state);

void assert_no_children(void);

/*
 * The time after which a wait of a test counts as a hang. It is long, because
 * the machine may be busy with other work.
 */
enum { PATIENCE_MS = 60000 };

/*
 * Under valgrind, make no arena: valgrind would search the whole slice of each
 * worker that kills itself.
 */
void world_spare_valgrind(struct world *w);

/* Turn the loop until processes have counted to `n`. */
void wait_for_count(struct world *w, const _Atomic int *count, int n);

/* Turn the loop until workers have begun `n` jobs of this kind. */
void wait_for_calls(struct world *w, enum job func, int n);

/*
 * Turn the loop until `n` JOB_SLEEPs sleep until a fixed time. If the test has
 * called fz_clock_share() before it started the workers, pass_seconds() ends
 * them, however long they sleep and however busy the machine is.
 */
void wait_for_sleep(struct world *w, int n);

/* Advance the shared clock, see fz_clock_share(), without a wait. */
void pass_seconds(int64_t n);

/* Turn the loop once. Returns false if the time `until_ns` has passed. */
bool turn_until(struct world *w, int64_t until_ns);
int64_t in_ms(int64_t ms);

struct fz_blob *blob_of_number(uint64_t v);
struct fz_blob *blob_of_bytes(size_t len); /* bytes 'x', not in the arena */
uint64_t number_of_blob(struct world *w, struct fz_blob *blob);

#endif
