#include "bind/lsink.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/lloop.h"
#include "value/lerror.h"

static int
print(void *ctx, int fd, const char *bytes, size_t len)
{
	FILE *f = fd == STDOUT_FILENO ? stdout : stderr;
	int code;

	(void)ctx;
	errno = 0;
	if (fwrite(bytes, 1, len, f) == len && fflush(f) == 0)
		return 0;
	code = errno != 0 ? errno : EIO;
	if (code == EBADF) /* closed by the shell: ">&-" */
		return 0;
	clearerr(f);
	return code;
}

static void
print_log(void *ctx, const char *line, size_t len)
{
	(void)ctx;
	fwrite(line, 1, len, stderr); /* a failure cannot be reported */
	fflush(stderr);
}

void
fz_lsink_set_output(struct fz_lsink *sink,
    int (*output)(void *ctx, int fd, const char *bytes, size_t len), void *ctx)
{
	sink->output = output != NULL ? output : print;
	sink->output_ctx = ctx;
}

void
fz_lsink_set_log(struct fz_lsink *sink,
    void (*log)(void *ctx, const char *line, size_t len), void *ctx)
{
	sink->log = log != NULL ? log : print_log;
	sink->log_ctx = ctx;
}

void
fz_lsink_output(void *ctx, enum fz_stdio stream, const char *bytes, size_t len)
{
	struct fz_lsink *sink = ctx;
	int fd = stream == FZ_STDIO_OUT ? STDOUT_FILENO : STDERR_FILENO;
	int code = sink->output(sink->output_ctx, fd, bytes, len);

	/* EINTR: Ctrl-C, which raises an error of its own. */
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
	fz_err_sys(&err, code, "cannot write what a worker printed");
	fz_lerror_raise(L, &err);
}

/* log(line): the line has its newline */
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
