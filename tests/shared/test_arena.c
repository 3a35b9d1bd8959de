/*
 * Shared memory; system calls and malloc fail on demand.
 * wrap: memfd_create ftruncate mmap madvise fallocate getrlimit open read
 * wrap: malloc calloc realloc
 */
/* memfd_create and madvise are Linux system calls. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "shared/arena.h"

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __real_ftruncate(int fd, off_t len);
int __wrap_ftruncate(int fd, off_t len);
void *__real_mmap(
    void *at, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(
    void *at, size_t len, int prot, int flags, int fd, off_t offset);
int __real_madvise(void *at, size_t len, int advice);
int __wrap_madvise(void *at, size_t len, int advice);
int __real_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);
int __real_getrlimit(int what, struct rlimit *limit);
int __wrap_getrlimit(int what, struct rlimit *limit);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n);
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);

static bool memfd_fails, ftruncate_fails, file_size_limited, no_memory;
static bool meminfo_fails;
static const char *meminfo;   /* what it says, NULL: the truth */
static size_t mmap_max;       /* longer mappings fail */
static int populate_error;    /* of MADV_POPULATE_WRITE */
static int allocate_error;    /* of fallocate without punching */
static int interruptions;     /* EINTR so many times, of both */
static int good_mallocs = -1; /* the next ones; then one fails */

static bool
malloc_fails(void)
{
	return no_memory || (good_mallocs >= 0 && good_mallocs-- == 0);
}

int
__wrap_memfd_create(const char *name, unsigned flags)
{
	errno = ENOSYS;
	return memfd_fails ? -1 : __real_memfd_create(name, flags);
}

int
__wrap_ftruncate(int fd, off_t len)
{
	errno = EFBIG;
	return ftruncate_fails ? -1 : __real_ftruncate(fd, len);
}

void *
__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	errno = ENOMEM;
	if (len > mmap_max)
		return MAP_FAILED;
	return __real_mmap(at, len, prot, flags, fd, offset);
}

int
__wrap_madvise(void *at, size_t len, int advice)
{
	if (advice == MADV_POPULATE_WRITE && interruptions > 0) {
		interruptions--;
		errno = EINTR;
		return -1;
	}
	errno = populate_error;
	if (advice == MADV_POPULATE_WRITE && populate_error != 0)
		return -1;
	return __real_madvise(at, len, advice);
}

int
__wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (mode == 0 && interruptions > 0) {
		interruptions--;
		errno = EINTR;
		return -1;
	}
	errno = allocate_error;
	if (mode == 0 && allocate_error != 0)
		return -1;
	return __real_fallocate(fd, mode, offset, len);
}

int
__wrap_getrlimit(int what, struct rlimit *limit)
{
	int rc = __real_getrlimit(what, limit);

	if (file_size_limited)
		limit->rlim_cur = 1 << 20;
	return rc;
}

int
__wrap_open(const char *path, int flags, ...)
{
	errno = EMFILE;
	return meminfo_fails ? -1 : __real_open(path, flags);
}

ssize_t
__wrap_read(int fd, void *bytes, size_t n)
{
	static bool at_end;

	if (meminfo == NULL)
		return __real_read(fd, bytes, n);
	at_end = !at_end;
	if (!at_end)
		return 0;
	memcpy(bytes, meminfo, strlen(meminfo));
	return (ssize_t)strlen(meminfo);
}

void *
__wrap_malloc(size_t n)
{
	return malloc_fails() ? NULL : __real_malloc(n);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return malloc_fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t n)
{
	return malloc_fails() ? NULL : __real_realloc(p, n);
}

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static int nfds;

static int
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static void
all_works(void)
{
	memfd_fails = ftruncate_fails = file_size_limited = no_memory = false;
	meminfo_fails = false;
	meminfo = NULL;
	mmap_max = (size_t)1 << 32; /* valgrind is slow with more */
	populate_error = allocate_error = interruptions = 0;
	good_mallocs = -1;
}

