#include "engine/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/blob.h"
#include "engine/engine.h"
#include "engine/graph.h"
#include "engine/pool.h"
#include "engine/worker.h"
#include "os/loop.h"

/* Jobs that were sent behind one that takes longer may go elsewhere. */
#define RUN_STEAL_NS FZ_CLOCK_MS

enum state { WAITING, READY, SENT, DELAYED, DONE, FAILED, CANCELLED };

struct node {
	struct fz_job job;
	struct fz_run *run;
	uint32_t waiting; /* inputs that have not been made */
	uint32_t because; /* the failed node that cancelled this one */
	uint8_t state;
	unsigned attempts; /* that have ended */
	struct fz_failure *failure;
	struct fz_timer *delay; /* while DELAYED */
};

/* Jobs of one pool that could start now, oldest first. */
struct ready {
	struct fz_job *head, **tail;
};

struct delay {
	struct fz_timer timer; /* first: the node knows it by this */
	struct node *node;
};

struct fz_run {
	struct fz_pool_user user;
	struct fz_run_opts opts;
	struct fz_run_limits *limits; /* of each node, NULL: all as in opts */
	struct node *nodes;
	uint32_t nnodes, nvalues;
	struct fz_blob **values;
	uint32_t *uses;      /* of each value: who still wants it */
	struct ready *ready; /* of each pool */
	uint64_t *local;     /* local runs: a bit a node that is ready */
	uint32_t local_from; /* no bit is set below this word */
	uint32_t unfinished; /* nodes not done, failed or cancelled */
	uint32_t sent;       /* jobs that workers have */
	unsigned nbusy;      /* workers that have them: slots in use */
	bool started, joined, stopping, done;
	uint32_t because; /* the node it stops for */
	bool whole_failed;
	struct fz_failure whole; /* a deadline or a cancel */
	struct fz_failure lost;  /* for a node whose failure had no memory */
	struct fz_defer dispatch;
	struct fz_timer deadline, steal;
	struct fz_fork_hook hook;
	struct fz_run_event *events;
	size_t nevents, event_at, events_cap;
};

#define RUN_OF(member, ptr) \
	((struct fz_run *)((char *)(ptr)-offsetof(struct fz_run, member)))

static struct node *
node_of(struct fz_job *job)
{
	return (struct node *)((char *)job - offsetof(struct node, job));
}

static uint32_t
number_of(const struct node *node)
{
	return (uint32_t)(node - node->run->nodes);
}

static const struct fz_node *
plan_of(const struct node *node)
{
	return fz_graph_get(node->run->opts.graph, number_of(node));
}

/* ---- events ---------------------------------------------------------------
 */

static void
record(struct node *node, enum fz_run_event_kind kind, pid_t pid)
{
	struct fz_run *run = node->run;
	struct fz_run_event *event;

	if (!run->opts.events)
		return;
	if (run->nevents == run->events_cap) {
		size_t cap = run->events_cap != 0 ? 2 * run->events_cap : 64;

		event = realloc(run->events, cap * sizeof(*event));
		if (event == NULL)
			return; /* somebody watches a little less */
		run->events = event;
		run->events_cap = cap;
	}
	event = &run->events[run->nevents++];
	run->opts.engine->news++;
	*event = (struct fz_run_event){
		.kind = kind, .node = number_of(node), .pid = pid
	};
	if (kind != FZ_RUN_EVENT_START && node->job.started_ns != 0)
		event->took_ns = fz_clock_ns() - node->job.started_ns;
}

int
fz_run_next_event(struct fz_run *run, struct fz_run_event *event)
{
	if (run->event_at == run->nevents) {
		run->event_at = run->nevents = 0;
		return 0;
	}
	*event = run->events[run->event_at++];
	return 1;
}

/* ---- values ----------------------------------------------------------------
 */

static void
drop_use(struct fz_run *run, uint32_t value)
{
	if (--run->uses[value] != 0)
		return;
	fz_blob_unref(run->values[value]);
	run->values[value] = NULL;
}

/* The node is over: it needs its inputs no more. */
static void
end_node(struct node *node, enum state state)
{
	struct fz_run *run = node->run;
	const uint32_t *inputs =
	    fz_graph_inputs(run->opts.graph, number_of(node));

	node->state = (uint8_t)state;
	for (uint32_t i = 0; i < plan_of(node)->ninputs; i++)
		drop_use(run, inputs[i]);
	run->unfinished--;
	fz_loop_defer(run->opts.engine->loop, &run->dispatch);
}

