/* run_test.h - a run of a graph whose nodes are jobs of jobs.h. */
#ifndef RUN_TEST_H
#define RUN_TEST_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include "base/err.h"
#include "sched/pool.h"
#include "sched/run.h"
#include "trace/job_event.h"
#include "world.h"

enum { NPOOLS = 2, NODES_MAX = 512 };

/* A run, everything it needs, and counts of the events of each node. */
struct run_test {
	struct world *w;
	struct fz_graph *graph;
	struct fz_pool *pools[NPOOLS];
	struct fz_run *run;
	struct fz_run_opts opts;
	int starts[NODES_MAX], ends[NODES_MAX], retries[NODES_MAX];
	enum fz_job_event_kind last[NODES_MAX];
};

struct fz_pool_opts run_test_pool_opts(struct world *w, unsigned max);
struct fz_pool *run_test_pool(struct world *w, unsigned max);

/* Pools of `max` workers; at most `jobs` jobs at once, 0: in this process. */
void run_test_init(
    struct run_test *p, struct world *w, unsigned max, unsigned jobs);

void run_test_fini(struct run_test *p);

uint32_t run_test_value(struct run_test *p, uint32_t node);

/* Add a node with one output, whose inputs are the values `a` and `b`. */
uint32_t run_test_add(
    struct run_test *p, enum job func, uint32_t a, uint32_t b);

/* Add a node whose input is the output of another node. */
uint32_t run_test_after(struct run_test *p, enum job func, uint32_t node);

uint32_t run_test_input(struct run_test *p);

/* Make the run, which keeps all values. The inputs must be set afterwards. */
void run_test_make(struct run_test *p);

void run_test_start(struct run_test *p);

/* Make the run, set its only input, and start it. */
void run_test_begin(struct run_test *p, uint32_t input, uint64_t number);

void run_test_take_events(struct run_test *p);

/* Turn the loop until the run is done. False: it hangs. */
bool run_test_finishes(struct run_test *p);

/* Check that each node has ended once, in any way. */
void assert_run_ended(const struct run_test *p);

void assert_run_value(struct run_test *p, uint32_t node, uint64_t expected);

void assert_run_failure(struct run_test *p, uint32_t node,
    enum fz_err_kind kind, uint32_t expected);

void run_test_seeds(
    struct world *w, unsigned jobs, bool kill_some, uint64_t *seeds);

uint32_t run_test_random(void);

#endif
