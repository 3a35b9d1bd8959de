/*
 * Databases and compression: libraries that are missing or lack functions,
 * calls that fail, processes that were forked, and files that are empty.
 *
 * wrap: dlopen dlsym statx time
 */
/* mkstemp is not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "cache/sqlite.h"
#include "cache/zstd.h"
#include "descriptors.h"

static bool no_library;
static const char *missing; /* a function that dlsym() does not find */

void *__wrap_dlopen(const char *name, int flags);
void *__real_dlopen(const char *name, int flags);
void *__wrap_dlsym(void *library, const char *name);
void *__real_dlsym(void *library, const char *name);

void *
__wrap_dlopen(const char *name, int flags)
{
	return no_library ? NULL : __real_dlopen(name, flags);
}

void *
__wrap_dlsym(void *library, const char *name)
{
	if (missing != NULL && strcmp(name, missing) == 0)
		return NULL;
	return __real_dlsym(library, name);
}

/* The times of a file, if a test sets them, and the time now. */
static struct statx times;
static time_t now;

int __wrap_statx(
    int fd, const char *path, int flags, unsigned mask, struct statx *st);
int __real_statx(
    int fd, const char *path, int flags, unsigned mask, struct statx *st);
time_t __wrap_time(time_t *at);
time_t __real_time(time_t *at);

int
__wrap_statx(
    int fd, const char *path, int flags, unsigned mask, struct statx *st)
{
	int rc = __real_statx(fd, path, flags, mask, st);

	if (times.stx_mask != 0) {
		st->stx_mask = times.stx_mask;
		st->stx_mtime = times.stx_mtime;
		st->stx_btime = times.stx_btime;
	}
	return rc;
}

time_t
__wrap_time(time_t *at)
{
	return now != 0 ? now : __real_time(at);
}

/* The name of a new file, and the number of descriptors before the test. */
struct place {
	char path[64];
	int nfds;
};

static int
setup(void **state)
{
	static struct place place;
	int fd;

	no_library = false;
	missing = NULL;
	place.nfds = count_fds();
	strcpy(place.path, "/tmp/fzlua_sqlite_XXXXXX");
	fd = mkstemp(place.path);
	assert_true(fd >= 0);
	close(fd);
	*state = &place;
	return 0;
}

static int
teardown(void **state)
{
	static const char *const ends[] = { "", "-wal", "-shm", "-journal" };
	const struct place *place = *state;
	char path[80];

	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s%s", place->path, ends[i]);
		unlink(path);
	}
	assert_int_equal(count_fds(), place->nfds);
	return 0;
}

/* Run a statement without rows. Returns 0, or -1 and `err`. */
static int
run(const struct fz_sqlite *s, const char *sql, struct fz_err *err)
{
	sqlite3_stmt *stmt = fz_sqlite_prepare(s, sql, err);
	int rc;

	if (stmt == NULL)
		return -1;
	do
		rc = fz_sqlite_step(s, stmt, err);
	while (rc == 1);
	s->finalize(stmt);
	return rc;
}

/* The first column of the first row; -1: there is none. */
static int64_t
number(const struct fz_sqlite *s, const char *sql)
{
	sqlite3_stmt *stmt = fz_sqlite_prepare(s, sql, NULL);
	int64_t n = -1;

	assert_non_null(stmt);
	if (fz_sqlite_step(s, stmt, NULL) == 1)
		n = s->column_int64(stmt, 0);
	s->finalize(stmt);
	return n;
}

static void
open_with_table(struct fz_sqlite *s, const struct place *place)
{
	assert_int_equal(
	    fz_sqlite_open(s, place->path, FZ_SQLITE_CREATE, 0, NULL), 0);
	assert_int_equal(run(s, "PRAGMA journal_mode = WAL", NULL), 0);
	assert_int_equal(run(s, "CREATE TABLE t (x)", NULL), 0);
	assert_int_equal(run(s, "INSERT INTO t VALUES (7)", NULL), 0);
}

static void
test_sqlite_says_which_package_is_missing(void **state)
{
	const struct place *place = *state;
	struct fz_err err = { 0 };
	struct fz_sqlite s;
	struct fz_zstd z;

	no_library = true;
	assert_int_equal(
	    fz_sqlite_open(&s, place->path, FZ_SQLITE_CREATE, 0, &err), -1);
	assert_non_null(strstr(err.text, "install the package libsqlite3-0"));
	assert_false(fz_sqlite_is_open(&s));
	fz_sqlite_close(&s);
	assert_int_equal(fz_zstd_init(&z, &err), -1);
	assert_non_null(strstr(err.text, "install the package libzstd1"));
	fz_zstd_fini(&z);
}

