/*
 * node_jobs.h - what the process on a node knows of the jobs of its worker.
 *
 * 	parent === jobs sent ahead ===> this process ===> worker
 *
 * The parent sends several quick jobs ahead, because each wait for the node
 * would cost time. This process passes the jobs on. It shares the mailbox of
 * the worker, and can therefore answer a RECALL at once, even while the worker
 * computes. It announces items that take longer than FZ_NODE_JOBS_QUIET_NS. It
 * also passes on replies that the worker has finished but not written, even
 * after the worker's death. The finished items of a frame that still grows go
 * in a frame of their own, with the flag FZ_WIRE_GROWS.
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

/* The items of a growing frame that were passed on. */
struct fz_node_grown {
	uint64_t at;     /* number of bytes of replies before the frame */
	uint32_t nitems; /* 0: there are none */
	size_t len;      /* bytes of their results */
};

struct fz_node_jobs {
	struct fz_mailbox *mailbox; /* shared with the worker */
	struct fz_mailbox_block *block;
	struct fz_buf *out;       /* frames for the parent */
	struct fz_wire_in unread; /* replies that came in part only */
	uint64_t nread;           /* bytes of replies that were read */
	/*
	 * bytes of replies that were passed on from the socket or the mailbox
	 */
	uint64_t npassed;
	struct fz_node_grown grown;
	/* 1 + number of the last item that was received and not taken back */
	uint32_t came;
	uint32_t answered; /* 1 + number of the last item that is answered */
	/* 1 + number of the last item that the parent knows to have started */
	uint32_t announced;
	/* error code of the failure that lost replies; 0: no reply is lost */
	int error;
	int64_t pause_ns; /* time between two calls of fz_node_jobs_check() */
	/* time to call fz_node_jobs_check(); FZ_CLOCK_NEVER: not needed */
	int64_t check_ns;
};

/*
 * Initialise, before the worker is forked. Frames for the parent are appended
 * to `out`, which outlives `jobs`. 0, or -1 and `err`.
 */
int fz_node_jobs_init(
    struct fz_node_jobs *jobs, struct fz_buf *out, struct fz_err *err);

/* Note a frame of the parent. Answer a RECALL; the caller passes on others. */
void fz_node_jobs_take(struct fz_node_jobs *jobs, const struct fz_frame *frame);

/*
 * Read replies from `fd` and pass them on. Returns 1 on success; -1 if no bytes
 * can be read now; 0 at the end of the bytes, if they are malformed, or if
 * `error` is set.
 */
int fz_node_jobs_read(struct fz_node_jobs *jobs, int fd);

/*
 * Announce items that have started, and pass on replies that are finished but
 * not written. Call this at the time `check_ns`, after fz_node_jobs_read().
 */
void fz_node_jobs_check(struct fz_node_jobs *jobs, int64_t now_ns);

/* As fz_node_jobs_check(), for a worker that has ended. */
void fz_node_jobs_end(struct fz_node_jobs *jobs);

void fz_node_jobs_fini(struct fz_node_jobs *jobs);

#endif
