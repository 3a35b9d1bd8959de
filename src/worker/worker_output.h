/*
 * worker_output.h - passes the output of a worker on to the output of the
 * engine.
 */
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
	/* reads lines from the pipe; NULL: not opened */
	struct fz_lines *lines;
	enum fz_stdio file;
	struct fz_worker_output *output;
};

struct fz_worker_output {
	struct fz_engine *engine;
	struct fz_worker_output_pipe pipes[2];
	/*
	 * no line is passed on yet, because the worker has not started on its
	 * node
	 */
	bool holds;
	/*
	 * the worker is on a node, so the pipes contain the output of the
	 * program that connects it
	 */
	bool on_node;
	/* true during a call that adds output of the worker on the node */
	bool adding;
	/* the last line that the connecting program printed */
	char said[FZ_ERR_TEXT_MAX];
	/*
	 * a line FZ_NODES_REACHED (nodes.h) has come; `reached` is its number
	 */
	bool has_reached;
	uint32_t reached;
};

/* Initialise without open pipes. End with fz_worker_output_fini(). */
void fz_worker_output_init(
    struct fz_worker_output *output, struct fz_engine *engine);

/*
 * Read output from the pipe `fd`. The output then owns `fd`. Returns 0, or -1
 * and `err`; then the caller still owns `fd`. If `fd` is -1, there is only
 * output that fz_worker_output_add() adds.
 */
int fz_worker_output_open(struct fz_worker_output *output, enum fz_stdio file,
    int fd, struct fz_err *err);

/* Add output of the worker that did not come through a pipe. */
void fz_worker_output_add(struct fz_worker_output *output, enum fz_stdio file,
    const void *bytes, size_t len);

/* Pass on the whole lines that can be read now. */
void fz_worker_output_pump(struct fz_worker_output *output);

/*
 * Pass on an incomplete last line, too. Called when no more output is expected.
 */
void fz_worker_output_flush(struct fz_worker_output *output);

/* Call fz_worker_output_pump() and then fz_worker_output_flush(). */
void fz_worker_output_drain(struct fz_worker_output *output);

/* Close the pipes. Output that was not drained is lost. */
void fz_worker_output_fini(struct fz_worker_output *output);

#endif
