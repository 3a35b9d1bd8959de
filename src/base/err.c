#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const kind_names[FZ_ERR_NKINDS] = { "none", "error", "crash",
	"timeout", "memory", "cancelled", "interrupted", "unsendable", "closed",
	"graph" };

/* A hint for the user about an error of fork() or of a limit. */
static const char *
hint(int code)
{
	switch (code) {
	case EMFILE:
		return " (raise the limit with ulimit -n, or use fewer "
		       "workers)";
	case ENFILE:
		return " (the system's limit: close files, or use fewer "
		       "workers)";
	case EAGAIN: /* from fork() */
		return " (too many processes: raise the limit with ulimit -u, "
		       "or use fewer workers)";
	default:
		return "";
	}
}

__attribute__((format(printf, 4, 0))) static void
fill(struct fz_err *err, enum fz_err_kind kind, int code, const char *fmt,
    va_list ap)
{
	int n;

	err->kind = kind;
	err->code = code;
	n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
	if (code == 0 || n < 0 || (size_t)n >= sizeof(err->text))
		return;
	snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s%s",
	    strerror(code), hint(code));
}

int
fz_err_set(struct fz_err *err, enum fz_err_kind kind, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return -1;
	va_start(ap, fmt);
	fill(err, kind, 0, fmt, ap);
	va_end(ap);
	return -1;
}

int
fz_err_sys(struct fz_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return -1;
	va_start(ap, fmt);
	fill(err, code == ENOMEM ? FZ_ERR_MEMORY : FZ_ERR_ERROR, code, fmt, ap);
	va_end(ap);
	return -1;
}

int
fz_err_nomem(struct fz_err *err, const char *what)
{
	return fz_err_sys(err, ENOMEM, "%s", what);
}

const char *
fz_err_kind_name(enum fz_err_kind kind)
{
	if ((unsigned)kind >= FZ_ERR_NKINDS)
		return kind_names[FZ_ERR_ERROR];
	return kind_names[kind];
}
