/*
 * link.h - the connection between a worker and its parent.
 *
 * The files worker*.c handle jobs and replies, and decide what is sent when. A
 * link transports frames in both directions, and provides what the parent can
 * learn about a running worker.
 *
 *                          link_fork             link_stream
 *   bytes                  two pipes             any byte stream
 *   big values             in the arena          inside the frames
 *   results of a map       in the arena, too     inside the frames
 *   start of an item       seen at once          announced by a frame before
 *   recall of items        at once               by a frame; answered before
 *                                                the next item starts
 *   unsent replies         can be read           can be read in a mailbox,
 *                                                or lost if the worker dies
 *   tokens of make         shared                not shared
 *
 * A worker on this machine shares a mailbox over any link. For a worker on a
 * node, a process beside it on that node does what needs shared memory: see
 * node_jobs.h.
 *
 * A worker on a byte stream announces quick items, of less than half a
 * millisecond, in groups. Without a mailbox its death loses all items of a
 * group, because it is unknown which of them had started. A slow item delays
 * the items behind it in its group, because they cannot be taken back.
 *
 * For both links: the worker starts items in the order of their numbers. An
 * item that counts as started is never sent to another worker. A reply that has
 * arrived stays valid whatever happens to the worker. If a link ends, or
 * carries bytes that no worker sends, the worker counts as lost. The output of
 * the worker's functions does not travel through the link.
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
	FZ_LINK_SHARED_MEMORY = 1, /* frames may refer to values in the arena */
	FZ_LINK_EXACT_RECALL = 2   /* fz_link_ops.recall always returns true */
};

/* NULL is allowed for share, death, cause, forked, settle, ended, peek, close.
 */
struct fz_link_ops {
	unsigned flags; /* FZ_LINK_SHARED_MEMORY, FZ_LINK_EXACT_RECALL */
	/*
	 * Create a link for the worker that is started next. NULL and `err` on
	 * failure.
	 */
	struct fz_link *(*open)(struct fz_engine *engine, struct fz_err *err);
	/*
	 * Share a mailbox with a worker on this machine, so that peek() can
	 * read its replies. If this fails, the worker has none. NULL: open()
	 * has made the mailbox.
	 */
	void (*share)(struct fz_link *link);
	/* In the worker: make `port` its end. Returns 0, or -1 and `err`. */
	int (*enter)(
	    struct fz_link *link, struct fz_port *port, struct fz_err *err);
	/* In the worker: report that it cannot start, because of `text`. */
	void (*refuse)(struct fz_link *link, const char *text);
	/*
	 * Called in the parent: get the reason why the worker cannot start.
	 * False if the worker has reported none.
	 */
	bool (*refusal)(const struct fz_link *link, struct fz_err *err);
	/* Get how a worker on a node has ended. False if that is unknown. */
	bool (*death)(const struct fz_link *link, struct fz_death *death);
	/* Why the node ended the worker; "": it did not. */
	const char *(*cause)(const struct fz_link *link);
	/* Called in the parent after the start of the worker. */
	void (*forked)(struct fz_link *link);
	/* Append an argument to the frame; a failure is noted in `unsent`. */
	void (*put)(struct fz_link *link, struct fz_blob *blob);
	/*
	 * Create a blob for a value of a reply; the value is at `offset` of the
	 * arena. NULL and `err` on failure.
	 */
	struct fz_blob *(*blob)(struct fz_link *link, uint64_t offset,
	    size_t len, struct fz_err *err);
	/*
	 * Tell the worker that it will probably get a job soon. NULL: the link
	 * cannot do that.
	 */
	void (*expect)(struct fz_link *link);
	/*
	 * The processor on which the worker last ran; -1 if unknown. NULL: it
	 * is always unknown.
	 */
	int (*cpu)(const struct fz_link *link);
	/* Note that all items with numbers below `answered` are answered. */
	void (*settle)(struct fz_link *link, uint32_t answered);
	/*
	 * Set `*started` to 1 + number of the item that the worker started
	 * last. False if the worker has overwritten that number.
	 */
	bool (*started)(const struct fz_link *link, uint32_t *started);
	/*
	 * The worker is dead: from now on started() returns only items that it
	 * has started, and none that it was allowed to start. NULL: started()
	 * always does that.
	 */
	void (*ended)(struct fz_link *link);
	/*
	 * The time at which the worker started its last item; without a
	 * timeout, the chunk of that item.
	 */
	int64_t (*started_at)(const struct fz_link *link);
	/* Whether the worker waits for a slot of its node. NULL: false. */
	bool (*waits)(const struct fz_link *link);
	/*
	 * Take back all items with numbers below `next_seq` that the worker has
	 * not started. True: from now on the worker starts none of them. False:
	 * the worker may start some of them until next() returns an
	 * FZ_WIRE_RECALLED.
	 */
	bool (*recall)(struct fz_link *link);
	/* Get the next reply or FZ_WIRE_RECALLED; returns as fz_wire_next(). */
	int (*next)(
	    struct fz_link *link, struct fz_frame *frame, struct fz_err *err);
	/*
	 * Append to `frames` the replies that the worker has finished but not
	 * sent. The last one has the flag FZ_WIRE_GROWS if the worker may add
	 * items to it. Returns 1; 0 if there are none; -1 if the worker has
	 * overwritten the mailbox, so that replies come through the link only.
	 */
	int (*peek)(struct fz_link *link, struct fz_buf *frames);
	/* Whether the rest of a frame that has come in part may follow. */
	bool (*is_sending)(const struct fz_link *link);
	/* Free the private members of the link; for fz_link_free(). */
	void (*close)(struct fz_link *link);
};

