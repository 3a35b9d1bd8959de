/* The workers of a pool that are on other machines. */
#include "sched/pool_state.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/container.h"
#include "node/nodes.h"
#include "worker/engine.h"
#include "worker/worker.h"

/* Time between two checks of the nodes, while the pool has busy workers. */
#define POOL_NODES_NS (FZ_CLOCK_SECOND / 4)

/* The idle worker on `node` that was used last; NULL if there is none there. */
static struct fz_worker *
idle_on(const struct fz_pool *pool, const struct fz_node *node)
{
	struct fz_worker *w = pool->idle;

	while (w != NULL && (w->node != node || w->dying))
		w = w->next;
	return w;
}

/* An idle worker on a usable node if `usable`; else one on an unusable node. */
static struct fz_worker *
idle_anywhere(const struct fz_pool *pool, bool usable)
{
	struct fz_worker *w = pool->idle;

	while (w != NULL && (fz_node_is_usable(w->node) != usable || w->dying))
		w = w->next;
	return w;
}

/*
 * If the pool has its maximum number of workers, end an idle one whose node
 * cannot be used.
 */
static void
make_room(struct fz_pool *pool)
{
	struct fz_worker *w = NULL;

	if (pool->nworkers >= pool->opts.max)
		w = idle_anywhere(pool, false);
	if (w != NULL)
		fz_worker_kill(w, FZ_ERR_CRASH, "the node does not answer");
}

/* Arm the next check. Without memory, the next job that is sent arms it. */
static void
arm_check(struct fz_pool *pool)
{
	if (pool->nodes_check.index == 0)
		fz_loop_arm(pool->opts.engine->loop, &pool->nodes_check,
		    fz_clock_after(fz_clock_ns(), POOL_NODES_NS));
}

struct fz_worker *
fz_pool_take_on_node(struct fz_pool *pool, struct fz_err *err)
{
	struct fz_node *node =
	    fz_nodes_pick(pool->opts.nodes, pool->nworkers == 0 ? err : NULL);
	struct fz_worker *w = idle_on(pool, node);
	bool starts = w == NULL && node != NULL && fz_pool_may_start(pool);

	if (w == NULL && !starts)
		w = idle_anywhere(pool, true);
	if (w != NULL) {
		fz_pool_unlink(w);
	} else if (starts) {
		w = fz_pool_start(pool, node, true, err);
	} else {
		make_room(pool);
		if (fz_pool_pause_starts(pool) != 0 && pool->nworkers == 0)
			fz_err_nomem(err, "a worker");
	}
	if (w == NULL)
		return NULL;
	w->node->nbusy++;
	w->loads_node = true;
	arm_check(pool);
	return w;
}

/*
 * A silent node may return. A job that may be tried again goes to another node;
 * a job on its last attempt waits for its node.
 */
static void
leave_silent(const struct fz_pool *pool)
{
	char text[FZ_ERR_TEXT_MAX];

	for (struct fz_worker *w = pool->busy, *next; w != NULL; w = next) {
		next = w->next;
		if (w->node == NULL || !w->node->silent || w->head == NULL ||
		    !w->head->repeats || w->dying)
			continue;
		snprintf(text, sizeof(text),
		    "node %.100s is lost: it does not answer", w->node->name);
		fz_worker_kill(w, FZ_ERR_CRASH, text);
	}
}

void
fz_pool_check_nodes(struct fz_timer *timer)
{
	struct fz_pool *pool =
	    FZ_CONTAINER_OF(timer, struct fz_pool, nodes_check);
	struct fz_nodes *nodes = pool->opts.nodes;

	if (!fz_nodes_update(nodes))
		return;
	if (nodes->nslots != 0) /* other nodes can be used */
		leave_silent(pool);
	if (pool->busy != NULL)
		arm_check(pool);
	if (nodes->nslots > pool->nslots)
		fz_pool_notify(pool, NULL);
	pool->nslots = nodes->nslots;
}
