/* fork is not in C11. */
#define _POSIX_C_SOURCE 200809L
#include "members.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef FZ_VALGRIND
#include <valgrind/valgrind.h>
#endif

#include "this_member.h"

int
members_setup(void **state)
{
	(void)state;
	fz_heap_acquire(&this_member);
	assert_int_equal(fz_heap_open(NULL), 0);
	assert_int_not_equal(join(), 0);
	return 0;
}

int
members_teardown(void **state)
{
	(void)state;
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	fz_heap_release(&this_member);
	return 0;
}

pid_t
member_start(int (*f)(void *ctx), void *ctx)
{
	pid_t pid = fork();

	if (pid == 0) {
#ifdef FZ_VALGRIND
		/* A search for leaks would touch all of the shared heap. */
		VALGRIND_CLO_CHANGE("--leak-check=no");
#endif
		_exit(f(ctx));
	}
	assert_true(pid > 0);
	return pid;
}

int
member_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) == -1)
		assert_int_equal(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void
member_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	member_wait(pid);
}

static unsigned members_die_at; /* steps until this process dies; 0: never */

void
members_step(void)
{
	if (members_die_at != 0 && --members_die_at == 0)
		raise(SIGKILL);
}

pid_t
member_start_dying(int (*f)(void *ctx), void *ctx, unsigned n)
{
	pid_t pid;

	members_die_at = n;
	pid = member_start(f, ctx);
	members_die_at = 0;
	return pid;
}
