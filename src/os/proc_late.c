/*
 * Processes that a dead child left in its group and that die late, because the
 * machine is busy or the kernel holds them. They were killed, and are children
 * of this process; what is left of them are zombies until they are reaped.
 */
/* nanosleep is not in C11. */
#define _GNU_SOURCE
#include "os/proc_state.h"

#include <errno.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "os/process.h"

/* Time that killed descendants have to die before others are served. */
#define LATE_SOON_NS (FZ_CLOCK_SECOND / 20)
/* The same where nothing reaps them later. */
#define LATE_LAST_NS FZ_CLOCK_SECOND

/* Reap the children of a group that are dead. Whether others live. */
static bool
reap_group(pid_t group)
{
	pid_t got;

	do
		got = waitpid(-group, NULL, WNOHANG);
	while (got > 0 || (got == -1 && errno == EINTR));
	return got == 0;
}

static void
forget(size_t i)
{
	fz_process.late[i] = fz_process.late[--fz_process.nlate];
}

/* Whether the group will be reaped later. */
static bool
note(pid_t group)
{
	bool noted;

	fz_process_lock();
	noted = fz_process.nlate < FZ_PROCESS_LATE;
	if (noted)
		fz_process.late[fz_process.nlate++] = group;
	fz_process_unlock();
	return noted;
}

void
fz_proc_reap_group(pid_t group)
{
	if (!fz_proc_reap_killed(-group, LATE_SOON_NS) && !note(group))
		fz_proc_reap_killed(-group, LATE_LAST_NS);
}

void
fz_proc_forget_group(pid_t group)
{
	fz_process_lock();
	for (size_t i = fz_process.nlate; i-- > 0;) {
		if (fz_process.late[i] == group)
			forget(i);
	}
	fz_process_unlock();
}

bool
fz_proc_reap_late(void)
{
	bool some;

	fz_process_lock();
	for (size_t i = fz_process.nlate; i-- > 0;) {
		if (!reap_group(fz_process.late[i]))
			forget(i);
	}
	some = fz_process.nlate != 0;
	fz_process_unlock();
	return some;
}

void
fz_proc_reap_last(void)
{
	const struct timespec nap = { 0, FZ_CLOCK_MS };
	int64_t deadline_ns = fz_clock_ns() + LATE_LAST_NS;

	while (fz_proc_reap_late() && fz_clock_ns() < deadline_ns)
		nanosleep(&nap, NULL);
}
