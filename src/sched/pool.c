#include "sched/pool_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "base/vec.h"
#include "node/nodes.h"
#include "os/loop.h"
#include "os/process.h"
#include "sched/slots.h"
#include "wire/blob.h"
#include "wire/mailbox.h"
#include "worker/change.h"
#include "worker/engine.h"

static bool
is_own(const struct fz_pool *pool)
{
	return pool->generation == fz_process.generation;
}

/*
 * In a child: drop the workers and clients of the parent. This is done at the
 * child's first use of the pool, because doing it at each fork would make all
 * forks slower. The memory of the workers is not freed, because writes to it
 * would copy inherited pages.
 */
static void
own(struct fz_pool *pool)
{
	if (is_own(pool))
		return;
	pool->generation = fz_process.generation;
	pool->idle = pool->busy = NULL;
	pool->nworkers = 0;
	memset(pool->numbers, 0, pool->opts.max * sizeof(*pool->numbers));
	pool->lowest = 0;
	pool->nclients = 0;
	pool->waiter.prev = NULL; /* the slots have dropped the waiter */
}

static void
link_worker(struct fz_worker **list, struct fz_worker *w)
{
	w->next = *list;
	w->prev = list;
	if (w->next != NULL)
		w->next->prev = &w->next;
	*list = w;
}

void
fz_pool_unlink(struct fz_worker *w)
{
	*w->prev = w->next;
	if (w->next != NULL)
		w->next->prev = w->prev;
	fz_worker_rest(w, false);
}

static void
free_number(struct fz_pool *pool, unsigned number)
{
	pool->numbers[number - 1] = false;
	if (number - 1 < pool->lowest)
		pool->lowest = number - 1;
}

static void
arm_idle_timer(struct fz_pool *pool, int64_t since_ns)
{
	/* Without memory for the timer, idle workers are not dismissed. */
	fz_loop_arm(pool->opts.engine->loop, &pool->idle_timer,
	    fz_clock_after(since_ns, pool->opts.idle_ns));
}

/* Insert `w` into the list of idle workers at the place `at`. */
static void
link_idle(struct fz_pool *pool, struct fz_worker **at, struct fz_worker *w)
{
	link_worker(at, w);
	fz_worker_rest(w, true);
	if (pool->opts.idle_ns == 0)
		return;
	w->idle_ns = fz_clock_ns();
	if (pool->idle_timer.index == 0)
		arm_idle_timer(pool, w->idle_ns);
}

/*
 * Call `freed` of all clients, because the worker `w` has become free; NULL: a
 * worker may have become free. The clients dispatch in the order of these
 * calls, the oldest first. The former owner of `w` has no priority: otherwise
 * other clients might wait forever. A former owner that has left the pool is
 * called last.
 */
void
fz_pool_notify(const struct fz_pool *pool, struct fz_worker *w)
{
	struct fz_pool_client *owner = w != NULL ? w->owner : NULL;

	if (w != NULL)
		w->owner = NULL;
	for (size_t i = 0; i < pool->nclients; i++) {
		struct fz_pool_client *client = pool->clients[i];

		client->freed(client, client == owner ? w : NULL);
		if (client == owner)
			owner = NULL;
	}
	if (owner != NULL)
		owner->freed(owner, w);
}

/* Release the slots that the worker holds, because it has no job now. */
static void
give_slot(const struct fz_pool *pool, struct fz_worker *w)
{
	if (w->has_slot)
		fz_slots_give(fz_pool_slots(pool));
	w->has_slot = false;
	if (w->loads_node)
		w->node->nbusy--;
	w->loads_node = false;
}

/* Dismiss an idle worker. It counts as busy until it is dead. */
static void
dismiss(struct fz_pool *pool, struct fz_worker *w)
{
	fz_pool_unlink(w);
	link_worker(&pool->busy, w);
	fz_worker_dismiss(w);
}

static void
worker_idle(void *ctx, struct fz_worker *w)
{
	struct fz_pool *pool = ctx;

	if (w->mean_ns != 0) /* the worker has answered */
		pool->nfailed_starts = 0;
	if (fz_pool_nleft(pool, w) == 0) {
		dismiss(pool, w);
	} else {
		fz_pool_unlink(w);
		link_idle(pool, &pool->idle, w);
	}
	give_slot(pool, w);
	fz_pool_notify(pool, w);
}

static void
worker_dead(void *ctx, struct fz_worker *w)
{
	struct fz_pool *pool = ctx;
	struct fz_slots *slots = fz_pool_slots(pool);

	fz_pool_unlink(w);
	free_number(pool, w->number);
	if (--pool->nworkers == 0)
		fz_changed(&pool->change);
	if (slots != NULL && fz_worker_account(w) != NULL)
		fz_slots_died(slots, fz_worker_account(w));
	give_slot(pool, w);
	fz_pool_count_start(pool, w);
	fz_pool_notify(pool, w);
	fz_worker_free(w);
}

const struct fz_worker_ops fz_pool_worker_ops = { worker_idle, worker_dead };

