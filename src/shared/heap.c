/* MADV_POPULATE_WRITE is Linux only. */
#define _GNU_SOURCE
#include "shared/heap.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fd.h"
#include "shared/heap_state.h"
#include "shared/memfd.h"

#define SIZE_MIN ((size_t)64 << 20)

unsigned char *fz_heap_base;
struct fz_heap fz_heap = { .fd = -1, .wake_fd = -1 };

static size_t
head_size(uint32_t nchunks)
{
	size_t n = sizeof(struct head) + nchunks * sizeof(uint64_t);

	return (n + CHUNK - 1) & ~(CHUNK - 1);
}

#ifdef FZ_VALGRIND /* its search for leaks touches every page */
#define SIZE_USUAL (UINT64_C(1) << 29)
#define SIZE_MAX_USED SIZE_USUAL
#else
#define SIZE_USUAL (UINT64_C(1) << 32)
#define SIZE_MAX_USED (UINT64_C(1) << 38) /* a name has 30 bits */
#endif

/*
 * Twice the memory of the machine, because free chunks lie in between. But most
 * addresses that a limited process may use are left to the script.
 */
static size_t
wanted_size(void)
{
	uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
	uint64_t size = 2 * pages * (uint64_t)sysconf(_SC_PAGESIZE);
	struct rlimit limit;

	if (size < SIZE_USUAL)
		size = SIZE_USUAL;
	if (size > SIZE_MAX_USED)
		size = SIZE_MAX_USED;
	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur / 4 < size)
		size = limit.rlim_cur / 4;
	if (size < SIZE_MIN)
		size = SIZE_MIN;
	return (size_t)(size & ~(uint64_t)(CHUNK - 1));
}

/* Map less if address space is short. */
static void *
map_region(int fd, size_t *size)
{
	void *at = MAP_FAILED;

	for (; *size >= SIZE_MIN; *size /= 2) {
		if (ftruncate(fd, (off_t)*size) == -1)
			continue;
		at = mmap(NULL, *size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_NORESERVE, fd, 0);
		if (at != MAP_FAILED)
			break;
	}
	return at;
}

int
fz_heap_reserve(const void *at, size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t offset = (size_t)fz_ref_offset(at), before = offset % page;

	offset -= before;
	return fz_memfd_reserve(
	    fz_heap_base + offset, before + len, fz_heap.fd, (off_t)offset);
}

/* A forked child is not a member yet: forget the parent's membership. */
static void
forget_member(void)
{
	if (fz_heap.self == 0)
		return; /* a write would have this page copied */
	fz_heap.self = 0;
	fz_heap.cells = NULL;
	fz_ref_set(&fz_heap.dropped, NULL);
}

int
fz_heap_init_lock(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;
	int code = pthread_mutexattr_init(&attr);

	if (code != 0)
		return code;
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	code = pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return code;
}

static void
close_region(void)
{
	if (fz_heap_base != NULL)
		munmap(fz_heap_base, fz_heap.size);
	fz_heap_base = NULL;
	fz_fd_close(&fz_heap.wake_fd);
	fz_fd_close(&fz_heap.fd);
}

static int
init_region(struct fz_err *err)
{
	static bool hooked;
	struct head *head = heap_head();
	size_t room = fz_heap.size;
	int code;

	head->nchunks =
	    (uint32_t)((room - head_size((uint32_t)(room / CHUNK))) / CHUNK);
	fz_heap.owners = (_Atomic uint64_t *)(head + 1);
	fz_heap.chunks =
	    (unsigned char *)head + head_size((uint32_t)(room / CHUNK));
	code = fz_heap_init_lock(&head->joining);
	if (code == 0 && !hooked)
		code = pthread_atfork(NULL, NULL, forget_member);
	if (code != 0)
		return fz_err_sys(err, code, "cannot set up shared memory");
	hooked = true;
	return 0;
}

static int
make_files(struct fz_err *err)
{
	fz_heap.fd = fz_memfd_new("fzlua-heap", 0, err);
	if (fz_heap.fd == -1)
		return -1;
	fz_heap.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fz_heap.wake_fd == -1)
		return fz_err_sys(err, errno, "cannot make shared memory");
	return fz_fd_clear_standard(&fz_heap.wake_fd, err);
}

/*
 * Keep the mapping alone, so that a process that writes to all its descriptors,
 * or closes them and opens files, does not reach what all share. Before Linux
 * 5.14 the file is needed to reserve memory.
 */
static void
close_file(void)
{
	if (madvise(fz_heap_base, 1, MADV_POPULATE_WRITE) == 0)
		fz_fd_close(&fz_heap.fd);
}

static int
open_region(struct fz_err *err)
{
	void *at;

	if (make_files(err) != 0)
		return -1;
	fz_heap.size = wanted_size();
	at = map_region(fz_heap.fd, &fz_heap.size);
	if (at == MAP_FAILED)
		return fz_err_sys(err, errno, "cannot map shared memory");
	fz_heap_base = at;
	madvise(at, fz_heap.size, MADV_DONTDUMP);
	close_file();
	if (fz_heap_reserve(at, offsetof(struct head, members)) != 0)
		return fz_err_sys(err, errno, "no memory to share");
	return init_region(err);
}

int
fz_heap_open(struct fz_err *err)
{
	if (fz_heap_base != NULL)
		return 0;
	/* A heap of its own would not be that of the other processes. */
	if (fz_heap.failed != 0 && fz_heap.failed != getpid())
		return fz_err_set(err, FZ_ERR_ERROR,
		    "no shared memory, as there was none when this process "
		    "was started");
	fz_heap.failed = 0;
	if (open_region(err) == 0)
		return 0;
	close_region();
	fz_heap.failed = getpid();
	return -1;
}

void
fz_heap_acquire(void)
{
	fz_heap.nholders++;
}

bool
fz_heap_is_acquired(void)
{
	return fz_heap.nholders != 0;
}

/*
 * Unlock the own mutex: a robust one that is locked is in a list of its thread,
 * and must not be unmapped. False: another thread has locked it, and lives; the
 * region stays mapped, for the next state that needs one.
 */
static bool
leave(void)
{
	struct member *m = member_at(fz_heap_place(fz_heap.self));

	if (pthread_mutex_unlock(&m->life) == 0)
		return true;
	if (fz_heap_lock(&m->life, false) != 0)
		return false;
	pthread_mutex_unlock(&m->life);
	return true;
}

void
fz_heap_release(void)
{
	if (--fz_heap.nholders != 0)
		return;
	fz_heap.failed = 0;
	if (fz_heap_base == NULL)
		return;
	if (fz_heap.self != 0 && !leave())
		return;
	forget_member();
	close_region();
}

int
fz_heap_wake_fd(void)
{
	return fz_heap.wake_fd;
}

void
fz_heap_wake_all(void)
{
	uint64_t one = 1, many;
	ssize_t n;

	if (fz_heap.wake_fd == -1)
		return;
	do
		n = write(fz_heap.wake_fd, &one, sizeof(one));
	while (n == -1 && (errno == EINTR ||
			      /* Full, because some process wrote to it. */
			      (errno == EAGAIN && read(fz_heap.wake_fd, &many,
						      sizeof(many)) > 0)));
}