static int
setup(void **state)
{
	all_works();
	nfds = count_fds();
	*state = fz_arena_new(NULL);
	return *state != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	all_works();
	fz_arena_free(*state);
	return count_fds() == nfds ? 0 : -1;
}

static void
test_arena_extents_are_writable_and_apart(void **state)
{
	struct fz_arena *shm = *state;
	uint64_t a_at, b_at, c_at;
	char *a = fz_arena_alloc(shm, 100, &a_at, NULL);
	char *b = fz_arena_alloc(shm, 64 * KIB, &b_at, NULL);
	char *c = fz_arena_alloc(shm, 3 * MIB, &c_at, NULL);

	assert_true(a_at != 0 && b_at != 0 && c_at != 0);
	memset(a, 'a', 100);
	memset(b, 'b', 64 * KIB);
	memset(c, 'c', 3 * MIB);
	assert_int_equal(a[99], 'a');
	assert_int_equal(b[64 * KIB - 1], 'b');
	assert_int_equal(
	    *(const char *)fz_arena_map(shm, a_at, 100, NULL), 'a');
	assert_true(fz_arena_held(shm) >= 3 * MIB + 65 * KIB);
	assert_true(fz_arena_held(shm) <= 4 * MIB + 128 * KIB);
}

static void
test_arena_given_back_memory_is_used_again(void **state)
{
	struct fz_arena *shm = *state;
	uint64_t at, again;
	char *p = fz_arena_alloc(shm, 5 * MIB, &at, NULL);
	size_t held = fz_arena_held(shm);

	p[0] = 'x';
	fz_arena_give_back(shm, at);
	fz_arena_give_back(shm, at);
	assert_int_equal(fz_arena_held(shm), held);
	assert_ptr_equal(fz_arena_alloc(shm, 5 * MIB, &again, NULL), p);
	assert_int_equal(again, at);
	assert_int_equal(p[0], 'x');
	assert_int_equal(fz_arena_held(shm), held);
}

static void
test_arena_more_than_enough_goes_back_to_the_kernel(void **state)
{
	struct fz_arena *shm = *state;
	uint64_t a, b, c;
	char *p;

	assert_non_null(fz_arena_alloc(shm, FZ_ARENA_WARM / 2, &a, NULL));
	p = fz_arena_alloc(shm, FZ_ARENA_WARM / 2, &b, NULL);
	assert_non_null(p);
	p[FZ_ARENA_WARM / 2 - 1] = 'x';
	assert_non_null(fz_arena_alloc(shm, 64 * KIB, &c, NULL));
	fz_arena_give_back(shm, a);
	fz_arena_give_back(shm, b);
	assert_true(fz_arena_held(shm) > FZ_ARENA_WARM);
	fz_arena_give_back(shm, c);
	assert_true(fz_arena_held(shm) <= FZ_ARENA_WARM);
	assert_int_equal(p[FZ_ARENA_WARM / 2 - 1], 0);
}

/* What `act` returns in a child that has entered `slice`. */
static int
in_child(struct fz_arena *shm, uint32_t slice,
    int (*act)(struct fz_arena *shm, uint64_t offset), uint64_t offset)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		fz_arena_enter(shm, slice);
		_exit(act(shm, offset));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int
read_byte(struct fz_arena *shm, uint64_t offset)
{
	const unsigned char *p = fz_arena_map(shm, offset, 1, NULL);

	return p == NULL ? 255 : *p;
}

static int
write_own(struct fz_arena *shm, uint64_t offset)
{
	uint64_t at;
	char *p = fz_arena_alloc(shm, 10000, &at, NULL);

	if (p == NULL || fz_arena_held(shm) > 20000)
		return 255;
	fz_arena_give_back(shm, offset); /* not ours: nothing happens */
	memset(p, 'w', 10000);
	/* Its first extent is at the place of our parent's first. */
	return (at & 0xffffffff) == (offset & 0xffffffff) && at != offset;
}