static void
slot_freed(struct fz_slots_waiter *waiter)
{
	fz_pool_notify(FZ_CONTAINER_OF(waiter, struct fz_pool, waiter), NULL);
}

static void
pause_over(struct fz_timer *timer)
{
	fz_pool_notify(FZ_CONTAINER_OF(timer, struct fz_pool, pause), NULL);
}

/*
 * Dismiss the workers that have been idle for opts.idle_ns, and arm the timer
 * for the others.
 */
static void
idle_over(struct fz_timer *timer)
{
	struct fz_pool *pool =
	    FZ_CONTAINER_OF(timer, struct fz_pool, idle_timer);
	int64_t now_ns = fz_clock_ns(), oldest_ns = FZ_CLOCK_NEVER;

	for (struct fz_worker *w = pool->idle, *next; w != NULL; w = next) {
		next = w->next;
		if (now_ns - w->idle_ns >= pool->opts.idle_ns)
			dismiss(pool, w);
		else if (w->idle_ns < oldest_ns)
			oldest_ns = w->idle_ns;
	}
	if (oldest_ns != FZ_CLOCK_NEVER)
		arm_idle_timer(pool, oldest_ns);
}

struct fz_pool *
fz_pool_new(const struct fz_pool_opts *opts, struct fz_err *err)
{
	struct fz_pool *pool = calloc(1, sizeof(*pool));

	if (pool == NULL) {
		fz_err_nomem(err, "a pool");
		return NULL;
	}
	pool->numbers = calloc(opts->max, sizeof(*pool->numbers));
	if (pool->numbers == NULL) {
		free(pool);
		fz_err_nomem(err, "a pool");
		return NULL;
	}
	pool->opts = *opts;
	fz_change_init(&pool->change, opts->engine);
	if (opts->slots != NULL)
		fz_slots_ref(opts->slots);
	pool->waiter.freed = slot_freed;
	pool->pause.fired = pause_over;
	pool->idle_timer.fired = idle_over;
	pool->nodes_check.fired = fz_pool_check_nodes;
	pool->generation = fz_process.generation;
	return pool;
}

/*
 * Write back unused tokens, because the loop may not turn for some time, and
 * other processes can use the tokens.
 */
static void
trim_slots(const struct fz_pool *pool)
{
	struct fz_slots *slots = fz_pool_slots(pool);

	if (slots != NULL)
		fz_slots_trim(slots);
}

void
fz_pool_close(struct fz_pool *pool)
{
	own(pool);
	pool->closed = true;
	for (struct fz_worker *w = pool->busy, *next; w != NULL; w = next) {
		next = w->next;
		/* A dismissed worker is not killed: treat it as an idle one. */
		if (w->leaving) {
			fz_pool_unlink(w);
			link_worker(&pool->idle, w);
		}
	}
	while (pool->busy != NULL)
		fz_worker_end(
		    pool->busy, FZ_ERR_CANCELLED, "the pool is closed");
	for (struct fz_worker *w = pool->idle; w != NULL; w = w->next) {
		if (!pool->opts.exits)
			fz_worker_dismiss(w);
	}
	while (pool->idle != NULL) {
		struct fz_worker *w = pool->idle;

		fz_pool_unlink(w);
		pool->nworkers--;
		fz_worker_free(w);
	}
	fz_loop_disarm(pool->opts.engine->loop, &pool->pause);
	fz_loop_disarm(pool->opts.engine->loop, &pool->idle_timer);
	fz_loop_disarm(pool->opts.engine->loop, &pool->nodes_check);
	fz_slots_forget(&pool->waiter);
	trim_slots(pool);
	fz_slots_unref(pool->opts.slots);
	pool->opts.slots = NULL;
}

void
fz_pool_free(struct fz_pool *pool)
{
	if (pool == NULL)
		return;
	fz_pool_close(pool);
	fz_change_fini(&pool->change);
	fz_blob_unref(pool->setup);
	free(pool->numbers);
	free(pool->clients);
	free(pool);
}

int
fz_pool_join(
    struct fz_pool *pool, struct fz_pool_client *client, struct fz_err *err)
{
	struct fz_pool_client **clients;

	own(pool);
	clients = fz_vec_room(pool->clients, &pool->clients_cap,
	    pool->nclients + 1, sizeof(*clients));
	if (clients == NULL)
		return fz_err_nomem(err, "a run");
	pool->clients = clients;
	pool->clients[pool->nclients++] = client;
	return 0;
}

void
fz_pool_leave(struct fz_pool *pool, struct fz_pool_client *client)
{
	own(pool);
	for (size_t i = 0; i < pool->nclients; i++) {
		if (pool->clients[i] != client)
			continue;
		pool->nclients--; /* keep the order of the other clients */
		memmove(&pool->clients[i], &pool->clients[i + 1],
		    (pool->nclients - i) * sizeof(struct fz_pool_client *));
	}
	/*
	 * A killed worker may still have the client as its owner, even if it
	 * has answered its last job.
	 */
	for (struct fz_worker *w = pool->busy; w != NULL; w = w->next) {
		if (w->owner == client)
			w->owner = NULL;
	}
	trim_slots(pool);
}

