/*
 * sqlite.h - a database in one file, by the system's library of SQLite.
 *
 * The library is loaded when a database is opened, because most scripts need
 * none. It is the shared library, because a process must not have two copies of
 * SQLite: when one copy closes a file, the locks of the other copy are lost.
 *
 * A process that was forked with an open database must not use the library for
 * it, nor close it: closing would write to the file of the parent. All
 * functions here refuse that. The child must not open that file either: the
 * child has no locks on the file, but its copy of the library's memory says
 * that it has.
 */
#ifndef FZ_SQLITE_H
#define FZ_SQLITE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <sqlite3.h>

struct fz_err;

/* The functions of the library that are used, by name. */
#define FZ_SQLITE_FUNCTIONS(X)  \
	X(bind_blob64)          \
	X(bind_double)          \
	X(bind_int64)           \
	X(bind_null)            \
	X(bind_parameter_count) \
	X(busy_timeout)         \
	X(changes)              \
	X(clear_bindings)       \
	X(close)                \
	X(column_blob)          \
	X(column_bytes)         \
	X(column_count)         \
	X(column_double)        \
	X(column_int64)         \
	X(column_type)          \
	X(errmsg)               \
	X(errstr)               \
	X(finalize)             \
	X(open_v2)              \
	X(prepare_v2)           \
	X(reset)                \
	X(step)

#define FZ_SQLITE_FIELD(name) __typeof__(sqlite3_##name) *name;

struct fz_sqlite {
	void *library; /* NULL until the database is open */
	sqlite3 *db;
	bool limited; /* the process has a limit of file sizes */
	pid_t pid;    /* pid of the process that may use the database */
	FZ_SQLITE_FUNCTIONS(FZ_SQLITE_FIELD)
};

enum fz_sqlite_mode {
	FZ_SQLITE_CREATE, /* make the file if it does not exist */
	FZ_SQLITE_WRITE,
	/*
	 * Write neither the file nor other files in its directory. If no
	 * process uses the file, no locks are taken: the caller checks what it
	 * reads.
	 */
	FZ_SQLITE_READ
};

/*
 * Open the file at `path`, and let later calls wait up to `busy_ms` for locks
 * of other processes. 0, or -1 and `err`.
 */
int fz_sqlite_open(struct fz_sqlite *s, const char *path,
    enum fz_sqlite_mode mode, int busy_ms, struct fz_err *err);

/* Whether the file exists, and the file or its directory may not be written. */
bool fz_sqlite_is_read_only(const char *path);

/*
 * Whether the file has no bytes, and was probably written after it was made:
 * its last change was not within two seconds of that. A file that another
 * process is making, or that mktemp or touch has made, was not written.
 */
bool fz_sqlite_is_emptied(const char *path);

/*
 * Close the database; idempotent. In a forked child the object is only
 * forgotten.
 */
void fz_sqlite_close(struct fz_sqlite *s);

/* Whether this process has opened the database. */
bool fz_sqlite_is_open(const struct fz_sqlite *s);

/* Compile one statement. NULL and `err` on failure. */
sqlite3_stmt *fz_sqlite_prepare(
    const struct fz_sqlite *s, const char *sql, struct fz_err *err);

/* The next row: 1, 0 after the last one, or -1 and `err`. */
int fz_sqlite_step(
    const struct fz_sqlite *s, sqlite3_stmt *stmt, struct fz_err *err);

#endif