static int
grandchild(struct fz_arena *shm, uint64_t offset)
{
	return in_child(shm, fz_arena_next_slice(shm), read_byte, offset);
}

static void
test_arena_child_reads_what_the_parent_wrote(void **state)
{
	struct fz_arena *shm = *state;
	uint64_t at, later;
	char *p = fz_arena_alloc(shm, 100, &at, NULL);
	uint32_t slice = fz_arena_next_slice(shm);

	*p = 42;
	assert_int_equal(in_child(shm, slice, read_byte, at), 42);
	p = fz_arena_alloc(shm, 2 * MIB, &later, NULL);
	*p = 43;
	assert_int_equal(in_child(shm, slice, read_byte, later), 43);
	assert_int_equal(in_child(shm, slice, grandchild, later), 43);
	assert_int_equal(fz_arena_next_slice(shm), slice + 2);
}

static void
test_arena_parent_reads_what_a_child_wrote(void **state)
{
	size_t lens[] = { (size_t)1 << 34, (size_t)1 << 32 };
	struct fz_arena *shm = *state;
	const char *view;
	uint64_t at;
	size_t i;

	assert_non_null(fz_arena_alloc(shm, 100, &at, NULL));
	for (i = 0; i < 2; i++) {
		uint32_t slice = fz_arena_next_slice(shm);
		uint64_t there = at | (uint64_t)slice << FZ_ARENA_SLICE_BITS;

		assert_int_equal(in_child(shm, slice, write_own, at), 1);
		mmap_max = lens[i]; /* with a window, or with a mapping */
		view = fz_arena_map(shm, there + 5000, 5000, NULL);
		assert_non_null(view);
		assert_int_equal(view[0], 'w');
		assert_int_equal(view[4999], 'w');
		fz_arena_unmap(shm, view, 5000);
		fz_arena_drop_slice(shm, slice);
		mmap_max = (size_t)1 << 32;
		view = fz_arena_map(shm, there, 1, NULL);
		assert_int_equal(view[0], 0);
		fz_arena_unmap(shm, view, 1);
	}
}

static void
test_arena_nonsense_cannot_be_mapped(void **state)
{
	struct fz_arena *shm = *state;
	uint64_t slice_end = UINT64_C(1) << FZ_ARENA_SLICE_BITS;
	struct fz_err err = { 0 };

	assert_null(fz_arena_map(shm, 4096, 0, &err));
	assert_null(fz_arena_map(shm, slice_end - 10, 11, &err));
	assert_null(fz_arena_map(shm, 1, SIZE_MAX, &err));
	assert_null(fz_arena_map(shm, UINT64_MAX, 1, &err));
	assert_null(fz_arena_map(shm, UINT64_MAX - 4096, 8192, &err));
	assert_string_equal(err.text, "not inside shared memory");
	mmap_max = 0;
	assert_null(fz_arena_map(shm, slice_end, 10, &err));
	assert_int_equal(err.code, ENOMEM);
}

static void
test_arena_more_than_the_machine_has_is_refused(void **state)
{
	struct fz_arena *shm = *state;
	struct fz_err err = { 0 };
	uint64_t at;

	assert_null(fz_arena_alloc(shm, (size_t)300 << 30, &at, &err));
	assert_int_equal(err.code, ENOMEM);
	assert_null(fz_arena_alloc(shm, SIZE_MAX, &at, &err));
	meminfo = "MemTotal: 1 kB\nMemAvailable: 20000 kB\n";
	assert_null(fz_arena_alloc(shm, 64 * MIB, &at, &err));
	assert_int_equal(fz_arena_held(shm), 0);
	meminfo = "nothing";
	assert_non_null(fz_arena_alloc(shm, 16 * MIB, &at, &err));
	meminfo = NULL;
	meminfo_fails = true;
	assert_non_null(fz_arena_alloc(shm, 16 * MIB, &at, &err));
}

