/* plan.h - a run of a graph whose nodes are jobs of jobs.h. */
#ifndef PLAN_H
#define PLAN_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include "base/err.h"
#include "sched/job_event.h"
#include "sched/pool.h"
#include "sched/run.h"
#include "world.h"

enum { NPOOLS = 2, NODES_MAX = 512 };

/* One run, what it needs, and the events it told of each node. */
struct plan {
	struct world *w;
	struct fz_graph *graph;
	struct fz_pool *pools[NPOOLS];
	struct fz_run *run;
	struct fz_run_opts opts;
	int starts[NODES_MAX], ends[NODES_MAX], retries[NODES_MAX];
	enum fz_job_event_kind last[NODES_MAX];
};

struct fz_pool_opts plan_pool_opts(struct world *w, unsigned max);
struct fz_pool *plan_pool(struct world *w, unsigned max);

/* Pools with `max` workers each; at most `jobs` at once, 0: local. */
void plan_init(struct plan *p, struct world *w, unsigned max, unsigned jobs);

void plan_fini(struct plan *p);

uint32_t plan_value(struct plan *p, uint32_t node);

/* A node with one value, fed by values. */
uint32_t plan_add(struct plan *p, enum job func, uint32_t a, uint32_t b);

/* One fed by another node. */
uint32_t plan_after(struct plan *p, enum job func, uint32_t node);

uint32_t plan_input(struct plan *p);

/* The run, with all values kept; inputs are still to be set. */
void plan_run(struct plan *p);

void plan_start(struct plan *p);

/* Make the run, set its only input, and start it. */
void plan_begin(struct plan *p, uint32_t input, uint64_t number);

void plan_take_events(struct plan *p);

/* Turn the loop until the run is done. False: it hangs. */
bool plan_finishes(struct plan *p);

/* Every node ended once, whatever came before. */
void assert_plan_ended(const struct plan *p);

void assert_plan_value(struct plan *p, uint32_t node, uint64_t expected);

void assert_plan_failure(
    struct plan *p, uint32_t node, enum fz_err_kind kind, uint32_t expected);

void plan_seeds(
    struct world *w, unsigned jobs, bool kill_some, uint64_t *seeds);

uint32_t plan_random(void);

#endif
