#include "worker/worker.h"

#include <stdlib.h>

#include "base/clock.h"
#include "node/nodes.h"
#include "wire/account.h"
#include "wire/blob.h"
#include "worker/handover.h"
#include "worker/worker_spawn.h"
#include "worker/worker_state.h"

/* Maximum time for a dismissed worker to end itself. */
#define WORKER_LEAVE_NS FZ_CLOCK_SECOND

void
fz_worker_write(struct fz_worker *worker)
{
	fz_link_write(worker->private->link);
}

static size_t
begin_frame(
    struct fz_link *link, enum fz_wire_type type, const struct fz_job *job)
{
	unsigned flags = 0;

	if (job->timeout_ns != FZ_CLOCK_NEVER)
		flags |= FZ_WIRE_TIMED;
	if (job->measured)
		flags |= FZ_WIRE_MEASURED;
	return fz_wire_begin(&link->unsent, type, flags, link->next_seq);
}

/*
 * Tell the link that all items before the first unanswered one are answered.
 * `next` is the next number to send.
 */
static void
settle(const struct fz_worker *worker, uint32_t next)
{
	struct fz_link *link = worker->private->link;

	if (worker->head != NULL)
		next = fz_worker_next_number(worker->head);
	if (link->ops->settle != NULL)
		link->ops->settle(link, next);
}

/* Give numbers to the items of the job, and append the job to the queue. */
static void
queue_job(struct fz_worker *worker, struct fz_job *job, size_t nbytes)
{
	struct fz_worker_private *p = worker->private;
	struct fz_link *link = p->link;

	job->worker = worker;
	job->pid = worker->pid;
	job->node = worker->node != NULL ? worker->node->name : NULL;
	job->seq = link->next_seq;
	job->ndone = 0;
	job->unwanted = NULL;
	settle(worker, job->seq);
	link->next_seq += job->nitems;
	worker->nitems += job->nitems;
	worker->nsent += job->nitems;
	job->next = NULL;
	*worker->tail = job;
	worker->tail = &job->next;
	job->nbytes = nbytes;
	job->end = link->nput;
	worker->nbytes += nbytes;
	if (worker->njobs++ == 0) {
		if (!fz_worker_rests(worker))
			fz_loop_busy(loop_of(p), true);
		worker->news_ns = fz_clock_ns();
		worker->rested = true;
		fz_handover_sent(worker);
		fz_worker_start_head(p, worker->news_ns);
	}
}

/*
 * Append `parts` to the frame of the job, which begins at `start` of `unsent`.
 * Then queue the job.
 */
static int
send_job(struct fz_worker *worker, struct fz_job *job, size_t start,
    struct fz_blob *const *parts, uint32_t nparts, struct fz_err *err)
{
	struct fz_link *link = worker->private->link;

	for (uint32_t i = 0; i < nparts; i++)
		link->ops->put(link, parts[i]);
	if (fz_link_end_frame(link, start, err) != 0)
		return -1;
	queue_job(worker, job, link->unsent.len - start);
	return 0;
}

void
fz_worker_begin(struct fz_worker *worker, struct fz_job *job)
{
	job->nitems = 1;
	queue_job(worker, job, 0);
	worker->private->head_begun = true;
}

int
fz_worker_send(struct fz_worker *worker, struct fz_job *job,
    struct fz_blob *const *args, uint32_t n, struct fz_err *err)
{
	struct fz_link *link = worker->private->link;
	struct fz_buf *out = &link->unsent;
	size_t start = begin_frame(link, FZ_WIRE_JOB, job);

	job->nitems = 1;
	fz_buf_put_u32(out, job->func);
	fz_buf_put_u32(out, n);
	fz_buf_put_u32(out, job->nvalues);
	fz_buf_put_u64(out, job->seed);
	fz_buf_put_u64(out, job->memory);
	return send_job(worker, job, start, args, n, err);
}

/* Without shared memory, results come inside frames. */
static void
drop_result_buffer(const struct fz_link *link, struct fz_job *job)
{
	if (job->result_buffer == NULL ||
	    (link->ops->flags & FZ_LINK_SHARED_MEMORY))
		return;
	fz_blob_unref(job->result_buffer);
	job->result_buffer = NULL;
}

static void
put_chunk(struct fz_buf *out, const struct fz_job *job,
    const struct fz_worker_chunk *chunk, uint32_t nitems, uint32_t nparts)
{
	fz_buf_put_u32(out, job->func);
	fz_buf_put_u32(out, chunk->kind);
	fz_buf_put_u32(out, nitems);
	fz_buf_put_u32(out, nparts);
	fz_buf_put_u64(out, chunk->first);
	fz_buf_put_u64(out, job->seed);
	fz_buf_put_u64(out, job->memory);
	fz_buf_put_u64(
	    out, job->result_buffer != NULL ? job->result_buffer->offset : 0);
}

