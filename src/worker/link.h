/*
 * link.h - how a worker's parent reaches it.
 *
 * worker.c knows jobs, replies and policy; a link knows how frames get to the
 * worker and back, and what the parent can find out about the worker while it
 * runs.
 *
 *                          link_fork             link_stream
 *   bytes                  two pipes             any byte stream
 *   big values             in the arena          inside the frames
 *   results of a map       in the arena, too     inside the frames
 *   start of an item       seen at once          announced by a frame before
 *   recall of items        at once               by a frame; answered before
 *                                                the next item starts
 *   unsent replies         can be read           lost if the worker dies
 *   tokens of make         shared                not shared
 *
 * For a worker on a node, the process on that node does what needs shared
 * memory: see node_jobs.h.
 *
 * A worker on a byte stream announces quick items, of less than half a
 * millisecond, in groups. So its death may cost all items of a group. An item
 * that takes long delays the other items of its group, because these cannot be
 * taken back.
 *
 * For both links: the worker starts items in the order of their numbers. An
 * item that counts as started is never sent to another worker. A reply that
 * came is kept whatever happens to the worker. If a link ends, or carries bytes
 * that no worker sends, the worker counts as lost. The output of the worker's
 * functions does not travel through the link.
 */
#ifndef FZ_LINK_H
#define FZ_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "os/loop.h"
#include "wire/wire.h"
#include "worker/engine.h"

struct fz_account;
struct fz_blob;
struct fz_death;
struct fz_err;
struct fz_link;
struct fz_port;

enum {
	FZ_LINK_SHARED_MEMORY = 1, /* frames may refer to the arena */
	FZ_LINK_EXACT_RECALL = 2   /* fz_link_ops.recall is always true */
};

/* NULL is allowed for death, cause, forked, settle, peek and close. */
struct fz_link_ops {
	unsigned flags; /* a set of the flags above */
	/*
	 * Make a link to the worker that is started next. NULL and `err` on
	 * failure.
	 */
	struct fz_link *(*open)(struct fz_engine *engine, struct fz_err *err);
	/* In the worker: make `port` its end. 0, or -1 and `err`. */
	int (*enter)(
	    struct fz_link *link, struct fz_port *port, struct fz_err *err);
	/* In the worker: report that it cannot start, because of `text`. */
	void (*refuse)(struct fz_link *link, const char *text);
	/*
	 * In the parent: get the reason why the worker cannot start. False if
	 * there is none.
	 */
	bool (*refusal)(const struct fz_link *link, struct fz_err *err);
	/* How a worker on a node has ended. False if that is unknown. */
	bool (*death)(const struct fz_link *link, struct fz_death *death);
	/*
	 * Why the process on the node has ended the worker; "": it has not.
	 * NULL: there is no such process.
	 */
	const char *(*cause)(const struct fz_link *link);
	/* Called in the parent after the start of the worker. */
	void (*forked)(struct fz_link *link);
	/* Append an argument to the frame; a failure is noted in `unsent`. */
	void (*put)(struct fz_link *link, struct fz_blob *blob);
	/*
	 * A blob for a value of a reply; the value is in the arena. NULL and
	 * `err` on failure.
	 */
	struct fz_blob *(*blob)(struct fz_link *link, uint64_t offset,
	    size_t len, struct fz_err *err);
	/*
	 * Notify the worker that it will soon get a job. NULL: the link cannot
	 * do that.
	 */
	void (*expect)(struct fz_link *link);
	/*
	 * The processor on which the worker last ran; -1 if unknown. NULL:
	 * always unknown.
	 */
	int (*cpu)(const struct fz_link *link);
	/* Note that all numbers below `answered` are done. */
	void (*settle)(struct fz_link *link, uint32_t answered);
	/*
	 * Set `*started` to one above the number of the item that the worker
	 * started last. False if the worker has overwritten that number.
	 */
	bool (*started)(const struct fz_link *link, uint32_t *started);
	/*
	 * The time at which the worker started its last item or, if the item
	 * has no timeout, the chunk of the item.
	 */
	int64_t (*started_at)(const struct fz_link *link);
	/*
	 * Whether the worker waits for a slot of its node. NULL: the worker has
	 * no node.
	 */
	bool (*waits)(const struct fz_link *link);
	/*
	 * Take back all numbers below `next_seq` that are not started. True:
	 * from now on the worker starts none of them. False: it may start some
	 * until next() returns an FZ_WIRE_RECALLED.
	 */
	bool (*recall)(struct fz_link *link);
	/* Like fz_wire_next(): get the next reply, or FZ_WIRE_RECALLED. */
	int (*next)(
	    struct fz_link *link, struct fz_frame *frame, struct fz_err *err);
	/*
	 * Append to `frames` the replies that are finished but not sent. The
	 * last one has the flag FZ_WIRE_GROWS if items may be added to it.
	 * Returns 1, 0 if there are none, or -1 if the worker has overwritten
	 * the copies; the replies then come through the link only.
	 */
	int (*peek)(struct fz_link *link, struct fz_buf *frames);
	/* Whether the rest of a frame that has come in part may follow. */
	bool (*is_sending)(const struct fz_link *link);
	/* Free the private part of the link; for fz_link_free(). */
	void (*close)(struct fz_link *link);
};

