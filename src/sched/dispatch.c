#include "sched/dispatch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "node/nodes.h"
#include "worker/engine.h"

/*
 * A worker gets another job while its jobs take less time than this. For a
 * worker on a node, the time to the node and back is added.
 */
#define DISPATCH_AHEAD_NS (5 * FZ_CLOCK_MS)
/* Time from a reply to the first check for unwritten results. */
#define DISPATCH_POLL_NS (4 * FZ_CLOCK_MS)
/*
 * The same for a traced call: the times of its items are those of the checks.
 */
#define DISPATCH_TRACED_POLL_NS FZ_CLOCK_MS
/* A worker that has replied within this time is not checked. */
#define DISPATCH_SILENT_NS FZ_CLOCK_MS
/*
 * Minimum time of the work that is moved from a busy worker to an idle one. The
 * second value applies if a worker must be forked for it. A sparing dispatcher
 * also gives the pool no further worker for less waiting work than this.
 */
#define DISPATCH_STEAL_NS (FZ_CLOCK_MS / 2)
#define DISPATCH_STEAL_FORK_NS (2 * FZ_CLOCK_MS)

/* Maximum time of the jobs that are sent in one frame. */
#define DISPATCH_TOGETHER_NS (FZ_CLOCK_MS / 10)

enum {
	DISPATCH_AHEAD_JOBS = 512, /* maximum number of jobs at one worker */
	/*
	 * Maximum number of bytes in the frames of the jobs of one worker. It
	 * is less than the 64 KiB that a pipe holds, so that all of them fit.
	 */
	DISPATCH_AHEAD_BYTES = 48 << 10,
	/* maximum number of jobs while the time of an item is unknown */
	DISPATCH_UNMEASURED_JOBS = 4,
	DISPATCH_UNMEASURED_ITEMS = 1 << 16
};

#define DISPATCHER_OF(member, ptr) \
	FZ_CONTAINER_OF(ptr, struct fz_dispatcher, member)

static struct fz_loop *
loop_of(const struct fz_dispatcher *d)
{
	return d->engine->loop;
}

static struct fz_producer *
first_producer(const struct fz_list *list)
{
	struct fz_list *link = fz_list_first(list);

	return link != NULL ? FZ_CONTAINER_OF(link, struct fz_producer, link)
			    : NULL;
}

static struct fz_worker *
next_own(const struct fz_dispatcher *d, struct fz_worker *w)
{
	while (w != NULL && w->owner != &d->client)
		w = w->next;
	return w;
}

static struct fz_worker *
first_own(const struct fz_dispatcher *d, const struct fz_lane *lane)
{
	return next_own(d, fz_pool_busy(lane->pool));
}

static bool
runs(const struct fz_worker *w, const struct fz_producer *producer)
{
	return w->head != NULL && w->head->owner == producer;
}

static bool
has(const struct fz_worker *w, const struct fz_producer *producer)
{
	const struct fz_job *job = w->head;

	while (job != NULL && job->owner != producer)
		job = job->next;
	return job != NULL;
}

static int64_t
now(struct fz_dispatcher *d)
{
	if (d->now_ns == 0)
		d->now_ns = fz_clock_ns();
	return d->now_ns;
}

/*
 * The expected time of an item: the mean of earlier items; or the time since
 * the worker's last answer if that is longer.
 */
static int64_t
item_time(struct fz_dispatcher *d, const struct fz_worker *w)
{
	int64_t since = now(d) - w->news_ns;

	return since > w->mean_ns ? since : w->mean_ns;
}

static int64_t
work_of(uint64_t nitems, int64_t each)
{
	int64_t n = (int64_t)(nitems < INT32_MAX ? nitems : INT32_MAX);

	return each < FZ_CLOCK_NEVER / INT32_MAX ? n * each : FZ_CLOCK_NEVER;
}

static int64_t
work_left(struct fz_dispatcher *d, const struct fz_worker *w)
{
	return work_of(w->nitems, item_time(d, w));
}

/* The time to the worker's node and back; 0 if it is on this machine. */
static int64_t
way_to(const struct fz_worker *w)
{
	return w->node != NULL ? w->node->way_ns : 0;
}

