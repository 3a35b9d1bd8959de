/* memfd_create and madvise are Linux system calls. */
#define _GNU_SOURCE
#include "arena_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "descriptors.h"
#include "no_memory.h"

struct arena_faults arena_faults;

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

int
__wrap_memfd_create(const char *name, unsigned flags)
{
	errno = ENOSYS;
	return arena_faults.memfd_fails ? -1 : __real_memfd_create(name, flags);
}

int
__wrap_ftruncate(int fd, off_t len)
{
	errno = EFBIG;
	return arena_faults.ftruncate_fails ? -1 : __real_ftruncate(fd, len);
}

void *
__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	errno = ENOMEM;
	if (len > arena_faults.mmap_max)
		return MAP_FAILED;
	return __real_mmap(at, len, prot, flags, fd, offset);
}

int
__wrap_madvise(void *at, size_t len, int advice)
{
	if (advice == MADV_POPULATE_WRITE && arena_faults.interruptions > 0) {
		arena_faults.interruptions--;
		errno = EINTR;
		return -1;
	}
	errno = arena_faults.populate_error;
	if (advice == MADV_POPULATE_WRITE && arena_faults.populate_error != 0)
		return -1;
	return __real_madvise(at, len, advice);
}

int
__wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (mode == 0 && arena_faults.interruptions > 0) {
		arena_faults.interruptions--;
		errno = EINTR;
		return -1;
	}
	errno = arena_faults.allocate_error;
	if (mode == 0 && arena_faults.allocate_error != 0)
		return -1;
	return __real_fallocate(fd, mode, offset, len);
}

int
__wrap_getrlimit(int what, struct rlimit *limit)
{
	int rc = __real_getrlimit(what, limit);

	if (arena_faults.file_size_limited)
		limit->rlim_cur = 1 << 20;
	return rc;
}

int
__wrap_open(const char *path, int flags, ...)
{
	errno = EMFILE;
	return arena_faults.meminfo_fails ? -1 : __real_open(path, flags);
}

ssize_t
__wrap_read(int fd, void *bytes, size_t n)
{
	static bool at_end;

	if (arena_faults.meminfo == NULL)
		return __real_read(fd, bytes, n);
	at_end = !at_end;
	if (!at_end)
		return 0;
	memcpy(bytes, arena_faults.meminfo, strlen(arena_faults.meminfo));
	return (ssize_t)strlen(arena_faults.meminfo);
}

static int nfds;

void
arena_faults_end(void)
{
	no_memory = false;
	good_mallocs = -1;
	arena_faults = (struct arena_faults){
		.mmap_max = (size_t)1 << 32, /* valgrind is slow with more */
	};
}

int
arena_test_setup(void **state)
{
	arena_faults_end();
	nfds = count_fds();
	*state = fz_arena_new(NULL);
	return *state != NULL ? 0 : -1;
}

int
arena_test_teardown(void **state)
{
	arena_faults_end();
	fz_arena_free(*state);
	return count_fds() == nfds ? 0 : -1;
}

int
in_arena_child(struct fz_arena *arena, uint32_t slice,
    int (*act)(struct fz_arena *arena, uint64_t offset), uint64_t offset)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		fz_arena_enter(arena, slice);
		_exit(act(arena, offset));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}
