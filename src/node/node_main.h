/*
 * node_main.h - `fzlua --worker`: a worker on another machine.
 *
 * 	parent === ssh === this process === worker
 *
 * Frames for the worker arrive on standard input; its replies leave on standard
 * output. This process passes both on. For a RECALL of the parent, it takes
 * back items that have not started (node_jobs.h). It sends the worker's printed
 * output as frames before the next reply, and a last frame that says how the
 * worker ended. If standard input ends, the connection or the parent is gone:
 * the worker gets a second to end itself, and is then killed with all its
 * descendants. After a first SIGTERM this process asks the parent to dismiss
 * the worker when its started items are finished; a second SIGTERM ends the
 * worker.
 */
#ifndef FZ_NODE_MAIN_H
#define FZ_NODE_MAIN_H

struct fz_mailbox;

/* What a worker shares with the process that runs fz_node_main(). */
struct fz_node_worker {
	struct fz_mailbox *mailbox;
	/* the worker's end of a slot_line; -1: the node shares no slots */
	int slot;
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
	/*
	 * the worker's end of a slot_line; -1: none. fz_node_main() closes it.
	 */
	int slot;
};

/*
 * Run a worker whose parent is at the other end of the standard streams.
 * Returns the exit status of the command.
 */
int fz_node_main(const struct fz_node_opts *opts);

#endif
