/*
 * What a dead child has left and what dies late, because the machine is busy or
 * the kernel holds it. It was killed, or ends itself as the workers of a dead
 * worker do, and is a child of this process now: a zombie until it is reaped.
 */
/* nanosleep is not in C11. */
#define _GNU_SOURCE
#include "os/proc_state.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "os/process.h"
#include "os/proctree.h"

/* Time that killed descendants have to die before others are served. */
#define LATE_SOON_NS (FZ_CLOCK_SECOND / 20)
/* The same where nothing reaps them later. */
#define LATE_LAST_NS FZ_CLOCK_SECOND

/*
 * Reap those that are dead; `which` as for waitpid(). Returns whether others
 * live.
 */
static bool
reap_dead(pid_t which)
{
	pid_t got;

	do
		got = waitpid(which, NULL, WNOHANG);
	while (got > 0 || (got == -1 && errno == EINTR));
	return got == 0;
}

static void
forget(size_t i)
{
	fz_process.late[i] = fz_process.late[--fz_process.nlate];
}

/* Whether these will be reaped later. */
static bool
note(pid_t which)
{
	bool noted = false;

	fz_process_lock();
	for (size_t i = 0; i < fz_process.nlate; i++)
		noted = noted || fz_process.late[i] == which;
	if (!noted && fz_process.nlate < FZ_PROCESS_LATE) {
		fz_process.late[fz_process.nlate++] = which;
		noted = true;
	}
	fz_process_unlock();
	return noted;
}

static void
note_killed(pid_t pid)
{
	if (!note(pid))
		fz_proc_reap_killed(pid, LATE_LAST_NS);
}

/*
 * A worker that was being forked when its parent died may still be in the group
 * of its parent. It leaves that before it sees the death; then it is found by
 * its name.
 */
static void
note_workers(void)
{
	fz_process_lock();
	fz_process.late_workers = true;
	fz_process_unlock();
}

static void note_crashed(pid_t pid);

static const struct fz_orphan_ops orphan_ops = { note_killed, note_crashed };

/* Whether some of what the dead child `pid` has left may be alive. */
static bool
end_marked(pid_t pid, int64_t until_ns)
{
	char mark[40];

	fz_proc_format_mark(mark, sizeof(mark), pid);
	return fz_proctree_kill_orphans(mark,
	    fz_process.adopts || fz_proc_is_child(), until_ns, &orphan_ops);
}

/*
 * Look again for what the dead child `pid` has left. Something that is killed
 * but not dead keeps its children, and on a busy machine there was no time to
 * find them all. Until then this process adopts them.
 */
static void
note_parent(pid_t pid)
{
	bool noted;

	fz_process_lock();
	noted = fz_process.nlate_parents < FZ_PROCESS_LATE;
	if (noted)
		fz_process.late_parents[fz_process.nlate_parents++] = pid;
	fz_process_unlock();
	if (noted)
		fz_proc_begin_adoption();
	else
		end_marked(pid, fz_clock_after(fz_clock_ns(), LATE_LAST_NS));
}

/*
 * The group of a dead child was killed: reap it now or, if it is not dead after
 * `ns`, later. Returns whether it was reaped now.
 */
static bool
reap_group(pid_t pid, int64_t ns)
{
	if (fz_proc_reap_killed(-pid, ns))
		return true;
	if (!note(-pid))
		fz_proc_reap_killed(-pid, LATE_LAST_NS);
	return false;
}

static void
note_crashed(pid_t pid)
{
	reap_group(pid, 0);
	note_parent(pid);
}

/* Whether what a dead child has left may be alive. */
static bool
end_late_orphans(void)
{
	pid_t parents[FZ_PROCESS_LATE];
	size_t n;
	bool some = false;

	fz_process_lock();
	n = fz_process.nlate_parents;
	memcpy(parents, fz_process.late_parents, n * sizeof(*parents));
	fz_process.nlate_parents = 0;
	fz_process_unlock();
	for (size_t i = 0; i < n; i++) {
		if (end_marked(parents[i], 0)) {
			note_parent(parents[i]);
			some = true;
		}
		fz_proc_end_adoption();
	}
	return some;
}

void
fz_proc_end_orphans(pid_t pid, bool died)
{
	int subreaper = 0;

	if (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == -1 || subreaper == 0)
		return;
	if (!reap_group(pid, LATE_SOON_NS))
		note_workers();
	if (!died ||
	    !end_marked(pid, fz_clock_after(fz_clock_ns(), LATE_SOON_NS)))
		return;
	note_workers();
	note_parent(pid);
}

void
fz_proc_forget_late(pid_t pid)
{
	size_t nforgotten = 0;

	fz_process_lock();
	for (size_t i = fz_process.nlate; i-- > 0;) {
		if (fz_process.late[i] == -pid || fz_process.late[i] == pid)
			forget(i);
	}
	for (size_t i = fz_process.nlate_parents; i-- > 0;) {
		if (fz_process.late_parents[i] != pid)
			continue;
		fz_process.late_parents[i] =
		    fz_process.late_parents[--fz_process.nlate_parents];
		nforgotten++;
	}
	fz_process_unlock();
	for (; nforgotten > 0; nforgotten--)
		fz_proc_end_adoption();
}

bool
fz_proc_reap_late(void)
{
	bool some = end_late_orphans(), workers;

	fz_process_lock();
	for (size_t i = fz_process.nlate; i-- > 0;) {
		if (!reap_dead(fz_process.late[i]))
			forget(i);
	}
	some |= fz_process.nlate != 0;
	workers = fz_process.late_workers;
	fz_process.late_workers = false;
	fz_process_unlock();
	if (!workers)
		return some;
	some |= fz_proctree_reap_workers(&orphan_ops);
	fz_process_lock();
	some |= fz_process.nlate != 0 || fz_process.nlate_parents != 0;
	fz_process.late_workers |= some;
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