int
fz_worker_send_chunk(struct fz_worker *worker, struct fz_job *job,
    const struct fz_worker_chunk *chunk, struct fz_blob *const *parts,
    uint32_t nparts, struct fz_err *err)
{
	struct fz_link *link = worker->private->link;
	size_t start = begin_frame(link, FZ_WIRE_CHUNK, job);

	drop_result_buffer(link, job);
	put_chunk(&link->unsent, job, chunk, job->nitems, nparts);
	return send_job(worker, job, start, parts, nparts, err);
}

int
fz_worker_send_steps(struct fz_worker *worker, struct fz_job *const *jobs,
    uint32_t n, struct fz_blob *const *args, uint32_t nargs, struct fz_err *err)
{
	const struct fz_worker_chunk chunk = { .kind = FZ_WIRE_STEP };
	struct fz_link *link = worker->private->link;
	struct fz_buf *out = &link->unsent;
	size_t start = begin_frame(link, FZ_WIRE_CHUNK, jobs[0]), nbytes;

	put_chunk(out, jobs[0], &chunk, n, nargs);
	for (uint32_t i = 0; i < n; i++) {
		fz_buf_put_u64(out, jobs[i]->seed);
		for (uint32_t k = 0; k < nargs; k++)
			link->ops->put(link, *args++);
	}
	if (fz_link_end_frame(link, start, err) != 0)
		return -1;
	nbytes = (out->len - start) / n;
	for (uint32_t i = 0; i < n; i++) {
		jobs[i]->nitems = 1;
		queue_job(worker, jobs[i], nbytes);
	}
	return 0;
}

int
fz_worker_send_func(struct fz_worker *worker, uint32_t number,
    struct fz_blob *code, struct fz_err *err)
{
	struct fz_link *link = worker->private->link;
	size_t start = fz_wire_begin(&link->unsent, FZ_WIRE_FUNC, 0, 0);

	fz_buf_put_u32(&link->unsent, number);
	link->ops->put(link, code);
	return fz_link_end_frame(link, start, err);
}

int
fz_worker_keep(struct fz_worker *worker, uint32_t number,
    struct fz_blob *const *values, uint32_t n, struct fz_err *err)
{
	struct fz_link *link = worker->private->link;
	size_t start = fz_wire_begin(&link->unsent, FZ_WIRE_KEEP, 0, 0);

	fz_buf_put_u32(&link->unsent, number);
	fz_buf_put_u32(&link->unsent, n);
	for (uint32_t i = 0; i < n; i++)
		link->ops->put(link, values[i]);
	return fz_link_end_frame(link, start, err);
}

struct fz_worker *
fz_worker_new(const struct fz_worker_opts *opts, struct fz_err *err)
{
	struct fz_worker *w = calloc(1, sizeof(*w));
	struct fz_worker_private *p = calloc(1, sizeof(*p));

	if (w == NULL || p == NULL) {
		free(w);
		free(p);
		fz_err_nomem(err, "a worker");
		return NULL;
	}
	w->tail = &w->head;
	w->private = p;
	p->worker = w;
	p->opts = *opts;
	w->node = opts->program.node;
	p->proc.pidfd = -1;
	fz_worker_output_init(&p->output, opts->engine);
	p->death =
	    (struct fz_watch){ .fd = -1, .ready = fz_worker_death_ready };
	p->timer.fired = fz_worker_time_is_up;
	p->force.fired = fz_worker_use_force;
	p->half.fired = fz_worker_check_half;
	if (fz_worker_spawn(p, err) != 0) {
		fz_worker_free(w);
		return NULL;
	}
	return w;
}

void
fz_worker_dismiss(struct fz_worker *worker)
{
	struct fz_worker_private *p = worker->private;

	worker->leaving = true;
	p->leave_ns = fz_clock_after(fz_clock_ns(), WORKER_LEAVE_NS);
	fz_link_finish(p->link);
}

struct fz_account *
fz_worker_account(const struct fz_worker *worker)
{
	return worker->private->link->account;
}

void
fz_worker_flush(struct fz_worker *worker)
{
	fz_worker_output_flush(&worker->private->output);
}

void
fz_worker_free(struct fz_worker *worker)
{
	struct fz_worker_private *p;

	if (worker == NULL)
		return;
	p = worker->private;
	fz_handover_forget(worker);
	fz_worker_rest(worker, false);
	fz_loop_disarm(loop_of(p), &p->timer);
	fz_loop_disarm(loop_of(p), &p->force);
	fz_loop_disarm(loop_of(p), &p->half);
	fz_loop_unwatch(loop_of(p), &p->death);
	fz_worker_end_process(p);
	if (worker->njobs != 0)
		fz_loop_busy(loop_of(p), false);
	fz_worker_output_fini(&p->output);
	fz_link_free(p->link);
	fz_account_retire(&p->opts.engine->accounts, p->account);
	free(p);
	free(worker);
}