/* ---- what is ready ---------------------------------------------------------
 */

static void
make_ready(struct node *node)
{
	struct fz_run *run = node->run;
	uint32_t n = number_of(node);

	node->state = READY;
	if (run->local != NULL) {
		run->local[n / 64] |= UINT64_C(1) << n % 64;
		if (n / 64 < run->local_from)
			run->local_from = n / 64;
	} else {
		struct ready *ready = &run->ready[plan_of(node)->pool];

		node->job.next = NULL;
		*ready->tail = &node->job;
		ready->tail = &node->job.next;
	}
	fz_loop_defer(run->opts.engine->loop, &run->dispatch);
}

static struct fz_job *
pop_ready(struct ready *ready)
{
	struct fz_job *job = ready->head;

	ready->head = job->next;
	if (ready->head == NULL)
		ready->tail = &ready->head;
	return job;
}

/* A value is there: those who waited for it may be ready now. */
static void
value_made(struct fz_run *run, uint32_t value, struct fz_blob *blob)
{
	uint32_t n;
	const uint32_t *users = fz_graph_users(run->opts.graph, value, &n);

	if (run->uses[value] != 0)
		run->values[value] = blob;
	else
		fz_blob_unref(blob);
	for (uint32_t i = 0; i < n; i++) {
		struct node *user = &run->nodes[users[i]];

		if (--user->waiting == 0 && user->state == WAITING &&
		    !run->stopping)
			make_ready(user);
	}
}

/* ---- failures --------------------------------------------------------------
 */

static void
keep_failure(struct node *node, const struct fz_failure *failure)
{
	node->failure = malloc(sizeof(*node->failure));
	if (node->failure == NULL) {
		fz_blob_unref(failure->value);
		node->failure = &node->run->lost;
		return;
	}
	*node->failure = *failure;
}

static void
cancel_node(struct node *node, uint32_t because)
{
	node->because = because;
	end_node(node, CANCELLED);
	node->job.started_ns = 0;
	record(node, FZ_RUN_EVENT_FAILED, 0);
}

/* Everything that depends on a failed node will never run. */
static void
cancel_users(struct node *failed, uint32_t because)
{
	struct fz_run *run = failed->run;
	const struct fz_node *plan = plan_of(failed);
	struct node *list =
	    NULL; /* by job.next: cancelled, users still to do */

	for (;;) {
		for (uint32_t v = 0; v < plan->nvalues; v++) {
			uint32_t n;
			const uint32_t *users = fz_graph_users(
			    run->opts.graph, plan->first_value + v, &n);

			for (uint32_t i = 0; i < n; i++) {
				struct node *user = &run->nodes[users[i]];

				if (user->state != WAITING)
					continue;
				cancel_node(user, because);
				user->job.next =
				    list != NULL ? &list->job : NULL;
				list = user;
			}
		}
		if (list == NULL)
			return;
		plan = plan_of(list);
		list = list->job.next != NULL ? node_of(list->job.next) : NULL;
	}
}

/* Take back what did not start; with `kill`, end what did. */
static void
stop_workers(
    struct fz_run *run, bool kill, enum fz_err_kind kind, const char *text)
{
	for (uint32_t i = 0; i < run->opts.npools; i++) {
		struct fz_worker *w = fz_pool_busy(run->opts.pools[i]), *next;

		for (; w != NULL; w = next) {
			next = w->next;
			if (w->owner != &run->user)
				continue;
			fz_worker_recall(w);
			if (kill && w->njobs != 0)
				fz_worker_kill(w, kind, text);
		}
	}
}

/* Start nothing new: what waits, is ready or delayed is cancelled. */
static void
stop(struct fz_run *run, uint32_t because)
{
	if (run->stopping)
		return;
	run->stopping = true;
	run->because = because;
	for (uint32_t i = 0; i < run->nnodes; i++) {
		struct node *node = &run->nodes[i];

		if (node->state == DELAYED) {
			fz_loop_disarm(run->opts.engine->loop, node->delay);
			free(node->delay);
			node->delay = NULL;
			/* It did run, and failed. */
			node->state = WAITING;
		}
		if (node->state == WAITING || node->state == READY)
			cancel_node(node, because);
	}
	for (uint32_t i = 0; i < run->opts.npools; i++)
		run->ready[i].tail = &run->ready[i].head;
	for (uint32_t i = 0; i < run->opts.npools; i++)
		run->ready[i].head = NULL;
}

