#include "worker/worker_state.h"

#include "base/clock.h"
#include "node/nodes.h"

/*
 * Numbers that the parent keeps for a worker. Its items are numbered in the
 * order in which they are sent.
 *
 *   answered <= next_number(head) <= claimed <= next_seq
 *
 *   answered     all items below it are answered
 *   next_number  head->seq + head->ndone: the first unanswered item
 *   claimed      1 + number of the last started item. The worker computes items
 *                from next_number on; a recall returns those from claimed on
 *   next_seq     the next item to be sent
 *
 * Results come in two ways: through the link, or peeked at in the mailbox
 * before the worker sends them. Each way keeps their order.
 *
 *   piped        the items below it have come through the link
 *   seen         the first items of a frame that was peeked at while it grew.
 *                These items are answered. skip_seen() drops them when the
 *                whole frame comes
 */

/*
 * The started items include the answered ones, and no unsent one. Any other
 * number in the link was overwritten by a function of the worker.
 */
uint32_t
fz_worker_claimed(const struct fz_worker_private *p)
{
	const struct fz_job *head = p->worker->head;
	uint32_t begun, started;

	begun =
	    head != NULL ? fz_worker_next_number(head) + 1 : p->link->next_seq;
	if (!p->link->ops->started(p->link, &started) ||
	    (int32_t)(started - p->answered) < 0 ||
	    (int32_t)(p->link->next_seq - started) < 0)
		return begun;
	return p->head_begun && (int32_t)(started - begun) < 0 ? begun
							       : started;
}

void
fz_worker_start_head(struct fz_worker_private *p, int64_t now_ns)
{
	struct fz_job *head = p->worker->head;

	if (head != NULL)
		head->started_ns = now_ns;
	if (head != NULL && !p->worker->dying)
		head->ops->started(head);
	if (p->timer.index != 0 ||
	    (head != NULL && head->timeout_ns != FZ_CLOCK_NEVER))
		fz_worker_arm_timeout(p);
}

static void
count_job_out(struct fz_worker *w)
{
	if (--w->njobs == 0 && !fz_worker_rests(w))
		fz_loop_busy(loop_of(w->private), false);
}

static struct fz_job *
pop_head(struct fz_worker *w)
{
	struct fz_job *job = w->head;

	w->head = job->next;
	if (w->head == NULL)
		w->tail = &w->head;
	count_job_out(w);
	w->nbytes -= job->nbytes;
	job->next = NULL;
	job->worker = NULL;
	return job;
}

void
fz_worker_note_used(
    struct fz_worker_private *p, const unsigned char *bytes, int64_t now_ns)
{
	bool shared = p->link->ops->flags & FZ_LINK_SHARED_MEMORY;
	struct fz_used used;
	int64_t ahead_ns;

	p->used.started_ns = 0;
	if (bytes == NULL)
		return;
	fz_wire_load_used(bytes, &used);
	if (used.started_ns <= 0 || used.took_ns < 0 ||
	    used.took_ns > INT64_MAX - used.started_ns)
		return;
	/*
	 * The worker's clock may be ahead, by about `ahead_ns`. This is too
	 * small by the time since the job's end, so the largest value seen is
	 * the best.
	 */
	ahead_ns = used.started_ns + used.took_ns - now_ns;
	if (!shared && (p->ahead_ns == 0 || ahead_ns > p->ahead_ns))
		p->ahead_ns = ahead_ns;
	used.started_ns -= shared ? 0 : p->ahead_ns;
	if (used.took_ns > now_ns || used.started_ns <= 0 ||
	    used.started_ns > now_ns - used.took_ns)
		used.started_ns = now_ns - used.took_ns;
	if (used.init_ns < 0 || used.init_ns > used.took_ns)
		used.init_ns = 0;
	if (used.started_ns > 0)
		p->used = used;
}

/*
 * Check and count the usage that the worker reports for a job. The job cannot
 * have started before it was queued, or before the end of the previous job:
 * correct an earlier start.
 */
