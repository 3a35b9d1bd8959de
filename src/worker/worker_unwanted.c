/*
 * A worker may have jobs of several owners. If one owner does not want its jobs
 * any more, the worker is killed only while it runs one of these. It must not
 * be killed before the replies to all earlier jobs have come, and before it is
 * known which jobs it has started: otherwise the kill could end a job of
 * another owner.
 */
#include "worker/worker_state.h"

#include <stdlib.h>

#include "base/err.h"
#include "wire/blob.h"

static const struct fz_err unwanted = { .kind = FZ_ERR_CANCELLED,
	.text = "cancelled" };

/* Whether all jobs of the worker with numbers below `end` are unwanted. */
static bool
are_unwanted(const struct fz_worker *w, uint32_t end)
{
	const struct fz_job *job = w->head;

	while (job != NULL && job->unwanted != NULL &&
	       (int32_t)(job->seq - end) < 0)
		job = job->next;
	return job == NULL || (int32_t)(job->seq - end) >= 0;
}

/* Whether the worker runs an unwanted job, and can have begun no other. */
static bool
runs_unwanted(const struct fz_worker_private *p)
{
	const struct fz_job *head = p->worker->head;
	uint32_t end = p->link->next_seq;

	if (head == NULL || head->unwanted == NULL || p->worker->dying)
		return false;
	if (!p->link->recalling)
		end = fz_worker_claimed(p);
	return (int32_t)(end - fz_worker_next_number(head)) > 0 &&
	       are_unwanted(p->worker, end);
}

void
fz_worker_check_unwanted(struct fz_worker_private *p)
{
	struct fz_worker *w = p->worker;

	if (!runs_unwanted(p))
		return;
	/*
	 * Recall the jobs that were sent since fz_worker_refuse(): otherwise
	 * the worker could start one of them before the kill.
	 */
	if (!are_unwanted(w, p->link->next_seq)) {
		fz_worker_recall(w);
		if (!runs_unwanted(p))
			return;
	}
	fz_worker_kill(w, w->head->unwanted->kind, w->head->unwanted->text);
}

void
fz_worker_refuse(
    struct fz_worker *worker, const void *owner, const struct fz_err *why)
{
	for (struct fz_job *job = worker->head; job != NULL; job = job->next) {
		if (job->owner == owner)
			job->unwanted = why;
	}
	fz_worker_check_unwanted(worker->private);
}

/* The following functions are those of a job without an owner. */
static void
end_if_answered(struct fz_job *job)
{
	if (job->ndone < job->nitems)
		return;
	fz_blob_unref(job->result_buffer);
	free(job);
}

static void
drop_values(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		fz_blob_unref(values[i]);
	end_if_answered(job);
}

static void
drop_failure(struct fz_job *job, struct fz_failure *failure)
{
	fz_blob_unref(failure->value);
	end_if_answered(job);
}

static void
drop_returned(struct fz_job *job, uint32_t nitems)
{
	(void)nitems;
	if (job->worker == NULL)
		end_if_answered(job);
}

static void
ignore_start(struct fz_job *job)
{
	(void)job;
}

static void
drop_items(struct fz_job *job, uint32_t first, uint32_t n, struct fz_blob *blob,
    uint32_t skip)
{
	(void)first;
	(void)n;
	(void)blob;
	(void)skip;
	end_if_answered(job);
}

static const struct fz_job_ops dropped_ops = { drop_values, drop_failure,
	drop_returned, ignore_start, drop_items };

/* Put a copy without an owner into the place of the job at `at`. */
static bool
replace(struct fz_worker *w, struct fz_job **at)
{
	struct fz_job *job = *at, *copy = malloc(sizeof(*copy));
	uint32_t n = job->nitems - job->ndone;

	if (copy == NULL)
		return false;
	*copy = *job;
	copy->ops = &dropped_ops;
	copy->owner = NULL;
	copy->unwanted = &unwanted;
	if (copy->result_buffer != NULL)
		fz_blob_ref(copy->result_buffer);
	*at = copy;
	if (w->tail == &job->next)
		w->tail = &copy->next;
	job->next = NULL;
	job->worker = NULL;
	job->nitems -= n;
	job->ops->returned(job, n);
	return true;
}

bool
fz_worker_abandon(struct fz_worker *worker, const void *owner)
{
	struct fz_job **at = &worker->head;

	if (worker->dying ||
	    are_unwanted(worker, worker->private->link->next_seq))
		return false;
	for (; *at != NULL; at = &(*at)->next) {
		if ((*at)->owner == owner && !replace(worker, at))
			return false;
	}
	return true;
}
