/*
 * node_main.h - `fzlua --worker`: a worker on another machine.
 *
 * 	parent === ssh === this process === worker
 *
 * This process passes on frames for the worker (standard input) and its replies
 * (standard output). For a RECALL of the parent, it takes back items that have
 * not started (node_jobs.h). It sends the worker's printed output as frames
 * before the next reply, and a last frame that says how the worker ended. If
 * standard input ends, the connection or the parent is gone: the worker gets a
 * second to end itself, and is then killed with all its descendants. After a
 * first SIGTERM this process asks the parent to dismiss the worker when its
 * started items are finished; a second SIGTERM ends the worker.
 */
#ifndef FZ_NODE_MAIN_H
#define FZ_NODE_MAIN_H

struct fz_mailbox;

/* What a worker shares with the process that runs fz_node_main(). */
struct fz_node_worker {
	struct fz_mailbox *mailbox;
	int slot; /* the worker's end of a slot_line; -1: there is none */
};

struct fz_node_opts {
	const char *wanted; /* version that the submitter requires; NULL: any */
	const char *own;    /* version of this command */
	/*
	 * Called in the worker, with the socket to the process that runs
	 * fz_node_main(). Returns the worker's exit status.
	 */
	int (*serve)(void *ctx, int link, const struct fz_node_worker *node);
	void *ctx;
	/* the worker's end of a slot_line, which is closed here; or -1 */
	int slot;
};

/* Serve the parent at the standard streams. Returns the exit status. */
int fz_node_main(const struct fz_node_opts *opts);

#endif
