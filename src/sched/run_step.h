/*
 * run_step.h - one node of a run: its states, its attempts, its values.
 *
 * 	state      next state   when
 * 	WAITING    LOOKUP       all inputs are there, and the values of the step
 * 	                        may be recorded, see run_lookup.h
 * 	           READY        all inputs are there: fz_step_ready()
 * 	           CANCELLED    an input will not be made, or the run stops
 * 	READY      MAPPED       the node is a map, see run_map.h
 * 	           SENT         a worker gets its job
 * 	           CANCELLED    the run stops
 * 	LOOKUP     DONE         its values are recorded: fz_step_found()
 * 	           READY        they are not
 * 	           CANCELLED    the run stops
 * 	SENT       READY        the job was returned; CANCELLED if the run stops
 * 	           DONE         fz_step_done()
 * 	           FAILED etc.  fz_step_failed(), see below
 * 	MAPPED     DONE, FAILED or CANCELLED, as its batch ends
 * 	UNDECIDED  DELAYED etc. fz_step_retry()
 * 	           FAILED       fz_step_fail(), or the run stops
 * 	DELAYED    READY        the pause is over
 * 	           CANCELLED    the run stops
 *
 * 	function           of a failed attempt
 * 	fz_step_failed()   count it, then choose one of the next three
 * 	fz_step_retry()    another attempt: DELAYED, or READY without a pause
 * 	fz_flow_ask()      retry_if decides: UNDECIDED
 * 	fz_step_fail()     FAILED. Cancels the steps that need its values; stops
 * 	                   the run if the policy says so
 * 	fz_step_lost()     without an attempt: note the failure, fz_step_fail()
 */
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

/* The functions through which a worker reports the progress of a step's job. */
extern const struct fz_job_ops fz_step_job_ops;

/* The number of the step's node in the graph, and that node. */
uint32_t fz_step_number(const struct fz_step *step);
const struct fz_graph_node *fz_step_node(const struct fz_step *step);

/* Make a step ready, after asking for its values if they may be known. */
void fz_step_ready(struct fz_step *step);

/* End the step with known values, without a call. Takes the references. */
void fz_step_found(struct fz_step *step, struct fz_blob *const *values);

/*
 * Handle the end of an attempt. Both functions take over their arguments as the
 * functions of a job do (struct fz_job_ops).
 */
void fz_step_done(
    struct fz_step *step, struct fz_blob **values, uint32_t n, pid_t pid);
void fz_step_failed(struct fz_step *step, struct fz_failure *failure);

/*
 * For a failed step that may be retried. fz_step_fail(): let it fail finally.
 * fz_step_retry(): drop the failure and begin another attempt.
 */
void fz_step_fail(struct fz_step *step);
void fz_step_retry(struct fz_step *step);

/* Fail the step finally. Takes over the reference `failure->value`. */
void fz_step_lost(struct fz_step *step, struct fz_failure *failure);

/*
 * fz_step_lost() in two parts. fz_step_note_failure(): note the failure, and
 * stop the run unless it can go on without this step. fz_step_end_failed(): end
 * the step; call it when nothing of the step is running.
 */
void fz_step_note_failure(struct fz_step *step, struct fz_failure *failure);
void fz_step_end_failed(struct fz_step *step);

/* Cancel a step. `because` is the failed node, or FZ_GRAPH_NONE. */
void fz_step_cancel(struct fz_step *step, uint32_t because);

/* Record an event of the step if anything reads such events. */
void fz_step_add_event(
    struct fz_step *step, enum fz_job_event_kind kind, pid_t pid);

/*
 * Stop the run: cancel all steps that are waiting, ready or delayed. `because`
 * is the node whose failure is the reason, or FZ_GRAPH_NONE.
 */
void fz_step_stop(struct fz_run *run, uint32_t because);

/* Take back the jobs that workers have not started, see fz_producer_stop(). */
void fz_step_stop_producers(struct fz_flow *flow, const struct fz_err *kill);

#endif
