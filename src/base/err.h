/* err.h - an error: one kind and one text, filled where the cause is known. */
#ifndef FZ_ERR_H
#define FZ_ERR_H

/* The kinds that users see, in the order of enum fzlua_status (fzlua.h). */
enum fz_err_kind {
	FZ_ERR_NONE,
	FZ_ERR_ERROR,   /* the user's function raised, or a call failed */
	FZ_ERR_CRASH,   /* a worker died */
	FZ_ERR_TIMEOUT, /* a time limit ran out */
	FZ_ERR_MEMORY,  /* a memory limit was reached, or memory ran out */
	/* the job was cancelled before it ran or while it ran */
	FZ_ERR_CANCELLED,
	FZ_ERR_INTERRUPTED, /* Ctrl-C */
	FZ_ERR_UNSENDABLE,  /* a value cannot cross a process boundary */
	FZ_ERR_CLOSED,      /* an object was used after it was closed */
	FZ_ERR_GRAPH,       /* a chain or dag that cannot run */
	FZ_ERR_NKINDS
};

#define FZ_ERR_TEXT_MAX 256

struct fz_err {
	enum fz_err_kind kind;
	int code; /* errno if a system call failed, else 0 */
	char text[FZ_ERR_TEXT_MAX];
};

/*
 * Set `err` to no error. This is faster than `= { 0 }`, which also clears all
 * of the text.
 */
static inline void
fz_err_init(struct fz_err *err)
{
	err->kind = FZ_ERR_NONE;
	err->code = 0;
	err->text[0] = '\0';
}

/* Fill `err` (NULL is allowed) with a printf text. Always returns -1. */
int fz_err_set(struct fz_err *err, enum fz_err_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Fill `err` (NULL is allowed) with `code` and the printf text followed by ": "
 * and the text of `code`. The kind is FZ_ERR_ERROR, or FZ_ERR_MEMORY for
 * ENOMEM. Always returns -1.
 */
int fz_err_sys(struct fz_err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Report that there is no memory for `what`. Always returns -1. */
int fz_err_nomem(struct fz_err *err, const char *what);

/* The word users see for a kind: "error", "crash", ... Never NULL. */
const char *fz_err_kind_name(enum fz_err_kind kind);

#endif
