/* worker_output.h - passes output of a worker on to the engine's output. */
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
	struct fz_lines *lines; /* reads the pipe; NULL: it is not open */
	enum fz_stdio file;
	struct fz_worker_output *output;
};

struct fz_worker_output {
	struct fz_engine *engine;
	struct fz_worker_output_pipe pipes[2];
	/* keep the lines, because the worker is not on its node yet */
	bool holds;
	/*
	 * the worker is on a node, so the pipes contain the output of the
	 * program that connects it
	 */
	bool on_node;
	/* true during a call that adds output of the worker on the node */
	bool adding;
	char said[FZ_ERR_TEXT_MAX]; /* last line of the connecting program */
	/* `reached` is the number of a line FZ_NODES_REACHED (nodes.h) */
	bool has_reached;
	uint32_t reached;
};

/* Initialise without open pipes. End with fz_worker_output_fini(). */
void fz_worker_output_init(
    struct fz_worker_output *output, struct fz_engine *engine);

/*
 * Read output from the pipe `fd` and own it; -1: there is no pipe. Returns 0,
 * or -1 and `err`; then the caller still owns `fd`.
 */
int fz_worker_output_open(struct fz_worker_output *output, enum fz_stdio file,
    int fd, struct fz_err *err);

/* Add output of the worker that did not come through a pipe. */
void fz_worker_output_add(struct fz_worker_output *output, enum fz_stdio file,
    const void *bytes, size_t len);

/* Pass on the whole lines that can be read now. */
void fz_worker_output_pump(struct fz_worker_output *output);

/* Pass on an incomplete last line, too: no more output is expected. */
void fz_worker_output_flush(struct fz_worker_output *output);

/* Call fz_worker_output_pump() and then fz_worker_output_flush(). */
void fz_worker_output_drain(struct fz_worker_output *output);

/* Close the pipes. Output that was not drained is lost. */
void fz_worker_output_fini(struct fz_worker_output *output);

#endif