static void
stop_for(struct fz_run *run, uint32_t because)
{
	if (run->stopping)
		return;
	stop(run, because);
	if (run->started && run->local == NULL)
		stop_workers(run, run->opts.policy == FZ_RUN_NOW,
		    FZ_ERR_CANCELLED, "ended because another function failed");
}

/* ---- retries ----------------------------------------------------------------
 */

static void
delay_over(struct fz_timer *timer)
{
	struct delay *delay = (struct delay *)timer;
	struct node *node = delay->node;

	free(delay);
	node->delay = NULL;
	make_ready(node);
}

static void
retry_later(struct node *node, int64_t delay_ns)
{
	struct delay *delay;

	if (delay_ns == 0 || (delay = calloc(1, sizeof(*delay))) == NULL) {
		make_ready(node);
		return;
	}
	delay->timer.fired = delay_over;
	delay->node = node;
	node->delay = &delay->timer;
	node->state = DELAYED;
	if (fz_loop_arm(node->run->opts.engine->loop, node->delay,
		fz_clock_after(fz_clock_ns(), delay_ns)) != 0)
		delay_over(node->delay);
}

static bool
may_retry(const struct node *node, enum fz_err_kind kind)
{
	const struct fz_run *run = node->run;

	if (run->stopping || kind == FZ_ERR_CANCELLED ||
	    kind == FZ_ERR_INTERRUPTED || kind == FZ_ERR_UNSENDABLE ||
	    kind == FZ_ERR_CLOSED)
		return false;
	return node->attempts <=
	       fz_run_limits_of(run, number_of(node))->retries;
}

static int64_t
backoff(const struct node *node)
{
	int64_t ns = fz_run_limits_of(node->run, number_of(node))->backoff_ns;

	for (unsigned i = 1; i < node->attempts && ns != 0; i++) {
		if (ns == FZ_CLOCK_NEVER)
			break;
		ns = fz_clock_after(ns, ns);
	}
	return ns;
}

/* ---- jobs
 * --------------------------------------------------------------------- */

static void
node_failed(struct node *node, struct fz_failure *failure)
{
	struct fz_run *run = node->run;

	failure->attempt = ++node->attempts;
	if (may_retry(node, failure->err.kind)) {
		record(node, FZ_RUN_EVENT_RETRY, failure->pid);
		fz_blob_unref(failure->value);
		retry_later(node, backoff(node));
		return;
	}
	keep_failure(node, failure);
	record(node, FZ_RUN_EVENT_FAILED, failure->pid);
	end_node(node, FAILED);
	if (run->opts.policy == FZ_RUN_CONTINUE)
		cancel_users(node, number_of(node));
	else
		stop_for(run, number_of(node));
}

static void
node_done(struct node *node, struct fz_blob **values, uint32_t n, pid_t pid)
{
	const struct fz_node *plan = plan_of(node);
	struct fz_failure failure = { .pid = pid, .exitcode = -1 };
	bool whole = n == plan->nvalues;

	for (uint32_t i = 0; i < n; i++)
		whole = whole && values[i] != NULL;
	if (!whole) {
		for (uint32_t i = 0; i < n; i++)
			fz_blob_unref(values[i]);
		fz_err_nomem(&failure.err, "keeping the results");
		failure.err.kind = FZ_ERR_MEMORY;
		node_failed(node, &failure);
		return;
	}
	node->attempts++;
	record(node, FZ_RUN_EVENT_DONE, pid);
	end_node(node, DONE);
	for (uint32_t i = 0; i < n; i++)
		value_made(node->run, plan->first_value + i, values[i]);
}

static void
job_done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	struct node *node = node_of(job);

	node->run->sent--;
	node_done(node, values, n, job->pid);
}

static void
job_failed(struct fz_job *job, struct fz_failure *failure)
{
	struct node *node = node_of(job);

	node->run->sent--;
	node_failed(node, failure);
}

