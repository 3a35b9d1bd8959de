/* pthread_sigmask, sigtimedwait, statx and AT_EACCESS are not in C11. */
#define _GNU_SOURCE
#include "cache/sqlite.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "cache/library.h"

#define LIBRARY "libsqlite3.so.0"
#define PACKAGE "libsqlite3-0"

static int
load(struct fz_sqlite *s, struct fz_err *err)
{
	bool whole = true;

	s->library = fz_library_load(LIBRARY, PACKAGE, err);
	if (s->library == NULL)
		return -1;
#define FIND(name) \
	whole =    \
	    fz_library_find(s->library, "sqlite3_" #name, &s->name) && whole;
	FZ_SQLITE_FUNCTIONS(FIND)
#undef FIND
	return whole ? 0 : fz_library_refuse(LIBRARY, PACKAGE, err);
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

static bool
may(const char *path, int mode)
{
	return faccessat(AT_FDCWD, path, mode, AT_EACCESS) == 0;
}

bool
fz_sqlite_is_read_only(const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash != NULL ? (size_t)(slash - path) + 1 : 0;
	char directory[PATH_MAX] = ".";

	if (!may(path, R_OK) || len >= sizeof(directory))
		return false;
	if (slash != NULL) {
		memcpy(directory, path, len);
		directory[len] = '\0';
	}
	return !may(path, W_OK) || !may(directory, W_OK);
}

/* The time between two changes of a file, in ns. */
static uint64_t
time_between(struct statx_timestamp a, struct statx_timestamp b)
{
	int64_t ns = (a.tv_sec - b.tv_sec) * 1000000000 +
		     ((int64_t)a.tv_nsec - b.tv_nsec);

	return ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
}

bool
fz_sqlite_is_emptied(const char *path)
{
	/*
	 * touch(1) makes a file and then sets its time. The clock may have
	 * ticked in between, or the process may have waited for a processor.
	 */
	enum { RECENT_S = 2 };
	struct statx st;

	if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_BTIME, &st) !=
		0 ||
	    !S_ISREG(st.stx_mode) || st.stx_size != 0)
		return false;
	if ((st.stx_mask & STATX_BTIME) == 0)
		return time(NULL) - st.stx_mtime.tv_sec > RECENT_S;
	return time_between(st.stx_mtime, st.stx_btime) >
	       RECENT_S * UINT64_C(1000000000);
}

static int
open_as(struct fz_sqlite *s, const char *name, int flags)
{
	if (s->db != NULL)
		s->close(s->db);
	s->db = NULL;
	return s->open_v2(name, &s->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
}

/* Read something, so that SQLite opens all files that it needs for reading. */
static int
try_to_read(const struct fz_sqlite *s)
{
	sqlite3_stmt *stmt = NULL;
	int rc = s->prepare_v2(
	    s->db, "SELECT count(*) FROM sqlite_master", -1, &stmt, NULL);

	if (rc == SQLITE_OK && s->step(stmt) != SQLITE_ROW)
		rc = s->reset(stmt);
	s->finalize(stmt);
	return rc;
}

/* Whether the log beside the file may have data that the file lacks. */
static bool
has_log(const char *path)
{
	struct fz_buf name = FZ_BUF_INIT;
	struct stat st;
	bool has = true;

	fz_buf_put(&name, path, strlen(path));
	fz_buf_put(&name, "-wal", sizeof("-wal"));
	if (!name.failed)
		has =
		    stat((const char *)name.data, &st) == 0 && st.st_size != 0;
	fz_buf_fini(&name);
	return has;
}

/*
 * Open the file as one that does not change, so that SQLite needs no other
 * files.
 */
static int
open_unchanging(struct fz_sqlite *s, const char *path)
{
	static const char digits[] = "0123456789abcdef";
	struct fz_buf uri = FZ_BUF_INIT;
	int rc = SQLITE_NOMEM;

	fz_buf_put(&uri, "file:", 5);
	for (const char *at = path; *at != '\0'; at++) {
		unsigned char c = (unsigned char)*at;
		char escaped[3] = { '%', digits[c / 16], digits[c % 16] };
		bool plain = isalnum(c) || c == '/' || c == '.' || c == '_';

		fz_buf_put(&uri, plain ? at : escaped, plain ? 1 : 3);
	}
	fz_buf_put(&uri, "?immutable=1", sizeof("?immutable=1"));
	if (!uri.failed)
		rc = open_as(s, (const char *)uri.data,
		    SQLITE_OPEN_READONLY | SQLITE_OPEN_URI);
	fz_buf_fini(&uri);
	return rc;
}

/*
 * A database with a log needs files beside its own, which SQLite cannot make in
 * a directory that may not be written. These files exist while another process
 * has the database open. If they do not exist and the log is empty, the file
 * alone is enough.
 */
static int
open_to_read(struct fz_sqlite *s, const char *path)
{
	int rc = open_as(s, path, SQLITE_OPEN_READONLY);

	if (rc == SQLITE_OK)
		rc = try_to_read(s);
	if ((rc == SQLITE_CANTOPEN || rc == SQLITE_READONLY) && !has_log(path))
		rc = open_unchanging(s, path);
	return rc;
}

int
fz_sqlite_open(struct fz_sqlite *s, const char *path, enum fz_sqlite_mode mode,
    int busy_ms, struct fz_err *err)
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
	if (mode == FZ_SQLITE_READ)
		rc = open_to_read(s, path);
	else
		rc = open_as(s, path,
		    SQLITE_OPEN_READWRITE |
			(mode == FZ_SQLITE_CREATE ? SQLITE_OPEN_CREATE : 0));
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