/*
 * Functions that notify the owner of a link. None may free the link. The last
 * three are NULL if the worker is on this machine.
 */
struct fz_link_owner {
	void (*ready)(void *ctx); /* replies came: call fz_link_fill() */
	void (*lost)(void *ctx);  /* an end was closed, by the worker or here */
	void (*joined)(void *ctx, pid_t pid); /* the worker runs on its node */
	void (*printed)(
	    void *ctx, enum fz_stdio file, const void *bytes, size_t len);
	/* the worker's node leaves: send the worker no more jobs */
	void (*leaving)(void *ctx);
};

struct fz_link {
	const struct fz_link_ops *ops;
	struct fz_engine *engine;
	const struct fz_link_owner *owner;
	void *ctx; /* passed to the functions of the owner */
	/* descriptors to the worker, from the worker */
	struct fz_watch out, in;
	struct fz_buf unsent; /* frames for the worker */
	size_t written;       /* number of bytes of `unsent` that are written */
	struct fz_wire_in wire; /* replies that were not processed */
	struct fz_defer flush;  /* writes `unsent` */
	uint32_t next_seq;      /* number of the next item to send */
	uint32_t nput;          /* bytes of all frames, modulo 2^32 */
	/* account of the worker; NULL: none is shared */
	struct fz_account *account;
	int worker_in, worker_out; /* the worker's ends until it is forked */
	/*
	 * for a byte stream: the maximum pause within a frame, which is longer
	 * for workers on nodes.
	 */
	int64_t pause_ns;
};

extern const struct fz_link_ops fz_link_fork, fz_link_stream;

/*
 * Open a link. NULL and `err` on failure. Nothing is reported before the first
 * turn of the loop.
 */
struct fz_link *fz_link_open(const struct fz_link_ops *ops,
    struct fz_engine *engine, const struct fz_link_owner *owner, void *ctx,
    struct fz_err *err);

/* In the worker, before it closes private descriptors: see fz_fd_lower(). */
void fz_link_lower_ends(struct fz_link *link);

/* Called in the parent after the start of the worker. */
void fz_link_forked(struct fz_link *link);

/*
 * End the frame in `unsent` that starts at `start`. It is written at the end of
 * the loop's turn, or by fz_link_write(). 0, or -1 and `err` if there is no
 * memory; then the frame is dropped.
 */
int fz_link_end_frame(struct fz_link *link, size_t start, struct fz_err *err);
void fz_link_write(struct fz_link *link);

/* Read once into `wire`, like fz_wire_fill(). */
ptrdiff_t fz_link_fill(struct fz_link *link);

/*
 * Close the direction to the worker, which reads end of file after its last
 * call.
 */
void fz_link_finish(struct fz_link *link);

/* Close an end that has failed or has ended, and report that. */
void fz_link_lose(struct fz_link *link, struct fz_watch *end);

void fz_link_free(struct fz_link *link); /* NULL is allowed */

/*
 * For the files of one kind of links. fz_link_init(): `link` is the first
 * member of the structure that the kind allocates. fz_link_attach(): own the
 * descriptors `*out` and `*in`, and watch them. 0, or -1 and `err`; then the
 * caller still owns those that were not attached.
 */
void fz_link_init(struct fz_link *link, const struct fz_link_ops *ops,
    struct fz_engine *engine);
int fz_link_attach(struct fz_link *link, int *out, int *in, struct fz_err *err);

#endif
