/*
 * lsink.h - the destination of the output of workers and of the log.
 *
 * A host may set its own functions. By default, the output of workers goes to
 * the standard streams of this process, and the log goes to standard error.
 */
#ifndef FZ_LSINK_H
#define FZ_LSINK_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

#include "os/footer.h"
#include "worker/engine.h"

struct fz_lsink {
	/*
	 * Function that receives the output of workers in whole lines. `fd` is
	 * 1 or 2. It returns 0, or the errno of a failure.
	 */
	int (*output)(void *ctx, int fd, const char *bytes, size_t len);
	void *output_ctx;
	/* receives an entry of the log, with a newline at its end */
	void (*log)(void *ctx, const char *line, size_t len);
	void *log_ctx;
	int failed; /* errno of the first failed output; 0: no failure */
	/* progress lines and input below the output on a terminal */
	struct fz_footer footer;
	bool over_both; /* both streams are the footer's terminal */
};

/*
 * Initialise the sink with the default functions and without a footer.
 * fz_lsink_fini() ends its use.
 */
void fz_lsink_init(struct fz_lsink *sink);
void fz_lsink_fini(struct fz_lsink *sink);

/* Set a function of the host. NULL stands for the default function. */
void fz_lsink_set_output(struct fz_lsink *sink,
    int (*output)(void *ctx, int fd, const char *bytes, size_t len), void *ctx);
void fz_lsink_set_log(struct fz_lsink *sink,
    void (*log)(void *ctx, const char *line, size_t len), void *ctx);

/* Show `n` lines below all output, at most `widest` columns wide. */
void fz_lsink_set_footer(struct fz_lsink *sink, const char *text, size_t len,
    unsigned n, unsigned widest);

/*
 * Show the input that the user edits below all output, on the terminal of
 * standard output. See fz_footer_begin_input() and fz_footer_end_input().
 */
void fz_lsink_begin_input(struct fz_lsink *sink, struct fz_footer_input *input);
void fz_lsink_end_input(struct fz_lsink *sink);

/* Whether output to `fd` must go through fz_lsink_print(). */
bool fz_lsink_covers(const struct fz_lsink *sink, int fd);

/* Write output above the footer. Returns 0, or the errno of a failure. */
int fz_lsink_print(struct fz_lsink *sink, const char *bytes, size_t len);

/* Whether the default functions are set, which write to the standard streams of
 * this process. */
bool fz_lsink_is_default(const struct fz_lsink *sink);

/* The fz_engine_output function of an engine. `ctx` is the sink. */
void fz_lsink_output(
    void *ctx, enum fz_stdio file, const char *bytes, size_t len);

/* Raise the first failure since the last call, if any. [-0, +0, e] */
void fz_lsink_check(lua_State *L, struct fz_lsink *sink);

/* Add core.log(line) to the core table on top. [-0, +0, e] */
int fz_lsink_open(lua_State *L);

#endif