static bool
has_room(struct fz_dispatcher *d, const struct fz_lane *lane,
    const struct fz_worker *w)
{
	if (w->dying || w->nbytes > DISPATCH_AHEAD_BYTES ||
	    w->njobs >= DISPATCH_AHEAD_JOBS ||
	    fz_pool_nleft(lane->pool, w) == 0)
		return false;
	if (w->node != NULL && !fz_node_is_usable(w->node))
		return false;
	if (w->head != NULL && (w->head->alone || w->head->unwanted != NULL))
		return false;
	/* a recall could not take back a job that waits behind a long one */
	if (!w->ahead)
		return w->njobs == 0;
	if (w->mean_ns == 0)
		return w->njobs < DISPATCH_UNMEASURED_JOBS &&
		       w->nitems < DISPATCH_UNMEASURED_ITEMS;
	return work_left(d, w) < DISPATCH_AHEAD_NS + way_to(w);
}

static struct fz_worker *
roomy_worker(struct fz_dispatcher *d, const struct fz_lane *lane)
{
	struct fz_worker *best = NULL, *w = first_own(d, lane);

	for (; w != NULL; w = next_own(d, w->next)) {
		if ((best == NULL || w->nitems < best->nitems) &&
		    has_room(d, lane, w))
			best = w;
	}
	return best;
}

/*
 * Whether the waiting jobs are too little work for a further worker. Their time
 * is estimated from the quickest worker.
 */
static bool
has_enough_workers(struct fz_dispatcher *d, const struct fz_lane *lane)
{
	const struct fz_producer *producer = first_producer(&lane->ready);
	struct fz_worker *w = first_own(d, lane);
	int64_t each = FZ_CLOCK_NEVER, least = DISPATCH_STEAL_NS;

	if (!d->sparing || w == NULL || !w->ahead)
		return false;
	for (; w != NULL; w = next_own(d, w->next)) {
		if (item_time(d, w) < each)
			each = item_time(d, w);
	}
	if (!fz_pool_has_idle(lane->pool))
		least = DISPATCH_STEAL_FORK_NS;
	return work_of(producer->ops->nready(producer), each) < least;
}

/*
 * A worker that can get the next job of the lane; NULL if there is none now. If
 * there will never be one, fills `err`, too.
 */
static struct fz_worker *
pick(struct fz_dispatcher *d, struct fz_lane *lane, struct fz_err *err)
{
	struct fz_producer *producer = first_producer(&lane->ready);
	bool alone = producer->ops->next_is_alone != NULL &&
		     producer->ops->next_is_alone(producer);
	struct fz_worker *w = NULL;

	if (d->nbusy < d->max && (alone || !has_enough_workers(d, lane)))
		w = fz_pool_take(lane->pool, &d->client, err);
	if (w == NULL)
		return alone ? NULL : roomy_worker(d, lane);
	lane->used = true;
	d->nbusy++;
	return w;
}

/* Put a producer into the list of the ready ones, in the order of turns. */
static void
queue_up(struct fz_producer *producer, uint64_t turn)
{
	struct fz_list *ready = &producer->lane->ready, *before = ready;

	producer->turn = turn;
	/* new turns belong at the end, and turns of returned jobs in front */
	if (turn != producer->dispatcher->nturns) {
		for (before = ready->next; before != ready;
		     before = before->next) {
			if (FZ_CONTAINER_OF(before, struct fz_producer, link)
				->turn > turn)
				break;
		}
	}
	fz_list_push(before, &producer->link);
}

static void
fail_next(struct fz_producer *producer, const struct fz_err *err)
{
	const struct fz_failure failure = { .exitcode = -1, .err = *err };

	producer->ops->fail_next(producer, &failure);
}

/*
 * Send the jobs of the ready producers, which take turns.
 *
 *   pick() returns          action                            result
 *   a worker                send one job, next producer
 *   NULL and an error       the job fails, next producer
 *   NULL, nbusy < max       stop: this pool has no worker     true
 *   NULL, nbusy == max      stop: the limit is reached        false
 *   (no producer is ready)                                      true
 *
 * If the result is false, the caller serves no further lanes: the next slot is
 * for this lane.
 */
