#include "bind/lsink.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/lloop.h"
#include "os/term.h"
#include "value/lerror.h"

static int
print(void *ctx, int fd, const char *bytes, size_t len)
{
	FILE *f = fd == STDOUT_FILENO ? stdout : stderr;
	int code;

	if (fz_lsink_covers(ctx, fd))
		return fz_lsink_print(ctx, bytes, len);
	errno = 0;
	if (fwrite(bytes, 1, len, f) == len && fflush(f) == 0)
		return 0;
	code = errno != 0 ? errno : EIO;
	if (code == EBADF) /* closed by ">&-" in the shell */
		return 0;
	clearerr(f);
	return code;
}

static void
print_log(void *ctx, const char *line, size_t len)
{
	/* Ignore a failure, because it cannot be reported. */
	if (fz_lsink_covers(ctx, STDERR_FILENO)) {
		fz_lsink_print(ctx, line, len);
		return;
	}
	fwrite(line, 1, len, stderr);
	fflush(stderr);
}

void
fz_lsink_init(struct fz_lsink *sink)
{
	fz_lsink_set_output(sink, NULL, NULL);
	fz_lsink_set_log(sink, NULL, NULL);
	fz_footer_init(&sink->footer, STDERR_FILENO);
}

void
fz_lsink_fini(struct fz_lsink *sink)
{
	fz_lsink_set_footer(sink, "", 0, 0, 0);
	fz_footer_fini(&sink->footer);
}

void
fz_lsink_set_output(struct fz_lsink *sink,
    int (*output)(void *ctx, int fd, const char *bytes, size_t len), void *ctx)
{
	sink->output = output != NULL ? output : print;
	sink->output_ctx = output != NULL ? ctx : sink;
}

void
fz_lsink_set_log(struct fz_lsink *sink,
    void (*log)(void *ctx, const char *line, size_t len), void *ctx)
{
	sink->log = log != NULL ? log : print_log;
	sink->log_ctx = log != NULL ? ctx : sink;
}

/*
 * Prepare the footer before its lines or the input are shown for the first
 * time. Output that was printed before must be above the footer.
 */
static void
begin_footer(struct fz_lsink *sink)
{
	if (fz_footer_is_active(&sink->footer))
		return;
	sink->over_both = fz_term_is_same(STDOUT_FILENO, STDERR_FILENO);
	fflush(stdout);
}

void
fz_lsink_set_footer(struct fz_lsink *sink, const char *text, size_t len,
    unsigned n, unsigned widest)
{
	if (sink->footer.nlines == 0 && n == 0)
		return;
	begin_footer(sink);
	fz_footer_set(&sink->footer, text, len, n, widest);
}

void
fz_lsink_begin_input(struct fz_lsink *sink, struct fz_footer_input *input)
{
	begin_footer(sink);
	fflush(stdout);
	sink->footer.fd = STDOUT_FILENO;
	fz_footer_begin_input(&sink->footer, input);
}

void
fz_lsink_end_input(struct fz_lsink *sink)
{
	fz_footer_end_input(&sink->footer);
	sink->footer.fd = STDERR_FILENO;
}

bool
fz_lsink_covers(const struct fz_lsink *sink, int fd)
{
	return fz_footer_is_active(&sink->footer) &&
	       (fd == sink->footer.fd || sink->over_both);
}

int
fz_lsink_print(struct fz_lsink *sink, const char *bytes, size_t len)
{
	fflush(stdout);
	return fz_footer_print(&sink->footer, bytes, len);
}

bool
fz_lsink_is_default(const struct fz_lsink *sink)
{
	return sink->output == print && sink->log == print_log;
}

void
fz_lsink_output(void *ctx, enum fz_stdio file, const char *bytes, size_t len)
{
	struct fz_lsink *sink = ctx;
	int fd = file == FZ_STDIO_OUT ? STDOUT_FILENO : STDERR_FILENO;
	int code = sink->output(sink->output_ctx, fd, bytes, len);

	/*
	 * Ignore EINTR, because it means Ctrl-C, which raises an error itself.
	 */
	if (sink->failed == 0 && code != EINTR)
		sink->failed = code;
}

void
fz_lsink_check(lua_State *L, struct fz_lsink *sink)
{
	struct fz_err err = { 0 };
	int code = sink->failed;

	if (code == 0)
		return;
	sink->failed = 0;
	fz_err_sys(&err, code, "cannot write the output of a worker");
	fz_lerror_raise(L, &err);
}

/* core.log(line): write a line, which ends with a newline, to the log */
static int
sink_log(lua_State *L)
{
	struct fz_lsink *sink = fz_lloop_sink(L);
	size_t len;
	const char *line = luaL_checklstring(L, 1, &len);

	sink->log(sink->log_ctx, line, len);
	return 0;
}

int
fz_lsink_open(lua_State *L)
{
	lua_pushcfunction(L, sink_log);
	lua_setfield(L, -2, "log");
	return 0;
}
