#include "worker/worker.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "os/fd.h"
#include "worker/blob.h"
#include "worker/worker_slice.h"
#include "worker/worker_spawn.h"
#include "worker/worker_state.h"

/* From the end of its jobs to the kill. */
#define WORKER_LEAVE_NS FZ_CLOCK_SECOND

void
fz_worker_close_watch(struct fz_worker_pipes *p, struct fz_watch *watch)
{
	int fd = watch->fd;

	fz_loop_unwatch(loop_of(p), watch);
	fz_fd_close(&fd);
}

static void
flush(struct fz_worker_pipes *p)
{
	unsigned events = 0;
	ssize_t n;

	if (p->jobs.fd == -1 || p->worker->dying)
		return;
	n = fz_fd_write(p->jobs.fd, p->unsent.data + p->written,
	    p->unsent.len - p->written);
	if (n < 0 && errno != EAGAIN) {
		fz_worker_lose_pipe(p, &p->jobs);
		return;
	}
	if (n > 0)
		p->written += (size_t)n;
	/* Not at each write: the bytes behind are moved. */
	if (p->written > p->unsent.len / 2) {
		fz_buf_consume(&p->unsent, p->written);
		p->written = 0;
	}
	if (p->unsent.len != 0)
		events = FZ_LOOP_WRITE;
	if (fz_loop_rewatch(loop_of(p), &p->jobs, events, NULL) != 0)
		fz_worker_kill(p->worker, FZ_ERR_CRASH, "its pipe is lost");
}

static void
flush_deferred(struct fz_defer *defer)
{
	flush(PIPES_OF(flush, defer));
}

void
fz_worker_write(struct fz_worker *worker)
{
	struct fz_worker_pipes *p = worker->pipes;

	fz_loop_undefer(loop_of(p), &p->flush);
	flush(p);
}

static void
jobs_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_worker_pipes *p = PIPES_OF(jobs, watch);

	if (events & FZ_LOOP_READ) /* nobody reads it any more */
		fz_worker_lose_pipe(p, watch);
	else
		flush(p);
}

static size_t
begin_frame(
    struct fz_worker_pipes *p, enum fz_wire_type type, const struct fz_job *job)
{
	bool timed = job->timeout_ns != FZ_CLOCK_NEVER;

	return fz_wire_begin(
	    &p->unsent, type, timed ? FZ_WIRE_TIMED : 0, p->next_seq);
}

/* End the frame that starts at `start`. 0, or -1 and none of it is sent. */
static int
end_frame(struct fz_worker_pipes *p, size_t start, struct fz_err *err)
{
	fz_wire_end(&p->unsent, start);
	if (p->unsent.failed) {
		p->unsent.failed = false;
		p->unsent.len = start;
		return fz_err_nomem(err, "a job on its way");
	}
	fz_loop_defer(loop_of(p), &p->flush);
	return 0;
}

/* Number the job and put it behind the others. */
static void
queue_job(struct fz_worker *worker, struct fz_job *job, size_t nbytes)
{
	struct fz_worker_pipes *p = worker->pipes;

	job->worker = worker;
	job->pid = worker->pid;
	job->seq = p->next_seq;
	job->ndone = 0;
	fz_claim_settle(&p->cell->claim,
	    worker->head != NULL ? fz_worker_next_number(worker->head)
				 : job->seq);
	p->next_seq += job->nitems;
	worker->nitems += job->nitems;
	worker->nsent += job->nitems;
	job->next = NULL;
	*worker->tail = job;
	worker->tail = &job->next;
	job->nbytes = nbytes;
	worker->nbytes += nbytes;
	if (worker->njobs++ == 0) {
		fz_loop_busy(loop_of(p), true);
		worker->news_ns = fz_clock_ns();
		fz_worker_start_head(p, worker->news_ns);
	}
}

/* Put the parts of the job's frame that starts at `start`, and queue it. */
static int
send_job(struct fz_worker *worker, struct fz_job *job, size_t start,
    struct fz_blob *const *parts, uint32_t nparts, struct fz_err *err)
{
	struct fz_worker_pipes *p = worker->pipes;

	for (uint32_t i = 0; i < nparts; i++)
		fz_wire_put_blob(&p->unsent, parts[i]);
	if (end_frame(p, start, err) != 0)
		return -1;
	queue_job(worker, job, p->unsent.len - start);
	return 0;
}

void
fz_worker_begin(struct fz_worker *worker, struct fz_job *job)
{
	job->nitems = 1;
	queue_job(worker, job, 0);
	/* As fz_claim_start() does, but that is not for a parent. */
	atomic_store(
	    &worker->pipes->cell->claim.started, fz_claim_word(job->seq + 1));
}

int
fz_worker_send(struct fz_worker *worker, struct fz_job *job,
    struct fz_blob *const *args, uint32_t n, struct fz_err *err)
{
	struct fz_worker_pipes *p = worker->pipes;
	struct fz_buf *out = &p->unsent;
	size_t start = begin_frame(p, FZ_WIRE_JOB, job);

