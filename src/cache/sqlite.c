/* pthread_sigmask and sigtimedwait are not in C11. */
#define _GNU_SOURCE
#include "cache/sqlite.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#define LIBRARY "libsqlite3.so.0"
#define PACKAGE "libsqlite3-0"

/* Find a function; `*field` is a pointer to one. False: it is missing. */
static bool
find(void *library, const char *name, void *field)
{
	void *function = dlsym(library, name);

	memcpy(field, &function, sizeof(function));
	return function != NULL;
}

static int
load(struct fz_sqlite *s, struct fz_err *err)
{
	bool whole = true;

	s->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (s->library == NULL)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "%s cannot be loaded (install the package %s)", LIBRARY,
		    PACKAGE);
#define FIND(name) \
	whole = find(s->library, "sqlite3_" #name, &s->name) && whole;
	FZ_SQLITE_FUNCTIONS(FIND)
#undef FIND
	if (!whole)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "%s lacks functions (install a newer package %s)", LIBRARY,
		    PACKAGE);
	return 0;
}

static int
fail(const struct fz_sqlite *s, struct fz_err *err, int rc)
{
	const char *text = s->db != NULL ? s->errmsg(s->db) : s->errstr(rc);

	fz_err_set(
	    err, rc == SQLITE_NOMEM ? FZ_ERR_MEMORY : FZ_ERR_ERROR, "%s", text);
	if (err != NULL)
		err->code = rc;
	return -1;
}

/*
 * A write beyond the process's limit of file sizes raises SIGXFSZ, which would
 * end the process. While the signal is blocked, the write fails instead.
 */
struct guard {
	sigset_t before;
	bool active;
};

static bool
is_limited(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
	       limit.rlim_cur != RLIM_INFINITY;
}

static void
guard_begin(const struct fz_sqlite *s, struct guard *guard)
{
	sigset_t set;

	guard->active = s->limited;
	if (!guard->active)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGXFSZ);
	guard->active = pthread_sigmask(SIG_BLOCK, &set, &guard->before) == 0;
}

static void
guard_end(const struct guard *guard)
{
	const struct timespec now = { 0, 0 };
	sigset_t set;

	if (!guard->active || sigismember(&guard->before, SIGXFSZ))
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGXFSZ);
	while (sigtimedwait(&set, NULL, &now) == -1 && errno == EINTR)
		continue;
	pthread_sigmask(SIG_SETMASK, &guard->before, NULL);
}

int
fz_sqlite_open(struct fz_sqlite *s, const char *path, bool create, int busy_ms,
    struct fz_err *err)
{
	int rc;

	memset(s, 0, sizeof(*s));
	if (load(s, err) != 0) {
		if (s->library != NULL)
			dlclose(s->library);
		s->library = NULL;
		return -1;
	}
	s->pid = getpid();
	s->limited = is_limited();
	rc = s->open_v2(path, &s->db,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
		(create ? SQLITE_OPEN_CREATE : 0),
	    NULL);
	if (rc == SQLITE_OK)
		rc = s->busy_timeout(s->db, busy_ms);
	if (rc == SQLITE_OK)
		return 0;
	fail(s, err, rc);
	fz_sqlite_close(s);
	return -1;
}

bool
fz_sqlite_is_open(const struct fz_sqlite *s)
{
	return s->library != NULL && s->pid == getpid();
}

void
fz_sqlite_close(struct fz_sqlite *s)
{
	struct guard guard;

	if (fz_sqlite_is_open(s)) {
		guard_begin(s, &guard); /* closing may write to the file */
		s->close(s->db);
		guard_end(&guard);
		dlclose(s->library);
	}
	s->library = NULL;
	s->db = NULL;
}

sqlite3_stmt *
fz_sqlite_prepare(
    const struct fz_sqlite *s, const char *sql, struct fz_err *err)
{
	sqlite3_stmt *stmt = NULL;
	int rc = s->prepare_v2(s->db, sql, -1, &stmt, NULL);

	if (rc == SQLITE_OK && stmt != NULL)
		return stmt;
	fail(s, err, rc);
	return NULL;
}

int
fz_sqlite_step(
    const struct fz_sqlite *s, sqlite3_stmt *stmt, struct fz_err *err)
{
	struct guard guard;
	int rc;

	guard_begin(s, &guard);
	rc = s->step(stmt);
	guard_end(&guard);
	if (rc == SQLITE_ROW)
		return 1;
	return rc == SQLITE_DONE ? 0 : fail(s, err, rc);
}
