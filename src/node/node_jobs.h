/*
 * node_jobs.h - what the process on a node knows of the jobs of its worker.
 *
 * 	parent === jobs sent ahead ===> this process ===> worker
 *
 * The parent sends several quick jobs ahead, so that the way to the node costs
 * less. This process passes them on, and shares the mailbox of the worker. So
 * it answers a RECALL at once, even while the worker computes. It announces
 * items that take longer than FZ_NODE_JOBS_QUIET_NS. It passes on replies that
 * are finished and not written, even those of a worker that has died.
 */
#ifndef FZ_NODE_JOBS_H
#define FZ_NODE_JOBS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "wire/wire.h"

struct fz_err;
struct fz_mailbox;
struct fz_mailbox_block;

/* An item that takes longer is announced. */
#define FZ_NODE_JOBS_QUIET_NS FZ_CLOCK_MS

struct fz_node_jobs {
	struct fz_mailbox *mailbox; /* shared with the worker */
	struct fz_mailbox_block *block;
	struct fz_buf *out;       /* frames for the parent */
	struct fz_wire_in unread; /* the last reply that came in part */
	uint64_t nread;           /* bytes of replies that were read */
	/*
	 * bytes of replies that were passed on from the socket or the mailbox
	 */
	uint64_t npassed;
	uint32_t came;     /* 1 + number of the last item that came */
	uint32_t answered; /* 1 + number of the last item that is answered */
	/* 1 + number of the last item that the parent knows to have started */
	uint32_t announced;
	/*
	 * error code that says why replies of the worker are lost; 0: none is
	 * lost
	 */
	int error;
	int64_t pause_ns; /* time between two checks for starts */
	/* time of the next check; FZ_CLOCK_NEVER: none is needed */
	int64_t check_ns;
};

/*
 * Initialise, before the worker is forked. `out` belongs to the caller, and
 * outlives `jobs`. 0, or -1 and `err`.
 */
int fz_node_jobs_init(
    struct fz_node_jobs *jobs, struct fz_buf *out, struct fz_err *err);

/* Note a frame of the parent, which the caller passes on. Answer a RECALL. */
void fz_node_jobs_take(struct fz_node_jobs *jobs, const struct fz_frame *frame);

/*
 * Read replies from `fd` and pass them on. Returns 1; 0 at the end of the
 * replies, if the bytes are no replies, or if `error` is set; -1 if there are
 * none now.
 */
int fz_node_jobs_read(struct fz_node_jobs *jobs, int fd);

/*
 * Call it at `check_ns`, after fz_node_jobs_read(): announce items that have
 * started, and pass on replies that are not written.
 */
void fz_node_jobs_check(struct fz_node_jobs *jobs, int64_t now_ns);

/* As fz_node_jobs_check(), for a worker that has ended. */
void fz_node_jobs_end(struct fz_node_jobs *jobs);

void fz_node_jobs_fini(struct fz_node_jobs *jobs);

#endif
