/* The start of a pool's workers. */
#include "sched/pool_state.h"

#include <stdio.h>

#include "base/clock.h"
#include "node/nodes.h"
#include "os/cpus.h"
#include "wire/blob.h"
#include "wire/child_port.h"
#include "wire/mailbox.h"
#include "worker/engine.h"
#include "worker/link.h"

enum {
	/* number of failed starts in a row that make a start an error */
	POOL_FAILED_STARTS_MAX = 10,
};
/* Time from a failed fork to the next fork, if the pool has other workers. */
#define POOL_PAUSE_NS (100 * FZ_CLOCK_MS)

struct fz_slots *
fz_pool_slots(const struct fz_pool *pool)
{
	return fz_slots_for(pool->opts.engine, pool->opts.slots);
}

/* The number for the next worker: the lowest unused number, from 0. */
static unsigned
next_number(struct fz_pool *pool)
{
	while (pool->numbers[pool->lowest])
		pool->lowest++;
	return pool->lowest;
}

int
fz_pool_pause_starts(struct fz_pool *pool)
{
	return fz_loop_arm(pool->opts.engine->loop, &pool->pause,
	    fz_clock_after(fz_clock_ns(), POOL_PAUSE_NS));
}

/* Note a failed start on a node, and print a line about it. */
static void
count_start_on_node(const struct fz_pool *pool, const struct fz_worker *w)
{
	struct fz_engine *engine = pool->opts.engine;
	char line[FZ_ERR_TEXT_MAX + 16];
	int len;

	fz_node_failed(w->node, &w->start_err);
	/*
	 * Print only one line for each node. If no node is left, an error
	 * reports this failure instead.
	 */
	if (w->node->nfailed != 1 ||
	    fz_nodes_pick(pool->opts.nodes, NULL) == NULL)
		return;
	len = snprintf(line, sizeof(line), "fzlua: %s\n", w->start_err.text);
	engine->output(engine->output_ctx, FZ_STDIO_ERR, line, (size_t)len);
}

/*
 * Count a start as failed if the worker died before its first job. If it told
 * why, start none at once: the next would probably fail as well.
 */
void
fz_pool_count_start(struct fz_pool *pool, const struct fz_worker *w)
{
	if (!w->failed_start) {
		pool->nfailed_starts = 0;
		return;
	}
	if (w->unreached) {
		count_start_on_node(pool, w);
		return;
	}
	pool->nfailed_starts++;
	pool->start_err = w->start_err;
	if (w->start_err.kind == FZ_ERR_NONE)
		return;
	if (pool->nworkers == 0)
		pool->nfailed_starts = POOL_FAILED_STARTS_MAX;
	else
		fz_pool_pause_starts(pool);
}

/*
 * The main function of a forked worker. The worker's own pools share the slots
 * of the parent.
 */
static int
serve(void *ctx, struct fz_port *port)
{
	const struct fz_pool *pool = ctx;
	struct fz_lineage lineage = { .account = port->account };
	struct fz_slots *slots =
	    lineage.account != NULL ? fz_pool_slots(pool) : NULL;
	int status;

	if (slots != NULL)
		fz_slots_enter(slots, &lineage);
	/* try_fork() in the parent gives the worker the same number */
	port->number = pool->lowest + 1;
	/*
	 * in a pool that spreads its workers, the next job rarely comes at once
	 */
	if (pool->opts.spread)
		fz_port_sleep_at_once(port);
	status = pool->opts.main(pool->opts.main_ctx, port);
	if (slots != NULL)
		fz_slots_leave(slots);
	return status;
}

/* Prepare the following starts of workers. 0, or -1 and `err`. */
static int
prepare_start(struct fz_pool *pool, struct fz_err *err)
{
	if (!pool->opts.spawns) {
		if (pool->opts.before_fork != NULL)
			pool->opts.before_fork(pool->opts.main_ctx);
		return 0;
	}
	fz_blob_unref(pool->setup);
	pool->setup = pool->opts.setup(pool->opts.main_ctx, err);
	return pool->setup != NULL ? 0 : -1;
}

static struct fz_worker_program
program_of(const struct fz_pool *pool, struct fz_node *node, unsigned number)
{
	const struct fz_slots *slots =
	    node == NULL ? fz_pool_slots(pool) : NULL;
	struct fz_worker_program program = {
		.path = fz_start_program(pool->opts.engine->program),
		.node = node,
		.setup = pool->setup,
		.number = number,
		.flags = pool->opts.spread ? FZ_WIRE_SPREAD : 0,
	};

	if (slots != NULL)
		fz_slots_lend(slots, &program.slots);
	return program;
}

static struct fz_worker *
try_fork(
    struct fz_pool *pool, struct fz_node *node, bool first, struct fz_err *err)
{
	struct fz_worker_opts opts = {
		.engine = pool->opts.engine,
		.ops = &fz_pool_worker_ops,
		.ops_ctx = pool,
		.main = serve,
		.main_ctx = pool,
		.replaceable = true,
		.link =
		    pool->opts.engine->byte_streams ? &fz_link_stream : NULL,
	};
	struct fz_slots *slots = fz_pool_slots(pool);
	struct fz_worker *w;
	unsigned number;

	if (pool->nfailed_starts >= POOL_FAILED_STARTS_MAX) {
		/* allow the next call to try one start */
		pool->nfailed_starts = POOL_FAILED_STARTS_MAX - 1;
		if (err != NULL && pool->start_err.kind != FZ_ERR_NONE)
			*err = pool->start_err;
		else
			fz_err_set(err, FZ_ERR_CRASH,
			    "workers die before they start a job");
		return NULL;
	}
	if (slots != NULL && fz_slots_prepare(slots, err) != 0)
		return NULL;
	number = next_number(pool);
	if (first && prepare_start(pool, err) != 0)
		return NULL;
	if (pool->opts.spawns)
		opts.program = program_of(pool, node, number + 1);
	w = fz_worker_new(&opts, err);
	if (w != NULL) {
		/* a program inherits no functions */
		w->version = pool->opts.spawns ? 0 : pool->version;
		w->number = number + 1;
		pool->numbers[number] = true;
		if (pool->opts.spread && node == NULL)
			fz_cpus_spread(w->pid, pool->nworkers);
		pool->nworkers++;
	}
	return w;
}

struct fz_worker *
fz_pool_start(
    struct fz_pool *pool, struct fz_node *node, bool first, struct fz_err *err)
{
	bool others = pool->nworkers != 0;
	struct fz_worker *w = try_fork(pool, node, first, others ? NULL : err);

	if (w == NULL && others)
		fz_pool_pause_starts(pool);
	return w;
}

bool
fz_pool_may_start(const struct fz_pool *pool)
{
	return pool->nworkers == 0 ||
	       (pool->nworkers < pool->opts.max && pool->pause.index == 0);
}
