#include "worker/worker_state.h"

#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "node/nodes.h"

/* Maximum time for a worker to end after its link is lost. */
#define WORKER_EOF_NS FZ_CLOCK_SECOND
/* Time between checks whether a lost worker without a pidfd is dead. */
#define WORKER_CHECK_NS FZ_CLOCK_MS

static const char *
noun(const struct fz_worker_private *p)
{
	return p->opts.noun != NULL ? p->opts.noun : "worker";
}

/* Why the node has ended the worker; "": it has not. */
static const char *
node_cause(const struct fz_worker_private *p)
{
	return p->link->ops->cause != NULL ? p->link->ops->cause(p->link) : "";
}

/* Describe the worker's death, without the error. */
static void
describe_death(const struct fz_worker_private *p, struct fz_failure *failure)
{
	const struct fz_death *death = &p->worker->death;

	if (p->node_lost || *node_cause(p) != '\0')
		return;
	failure->signal = death->signal;
	/* on a node, the known usage is only that of the local ssh */
	if (failure->node == NULL) {
		failure->peak_rss = death->peak_rss;
		if (death->cpu_ns > p->cpu_ns)
			failure->cpu_ns = death->cpu_ns - p->cpu_ns;
	}
	if (death->signal == 0)
		failure->exitcode = death->exitcode;
}

static void
fail_started(struct fz_worker_private *p)
{
	const struct fz_death *death = &p->worker->death;
	struct fz_failure failure = fz_worker_failure(p);
	struct fz_job *job = p->worker->head;
	char text[160];

	describe_death(p, &failure);
	fz_death_text(death, text, sizeof(text));
	if (p->ending != FZ_ERR_NONE)
		fz_err_set(&failure.err, p->ending, "%s", p->why);
	else if (*node_cause(p) != '\0')
		fz_err_set(&failure.err, FZ_ERR_CRASH, "node %s is lost: %s",
		    failure.node, node_cause(p));
	else if (p->node_lost)
		fz_err_set(&failure.err, FZ_ERR_CRASH, "node %s is lost: %s",
		    failure.node,
		    p->output.said[0] != '\0' ? p->output.said
		    : death->signal == 0      ? "its connection has ended"
					      : text);
	else
		fz_err_set(&failure.err, FZ_ERR_CRASH, "the %s died: %s",
		    noun(p), text);
	fz_worker_answer_head(p->worker, 1);
	job->ops->failed(job, &failure);
}

/*
 * Set the reason why the worker could not start on its node: the last line that
 * ssh printed, or how ssh ended.
 */
static void
set_node_error(struct fz_worker_private *p, const struct fz_death *death)
{
	char text[160];
	const char *why = p->output.said;

	if (p->ending != FZ_ERR_NONE)
		why = p->why;
	else if (*why == '\0')
		why = node_cause(p);
	if (*why == '\0')
		why = fz_death_text(death, text, sizeof(text));
	fz_err_set(&p->worker->start_err, FZ_ERR_ERROR,
	    "cannot start a %s on %s: %s", noun(p), p->worker->node->name, why);
}

/*
 * Note whether the worker has ended before it started on its node. Its jobs are
 * not the cause of that.
 */
static void
note_unreached(struct fz_worker_private *p)
{
	struct fz_worker *w = p->worker;

	w->unreached = p->output.holds &&
		       (p->ending == FZ_ERR_NONE || p->ending == FZ_ERR_CRASH);
	w->failed_start = w->failed_start || w->unreached;
}

/* Read the reason why the worker could not start, if it was reported. */
static void
read_start_error(struct fz_worker_private *p, const struct fz_death *death)
{
	const struct fz_node *node = p->worker->node;
	struct fz_err why;

	if (p->answered == 0 && p->link->ops->refusal(p->link, &why))
		fz_err_set(&p->worker->start_err, why.kind,
		    "cannot start a %s%s%s: %s", noun(p),
		    node != NULL ? " on " : "", node != NULL ? node->name : "",
		    why.text);
	else if (p->worker->unreached)
		set_node_error(p, death);
}

/*
 * Whether it is known that the job did not reach the node, and therefore has
 * not begun there.
 */
static bool
is_unreached(const struct fz_worker_private *p, const struct fz_job *job)
{
	return p->output.has_reached &&
	       (int32_t)(job->end - p->output.reached) > 0;
}

/*
 * Find how the worker ended. If a node has not reported the end of its worker,
 * only the end of the local program, which connects the worker, is known.
 */
static void
find_death(struct fz_worker_private *p, const struct fz_death *death)
{
	struct fz_death *known = &p->worker->death;
	const struct fz_job *head = p->worker->head;

	if (p->link->ops->death == NULL ||
	    !p->link->ops->death(p->link, known)) {
		*known = *death;
		p->node_lost = p->worker->node != NULL;
		/*
		 * The report that the current job has begun may be lost, too,
		 * so the job must count as begun. Otherwise a job that causes
		 * the loss of its node would be sent to one node after another;
		 * and a job that must not be tried again could run twice.
		 */
		p->head_begun = p->head_begun ||
				(p->node_lost && !p->output.holds &&
				    head != NULL && !is_unreached(p, head));
	}
}

/*
 * Fail one job of a worker that could not start. Does nothing if the owner
 * replaces such a worker.
 */
static void
fail_unstarted(struct fz_worker_private *p)
{
	struct fz_failure failure = fz_worker_failure(p);
	struct fz_job *job = p->worker->head;

	failure.err = p->worker->start_err;
	if (failure.err.kind == FZ_ERR_NONE || job == NULL ||
	    p->opts.replaceable)
		return;
	fz_worker_answer_head(p->worker, 1);
	job->ops->failed(job, &failure);
}

