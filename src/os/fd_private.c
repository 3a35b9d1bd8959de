/* clone, dup3 and syscall are Linux and GNU. */
#define _GNU_SOURCE
#include "os/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "os/process.h"

/*
 * Minimum number of private descriptors that a helper closes. The start of the
 * helper takes as long as to close 300 descriptors, and some of its work delays
 * this process.
 */
enum { PRIVATE_MANY = 500 };

/* maximum number of non-private descriptors that first_of_last() skips */
enum { PRIVATE_OTHERS = 64 };

static _Atomic uint64_t *
private_word(int fd)
{
	return &fz_process.private_fds[fd / 64];
}

static uint64_t
private_bit(int fd)
{
	return UINT64_C(1) << fd % 64;
}

int
fz_fd_make_private(int fd, struct fz_err *err)
{
	int n = atomic_load(&fz_process.nprivate), word = fd / 64;

	if (fd >= FZ_PROCESS_FDS)
		return fz_err_sys(err, EMFILE, "descriptor %d", fd);
	while (n <= word && !atomic_compare_exchange_weak(
				&fz_process.nprivate, &n, word + 1))
		continue;
	atomic_fetch_or(private_word(fd), private_bit(fd));
	return 0;
}

bool
fz_fd_is_private(int fd)
{
	return fd < FZ_PROCESS_FDS &&
	       (atomic_load_explicit(private_word(fd), memory_order_relaxed) &
		   private_bit(fd)) != 0;
}

void
fz_fd_clear_private(int fd)
{
	if (fz_fd_is_private(fd))
		atomic_fetch_and(private_word(fd), ~private_bit(fd));
}

/*
 * The first number from `fd` on that is private if `wanted`, else the first
 * that is not.
 */
static int
next_private(int fd, bool wanted)
{
	int end = 64 * atomic_load(&fz_process.nprivate);

	while (fd < end && fz_fd_is_private(fd) != wanted) {
		if (wanted && atomic_load(private_word(fd)) == 0)
			fd |= 63; /* skip the rest of this word */
		fd++;
	}
	return fd;
}

static bool
has_many(void)
{
	int n = atomic_load(&fz_process.nprivate), count = 0;

	for (int i = 0; i < n; i++)
		count += __builtin_popcountll(
		    atomic_load(&fz_process.private_fds[i]));
	return count >= PRIVATE_MANY;
}

void
fz_fd_lower(int *fd)
{
	int first = has_many() ? next_private(0, true) : *fd;

	if (first >= *fd || dup3(*fd, first, O_CLOEXEC) == -1)
		return;
	fz_fd_clear_private(first);
	fz_fd_close(fd);
	*fd = first;
}

static void
close_range_of(int first, int last, unsigned flags)
{
	if (syscall(SYS_close_range, (unsigned)first, (unsigned)last, flags) ==
	    0)
		return;
	for (int fd = first; fd <= last; fd++)
		close(fd);
}

/* A memory checker does not know threads that clone() makes without libc. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    defined(FZ_VALGRIND)
#define FOLLOWED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FOLLOWED
#endif
#endif

#ifdef FOLLOWED
static void
leave_table(void)
{
}
#else
/*
 * The lowest number for which all open descriptors from that number to `last`
 * are private. The search stops after PRIVATE_OTHERS numbers that are not
 * private.
 */
static int
first_of_last(int last)
{
	int fd = last, others = 0;

	while (fd >= 0 &&
	       (fz_fd_is_private(fd) ||
		   (others++ < PRIVATE_OTHERS && fcntl(fd, F_GETFD) == -1)))
		fd--;
	return fd + 1;
}

/*
 * The helper ends when the process no longer uses this table of descriptors.
 * The helper shares the errno of the thread that starts it. Therefore the
 * helper makes only calls that cannot fail.
 */
static int
hold_table(void *left)
{
	while (!atomic_load((atomic_bool *)left))
		sched_yield();
	return 0;
}

/* The stack of the helper; a process starts at most one helper. */
static char helper_stack[8192] __attribute__((aligned(64)));

/* Start the helper, with all signals blocked. False on failure. */
static bool
start_helper(atomic_bool *left)
{
	char *top = helper_stack + sizeof(helper_stack);
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
			  CLONE_THREAD | CLONE_SYSVSEM;
	sigset_t all, before;
	int pid;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone(hold_table, top, flags, left);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return pid != -1;
}

/*
 * Let a helper close the private descriptors at the end of the table. The
 * helper is a thread that libc does not know. Therefore this process still
 * counts as one without threads, and libc takes no locks. The helper and this
 * process share one table of descriptors until this process gets a copy of the
 * table, without the private descriptors. The kernel closes these when the
 * helper ends: soon, and usually on another processor. If no helper can be
 * started, the caller closes them.
 */
static void
leave_table(void)
{
	/*
	 * static, because the helper may read it after this function has
	 * returned
	 */
	static atomic_bool left;
	int last = 64 * atomic_load(&fz_process.nprivate) - 1, first;

	while (!fz_fd_is_private(last))
		last--;
	first = first_of_last(last);
	atomic_store(&left, false);
	if (!start_helper(&left))
		return;
	syscall(SYS_close_range, (unsigned)first, (unsigned)last,
	    CLOSE_RANGE_UNSHARE);
	atomic_store(&left, true);
}
#endif

void
fz_fd_close_private(bool helped)
{
	int n = atomic_load(&fz_process.nprivate);
	int first, end;

	if (helped && has_many())
		leave_table();
	first = next_private(0, true);
	for (; first < 64 * n; first = next_private(end, true)) {
		end = next_private(first, false);
		close_range_of(first, end - 1, 0);
	}
	for (int i = 0; i < n; i++)
		atomic_store(&fz_process.private_fds[i], 0);
}
