/* MADV_POPULATE_WRITE is an extension of Linux. */
#define _GNU_SOURCE
#include "shared/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/seed.h"
#include "os/fd.h"
#include "shared/heap_state.h"
#include "shared/memfd.h"

#define SIZE_MIN ((size_t)64 << 20)

static size_t
head_size(uint32_t nblocks)
{
	size_t n = sizeof(struct head) + nblocks * sizeof(uint64_t);

	return (n + BLOCK - 1) & ~(BLOCK - 1);
}

#ifdef FZ_VALGRIND /* valgrind's search for leaks touches every page */
#define SIZE_USUAL (UINT64_C(1) << 29)
#define SIZE_MAX_USED SIZE_USUAL
#else
#define SIZE_USUAL (UINT64_C(1) << 32)
#define SIZE_MAX_USED (UINT64_C(1) << 38) /* names have 30 bits */
#endif

/*
 * The size to map: twice the memory of the machine, because free blocks lie
 * between used ones. If this process has a limit of address space, at most a
 * quarter of it, because the script needs address space, too.
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
	return (size_t)(size & ~(uint64_t)(BLOCK - 1));
}

/* Map the file. If address space is short, halve `*size` until it fits. */
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
	    heap->base + offset, before + len, heap->fd, (off_t)offset);
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
	if (heap->base != NULL)
		munmap(heap->base, heap->size);
	heap->base = NULL;
	heap->nforeign = NULL;
	fz_fd_close(&heap->wake_fd);
	if (heap->fd == -1 && heap->keeper == getpid())
		fz_fd_close(&heap->kept_fd);
	fz_fd_close(&heap->fd);
}

/* Set the pointers into the heap, which is now mapped at `at`. */
static void
set_mapping(void *at)
{
	heap->base = at;
	heap->nforeign = &heap_head()->nforeign;
	heap->owners = (_Atomic uint64_t *)(heap_head() + 1);
	heap->blocks = heap->base + head_size((uint32_t)(heap->size / BLOCK));
	madvise(at, heap->size, MADV_DONTDUMP);
}

static int
init_region(struct fz_err *err)
{
	struct head *head = heap_head();
	size_t room = heap->size;
	int code;

	head->nblocks =
	    (uint32_t)((room - head_size((uint32_t)(room / BLOCK))) / BLOCK);
	head->id = (uint32_t)(fz_seed_mix(
				  (uint64_t)fz_clock_ns(), (uint64_t)getpid()) &
			      FZ_HEAP_ID_MAX);
	code = fz_heap_init_lock(&head->joining);
	if (code != 0)
		return fz_err_sys(err, code, "cannot set up shared memory");
	return 0;
}

static int
make_files(struct fz_err *err)
{
	heap->fd = fz_memfd_new("fzlua-heap", 0, err);
	if (heap->fd == -1)
		return -1;
	heap->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (heap->wake_fd == -1)
		return fz_err_sys(err, errno, "cannot make shared memory");
	return fz_fd_clear_standard(&heap->wake_fd, err);
}

/* Whether memory is reserved through the file, as before Linux 5.14. */
static bool
needs_file(void)
{
	return madvise(heap->base, 1, MADV_POPULATE_WRITE) != 0;
}

/*
 * Keep the file for programs that this process starts. Workers keep only the
 * mapping: a worker that writes to all its descriptors, or closes them and
 * opens other files, must not damage shared memory.
 */
static void
keep_file(void)
{
	heap->keeper = getpid();
	heap->kept_fd = heap->fd;
	if (!needs_file() && fz_fd_make_private(heap->fd, NULL) == 0)
		heap->fd = -1;
}

static int
open_region(struct fz_err *err)
{
	void *at;

	heap->fd = heap->wake_fd = -1;
	if (make_files(err) != 0)
		return -1;
	heap->size = wanted_size();
	at = map_region(heap->fd, &heap->size);
	if (at == MAP_FAILED)
		return fz_err_sys(err, errno, "cannot map shared memory");
	set_mapping(at);
	keep_file();
	if (fz_heap_reserve(at, offsetof(struct head, members)) != 0)
		return fz_err_sys(err, errno, "cannot allocate shared memory");
	return init_region(err);
}

/* Map the heap unless it is mapped. The caller holds fz_process.lock. */
static int
open_once(struct fz_err *err)
{
	if (heap->base != NULL)
		return 0;
	/*
	 * If an ancestor could not map the heap, do not map one here: other
	 * processes would not share it.
	 */
	if (heap->failed != 0 && heap->failed != getpid())
		return fz_err_set(err, FZ_ERR_ERROR,
		    "no shared memory, because there was none when this "
		    "process was started");
	heap->failed = 0;
	if (open_region(err) == 0)
		return 0;
	close_region();
	heap->failed = getpid();
	return -1;
}