	job->nitems = 1;
	fz_buf_put_u32(out, job->func);
	fz_buf_put_u32(out, n);
	fz_buf_put_u32(out, job->nvalues);
	fz_buf_put_u64(out, job->seed);
	fz_buf_put_u64(out, job->memory);
	return send_job(worker, job, start, args, n, err);
}

int
fz_worker_send_batch(struct fz_worker *worker, struct fz_job *job,
    const struct fz_worker_batch *batch, struct fz_blob *const *parts,
    uint32_t nparts, struct fz_err *err)
{
	struct fz_worker_pipes *p = worker->pipes;
	struct fz_buf *out = &p->unsent;
	size_t start = begin_frame(p, FZ_WIRE_BATCH, job);

	fz_buf_put_u32(out, job->func);
	fz_buf_put_u32(out, batch->kind);
	fz_buf_put_u32(out, job->nitems);
	fz_buf_put_u32(out, nparts);
	fz_buf_put_u64(out, batch->first);
	fz_buf_put_u64(out, job->seed);
	fz_buf_put_u64(out, job->memory);
	fz_buf_put_u64(out, job->strip != NULL ? job->strip->offset : 0);
	return send_job(worker, job, start, parts, nparts, err);
}

int
fz_worker_send_func(struct fz_worker *worker, uint32_t slot,
    const struct fz_blob *code, struct fz_err *err)
{
	struct fz_worker_pipes *p = worker->pipes;
	size_t start = fz_wire_begin(&p->unsent, FZ_WIRE_FUNC, 0, 0);

	fz_buf_put_u32(&p->unsent, slot);
	fz_wire_put_blob(&p->unsent, code);
	return end_frame(p, start, err);
}

void
fz_worker_give_back(struct fz_worker *worker, uint64_t offset)
{
	struct fz_worker_pipes *p = worker->pipes;
	size_t start = fz_wire_begin(&p->unsent, FZ_WIRE_FREE, 0, 0);

	fz_buf_put_u64(&p->unsent, offset);
	fz_wire_end(&p->unsent, start);
	if (p->unsent.failed) { /* the extent stays taken until it dies */
		p->unsent.failed = false;
		p->unsent.len = start;
	}
	fz_loop_defer(loop_of(p), &p->flush);
}

struct fz_worker *
fz_worker_new(const struct fz_worker_opts *opts, struct fz_err *err)
{
	struct fz_worker *w = calloc(1, sizeof(*w));
	struct fz_worker_pipes *p = calloc(1, sizeof(*p));

	if (w == NULL || p == NULL) {
		free(w);
		free(p);
		fz_err_nomem(err, "a worker");
		return NULL;
	}
	w->tail = &w->head;
	w->pipes = p;
	p->worker = w;
	p->opts = *opts;
	p->proc.pidfd = -1;
	fz_buf_init(&p->unsent);
	fz_wire_in_init(&p->wire);
	fz_worker_output_init(&p->output, opts->engine);
	p->jobs = (struct fz_watch){ .fd = -1, .ready = jobs_ready };
	p->results =
	    (struct fz_watch){ .fd = -1, .ready = fz_worker_results_ready };
	p->death =
	    (struct fz_watch){ .fd = -1, .ready = fz_worker_death_ready };
	p->timer.fired = fz_worker_time_is_up;
	p->force.fired = fz_worker_use_force;
	p->half.fired = fz_worker_look_at_half;
	p->flush.call = flush_deferred;
	if (fz_worker_spawn(p, err) != 0) {
		fz_worker_free(w);
		return NULL;
	}
	return w;
}

void
fz_worker_dismiss(struct fz_worker *worker)
{
	struct fz_worker_pipes *p = worker->pipes;
	int fd = p->jobs.fd;

	worker->leaving = true;
	p->leave_ns = fz_clock_after(fz_clock_ns(), WORKER_LEAVE_NS);
	fz_loop_unwatch(loop_of(p), &p->jobs);
	fz_fd_close(&fd);
}

struct fz_account *
fz_worker_account(const struct fz_worker *worker)
{
	return &worker->pipes->cell->account;
}

void
fz_worker_flush(struct fz_worker *worker)
{
	fz_worker_output_flush(&worker->pipes->output);
}

void
fz_worker_free(struct fz_worker *worker)
{
	struct fz_worker_pipes *p;

	if (worker == NULL)
		return;
	p = worker->pipes;
	fz_loop_disarm(loop_of(p), &p->timer);
	fz_loop_disarm(loop_of(p), &p->force);
	fz_loop_disarm(loop_of(p), &p->half);
	fz_loop_unwatch(loop_of(p), &p->death);
	fz_worker_end_process(p);
	if (worker->njobs != 0)
		fz_loop_busy(loop_of(p), false);
	fz_loop_undefer(loop_of(p), &p->flush);
	fz_worker_close_watch(p, &p->jobs);
	fz_worker_close_watch(p, &p->results);
	fz_worker_output_fini(&p->output);
	fz_worker_slice_orphan(p->slice);
	fz_cell_free(p->cell, p->kept);
	fz_buf_fini(&p->unsent);
	fz_wire_in_fini(&p->wire);
	free(p);
	free(worker);
}
