/* worker_output.h - what a worker prints, on its way to the host's output. */
#ifndef FZ_WORKER_OUTPUT_H
#define FZ_WORKER_OUTPUT_H

#include "os/loop.h"
#include "worker/engine.h"

struct fz_err;
struct fz_lines;
struct fz_worker_output;

struct fz_worker_output_stream {
	struct fz_watch watch;
	struct fz_lines *lines; /* NULL: not open */
	enum fz_stream stream;
	struct fz_worker_output *output;
};

struct fz_worker_output {
	struct fz_engine *engine;
	struct fz_worker_output_stream streams[2];
};

/* Relays nothing; fz_worker_output_fini() may be called. */
void fz_worker_output_init(
    struct fz_worker_output *output, struct fz_engine *engine);

/*
 * Relay from the read end `fd` of a pipe, which it owns from now on. 0, or -1
 * and `err`, then `fd` is still the caller's.
 */
int fz_worker_output_open(struct fz_worker_output *output,
    enum fz_stream stream, int fd, struct fz_err *err);

/* Pass on the whole lines that are there now. */
void fz_worker_output_pump(struct fz_worker_output *output);

/* Pass on the piece of a line that was read last, since no more is expected. */
void fz_worker_output_flush(struct fz_worker_output *output);

/* Both. */
void fz_worker_output_drain(struct fz_worker_output *output);

/* Close the pipes. What was not drained is lost. */
void fz_worker_output_fini(struct fz_worker_output *output);

#endif