int
fz_heap_open(struct fz_err *err)
{
	int rc = fz_process_watch_forks();

	if (rc != 0)
		return fz_err_sys(err, rc, "cannot install fork handlers");
	fz_process_lock();
	rc = open_once(err);
	fz_process_unlock();
	return rc;
}

/* Open the heap's file in another process than the one that keeps it. */
static int
open_kept(void)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)heap->keeper,
	    heap->kept_fd);
	return open(path, O_RDWR | O_CLOEXEC);
}

void
fz_heap_open_files(struct fz_heap_files *files)
{
	*files = (struct fz_heap_files){ .file = -1, .wake = -1, .kept = -1 };
	if (heap->base == NULL)
		return;
	files->keeper = heap->keeper;
	files->kept = heap->kept_fd;
	files->wake = heap->wake_fd;
	files->file = heap->keeper == getpid() ? heap->kept_fd : heap->fd;
	if (files->file == -1) {
		files->file = open_kept();
		files->opened = true;
		fz_fd_clear_standard(&files->file, NULL);
	}
}

void
fz_heap_close_files(struct fz_heap_files *files)
{
	if (files->opened)
		fz_fd_close(&files->file);
}

static void *
map_inherited(const struct fz_heap_files *files)
{
	struct stat st;

	if (files->file == -1 || fstat(files->file, &st) != 0)
		return MAP_FAILED;
	heap->size = (size_t)st.st_size;
	return mmap(NULL, heap->size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, files->file, 0);
}

void
fz_heap_inherit(const struct fz_heap_files *files)
{
	void *at = map_inherited(files);

	heap->fd = files->file;
	heap->wake_fd = files->wake;
	heap->keeper = files->keeper;
	heap->kept_fd = files->kept;
	if (at == MAP_FAILED) {
		close_region();
		heap->failed = getppid();
		return;
	}
	set_mapping(at);
	/* ignore a failure here; a join will report it */
	fz_process_watch_forks();
	if (!needs_file())
		fz_fd_close(&heap->fd);
}

void
fz_heap_acquire(struct fz_membership *own)
{
	*own = (struct fz_membership){ .acquired = true };
	fz_process_lock();
	heap->nholders++;
	fz_process_unlock();
}

/*
 * Leave the heap. Unlocks the member's mutex, because its address is in a list
 * of the thread that has locked it, and the mapping may end now. Returns false
 * if another living thread has locked it.
 */
static bool
leave(uint32_t self, bool last)
{
	struct member *m = member_at(fz_heap_place(self));

	if (!last)
		fz_heap_reclaim_member(self);
	atomic_store(&m->wait.member, 0);
	if (pthread_mutex_unlock(&m->life) == 0)
		return true;
	if (fz_heap_lock(&m->life, false) != 0)
		return false;
	pthread_mutex_unlock(&m->life);
	return true;
}

/* Whether no mutex of a member is locked by a thread of this process. */
static bool
is_unlocked(void)
{
	uint32_t n = fz_heap_nplaces();

	for (uint32_t i = 0; i < n; i++) {
		struct member *m = member_at(i);

		if (m->pid != getpid())
			continue;
		if (fz_heap_lock(&m->life, false) != 0)
			return false;
		pthread_mutex_unlock(&m->life);
	}
	return true;
}

/*
 * Unmap the heap, unless this process still holds a mutex in it. The caller
 * holds fz_process.lock.
 */
static void
close_unlocked(void)
{
	heap->failed = 0;
	if (heap->base == NULL || (heap->left_locked && !is_unlocked()))
		return;
	close_region();
	heap->left_locked = false;
}

void
fz_heap_release(struct fz_membership *own)
{
	uint32_t self =
	    own->generation == fz_process.generation ? own->owner : 0;

	*own = (struct fz_membership){ .acquired = false };
	fz_process_lock();
	if (self != 0 && !leave(self, heap->nholders == 1))
		heap->left_locked = true;
	if (--heap->nholders == 0)
		close_unlocked();
	fz_process_unlock();
}

int
fz_heap_wake_fd(void)
{
	return heap->base != NULL ? heap->wake_fd : -1;
}

void
fz_heap_wake_all(void)
{
	uint64_t one = 1, many;
	ssize_t n;

	if (heap->base == NULL)
		return;
	do
		n = write(heap->wake_fd, &one, sizeof(one));
	while (n == -1 && (errno == EINTR ||
			      /* a process has set the counter to its limit */
			      (errno == EAGAIN && read(heap->wake_fd, &many,
						      sizeof(many)) > 0)));
}