static bool
send_lane(struct fz_dispatcher *d, struct fz_lane *lane)
{
	struct fz_producer *producer;
	struct fz_err err;

	while ((producer = first_producer(&lane->ready)) != NULL) {
		struct fz_worker *w;

		fz_err_init(&err);

		if (producer->ops->nready(producer) == 0) {
			fz_list_remove(&producer->link);
			continue;
		}
		w = pick(d, lane, &err);
		if (w == NULL && err.kind == FZ_ERR_NONE)
			return d->nbusy < d->max;
		/* move the producer to the end of the list */
		fz_list_remove(&producer->link);
		producer->sent_turn = producer->turn;
		queue_up(producer, ++d->nturns);
		if (w == NULL)
			fail_next(producer, &err);
		else if (!producer->ops->send(
			     producer, w, fz_pool_nleft(lane->pool, w)))
			fz_pool_put_back(lane->pool, w);
	}
	return true;
}

/* Whether the worker has items besides the one that it may have started. */
static bool
has_spare(const struct fz_worker *w)
{
	return !w->dying && w->nitems > 1;
}

/*
 * The worker with the most work that can be taken back. A worker that has
 * started none of its jobs keeps them. Otherwise jobs might move between two
 * workers repeatedly, and fill the pipes faster than the workers read.
 */
static struct fz_worker *
fullest(struct fz_dispatcher *d, const struct fz_lane *lane)
{
	struct fz_worker *best = NULL, *w = first_own(d, lane);

	for (; w != NULL; w = next_own(d, w->next)) {
		if (has_spare(w) && fz_worker_has_begun(w) &&
		    (best == NULL || work_left(d, w) > work_left(d, best)))
			best = w;
	}
	return best;
}

/*
 * If a worker is idle and nothing is waiting, recall jobs of the worker with
 * the most work. Returns whether jobs were taken back.
 */
static bool
steal(struct fz_dispatcher *d, const struct fz_lane *lane)
{
	struct fz_worker *best;
	int64_t least = DISPATCH_STEAL_NS;

	if (d->nbusy >= d->max)
		return false;
	best = fullest(d, lane);
	if (best == NULL || !fz_pool_has_free(lane->pool))
		return false;
	/* the worker may have finished items that it has not reported */
	fz_worker_peek(best);
	if (!fz_pool_has_idle(lane->pool))
		least = DISPATCH_STEAL_FORK_NS;
	return work_left(d, best) >= least + way_to(best) &&
	       fz_worker_recall(best) != 0;
}

/* Whether an idle worker may soon get jobs that another has not begun. */
static bool
may_soon_steal(const struct fz_dispatcher *d, const struct fz_lane *lane)
{
	struct fz_worker *w = first_own(d, lane);

	while (w != NULL && (!has_spare(w) || fz_worker_has_begun(w)))
		w = next_own(d, w->next);
	return w != NULL;
}

/*
 * Move work from busy workers to idle ones. Then dismiss idle workers if the
 * dispatcher does not keep them and no more work is expected.
 */
static void
balance_lane(struct fz_dispatcher *d, struct fz_lane *lane)
{
	if (fz_list_first(&lane->ready) == NULL && steal(d, lane))
		send_lane(d, lane);
	if (d->once && fz_list_first(&lane->ready) == NULL &&
	    !may_soon_steal(d, lane))
		fz_pool_dismiss_idle(lane->pool);
}

/*
 * Arm the timer for the next check for unwritten results. Its time grows with
 * the time since the last reply of a worker.
 */
static void
arm_poll(struct fz_dispatcher *d, const struct fz_lane *lane)
{
	for (struct fz_worker *w = first_own(d, lane); w != NULL;
	     w = next_own(d, w->next)) {
		int64_t in, least, at;

		if (!has_spare(w))
			continue;
		in = (now(d) - w->news_ns) / 8;
		least = w->head->measured ? DISPATCH_TRACED_POLL_NS
					  : DISPATCH_POLL_NS;
		at = now(d) + (in > least ? in : least);
		if (d->poll.index == 0 || at < d->poll.at_ns)
			fz_loop_arm(loop_of(d), &d->poll, at);
	}
}