static void
test_arena_unreservable_memory_is_refused(void **state)
{
	struct fz_arena *shm = *state;
	struct fz_err err = { 0 };
	uint64_t at;

	populate_error = ENOMEM;
	assert_null(fz_arena_alloc(shm, MIB, &at, &err));
	assert_int_equal(err.code, ENOMEM);
	populate_error = EINVAL;
	allocate_error = ENOSPC;
	assert_null(fz_arena_alloc(shm, MIB, &at, &err));
	assert_int_equal(err.code, ENOSPC);
	assert_int_equal(fz_arena_held(shm), 0);
	allocate_error = 0;
	interruptions = 3;
	assert_non_null(fz_arena_alloc(shm, MIB, &at, &err));
	populate_error = 0;
	interruptions = 3;
	assert_non_null(fz_arena_alloc(shm, MIB, &at, &err));
}

static void
test_arena_small_address_space_is_enough(void **state)
{
	struct fz_arena *shm = *state;
	uint64_t at;

	mmap_max = (size_t)1 << 31;
	assert_non_null(fz_arena_alloc(shm, MIB, &at, NULL));
	assert_null(fz_arena_alloc(shm, mmap_max / 2, &at, NULL));
}

static void
test_arena_no_address_space_is_told(void **state)
{
	struct fz_arena *shm = *state;
	struct fz_err err = { 0 };
	uint64_t at;
	int i;

	mmap_max = 4096;
	assert_null(fz_arena_alloc(shm, MIB, &at, &err));
	assert_int_equal(err.code, ENOMEM);
	all_works();
	for (i = 0; i < 2; i++) {
		good_mallocs = i;
		assert_null(fz_arena_alloc(shm, MIB, &at, &err));
	}
	good_mallocs = -1;
	fz_arena_enter(shm, UINT32_MAX);
	assert_null(fz_arena_alloc(shm, MIB, &at, &err));
}

static void
test_arena_failures_of_new_are_told(void **state)
{
	struct fz_err err = { 0 };

	(void)state;
	memfd_fails = true;
	assert_null(fz_arena_new(&err));
	assert_int_equal(err.code, ENOSYS);
	all_works();
	ftruncate_fails = true;
	assert_null(fz_arena_new(&err));
	assert_int_equal(err.code, EFBIG);
	all_works();
	file_size_limited = true;
	assert_null(fz_arena_new(&err));
	assert_non_null(strstr(err.text, "file size limit"));
	all_works();
	mmap_max = 0;
	assert_null(fz_arena_new(&err));
	assert_int_equal(err.code, ENOMEM);
	all_works();
	no_memory = true;
	assert_null(fz_arena_new(&err));
	fz_arena_free(NULL);
}

static void
fill(struct fz_buf *buf, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 4)
		fz_buf_put_u32(buf, (uint32_t)i);
}

static void
assert_filled(const unsigned char *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 4)
		assert_int_equal(fz_le32_load(p + i), i);
}

static void
test_arena_buf_moves_in_beyond_the_threshold(void **state)
{
	struct fz_arena *shm = *state;
	struct fz_arena_buf sb;
	uint64_t at;
	size_t held;

	fz_arena_buf_init(&sb, shm, 64 * KIB);
	fill(&sb.buf, 64 * KIB);
	assert_false(sb.in_arena);
	fill(&sb.buf, 4);
	assert_true(sb.in_arena);
	fz_buf_clear(&sb.buf);
	fill(&sb.buf, 5 * MIB);
	assert_true(sb.in_arena && !sb.buf.failed);
	assert_filled(sb.buf.data, 5 * MIB);
	at = fz_arena_buf_take(&sb);
	assert_int_equal(sb.buf.len, 0);
	assert_filled(fz_arena_map(shm, at, 5 * MIB, NULL), 5 * MIB);
	held = fz_arena_held(shm);
	fz_arena_give_back(shm, at);
	assert_int_equal(fz_arena_held(shm), held);
	fill(&sb.buf, 3 * MIB);
	assert_true(sb.in_arena);
	fz_buf_fini(&sb.buf);
	assert_int_equal(fz_arena_held(shm), held);
	fill(&sb.buf, 100);
	fz_buf_fini(&sb.buf);
}