static void
test_sqlite_refuses_a_library_without_a_function(void **state)
{
#define NAME(name) "sqlite3_" #name,
	static const char *const names[] = { FZ_SQLITE_FUNCTIONS(NAME) };
	static const char *const zstd_names[] = { "ZSTD_compress",
		"ZSTD_compressBound", "ZSTD_createDCtx", "ZSTD_decompressDCtx",
		"ZSTD_freeDCtx", "ZSTD_isError" };
	const struct place *place = *state;
	struct fz_err err = { 0 };
	struct fz_sqlite s;
	struct fz_zstd z;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		missing = names[i];
		assert_int_equal(
		    fz_sqlite_open(&s, place->path, FZ_SQLITE_CREATE, 0, &err),
		    -1);
		assert_non_null(strstr(err.text, "a newer package"));
		assert_false(fz_sqlite_is_open(&s));
	}
	for (size_t i = 0; i < sizeof(zstd_names) / sizeof(zstd_names[0]);
	     i++) {
		missing = zstd_names[i];
		assert_int_equal(fz_zstd_init(&z, &err), -1);
		assert_non_null(strstr(err.text, "libzstd"));
	}
}

static void
test_sqlite_fails_with_the_text_of_the_library(void **state)
{
	const struct place *place = *state;
	struct fz_err err = { 0 };
	struct fz_sqlite s, other;

	assert_int_equal(
	    fz_sqlite_open(&s, "/proc/no/such/file", FZ_SQLITE_CREATE, 0, &err),
	    -1);
	assert_string_equal(err.text, "unable to open database file");
	assert_int_equal(err.code, SQLITE_CANTOPEN);
	unlink(place->path);
	assert_int_equal(
	    fz_sqlite_open(&s, place->path, FZ_SQLITE_WRITE, 0, &err), -1);
	assert_int_equal(err.code, SQLITE_CANTOPEN);
	open_with_table(&s, place);
	assert_null(fz_sqlite_prepare(&s, "no statement", &err));
	assert_int_equal(err.code, SQLITE_ERROR);
	assert_null(fz_sqlite_prepare(&s, "", &err));
	assert_int_equal(run(&s, "BEGIN IMMEDIATE", NULL), 0);
	assert_int_equal(
	    fz_sqlite_open(&other, place->path, FZ_SQLITE_CREATE, 0, NULL), 0);
	assert_int_equal(run(&other, "BEGIN IMMEDIATE", &err), -1);
	assert_int_equal(err.code, SQLITE_BUSY);
	fz_sqlite_close(&other);
	fz_sqlite_close(&s);
	fz_sqlite_close(&s);
	assert_false(fz_sqlite_is_open(&s));
}

/* The exit code of a child that runs `body`. */
static int
in_child(int (*body)(struct fz_sqlite *s), struct fz_sqlite *s)
{
	pid_t pid = fork();
	int status = -1;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(body(s));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int
close_all(struct fz_sqlite *s)
{
	if (fz_sqlite_is_open(s))
		return 1;
	fz_sqlite_close(s);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	return 0;
}

/* Returns 1 if this process can lock the byte that a writer locks. */
static int
try_to_lock(struct fz_sqlite *s)
{
	struct flock lock = { .l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = 120, /* the byte of writers in the file -shm */
		.l_len = 1 };
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "%s-shm", (const char *)s);
	fd = open(path, O_RDWR);
	return fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0;
}

static void
test_sqlite_a_child_leaves_file_and_locks_alone(void **state)
{
	struct place *place = *state;
	struct fz_sqlite s;

	open_with_table(&s, place);
	assert_int_equal(run(&s, "BEGIN IMMEDIATE", NULL), 0);
	assert_int_equal(run(&s, "INSERT INTO t VALUES (8)", NULL), 0);
	assert_int_equal(in_child(close_all, &s), 0);
	/* The child did not release the lock of its parent. */
	assert_int_equal(in_child(try_to_lock, (void *)place->path), 0);
	assert_int_equal(run(&s, "COMMIT", NULL), 0);
	assert_int_equal(in_child(try_to_lock, (void *)place->path), 1);
	assert_int_equal(number(&s, "SELECT sum(x) FROM t"), 15);
	fz_sqlite_close(&s);
	assert_int_equal(
	    fz_sqlite_open(&s, place->path, FZ_SQLITE_CREATE, 0, NULL), 0);
	assert_int_equal(number(&s, "SELECT sum(x) FROM t"), 15);
	fz_sqlite_close(&s);
}

/* Drop the rights of root to ignore the modes of files. */
static int
obey_modes(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct none[2] = { { 0 } };

	return (int)syscall(SYS_capset, &head, none);
}

/* In a child: use the database in a directory that is not writable. */
static int
read_only_body(struct fz_sqlite *path)
{
	const char *name = (const void *)path;
	struct fz_err err = { 0 };
	struct fz_sqlite s;

	if (obey_modes() != 0)
		return 1;
	if (!fz_sqlite_is_read_only(name))
		return 2;
	if (fz_sqlite_open(&s, name, FZ_SQLITE_CREATE, 0, &err) == 0 &&
	    run(&s, "SELECT x FROM t", &err) == 0)
		return 3; /* the file can be opened without FZ_SQLITE_READ */
	fz_sqlite_close(&s);
	if (fz_sqlite_open(&s, name, FZ_SQLITE_READ, 0, &err) != 0)
		return 4;
	if (number(&s, "SELECT x FROM t") != 7)
		return 5;
	if (run(&s, "INSERT INTO t VALUES (8)", &err) != -1 ||
	    err.code != SQLITE_READONLY)
		return 6;
	fz_sqlite_close(&s);
	return 0;
}

