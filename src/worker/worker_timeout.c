#include "worker/worker_state.h"

#include <poll.h>
#include <stdio.h>

#include "base/clock.h"

/*
 * Minimum time for a job to begin. It may be longer than the timeout, because a
 * new worker needs time to begin on a busy machine.
 */
#define WORKER_BEGIN_NS FZ_CLOCK_SECOND
/* Time until the next check of an incomplete reply. */
#define WORKER_HALF_NS (100 * FZ_CLOCK_MS)

void
fz_worker_arm(struct fz_worker_private *p, int64_t at_ns)
{
	if (fz_loop_arm(loop_of(p), &p->timer, at_ns) != 0)
		fz_worker_kill(p->worker, FZ_ERR_MEMORY,
		    "not enough memory for the timer of the worker");
}

/*
 * When the current job began, as the worker reports it. `otherwise` if it has
 * not begun, or has ended and its reply has not arrived.
 */
static int64_t
began(const struct fz_worker_private *p, int64_t otherwise)
{
	int64_t at = p->link->ops->started_at(p->link);

	if (fz_worker_claimed(p) != fz_worker_next_number(p->worker->head) + 1)
		return otherwise;
	/*
	 * If that time is in the future, the worker has overwritten the
	 * mailbox: use the time at which the job became the current one.
	 */
	return at <= fz_clock_ns() ? at : p->worker->head->started_ns;
}

void
fz_worker_arm_timeout(struct fz_worker_private *p)
{
	struct fz_job *head = p->worker->head;
	int64_t at = FZ_CLOCK_NEVER;

	if (head != NULL && head->timeout_ns != FZ_CLOCK_NEVER)
		at = fz_clock_after(
		    began(p, head->started_ns), head->timeout_ns);
	if (p->lost_ns == 0)
		fz_worker_arm(p, at);
}

/* The time at which a sent job fails if it has not begun by then. */
static int64_t
begin_deadline(const struct fz_worker_private *p, const struct fz_job *job)
{
	int64_t ns = job->timeout_ns > WORKER_BEGIN_NS ? job->timeout_ns
						       : WORKER_BEGIN_NS;
	int64_t since_ns = job->started_ns;

	/* fz_worker_check_half() limits the time until the worker has joined */
	if (p->output.holds)
		return FZ_CLOCK_NEVER;
	if (p->link->ops->waits != NULL && p->link->ops->waits(p->link))
		/* other submitters use the slots of the node */
		return FZ_CLOCK_NEVER;
	if (since_ns < p->joined_ns)
		since_ns = p->joined_ns;
	return fz_clock_after(since_ns, ns);
}

static void
time_out(struct fz_worker_private *p, const char *what)
{
	char text[80];

	snprintf(text, sizeof(text), "%s its timeout of %g s", what,
	    (double)p->worker->head->timeout_ns / (double)FZ_CLOCK_SECOND);
	fz_worker_kill(p->worker, FZ_ERR_TIMEOUT, text);
}

/* Time until the next check of a job that has not begun. */
static int64_t
pause_ns(const struct fz_job *job)
{
	/* add a constant, because the timeout may be 0 */
	return fz_clock_after(FZ_CLOCK_MS, job->timeout_ns);
}

/*
 * Called if the worker has not begun its current job in time, perhaps because
 * it is stopped. Take back all jobs first, so that none of them begins before
 * the kill. The current job fails. The later jobs are returned, now or after
 * the death of the worker.
 */
static void
time_out_head(struct fz_worker_private *p)
{
	const struct fz_link *link = p->link;
	bool exact = link->ops->recall(p->link);
	uint32_t claimed = fz_worker_claimed(p);
	const struct fz_job *head = p->worker->head;
	uint32_t behind = fz_worker_next_number(head) + 1;

	p->head_begun = (int32_t)(claimed - behind) < 0;
	if (exact)
		fz_worker_return(
		    p, p->head_begun ? behind : claimed, link->next_seq);
	if (p->head_begun)
		time_out(p, "did not start within");
	else
		/* the current job runs after all, or its reply is on the way */
		fz_worker_arm(
		    p, fz_clock_after(began(p, fz_clock_ns()), pause_ns(head)));
}

static void
wait_for_begin(struct fz_worker_private *p, int64_t now_ns)
{
	const struct fz_job *head = p->worker->head;
	int64_t deadline = begin_deadline(p, head);
	int64_t next = fz_clock_after(now_ns, pause_ns(head));

	if (now_ns >= deadline)
		time_out_head(p);
	else
		fz_worker_arm(p, next < deadline ? next : deadline);
}

void
fz_worker_time_is_up(struct fz_timer *timer)
{
	struct fz_worker_private *p = PRIVATE_OF(timer, timer);
	struct fz_job *head;
	int64_t now = fz_clock_ns(), started;

	if (p->lost_ns != 0) {
		fz_worker_check_lost(p);
		return;
	}
	/* the worker may have finished the job and not sent the reply yet */
	if (!p->worker->dying)
		fz_worker_report_idle(p, fz_worker_take_unsent(p));
	fz_worker_check_unwanted(p);
	head = p->worker->head;
	if (head == NULL || head->timeout_ns == FZ_CLOCK_NEVER ||
	    p->worker->dying)
		return;
	started = began(p, -1);
	if (started < 0) {
		wait_for_begin(p, now);
		return;
	}
	if (now - started < head->timeout_ns) {
		fz_worker_arm(p, fz_clock_after(started, head->timeout_ns));
		return;
	}
	/*
	 * Recall first: otherwise the worker could start another job before the
	 * kill, which would end that job, too.
	 */
	fz_worker_recall(p->worker);
	time_out(p, "ran longer than");
}

void
fz_worker_watch_half(struct fz_worker_private *p)
{
	const struct fz_wire_in *wire = &p->link->wire;
	bool half = wire->at != wire->buf.len && !p->worker->dying;

	if (half && p->half.index == 0)
		fz_loop_arm(loop_of(p), &p->half,
		    fz_clock_after(fz_clock_ns(), WORKER_HALF_NS));
	else if (!half)
		fz_loop_disarm(loop_of(p), &p->half);
}

void
fz_worker_check_half(struct fz_timer *timer)
{
	struct fz_worker_private *p = PRIVATE_OF(half, timer);
	/* check before the poll, so that no byte is missed */
	bool more = p->link->ops->is_sending(p->link);
	struct pollfd pfd = { .fd = p->link->in.fd, .events = POLLIN };

	if (pfd.fd == -1 || p->worker->dying)
		return;
	if (p->output.holds) {
		fz_worker_kill(
		    p->worker, FZ_ERR_CRASH, "the worker does not answer");
		return;
	}
	if (more || poll(&pfd, 1, 0) != 0) {
		fz_worker_watch_half(p);
		return;
	}
	p->distrusted = true;
	fz_worker_kill(
	    p->worker, FZ_ERR_CRASH, "the worker sent an incomplete reply");
}
