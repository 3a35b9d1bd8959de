/* worker_output.h - passes the output of a worker on to the host's output. */
#ifndef FZ_WORKER_OUTPUT_H
#define FZ_WORKER_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "os/loop.h"
#include "worker/engine.h"

struct fz_lines;
struct fz_worker_output;

struct fz_worker_output_pipe {
	struct fz_watch watch;
	struct fz_lines *lines; /* reads lines from the pipe; NULL: not open */
	enum fz_stdio file;
	struct fz_worker_output *output;
};

struct fz_worker_output {
	struct fz_engine *engine;
	struct fz_worker_output_pipe pipes[2];
	/* nothing is passed on yet: the worker has not joined its node */
	bool holds;
	/*
	 * the worker is on a node: the pipes have the output of the program
	 * that connects the worker
	 */
	bool on_node;
	/* set during a call that adds lines of the worker on its node */
	bool adding;
	char said[FZ_ERR_TEXT_MAX]; /* last line of that program */
	/* the number of a line FZ_NODES_REACHED, see nodes.h */
	bool has_reached;
	uint32_t reached;
};

/* Initialise without open pipes. End with fz_worker_output_fini(). */
void fz_worker_output_init(
    struct fz_worker_output *output, struct fz_engine *engine);

/*
 * Read from the pipe `fd`. Owns it, unless it returns -1 and `err`. A file
 * whose `fd` is -1 has only what fz_worker_output_add() adds.
 */
int fz_worker_output_open(struct fz_worker_output *output, enum fz_stdio file,
    int fd, struct fz_err *err);

/* Add output of the worker that did not come through a pipe. */
void fz_worker_output_add(struct fz_worker_output *output, enum fz_stdio file,
    const void *bytes, size_t len);

/* Pass on the whole lines that can be read now. */
void fz_worker_output_pump(struct fz_worker_output *output);

/* Pass on an incomplete last line, because no more is expected. */
void fz_worker_output_flush(struct fz_worker_output *output);

/* fz_worker_output_pump() and fz_worker_output_flush(). */
void fz_worker_output_drain(struct fz_worker_output *output);

/* Close the pipes. Bytes that were not drained are lost. */
void fz_worker_output_fini(struct fz_worker_output *output);

#endif