static bool
has_worker(const struct fz_pool *pool)
{
	return pool->idle != NULL || fz_pool_may_start(pool);
}

bool
fz_pool_has_free(const struct fz_pool *pool)
{
	const struct fz_slots *slots = fz_pool_slots(pool);

	return has_worker(pool) && (slots == NULL || fz_slots_has_free(slots));
}

bool
fz_pool_has_idle(const struct fz_pool *pool)
{
	return pool->idle != NULL;
}

struct fz_worker *
fz_pool_take(
    struct fz_pool *pool, struct fz_pool_client *client, struct fz_err *err)
{
	struct fz_slots *slots = fz_pool_slots(pool);
	struct fz_worker *w = pool->idle;

	if (pool->closed) {
		fz_err_set(err, FZ_ERR_CLOSED, "the pool is closed");
		return NULL;
	}
	if (!has_worker(pool) ||
	    (slots != NULL && !fz_slots_take(slots, &pool->waiter)))
		return NULL;
	if (pool->opts.nodes != NULL)
		w = fz_pool_take_on_node(pool, err);
	else if (w != NULL)
		fz_pool_unlink(w);
	else
		w = fz_pool_start(pool, NULL, true, err);
	if (w == NULL) {
		if (slots != NULL)
			fz_slots_give(slots);
		return NULL;
	}
	w->has_slot = slots != NULL;
	w->owner = client;
	link_worker(&pool->busy, w);
	return w;
}

void
fz_pool_put_back(struct fz_pool *pool, struct fz_worker *w)
{
	if (w->njobs == 0 && !w->dying)
		worker_idle(pool, w);
}

uint32_t
fz_pool_nleft(const struct fz_pool *pool, const struct fz_worker *w)
{
	uint32_t max = pool->opts.max_tasks;

	if (w->retiring)
		return 0;
	if (max == 0)
		return UINT32_MAX;
	return w->nsent < max ? max - (uint32_t)w->nsent : 0;
}

struct fz_worker *
fz_pool_busy(const struct fz_pool *pool)
{
	return pool->busy;
}

void
fz_pool_flush(const struct fz_pool *pool)
{
	for (struct fz_worker *w = pool->idle; w != NULL; w = w->next)
		fz_worker_flush(w);
	for (struct fz_worker *w = pool->busy; w != NULL; w = w->next) {
		if (w->owner == NULL)
			fz_worker_flush(w);
	}
}

void
fz_pool_workers(const struct fz_pool *pool,
    void (*each)(void *ctx, struct fz_worker *worker), void *ctx)
{
	if (!is_own(pool))
		return;
	for (struct fz_worker *w = pool->idle; w != NULL; w = w->next)
		each(ctx, w);
	for (struct fz_worker *w = pool->busy; w != NULL; w = w->next)
		each(ctx, w);
}

void
fz_pool_pids(
    const struct fz_pool *pool, void (*each)(void *ctx, pid_t pid), void *ctx)
{
	if (!is_own(pool))
		return;
	for (struct fz_worker *w = pool->idle; w != NULL; w = w->next)
		each(ctx, w->pid);
	for (struct fz_worker *w = pool->busy; w != NULL; w = w->next)
		each(ctx, w->pid);
}

void
fz_pool_dismiss_idle(struct fz_pool *pool)
{
	while (pool->idle != NULL)
		dismiss(pool, pool->idle);
}

int
fz_pool_prefork(struct fz_pool *pool, struct fz_err *err)
{
	/* the worker that was started first gets the first job */
	struct fz_worker **at = &pool->idle;
	bool first = true;

	own(pool);
	if (pool->opts.nodes != NULL)
		return 0; /* workers start later, on nodes with free slots */
	while (!pool->closed && pool->nworkers < pool->opts.max) {
		struct fz_worker *w = fz_pool_start(pool, NULL, first, err);

		if (w == NULL)
			return pool->nworkers != 0 ? 0 : -1;
		first = false;
		link_idle(pool, at, w);
		at = &w->next;
	}
	return 0;
}

void
fz_pool_set_version(struct fz_pool *pool, uint64_t version)
{
	pool->version = version;
}

uint64_t
fz_pool_oldest(const struct fz_pool *pool)
{
	uint64_t oldest = pool->version;

	if (pool->opts.spawns)
		return 0;
	if (!is_own(pool))
		return oldest;
	for (const struct fz_worker *w = pool->idle; w != NULL; w = w->next)
		oldest = w->version < oldest ? w->version : oldest;
	for (const struct fz_worker *w = pool->busy; w != NULL; w = w->next)
		oldest = w->version < oldest ? w->version : oldest;
	return oldest;
}

bool
fz_pool_is_closed(const struct fz_pool *pool)
{
	return pool->closed;
}

unsigned
fz_pool_nworkers(const struct fz_pool *pool)
{
	return is_own(pool) ? pool->nworkers : 0;
}
