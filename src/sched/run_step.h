/* run_step.h - one node of a run: its states, its attempts, its values. */
#ifndef FZ_RUN_STEP_H
#define FZ_RUN_STEP_H

#include <stdint.h>
#include <sys/types.h>

#include "trace/job_event.h"

struct fz_blob;
struct fz_failure;
struct fz_job_ops;
struct fz_err;
struct fz_flow;
struct fz_graph_node;
struct fz_run;
struct fz_step;

/* The callbacks of the job of a step. */
extern const struct fz_job_ops fz_step_job_ops;

/* The number of the step in the graph, and its node there. */
uint32_t fz_step_number(const struct fz_step *step);
const struct fz_graph_node *fz_step_node(const struct fz_step *step);

/* The step could start now: add it to its ready list. */
void fz_step_ready(struct fz_step *step);

/* End the step with these values, without a call. Takes the references. */
void fz_step_found(struct fz_step *step, struct fz_blob *const *values);

/*
 * Handle the end of an attempt, with values or a failure. These functions take
 * their arguments as the ops of a job do (struct fz_job_ops).
 */
void fz_step_done(
    struct fz_step *step, struct fz_blob **values, uint32_t n, pid_t pid);
void fz_step_failed(struct fz_step *step, struct fz_failure *failure);

/*
 * fz_step_fail(): make the failure of the step final. fz_step_retry(): drop the
 * failure and begin another attempt.
 */
void fz_step_fail(struct fz_step *step);
void fz_step_retry(struct fz_step *step);

/* The step has failed and is not retried. Takes the value in `failure`. */
void fz_step_lost(struct fz_step *step, struct fz_failure *failure);

/*
 * The two parts of fz_step_lost(). The first one notes the failure, and stops
 * the run unless it can go on without the step. The second one ends the step;
 * call it when nothing of the step runs.
 */
void fz_step_note_failure(struct fz_step *step, struct fz_failure *failure);
void fz_step_end_failed(struct fz_step *step);

/* End the step without a result, because of the failed node `because`. */
void fz_step_cancel(struct fz_step *step, uint32_t because);

/* Record an event, if the run wants any. */
void fz_step_add_event(
    struct fz_step *step, enum fz_job_event_kind kind, pid_t pid);

/*
 * Start nothing new in the run: cancel the steps that wait, are ready or
 * delayed. `because` is the node that is the reason, or FZ_GRAPH_NONE.
 */
void fz_step_stop(struct fz_run *run, uint32_t because);

/*
 * Let the workers return jobs that they have not begun; see fz_producer_stop().
 */
void fz_step_stop_producers(struct fz_flow *flow, const struct fz_err *kill);

#endif