static void
test_sqlite_reads_where_it_may_not_write(void **state)
{
	const struct place *place = *state;
	char directory[] = "/tmp/fzlua_sqlite_XXXXXX", path[80];
	struct fz_sqlite s;

	assert_non_null(mkdtemp(directory));
	open_with_table(&s, place);
	fz_sqlite_close(&s);
	assert_false(fz_sqlite_is_read_only(place->path));
	snprintf(path, sizeof(path), "%s/a ?#%%b", directory);
	assert_false(fz_sqlite_is_read_only(path)); /* no such file yet */
	assert_int_equal(rename(place->path, path), 0);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(chmod(directory, 0555), 0);
	assert_int_equal(in_child(read_only_body, (void *)path), 0);
	assert_int_equal(chmod(directory, 0755), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
}

static void
test_sqlite_reads_what_a_writer_has_written(void **state)
{
	struct place *place = *state;
	struct fz_sqlite s, other;

	open_with_table(&s, place);
	assert_int_equal(
	    fz_sqlite_open(&other, place->path, FZ_SQLITE_READ, 0, NULL), 0);
	assert_int_equal(number(&other, "SELECT x FROM t"), 7);
	assert_int_equal(run(&s, "UPDATE t SET x = 8", NULL), 0);
	assert_int_equal(number(&other, "SELECT x FROM t"), 8);
	fz_sqlite_close(&other);
	fz_sqlite_close(&s);
}

static void
test_zstd_expands_what_it_compressed(void **state)
{
	static char bytes[100000], packed[200000], again[100000];
	struct fz_zstd z;
	size_t n;

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	assert_int_equal(fz_zstd_init(&z, NULL), 0);
	assert_true(z.bound(sizeof(bytes)) <= sizeof(packed));
	n = z.compress(packed, sizeof(packed), bytes, sizeof(bytes), 3);
	assert_false(z.is_error(n));
	assert_true(fz_zstd_expand(&z, again, sizeof(again), packed, n));
	assert_memory_equal(bytes, again, sizeof(bytes));
	assert_false(fz_zstd_expand(&z, again, sizeof(again) - 1, packed, n));
	assert_false(fz_zstd_expand(&z, again, sizeof(again), bytes, 100));
	fz_zstd_fini(&z);
	fz_zstd_fini(&z);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static bool
is_emptied_at(const char *path, int64_t born_ns, int64_t changed_ns)
{
	times.stx_mask = STATX_BASIC_STATS | STATX_BTIME;
	times.stx_btime.tv_sec = born_ns / 1000000000;
	times.stx_btime.tv_nsec = (uint32_t)(born_ns % 1000000000);
	times.stx_mtime.tv_sec = changed_ns / 1000000000;
	times.stx_mtime.tv_nsec = (uint32_t)(changed_ns % 1000000000);
	return fz_sqlite_is_emptied(path);
}

static void
test_sqlite_a_touched_file_is_not_emptied(void **state)
{
	const int64_t second = 1000000000, born = 1000 * second - 1;
	struct place *place = *state;

	close(open(place->path, O_CREAT | O_WRONLY, 0600));
	assert_false(fz_sqlite_is_emptied(place->path));
	assert_false(is_emptied_at(place->path, born, born));
	assert_false(is_emptied_at(place->path, born, born + 1));
	assert_false(is_emptied_at(place->path, born + 4000000, born));
	assert_false(is_emptied_at(place->path, born, born + 2 * second));
	assert_true(is_emptied_at(place->path, born, born + 2 * second + 1));
	assert_true(is_emptied_at(place->path, born, born + 86400 * second));
	assert_true(is_emptied_at(place->path, born, born - 3 * second));

	/* a file system that does not keep the time of birth */
	times.stx_mask = STATX_BASIC_STATS;
	times.stx_mtime.tv_sec = 1000;
	now = 1002;
	assert_false(fz_sqlite_is_emptied(place->path));
	now = 1003;
	assert_true(fz_sqlite_is_emptied(place->path));
	now = 0;
	times.stx_mask = 0;

	assert_int_equal(truncate(place->path, 1), 0);
	assert_false(is_emptied_at(place->path, born, born + 9 * second));
	times.stx_mask = 0;
	assert_false(fz_sqlite_is_emptied("/no/such/file"));
	assert_false(fz_sqlite_is_emptied("/dev/null"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sqlite_says_which_package_is_missing),
		TEST(test_sqlite_refuses_a_library_without_a_function),
		TEST(test_sqlite_fails_with_the_text_of_the_library),
		TEST(test_sqlite_a_child_leaves_file_and_locks_alone),
		TEST(test_sqlite_reads_where_it_may_not_write),
		TEST(test_sqlite_reads_what_a_writer_has_written),
		TEST(test_zstd_expands_what_it_compressed),
		TEST(test_sqlite_a_touched_file_is_not_emptied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