static void
test_arena_buf_falls_back_to_malloc(void **state)
{
	struct fz_arena *shm = *state;
	struct fz_arena_buf sb;

	fz_arena_buf_init(&sb, NULL, 0);
	fill(&sb.buf, MIB);
	assert_false(sb.in_arena || sb.buf.failed);
	fz_buf_fini(&sb.buf);

	fz_arena_buf_init(&sb, shm, 1024);
	fill(&sb.buf, 2 * MIB);
	assert_true(sb.in_arena);
	populate_error = ENOMEM;
	fill(&sb.buf, 4 * MIB);
	assert_false(sb.in_arena || sb.buf.failed);
	assert_filled(sb.buf.data, 2 * MIB);
	assert_filled(sb.buf.data + 2 * MIB, 4 * MIB);
	populate_error = 0;
	fz_buf_fini(&sb.buf);

	fill(&sb.buf, 2 * MIB);
	assert_true(sb.in_arena);
	populate_error = ENOMEM;
	no_memory = true;
	fill(&sb.buf, 8 * MIB);
	assert_true(sb.in_arena && sb.buf.failed);
	no_memory = false;
	fz_buf_fini(&sb.buf);
	no_memory = true;
	fill(&sb.buf, 100);
	assert_true(sb.buf.failed);
}

static void
test_arena_buf_moves_where_it_cannot_grow(void **state)
{
	struct fz_arena *shm = *state;
	struct fz_arena_buf sb;
	uint64_t wall;

	fz_arena_buf_init(&sb, shm, 1024);
	fill(&sb.buf, 2 * MIB);
	assert_non_null(fz_arena_alloc(shm, 2 * MIB, &wall, NULL));
	assert_true(wall > sb.offset);
	fz_buf_clear(&sb.buf);
	fill(&sb.buf, 12 * MIB);
	assert_true(sb.in_arena && sb.offset > wall);
	assert_filled(sb.buf.data, 12 * MIB);
	fz_buf_fini(&sb.buf);
}

/* ---- room that another process writes to --------------------------------- */

/* Two pages and a bit; the bytes behind it stay as they are. */
enum { ROOM = 10000 };

static int
fill_room(struct fz_arena *shm, uint64_t offset)
{
	unsigned char *p = fz_arena_map_room(shm, offset, ROOM, NULL);

	if (p == NULL || p[0] != 'o' || p[ROOM - 1] != 'o')
		return 255;
	memset(p, 'w', ROOM);
	fz_arena_unmap(shm, p, ROOM);
	return fz_arena_held(shm) == 0; /* it is not ours */
}

static int
fill_room_below(struct fz_arena *shm, uint64_t offset)
{
	return in_child(shm, fz_arena_next_slice(shm), fill_room, offset);
}

static void
test_arena_room_that_a_child_writes_is_its_owners(void **state)
{
	struct fz_arena *shm = *state;
	uint64_t at, behind;
	unsigned char *p = fz_arena_alloc(shm, ROOM, &at, NULL);
	unsigned char *q = fz_arena_alloc(shm, ROOM, &behind, NULL);

	for (int i = 0; i < 2; i++) {
		uint32_t slice = fz_arena_next_slice(shm);

		memset(p, 'o', ROOM);
		memset(q, 'q', ROOM);
		assert_int_equal(in_child(shm, slice,
				     i == 0 ? fill_room : fill_room_below, at),
		    1);
		for (size_t j = 0; j < ROOM; j++) {
			assert_int_equal(p[j], 'w');
			assert_int_equal(q[j], 'q');
		}
		fz_arena_drop_slice(shm, slice); /* that was not there */
		assert_int_equal(p[0], 'w');
	}
	/* Its owner reads it as any other extent. */
	q = fz_arena_map_room(shm, at, ROOM, NULL);
	memset(q, 'x', ROOM);
	assert_int_equal(p[ROOM - 1], 'x');
	fz_arena_unmap(shm, q, ROOM);
	assert_int_equal(p[ROOM - 1], 'x');
	fz_arena_give_back(shm, at);
}

