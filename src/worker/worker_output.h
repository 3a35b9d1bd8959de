/* worker_output.h - what a worker prints, on its way to the host's output. */
#ifndef FZ_WORKER_OUTPUT_H
#define FZ_WORKER_OUTPUT_H

#include "os/loop.h"
#include "worker/engine.h"

struct fz_err;
struct fz_lines;
struct fz_relay;

struct fz_relay_stream {
	struct fz_watch watch;
	struct fz_lines *lines; /* NULL: not open */
	enum fz_stream stream;
	struct fz_relay *relay;
};

struct fz_relay {
	struct fz_engine *engine;
	struct fz_relay_stream streams[2];
};

/* Relays nothing; fz_relay_fini() may be called. */
void fz_relay_init(struct fz_relay *relay, struct fz_engine *engine);

/*
 * Relay from the read end `fd` of a pipe, which it owns from now on. 0, or -1
 * and `err`, then `fd` is still the caller's.
 */
int fz_relay_open(
    struct fz_relay *relay, enum fz_stream stream, int fd, struct fz_err *err);

/* Pass on the whole lines that are there now. */
void fz_relay_pump(struct fz_relay *relay);

/* Pass on the piece of a line that was read last, since no more is expected. */
void fz_relay_flush(struct fz_relay *relay);

/* Both. */
void fz_relay_drain(struct fz_relay *relay);

/* Close the pipes. What was not drained is lost. */
void fz_relay_fini(struct fz_relay *relay);

#endif