/*
 * Functions that a link calls to notify its owner. They may not free the link.
 * `joined`, `printed` and `leaving` are NULL unless the worker is on a node.
 */
struct fz_link_owner {
	void (*ready)(void *ctx); /* replies can be read: call fz_link_fill() */
	void (*lost)(void *ctx);  /* a direction was closed, by either end */
	void (*joined)(void *ctx, pid_t pid); /* worker runs on its node */
	void (*printed)(
	    void *ctx, enum fz_stdio file, const void *bytes, size_t len);
	/* the worker's node will leave: the worker must get no more jobs */
	void (*leaving)(void *ctx);
};

struct fz_link {
	const struct fz_link_ops *ops;
	struct fz_engine *engine;
	const struct fz_link_owner *owner;
	void *ctx; /* argument of the owner's functions */
	/* descriptors: `out` to the worker, `in` from the worker */
	struct fz_watch out, in;
	struct fz_buf unsent; /* frames for the worker, not written yet */
	size_t written;       /* number of bytes of `unsent` that are written */
	struct fz_wire_in wire; /* replies that are not processed yet */
	struct fz_defer flush;  /* writes `unsent` at the end of a turn */
	uint32_t next_seq;      /* number of the next item to send */
	bool recalling;         /* the worker has not answered a RECALL yet */
	uint32_t nput; /* number of bytes of all frames so far, modulo 2^32 */
	/* account of the worker's tokens; NULL: not shared with the worker */
	struct fz_account *account;
	int worker_in, worker_out; /* the worker's ends until it is forked */
	/* file of the mailbox until the worker has started; -1: none */
	int worker_memory;
	/*
	 * only for a byte stream: maximum pause within a frame, which is longer
	 * for a worker on a node
	 */
	int64_t pause_ns;
};

extern const struct fz_link_ops fz_link_fork, fz_link_stream;

/*
 * Open a link. NULL and `err` on failure. The owner's functions are not called
 * before the first turn of the loop.
 */
struct fz_link *fz_link_open(const struct fz_link_ops *ops,
    struct fz_engine *engine, const struct fz_link_owner *owner, void *ctx,
    struct fz_err *err);

/* In the worker, before it closes private descriptors: see fz_fd_lower(). */
void fz_link_lower_ends(struct fz_link *link);

/* Called in the parent after the start of the worker. */
void fz_link_forked(struct fz_link *link);

/*
 * End the frame that begins at `start` of `unsent`. The frame is written at the
 * end of the loop's turn, or earlier by fz_link_write(). Returns 0; or -1 and
 * `err` if there is no memory, and drops the frame.
 */
int fz_link_end_frame(struct fz_link *link, size_t start, struct fz_err *err);
void fz_link_write(struct fz_link *link);

/* Read once into `wire`. Returns the same as fz_wire_fill(). */
ptrdiff_t fz_link_fill(struct fz_link *link);

/*
 * Close the direction to the worker. The worker reads end of file after its
 * last call.
 */
void fz_link_finish(struct fz_link *link);

/* Close a direction that has failed or has ended, and notify the owner. */
void fz_link_lose(struct fz_link *link, struct fz_watch *end);

void fz_link_free(struct fz_link *link); /* NULL is allowed */

/*
 * Functions for the files of each kind of links. fz_link_init(): `link` is the
 * first member of a larger structure. fz_link_attach(): take over and watch the
 * descriptors `*out` and `*in`. Returns 0, or -1 and `err`; then the caller
 * still owns those of the two that are not -1.
 */
void fz_link_init(struct fz_link *link, const struct fz_link_ops *ops,
    struct fz_engine *engine);
int fz_link_attach(struct fz_link *link, int *out, int *in, struct fz_err *err);

#endif