static int
count_mappings(void)
{
	DIR *dir = opendir("/proc/self/map_files");
	int n = 0;

	while (dir != NULL && readdir(dir) != NULL)
		n++;
	if (dir != NULL)
		closedir(dir);
	return n;
}

static void
test_arena_room_is_unmapped(void **state)
{
	struct fz_arena *shm = *state;
	uint64_t at;
	int before;

	assert_non_null(fz_arena_alloc(shm, 1 << 20, &at, NULL));
	before = count_mappings();
	for (size_t len = 1; len <= 1 << 20; len += 9999) {
		char *p = fz_arena_map_room(shm, at, len, NULL);

		assert_non_null(p);
		p[len - 1] = 'x';
		fz_arena_unmap(shm, p, len);
	}
	assert_int_equal(count_mappings(), before);
}

static void
test_arena_room_that_is_none_cannot_be_mapped(void **state)
{
	struct fz_arena *shm = *state;
	uint64_t slice_end = UINT64_C(1) << FZ_ARENA_SLICE_BITS;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), at;
	struct {
		uint64_t offset;
		size_t len;
	} cases[] = { { 1, 1 }, { page + 1, 1 }, { page - 1, 1 },
		{ page + 16, page }, { page, 0 }, { 0, 0 }, { page, SIZE_MAX },
		{ slice_end - page, page + 1 }, { 0, slice_end + 1 },
		{ UINT64_MAX, 1 }, { UINT64_MAX - page + 1, page },
		{ UINT64_MAX - page + 1, 2 * page } };
	struct fz_err err;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		err = (struct fz_err){ 0 };
		assert_null(fz_arena_map_room(
		    shm, cases[i].offset, cases[i].len, &err));
		assert_string_equal(err.text, "not inside shared memory");
		assert_null(fz_arena_map_room(
		    shm, cases[i].offset, cases[i].len, NULL));
	}
	assert_non_null(fz_arena_alloc(shm, ROOM, &at, NULL));
	mmap_max = 0;
	assert_null(fz_arena_map_room(shm, at, ROOM, &err));
	assert_int_equal(err.code, ENOMEM);
	assert_non_null(strstr(err.text, "cannot map shared memory"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_arena_extents_are_writable_and_apart),
		TEST(test_arena_given_back_memory_is_used_again),
		TEST(test_arena_more_than_enough_goes_back_to_the_kernel),
		TEST(test_arena_child_reads_what_the_parent_wrote),
		TEST(test_arena_parent_reads_what_a_child_wrote),
		TEST(test_arena_nonsense_cannot_be_mapped),
		TEST(test_arena_more_than_the_machine_has_is_refused),
		TEST(test_arena_unreservable_memory_is_refused),
		TEST(test_arena_small_address_space_is_enough),
		TEST(test_arena_no_address_space_is_told),
		TEST(test_arena_failures_of_new_are_told),
		TEST(test_arena_buf_moves_in_beyond_the_threshold),
		TEST(test_arena_buf_falls_back_to_malloc),
		TEST(test_arena_buf_moves_where_it_cannot_grow),
		TEST(test_arena_room_that_a_child_writes_is_its_owners),
		TEST(test_arena_room_is_unmapped),
		TEST(test_arena_room_that_is_none_cannot_be_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