static void
job_returned(struct fz_job *job)
{
	struct node *node = node_of(job);

	node->run->sent--;
	if (node->run->stopping)
		cancel_node(node, node->run->because);
	else
		make_ready(node);
}

static void
job_started(struct fz_job *job)
{
	record(node_of(job), FZ_RUN_EVENT_START, job->pid);
}

static const struct fz_job_ops job_ops = { job_done, job_failed, job_returned,
	job_started };

/* ---- which job next
 * ------------------------------------------------------------ */

static uint64_t
mix(uint64_t seed, uint64_t n)
{
	uint64_t x = seed + (n + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static int
send(struct fz_run *run, struct fz_worker *w, struct node *node,
    struct fz_err *err)
{
	enum { FEW = 16 };
	const struct fz_node *plan = plan_of(node);
	const uint32_t *inputs =
	    fz_graph_inputs(run->opts.graph, number_of(node));
	const struct fz_run_limits *limits;
	struct fz_blob *some[FEW], **args = some;
	int rc;

	if (plan->ninputs > FEW)
		args = malloc(plan->ninputs * sizeof(struct fz_blob *));
	if (args == NULL)
		return fz_err_nomem(err, "arguments");
	for (uint32_t i = 0; i < plan->ninputs; i++)
		args[i] = run->values[inputs[i]];
	limits = fz_run_limits_of(run, number_of(node));
	node->job.timeout_ns = limits->timeout_ns;
	node->job.memory = limits->memory;
	node->state = SENT;
	rc = fz_worker_send(w, &node->job, args, plan->ninputs, err);
	if (rc == 0)
		run->sent++;
	if (args != some)
		free(args);
	return rc;
}

/* A worker for the next job of `pool`; NULL: none now. */
static struct fz_worker *
pick(struct fz_run *run, struct fz_pool *pool, struct fz_err *err)
{
	struct fz_worker *w;

	if (run->nbusy < run->opts.jobs) {
		w = fz_pool_take(pool, &run->user, err);
		if (w != NULL) {
			run->nbusy++;
			return w;
		}
	}
	return fz_pool_room(pool, &run->user);
}

/* Send what is ready in `pool`. False: it needs a slot that others have. */
static bool
dispatch_pool(struct fz_run *run, uint32_t number)
{
	struct ready *ready = &run->ready[number];
	struct fz_pool *pool = run->opts.pools[number];
	struct fz_failure failure = { .exitcode = -1 };

	while (ready->head != NULL) {
		struct fz_worker *w = pick(run, pool, &failure.err);
		struct node *node;

		if (w == NULL && failure.err.kind == FZ_ERR_NONE)
			return run->nbusy < run->opts.jobs;
		node = node_of(pop_ready(ready));
		if (w == NULL) {
			node_failed(node, &failure);
		} else if (send(run, w, node, &failure.err) != 0) {
			fz_pool_untake(pool, w);
			node_failed(node, &failure);
		}
		failure = (struct fz_failure){ .exitcode = -1 };
	}
	return true;
}

static bool
may_steal(const struct fz_run *run, const struct fz_pool *pool)
{
	return run->nbusy < run->opts.jobs && fz_pool_has_free(pool);
}

/* Come back when a worker has kept jobs waiting behind a long one. */
static void
arm_steal(struct fz_run *run)
{
	int64_t at = FZ_CLOCK_NEVER;

	if (run->steal.place != 0)
		return;
	for (uint32_t i = 0; i < run->opts.npools; i++) {
		struct fz_worker *w = fz_pool_busy(run->opts.pools[i]);

		for (; w != NULL; w = w->next) {
			if (w->owner == &run->user && w->njobs > 1 &&
			    (w->peeked_ns != w->news_ns ||
				may_steal(run, run->opts.pools[i])) &&
			    w->news_ns < at)
				at = w->news_ns;
		}
	}
	fz_loop_arm(run->opts.engine->loop, &run->steal,
	    fz_clock_after(at, RUN_STEAL_NS));
}

static void
steal(struct fz_timer *timer)
{
	struct fz_run *run = RUN_OF(steal, timer);
	int64_t now = fz_clock_ns();

	for (uint32_t i = 0; i < run->opts.npools; i++) {
		struct fz_pool *pool = run->opts.pools[i];
		struct fz_worker *w = fz_pool_busy(pool), *next;

		for (; w != NULL; w = next) {
			next = w->next;
			if (w->owner != &run->user || w->njobs < 2 ||
			    now - w->news_ns < RUN_STEAL_NS)
				continue;
			w->peeked_ns = w->news_ns;
			fz_worker_peek(w);
			if (w->njobs > 1 && may_steal(run, pool))
				fz_worker_recall(w);
		}
	}
	fz_loop_defer(run->opts.engine->loop, &run->dispatch);
}

/* ---- the end
 * -------------------------------------------------------------------- */

static void
finish(struct fz_run *run)
{
	struct fz_loop *loop = run->opts.engine->loop;

	run->done = true;
	run->opts.engine->news++;
	fz_loop_disarm(loop, &run->deadline);
	fz_loop_disarm(loop, &run->steal);
	fz_loop_undefer(loop, &run->dispatch);
	for (uint32_t i = 0; i < run->opts.npools && run->joined; i++) {
		fz_pool_leave(run->opts.pools[i], &run->user);
		if (run->local == NULL)
			fz_pool_drain(run->opts.pools[i]);
	}
	run->joined = false;
}

static void
dispatch(struct fz_defer *defer)
{
	struct fz_run *run = RUN_OF(dispatch, defer);

	if (run->done)
		return;
	if (run->local == NULL && !run->stopping) {
		for (uint32_t i = run->opts.npools; i-- > 0;) {
			if (!dispatch_pool(run, i))
				break;
		}
		arm_steal(run);
	}
	if (run->sent == 0 && (run->unfinished == 0 || run->stopping))
		finish(run);
}

static void
worker_freed(struct fz_pool_user *user, struct fz_worker *w)
{
	struct fz_run *run = RUN_OF(user, user);

	if (w != NULL)
		run->nbusy--;
	fz_loop_defer(run->opts.engine->loop, &run->dispatch);
}

static void
fail_whole(struct fz_run *run, enum fz_err_kind kind, const char *text)
{
	run->whole_failed = true;
	fz_err_set(&run->whole.err, kind, "%s", text);
	stop(run, FZ_GRAPH_NONE);
}

static void
deadline_over(struct fz_timer *timer)
{
	struct fz_run *run = RUN_OF(deadline, timer);
	const char *text = "the deadline of the whole call ran out";

	fail_whole(run, FZ_ERR_TIMEOUT, text);
	if (run->local == NULL)
		stop_workers(run, true, FZ_ERR_TIMEOUT, text);
	fz_loop_defer(run->opts.engine->loop, &run->dispatch);
}

static bool
kill_one(struct fz_run *run, enum fz_err_kind kind, const char *text)
{
	for (uint32_t i = 0; i < run->opts.npools; i++) {
		struct fz_worker *w = fz_pool_busy(run->opts.pools[i]);

		for (; w != NULL; w = w->next) {
			if (w->owner == &run->user) {
				fz_worker_end(w, kind, text);
				return true;
			}
		}
	}
	return false;
}

void
fz_run_cancel(struct fz_run *run, enum fz_err_kind kind, const char *text)
{
	if (run->done)
		return;
	fail_whole(run, kind, text);
	if (run->started && run->local == NULL) {
		stop_workers(run, true, kind, text);
		while (kill_one(run, kind, text))
			continue;
	}
	finish(run);
}

/* ---- life
 * ------------------------------------------------------------------------ */

/* In a worker the run of its parent is nobody's: it holds what it holds. */
static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_run *run = RUN_OF(hook, hook);

	run->done = true;
	run->joined = false;
	memset(run->values, 0, run->nvalues * sizeof(*run->values));
	for (uint32_t i = 0; i < run->nnodes; i++)
		run->nodes[i].failure = NULL;
}

static int
allocate(struct fz_run *run, struct fz_err *err)
{
	size_t nnodes = run->nnodes, nvalues = run->nvalues;

	run->nodes = calloc(nnodes + 1, sizeof(*run->nodes));
	run->values = calloc(nvalues + 1, sizeof(*run->values));
	run->uses = calloc(nvalues + 1, sizeof(*run->uses));
	run->ready = calloc(run->opts.npools + 1, sizeof(*run->ready));
	run->opts.pools =
	    calloc(run->opts.npools + 1, sizeof(*run->opts.pools));
	if (run->opts.jobs == 0)
		run->local = calloc(nnodes / 64 + 1, sizeof(*run->local));
	if (run->nodes == NULL || run->values == NULL || run->uses == NULL ||
	    run->ready == NULL || run->opts.pools == NULL ||
	    (run->opts.jobs == 0 && run->local == NULL))
		return fz_err_nomem(err, "a run");
	return 0;
}

static void
init_nodes(struct fz_run *run)
{
	for (uint32_t i = 0; i < run->nnodes; i++) {
		const struct fz_node *plan = fz_graph_get(run->opts.graph, i);
		struct node *node = &run->nodes[i];

		node->run = run;
		node->waiting = plan->nmade;
		node->because = FZ_GRAPH_NONE;
		node->job = (struct fz_job){ .ops = &job_ops,
			.func = plan->func,
			.nvalues = plan->nvalues,
			.seed = mix(run->opts.seed, i) };
	}
	for (uint32_t v = 0; v < run->nvalues; v++)
		fz_graph_users(run->opts.graph, v, &run->uses[v]);
	for (uint32_t i = 0; i < run->opts.npools; i++)
		run->ready[i].tail = &run->ready[i].head;
}

struct fz_run *
fz_run_new(const struct fz_run_opts *opts, struct fz_err *err)
{
	struct fz_run *run = calloc(1, sizeof(*run));

	if (run == NULL) {
		fz_err_nomem(err, "a run");
		return NULL;
	}
	run->opts = *opts;
	run->opts.pools = NULL;
	run->nnodes = fz_graph_nnodes(opts->graph);
	run->nvalues = fz_graph_nvalues(opts->graph);
	run->user.freed = worker_freed;
	run->dispatch.call = dispatch;
	run->deadline.fired = deadline_over;
	run->steal.fired = steal;
	run->hook.in_child = in_child;
	run->whole.exitcode = run->lost.exitcode = -1;
	fz_err_set(&run->lost.err, FZ_ERR_MEMORY,
	    "not enough memory to keep the error");
	if (allocate(run, err) != 0) {
		run->nnodes = run->nvalues = 0;
		run->done = true;
		fz_run_free(run);
		return NULL;
	}
	if (opts->npools != 0)
		memcpy(run->opts.pools, opts->pools,
		    opts->npools * sizeof(*opts->pools));
	run->unfinished = run->nnodes;
	init_nodes(run);
	fz_loop_hook(opts->engine->loop, &run->hook);
	return run;
}

void
fz_run_free(struct fz_run *run)
{
	if (run == NULL)
		return;
	fz_run_cancel(run, FZ_ERR_CANCELLED, "the run was closed");
	/* A local one may have been done before its last node ended. */
	fz_loop_undefer(run->opts.engine->loop, &run->dispatch);
	fz_loop_unhook(&run->hook);
	for (uint32_t v = 0; v < run->nvalues; v++)
		fz_blob_unref(run->values[v]);
	for (uint32_t i = 0; i < run->nnodes; i++) {
		struct fz_failure *failure = run->nodes[i].failure;

		if (failure != NULL && failure != &run->lost) {
			fz_blob_unref(failure->value);
			free(failure);
		}
	}
	free(run->nodes);
	free(run->values);
	free(run->uses);
	free(run->ready);
	free(run->opts.pools);
	free(run->local);
	free(run->limits);
	free(run->events);
	free(run);
}

int
fz_run_limit(struct fz_run *run, uint32_t node,
    const struct fz_run_limits *limits, struct fz_err *err)
{
	if (run->limits == NULL) {
		run->limits = calloc(run->nnodes, sizeof(*run->limits));
		if (run->limits == NULL)
			return fz_err_nomem(err, "a run");
		for (uint32_t i = 0; i < run->nnodes; i++)
			run->limits[i] = run->opts.limits;
	}
	run->limits[node] = *limits;
	return 0;
}

const struct fz_run_limits *
fz_run_limits_of(const struct fz_run *run, uint32_t node)
{
	return run->limits != NULL ? &run->limits[node] : &run->opts.limits;
}

void
fz_run_set(struct fz_run *run, uint32_t value, struct fz_blob *blob)
{
	fz_blob_unref(run->values[value]);
	run->values[value] = blob;
}

void
fz_run_keep(struct fz_run *run, uint32_t value)
{
	run->uses[value]++;
}

int
fz_run_start(struct fz_run *run, struct fz_err *err)
{
	const struct fz_graph *graph = run->opts.graph;

	for (uint32_t v = 0; v < run->nvalues; v++) {
		if (fz_graph_maker(graph, v) == FZ_GRAPH_NONE &&
		    run->uses[v] != 0 && run->values[v] == NULL)
			return fz_err_set(
			    err, FZ_ERR_GRAPH, "value %u was not given", v + 1);
	}
	for (uint32_t i = 0; i < run->opts.npools; i++) {
		if (fz_pool_join(run->opts.pools[i], &run->user, err) != 0)
			return -1;
		run->joined = true;
	}
	if (fz_loop_arm(run->opts.engine->loop, &run->deadline,
		run->opts.deadline_ns) != 0)
		return fz_err_nomem(err, "a deadline");
	run->started = true;
	for (uint32_t i = 0; i < run->nnodes; i++) {
		if (run->nodes[i].waiting == 0)
			make_ready(&run->nodes[i]);
	}
	fz_loop_defer(run->opts.engine->loop, &run->dispatch);
	return 0;
}

bool
fz_run_done(const struct fz_run *run)
{
	return run->done;
}

struct fz_blob *
fz_run_value(const struct fz_run *run, uint32_t value)
{
	return run->values[value];
}

const struct fz_failure *
fz_run_failure_of(const struct fz_run *run, uint32_t node, uint32_t *because)
{
	static const struct fz_failure never_ran = {
		.err = { FZ_ERR_CANCELLED, 0, "never ran" }, .exitcode = -1
	};
	const struct node *n = &run->nodes[node];

	*because = n->because;
	if (n->failure != NULL)
		return n->failure;
	return n->state == CANCELLED ? &never_ran : NULL;
}

const struct fz_failure *
fz_run_failure(const struct fz_run *run, uint32_t *node)
{
	*node = FZ_GRAPH_NONE;
	if (run->whole_failed && (run->opts.policy != FZ_RUN_CONTINUE ||
				     run->whole.err.kind != FZ_ERR_TIMEOUT))
		return &run->whole;
	if (run->opts.policy == FZ_RUN_CONTINUE)
		return NULL;
	for (uint32_t i = 0; i < run->nnodes; i++) {
		if (run->nodes[i].state == FAILED) {
			*node = i;
			return run->nodes[i].failure;
		}
	}
	return NULL;
}

/* ---- local runs
 * --------------------------------------------------------------------- */

bool
fz_run_is_local(const struct fz_run *run)
{
	return run->local != NULL;
}

uint32_t
fz_run_local_next(struct fz_run *run)
{
	uint32_t nwords = run->nnodes / 64 + 1;

	if (run->done || run->stopping)
		return FZ_GRAPH_NONE;
	for (uint32_t i = run->local_from; i < nwords; i++) {
		uint64_t word = run->local[i];
		struct node *node;
		uint32_t n;

		if (word == 0)
			continue;
		run->local_from = i;
		run->local[i] = word & (word - 1);
		n = i * 64 + (uint32_t)__builtin_ctzll(word);
		node = &run->nodes[n];
		node->state = SENT;
		node->job.started_ns = fz_clock_ns();
		run->sent++;
		record(node, FZ_RUN_EVENT_START, 0);
		return n;
	}
	run->local_from = nwords;
	return FZ_GRAPH_NONE;
}

uint64_t
fz_run_local_seed(const struct fz_run *run, uint32_t node)
{
	return run->nodes[node].job.seed;
}

struct fz_blob *
fz_run_local_input(const struct fz_run *run, uint32_t value)
{
	return run->values[value];
}

void
fz_run_local_done(
    struct fz_run *run, uint32_t node, struct fz_blob **values, uint32_t n)
{
	run->sent--;
	node_done(&run->nodes[node], values, n, 0);
}

void
fz_run_local_failed(
    struct fz_run *run, uint32_t node, struct fz_failure *failure)
{
	run->sent--;
	node_failed(&run->nodes[node], failure);
}