static void
poll_lane(const struct fz_dispatcher *d, const struct fz_lane *lane)
{
	struct fz_worker *w = first_own(d, lane), *next;
	int64_t since = fz_clock_ns() - DISPATCH_SILENT_NS;

	for (; w != NULL; w = next) {
		next = next_own(d, w->next);
		if (has_spare(w) && w->news_ns <= since)
			fz_worker_peek(w);
	}
}

static void
poll_workers(struct fz_timer *timer)
{
	struct fz_dispatcher *d = DISPATCHER_OF(poll, timer);

	for (uint32_t i = 0; i < d->nlanes; i++)
		poll_lane(d, &d->lanes[i]);
	fz_loop_defer(loop_of(d), &d->dispatch);
}

void
fz_producer_recall(
    const struct fz_producer *producer, const struct fz_err *kill)
{
	struct fz_dispatcher *d = producer->dispatcher;
	struct fz_worker *w = first_own(d, producer->lane), *next;

	for (; w != NULL; w = next) {
		next = next_own(d, w->next);
		if (!has(w, producer))
			continue;
		fz_worker_recall(w);
		if (kill != NULL)
			fz_worker_refuse(w, producer, kill);
	}
}

static void
look_after_lane(struct fz_dispatcher *d, struct fz_lane *lane)
{
	balance_lane(d, lane);
	arm_poll(d, lane);
	lane->used = first_own(d, lane) != NULL;
}

static void
dispatch(struct fz_defer *defer)
{
	struct fz_dispatcher *d = DISPATCHER_OF(dispatch, defer);
	struct fz_producer *producer;

	d->now_ns = 0;
	while ((producer = first_producer(&d->stopping)) != NULL) {
		fz_list_remove(&producer->link);
		fz_producer_recall(producer, producer->kill);
	}
	for (uint32_t i = d->nlanes; i-- > 0;) {
		if (!send_lane(d, &d->lanes[i]))
			break;
	}
	for (uint32_t i = 0; i < d->nlanes; i++) {
		/* skip unused pools: a long chain has many */
		if (d->lanes[i].used || d->once)
			look_after_lane(d, &d->lanes[i]);
	}
}

static void
freed(struct fz_pool_client *client, struct fz_worker *w)
{
	struct fz_dispatcher *d = DISPATCHER_OF(client, client);

	if (w != NULL)
		d->nbusy--;
	/* dispatch after the clients that the pool notified before */
	fz_loop_undefer(&d->dispatch);
	fz_loop_defer(loop_of(d), &d->dispatch);
}

int
fz_dispatcher_init(struct fz_dispatcher *d, struct fz_engine *engine,
    struct fz_pool *const *pools, uint32_t npools, unsigned max,
    struct fz_err *err)
{
	*d = (struct fz_dispatcher){ .client = { freed },
		.engine = engine,
		.max = max,
		.dispatch = { .call = dispatch },
		.poll = { .fired = poll_workers } };
	fz_list_init(&d->stopping);
	d->lanes = calloc(npools + 1, sizeof(*d->lanes));
	if (d->lanes == NULL)
		return fz_err_nomem(err, "a dispatcher");
	d->nlanes = npools;
	for (uint32_t i = 0; i < npools; i++) {
		d->lanes[i].pool = pools[i];
		fz_list_init(&d->lanes[i].ready);
	}
	return 0;
}

void
fz_dispatcher_fini(struct fz_dispatcher *d)
{
	fz_dispatcher_leave(d);
	free(d->lanes);
	d->lanes = NULL;
	d->nlanes = 0;
}

int
fz_dispatcher_join(struct fz_dispatcher *d, struct fz_err *err)
{
	for (uint32_t i = 0; i < d->nlanes && !d->joined; i++) {
		if (fz_pool_join(d->lanes[i].pool, &d->client, err) == 0)
			continue;
		d->joined = true;
		fz_dispatcher_leave(d);
		return -1;
	}
	d->joined = true;
	return 0;
}

