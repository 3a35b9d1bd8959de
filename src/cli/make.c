/* for sigaction, a POSIX function that -std=c11 hides */
#define _GNU_SOURCE
#include "cli/make.h"

#include <signal.h>

#include <lauxlib.h>

#include "bind/lloop.h"
#include "os/jobserver.h"
#include "sched/slots.h"

/* The slots of the make that has started this command, or NULL. */
static struct fz_slots *make_slots;
static int make_fd[2] = { -1, -1 };

void
fz_make_leave(void)
{
	if (make_slots != NULL)
		fz_slots_leave(make_slots);
}

static void
leave_and_end(int sig)
{
	fz_make_leave();
	signal(sig, SIG_DFL);
	raise(sig);
}

void
fz_make_end_by_signal(int sig)
{
	signal(sig, make_slots != NULL ? leave_and_end : SIG_DFL);
}

void
fz_make_find(void)
{
	fz_jobserver_find(make_fd);
}

void
fz_make_join(lua_State *L)
{
	static const int ends[] = { SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGALRM,
		SIGUSR1, SIGUSR2, SIGXCPU, SIGABRT, SIGSEGV, SIGBUS };
	struct sigaction action;

	if (make_fd[0] == -1)
		return;
	make_slots = fz_slots_of_make(fz_lloop_engine(L), make_fd, NULL);
	if (make_slots == NULL)
		luaL_error(L, "not enough memory");
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (sigaction(ends[i], NULL, &action) == 0 &&
		    action.sa_handler == SIG_DFL)
			fz_make_end_by_signal(ends[i]);
	}
}