static void
count_used(struct fz_worker_private *p, struct fz_job *job)
{
	struct fz_used *used = &p->used;
	int64_t ended_ns = used->started_ns + used->took_ns;
	int64_t floor_ns = job->queued_ns;

	if (floor_ns < p->used_ns)
		floor_ns = p->used_ns;
	job->used = (struct fz_used){ 0 };
	if (used->started_ns == 0)
		return;
	job->used = *used;
	if (job->used.started_ns < floor_ns)
		job->used.started_ns =
		    floor_ns < ended_ns ? floor_ns : ended_ns;
	job->used.took_ns = ended_ns - job->used.started_ns;
	if (job->used.init_ns > job->used.took_ns)
		job->used.init_ns = job->used.took_ns;
	job->used.launch_ns = p->launch_ns;
	p->launch_ns = 0;
	p->used_ns = ended_ns;
	p->cpu_ns += used->cpu_ns;
	used->started_ns = 0; /* other items of this reply have no usage */
}

struct fz_job *
fz_worker_answer_head(struct fz_worker *w, uint32_t n)
{
	struct fz_job *job = w->head;

	if (job->measured)
		count_used(w->private, job);
	job->ndone += n;
	w->nitems -= n;
	w->private->answered = fz_worker_next_number(job);
	return job->ndone == job->nitems ? pop_head(w) : job;
}

struct fz_failure
fz_worker_failure(const struct fz_worker_private *p)
{
	const struct fz_node *node = p->worker->node;

	return (struct fz_failure){
		.pid = p->pid,
		.node = node != NULL ? node->name : NULL,
		.exitcode = -1,
	};
}

void
fz_worker_report_idle(struct fz_worker_private *p, unsigned n)
{
	if (n != 0 && p->worker->head == NULL && !p->worker->dying)
		p->opts.ops->idle(p->opts.ops_ctx, p->worker);
}

/*
 * Return a job to its owner, or only its items from number `from` on. Returns
 * the number of returned items.
 */
static uint32_t
return_items(struct fz_worker *w, struct fz_job *job, uint32_t from)
{
	uint32_t n = job->nitems - job->ndone;

	if ((int32_t)(from - fz_worker_next_number(job)) > 0)
		n = job->seq + job->nitems - from;
	job->nitems -= n;
	w->nitems -= n;
	w->nsent -= n;
	job->ops->returned(job, n);
	return n;
}

/*
 * Dequeue the jobs from `at` on whose numbers are below `end`. Returns them as
 * a list.
 */
static struct fz_job *
dequeue(struct fz_worker *w, struct fz_job **at, uint32_t end)
{
	struct fz_job *jobs = *at, **last = at;

	while (*last != NULL && (int32_t)((*last)->seq - end) < 0)
		last = &(*last)->next;
	if (last == at)
		return NULL;
	*at = *last;
	*last = NULL;
	if (*at == NULL)
		w->tail = at;
	return jobs;
}

static uint32_t
return_job(struct fz_worker *w, struct fz_job *job)
{
	job->next = NULL;
	job->worker = NULL;
	count_job_out(w);
	w->nbytes -= job->nbytes;
	return return_items(w, job, job->seq);
}

unsigned
fz_worker_return(struct fz_worker_private *p, uint32_t from, uint32_t end)
{
	struct fz_worker *w = p->worker;
	struct fz_job **at = &w->head, *jobs, *cut = NULL;
	unsigned n = 0;

	while (*at != NULL && (int32_t)((*at)->seq + (*at)->nitems - from) <= 0)
		at = &(*at)->next;
	/* A job of which some items are started keeps these. */
	if (*at != NULL && (int32_t)(from - fz_worker_next_number(*at)) > 0) {
		cut = *at;
		at = &cut->next;
	}
	jobs = dequeue(w, at, end);
	if (cut != NULL)
		n += return_items(w, cut, from);
	while (jobs != NULL) {
		struct fz_job *job = jobs;

		jobs = job->next;
		n += return_job(w, job);
	}
	return n;
}

bool
fz_worker_has_begun(const struct fz_worker *worker)
{
	const struct fz_job *head = worker->head;

	return head != NULL &&
	       (int32_t)(fz_worker_claimed(worker->private) - head->seq) > 0;
}

unsigned
fz_worker_recall(struct fz_worker *worker)
{
	struct fz_worker_private *p = worker->private;
	uint32_t started;
	unsigned n;

	/*
	 * If the worker has overwritten the number of its last started item, it
	 * cannot be stopped from starting items that are returned here.
	 */
	if (!p->link->ops->started(p->link, &started)) {
		worker->retiring = true;
		return 0;
	}
	if (!p->link->ops->recall(p->link))
		return 0; /* the jobs are returned when the answer comes */
	n = fz_worker_return(p, fz_worker_claimed(p), p->link->next_seq);
	fz_worker_report_idle(p, n);
	return n;
}