void
fz_dispatcher_leave(struct fz_dispatcher *d)
{
	for (uint32_t i = 0; i < d->nlanes && d->joined; i++)
		fz_pool_leave(d->lanes[i].pool, &d->client);
	d->nbusy = 0; /* no worker belongs to it now */
	d->joined = false;
	fz_loop_disarm(loop_of(d), &d->poll);
	fz_loop_undefer(&d->dispatch);
}

void
fz_dispatcher_in_child(struct fz_dispatcher *d)
{
	/* Do not write to empty lists: a write copies an inherited page. */
	for (uint32_t i = 0; i < d->nlanes; i++) {
		if (fz_list_first(&d->lanes[i].ready) != NULL)
			fz_list_init(&d->lanes[i].ready);
	}
	fz_list_init(&d->stopping);
	d->nbusy = 0;
	d->joined = false;
}

void
fz_dispatcher_flush(const struct fz_dispatcher *d)
{
	for (uint32_t i = 0; i < d->nlanes; i++) {
		struct fz_worker *w = first_own(d, &d->lanes[i]);

		fz_pool_flush(d->lanes[i].pool);
		for (; w != NULL; w = next_own(d, w->next))
			fz_worker_flush(w);
	}
}

void
fz_producer_init(struct fz_producer *producer,
    const struct fz_producer_ops *ops, struct fz_dispatcher *d, uint32_t pool)
{
	*producer = (struct fz_producer){
		.ops = ops, .dispatcher = d, .lane = &d->lanes[pool]
	};
}

static void
wake(struct fz_producer *producer, bool again)
{
	struct fz_dispatcher *d = producer->dispatcher;

	if (d->max == 0)
		return;
	/* in a forked child the dispatcher has not joined its pools */
	if (!d->joined)
		fz_dispatcher_join(d, NULL);
	if (!fz_list_is_linked(&producer->link))
		queue_up(producer, again ? producer->sent_turn : ++d->nturns);
	fz_loop_defer(loop_of(d), &d->dispatch);
}

void
fz_producer_wake(struct fz_producer *producer)
{
	wake(producer, false);
}

void
fz_producer_wake_again(struct fz_producer *producer)
{
	wake(producer, true);
}

void
fz_producer_stop(struct fz_producer *producer, const struct fz_err *kill)
{
	struct fz_dispatcher *d = producer->dispatcher;

	producer->kill = kill;
	fz_list_remove(&producer->link);
	fz_list_push(&d->stopping, &producer->link);
	fz_loop_defer(loop_of(d), &d->dispatch);
}

/*
 * End one worker that has a job of the producer, or let it go on with jobs of
 * other producers. Returns false if there is none.
 */
static bool
end_one(const struct fz_producer *producer, const struct fz_err *kill)
{
	struct fz_dispatcher *d = producer->dispatcher;
	struct fz_worker *w = first_own(d, producer->lane);

	while (w != NULL && !has(w, producer))
		w = next_own(d, w->next);
	if (w != NULL && !fz_worker_abandon(w, producer))
		fz_worker_end(w, kill->kind, kill->text);
	return w != NULL;
}

void
fz_producer_end(struct fz_producer *producer, const struct fz_err *kill)
{
	fz_list_remove(&producer->link);
	/* start to kill all workers before waiting for the first */
	fz_producer_recall(producer, kill);
	while (end_one(producer, kill))
		continue;
}

uint32_t
fz_dispatch_together(const struct fz_worker *worker)
{
	if (!worker->ahead || worker->mean_ns == 0 ||
	    worker->mean_ns > DISPATCH_TOGETHER_NS)
		return 1;
	return (uint32_t)(DISPATCH_TOGETHER_NS / worker->mean_ns);
}

unsigned
fz_producer_nrunning(const struct fz_producer *producer)
{
	struct fz_dispatcher *d = producer->dispatcher;
	struct fz_worker *w = first_own(d, producer->lane);
	unsigned n = 0;

	for (; w != NULL; w = next_own(d, w->next))
		n += runs(w, producer);
	return n;
}
