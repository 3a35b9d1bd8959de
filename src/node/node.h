/*
 * node.h - `fzlua --worker`: a worker on another machine.
 *
 *	parent === ssh === this process === worker
 *
 * The frames for the worker come through standard input, its replies leave
 * through standard output. This process passes both on, and takes back items
 * that have not started (node_jobs.h). It adds frames with what the worker
 * prints, before the next reply, and with how the worker ends. If its input
 * ends, the connection or the parent is gone: the worker has a second to leave,
 * and is killed then with all its descendants. After a first SIGTERM this
 * process asks the parent to dismiss the worker when its started items are
 * finished; a second SIGTERM ends the worker.
 */
#ifndef FZ_NODE_H
#define FZ_NODE_H

struct fz_mailbox;

/* What a worker shares with the process on its node. */
struct fz_node_worker {
	struct fz_mailbox *mailbox;
	int slot; /* its end of a slot_line; -1: the node shares no slots */
};

struct fz_node_opts {
	const char *wanted; /* the version of the parent; NULL: any */
	const char *own;    /* the version of this command */
	/*
	 * Called in the worker, with the socket to its parent; returns its exit
	 * status.
	 */
	int (*serve)(void *ctx, int link, const struct fz_node_worker *node);
	void *ctx;
	/* the worker's end of a slot_line, which this process closes; or -1 */
	int slot;
};

/* Serve the standard streams. Returns the exit status of the command. */
int fz_node_main(const struct fz_node_opts *opts);

#endif
