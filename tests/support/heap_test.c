/* kill, madvise and others are not in C11. */
#define _GNU_SOURCE
#include "heap_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "this_member.h"

struct report *report;

struct heap_faults heap_faults;

void
heap_faults_at(unsigned n, bool die)
{
	heap_faults.pid = getpid();
	heap_faults.calls = 0;
	heap_faults.at = n;
	heap_faults.die = die;
}

bool
heap_faults_end(void)
{
	heap_faults.pid = 0;
	return heap_faults.calls >= heap_faults.at;
}

static bool
fails(void)
{
	if (heap_faults.pid == 0 || heap_faults.pid != getpid() ||
	    ++heap_faults.calls != heap_faults.at)
		return false;
	if (heap_faults.die)
		raise(SIGKILL);
	return true;
}

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __real_eventfd(unsigned n, int flags);
int __wrap_eventfd(unsigned n, int flags);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
int __real_madvise(void *at, size_t len, int advice);
int __wrap_madvise(void *at, size_t len, int advice);
int __real_getrlimit(__rlimit_resource_t what, struct rlimit *limit);
int __wrap_getrlimit(__rlimit_resource_t what, struct rlimit *limit);
int __real_pthread_mutexattr_init(pthread_mutexattr_t *attr);
int __wrap_pthread_mutexattr_init(pthread_mutexattr_t *attr);
int __real_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a);
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a);
int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);

static int
failed(int code)
{
	errno = code;
	return -1;
}

int
__wrap_memfd_create(const char *name, unsigned flags)
{
	return fails() ? failed(EMFILE) : __real_memfd_create(name, flags);
}

int
__wrap_eventfd(unsigned n, int flags)
{
	return fails() ? failed(EMFILE) : __real_eventfd(n, flags);
}

void *
__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	/* The caller tries again with less, which must fail, too. */
	if (fails()) {
		heap_faults.at =
		    n > ((size_t)64 << 20) * 2 ? heap_faults.at + 1 : 0;
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap(at, n, prot, flags, fd, off);
}

int
__wrap_madvise(void *at, size_t len, int advice)
{
	if (advice == MADV_POPULATE_WRITE)
		heap_faults.reserves++;
	return advice != MADV_DONTDUMP && fails()
		   ? failed(EFAULT)
		   : __real_madvise(at, len, advice);
}

int
__wrap_getrlimit(__rlimit_resource_t what, struct rlimit *limit)
{
	return fails() ? failed(EINVAL) : __real_getrlimit(what, limit);
}

int
__wrap_pthread_mutexattr_init(pthread_mutexattr_t *attr)
{
	return fails() ? ENOMEM : __real_pthread_mutexattr_init(attr);
}

int
__wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a)
{
	return fails() ? ENOMEM : __real_pthread_mutex_init(m, a);
}

/* Only locks in shared memory fail, and not the lock of this process. */
static bool
is_shared(const pthread_mutex_t *mutex)
{
	return mutex != &fz_process.lock;
}

int
__wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
	return is_shared(mutex) && fails() ? ENOTRECOVERABLE
					   : __real_pthread_mutex_lock(mutex);
}

int
__wrap_pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	return fails() ? EBUSY : __real_pthread_mutex_trylock(mutex);
}

int
__wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	if (heap_faults.die && is_shared(mutex))
		fails();
	return __real_pthread_mutex_unlock(mutex);
}

void
heap_test_nap(int ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

pid_t
start_member(void (*f)(uint64_t arg), uint64_t arg)
{
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid != 0)
		return pid;
	f(arg);
	for (;;)
		pause();
}

void
kill_member(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

void
await_report(_Atomic uint64_t *what)
{
	int64_t until = fz_clock_ns() + 60 * FZ_CLOCK_SECOND;

	while (atomic_load(what) == 0 && fz_clock_ns() < until)
		heap_test_nap(1);
	assert_int_not_equal(atomic_load(what), 0);
}

pid_t
start_reporting_member(void (*f)(uint64_t arg), uint64_t arg)
{
	pid_t pid;

	atomic_store(&report->number, 0);
	pid = start_member(f, arg);
	await_report(&report->number);
	return pid;
}

void
await_used(size_t used)
{
	int64_t until = fz_clock_ns() + 60 * FZ_CLOCK_SECOND;

	while (fz_heap_used() != used && fz_clock_ns() < until) {
		void *block = fz_heap_alloc(join(), 1, NULL);

		if (block != NULL)
			fz_heap_give_back(block);
		heap_test_nap(20);
	}
	assert_int_equal(fz_heap_used(), used);
}

int
heap_test_setup(void **state)
{
	(void)state;
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fz_heap_acquire(&this_member);
	return report == MAP_FAILED ? -1 : 0;
}

int
heap_test_teardown(void **state)
{
	(void)state;
	heap_faults.pid = 0;
	fz_heap_release(&this_member);
	munmap(report, sizeof(*report));
	return fz_heap_wake_fd() == -1 ? 0 : -1;
}
