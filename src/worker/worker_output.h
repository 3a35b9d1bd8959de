/* worker_output.h - passes what a worker prints on to the host's output. */
#ifndef FZ_WORKER_OUTPUT_H
#define FZ_WORKER_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "os/loop.h"
#include "worker/engine.h"

struct fz_lines;
struct fz_worker_output;

struct fz_worker_output_pipe {
	struct fz_watch watch;
	struct fz_lines *lines; /* NULL: not open */
	enum fz_stdio file;
	struct fz_worker_output *output;
};

struct fz_worker_output {
	struct fz_engine *engine;
	struct fz_worker_output_pipe pipes[2];
	/*
	 * Whether nothing is passed on yet, because the worker is not on its
	 * node. Of a worker on a node the pipes have what the program says that
	 * connects it, and `said` the last line of that.
	 */
	bool holds;
	bool on_node;
	bool adding; /* now: what the worker has printed there */
	char said[FZ_ERR_TEXT_MAX];
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

/* What the worker has printed came another way than through a pipe. */
void fz_worker_output_add(struct fz_worker_output *output, enum fz_stdio file,
    const void *bytes, size_t len);

/* Pass on the whole lines that can be read now. */
void fz_worker_output_pump(struct fz_worker_output *output);

/* Pass on an incomplete last line, because no more is expected. */
void fz_worker_output_flush(struct fz_worker_output *output);

/* Both. */
void fz_worker_output_drain(struct fz_worker_output *output);

/* Close the pipes. Bytes that were not drained are lost. */
void fz_worker_output_fini(struct fz_worker_output *output);

#endif