/*
 * A job may be the cause when a node is lost. Each job that reached the node is
 * sent alone from now on, so the next loss shows which job it is.
 */
static void
suspect_jobs(const struct fz_worker_private *p)
{
	struct fz_job *job = p->worker->head;

	for (; job != NULL && p->node_lost && !p->output.holds; job = job->next)
		job->alone = job->alone || !is_unreached(p, job);
}

/* The worker was reaped: process its last replies, then end its jobs. */
static void
reaped(struct fz_worker_private *p, const struct fz_death *death)
{
	struct fz_worker *w = p->worker;
	uint32_t claimed;

	fz_loop_disarm(loop_of(p), &p->force);
	w->dying = true;
	w->failed_start = p->ending == FZ_ERR_NONE && fz_worker_claimed(p) == 0;
	while (p->link->in.fd != -1 && fz_link_fill(p->link) > 0)
		continue;
	if (!p->distrusted)
		fz_worker_take_replies(p, NULL);
	fz_worker_take_unsent(p);
	if (p->link->ops->ended != NULL)
		p->link->ops->ended(p->link);
	fz_worker_output_drain(&p->output);
	find_death(p, death);
	suspect_jobs(p);
	note_unreached(p);
	read_start_error(p, death);
	fail_unstarted(p);
	claimed = fz_worker_claimed(p);
	/*
	 * Fail the items that had started: usually one. There are more if
	 * replies are lost, or if the worker announced several items together.
	 */
	while (w->head != NULL &&
	       (int32_t)(fz_worker_next_number(w->head) - claimed) < 0)
		fail_started(p);
	fz_worker_return(p, claimed, p->link->next_seq);
	fz_engine_reap_late(p->opts.engine);
	p->opts.ops->dead(p->opts.ops_ctx, w);
}

void
fz_worker_death_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_worker_private *p = PRIVATE_OF(death, watch);
	struct fz_death death;

	(void)events;
	/* unwatch the pidfd before fz_proc_reap() closes it */
	fz_loop_unwatch(loop_of(p), watch);
	fz_proc_reap(&p->proc, true, &death);
	reaped(p, &death);
}

void
fz_worker_use_force(struct fz_timer *timer)
{
	fz_proc_kill(&PRIVATE_OF(force, timer)->proc);
}

void
fz_worker_kill(
    struct fz_worker *worker, enum fz_err_kind kind, const char *text)
{
	struct fz_worker_private *p = worker->private;

	if (worker->dying)
		return;
	worker->dying = true;
	p->ending = kind;
	snprintf(p->why, sizeof(p->why), "%s", text);
	if (!fz_proc_ask(&p->proc) ||
	    fz_loop_arm(loop_of(p), &p->force, p->proc.force_ns) != 0)
		fz_proc_kill(&p->proc);
}

void
fz_worker_terminate(struct fz_worker *worker)
{
	if (!worker->dying)
		fz_proc_terminate(&worker->private->proc);
}

void
fz_worker_end(struct fz_worker *worker, enum fz_err_kind kind, const char *text)
{
	struct fz_worker_private *p = worker->private;
	struct fz_death death;

	fz_worker_kill(worker, kind, text);
	fz_proc_kill(&p->proc);
	fz_loop_unwatch(loop_of(p), &p->death);
	fz_proc_reap(&p->proc, true, &death);
	reaped(p, &death);
}

void
fz_worker_check_lost(struct fz_worker_private *p)
{
	bool watched = p->death.fd != -1;
	int64_t now_ns = fz_clock_ns();
	struct fz_death death;

	if (!watched && fz_proc_reap(&p->proc, false, &death) == 1) {
		reaped(p, &death);
		return;
	}
	if (now_ns - p->lost_ns >= WORKER_EOF_NS) {
		char text[80];

		snprintf(text, sizeof(text), "the %s closed its pipe", noun(p));
		fz_worker_kill(p->worker, FZ_ERR_CRASH, text);
	}
	if (!watched)
		fz_worker_arm(p, now_ns + WORKER_CHECK_NS);
}

void
fz_worker_link_lost(void *ctx)
{
	struct fz_worker_private *p = ctx;
	int64_t now_ns = fz_clock_ns();

	if (p->lost_ns == 0)
		p->lost_ns = now_ns;
	fz_worker_arm(
	    p, p->death.fd == -1 ? now_ns : p->lost_ns + WORKER_EOF_NS);
	if (p->timer.index == 0)
		fz_worker_check_lost(p);
}

/*
 * End and reap the process of a worker. A dismissed worker may end by itself
 * until `leave_ns`. Workers that are dismissed together have the same
 * `leave_ns`, so the waits for them do not add up.
 */
void
fz_worker_end_process(struct fz_worker_private *p)
{
	struct pollfd pfd = { .fd = p->proc.pidfd, .events = POLLIN };
	int ms = fz_clock_poll_ms(fz_clock_ns(), p->leave_ns);
	struct fz_death death;

	if (p->proc.pid == 0)
		return;
	/* without a pidfd, poll for the end of the worker's replies */
	if (pfd.fd == -1)
		pfd = (struct pollfd){ .fd = p->link->in.fd };
	if (p->worker->dying || p->link->out.fd != -1 || pfd.fd == -1 ||
	    poll(&pfd, 1, ms) != 1 || p->proc.pidfd == -1)
		fz_proc_kill(&p->proc);
	fz_proc_reap(&p->proc, true, &death);
	fz_engine_reap_late(p->opts.engine);
	fz_worker_output_drain(&p->output);
}
