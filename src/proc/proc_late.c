/*
 * The processes that a dead child has left behind, and that are not dead yet,
 * because the machine is busy or the kernel delays them. This process has
 * adopted them. It has killed them; or they end themselves, as the workers of a
 * dead worker do. Each stays a zombie until it is reaped.
 */
/* nanosleep is not in C11. */
#define _GNU_SOURCE
#include "proc/proc_state.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "os/process.h"
#include "proc/proctree.h"

/*
 * Maximum time to wait for the deaths of killed descendants before other work
 * continues; they are reaped later.
 */
#define LATE_SOON_NS (FZ_CLOCK_SECOND / 20)
/* Maximum time to wait for killed descendants that are not reaped later. */
#define LATE_LAST_NS FZ_CLOCK_SECOND

/*
 * Reap all dead children among `which` (a number for waitpid()). Returns
 * whether living children are left among them.
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

/* Note children to reap them later (`which`: for waitpid()). False: no room. */
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

/* Note killed children to reap them later; without room, wait for them now. */
static void
note_killed(pid_t which)
{
	if (!note(which))
		fz_proc_reap_killed(which, LATE_LAST_NS);
}

/*
 * Remember to search later for workers of dead workers, by their names. A
 * worker that was being forked when its parent died may have no name yet, and
 * may still be in its parent's group. It sets its name and leaves the group
 * before it can notice that death, so a later search finds it.
 */
static void
note_workers(void)
{
	fz_process_lock();
	fz_process.late_workers = true;
	fz_process_unlock();
}

static void worker_died(pid_t pid);

/*
 * End the descendants of the dead children `parents`. Returns whether a
 * descendant may still be alive.
 */
static bool
end_marked(const pid_t *parents, size_t nparents, int64_t until_ns)
{
	const struct fz_proctree_search search = { .mark = FZ_PROC_MARK "=",
		.parents = parents,
		.nparents = nparents,
		.all = fz_process.adopts || fz_proc_is_child(),
		.until_ns = until_ns,
		.killed_late = note_killed,
		.worker_died = worker_died };

	return fz_proctree_kill_orphans(&search);
}

/*
 * Remember to search later for descendants of the dead child `pid`. Until then
 * this process stays a subreaper. Returns false if there is no room.
 */
static bool
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
	return noted;
}

/*
 * A worker of a dead worker was reaped. If it was killed too early to end its
 * descendants, they are children of this process now: search for them.
 */
static void
worker_died(pid_t pid)
{
	note_killed(-pid);
	note_parent(pid);
}

/*
 * Search again, later, for what the dead child `pid` has left behind. The first
 * search may have missed some: a killed descendant that is not dead yet still
 * has its children, and the time may have been too short.
 */
static void
look_again(pid_t pid)
{
	if (!note_parent(pid))
		end_marked(
		    &pid, 1, fz_clock_after(fz_clock_ns(), LATE_LAST_NS));
}

/*
 * End the descendants of all dead children that note_parent() has noted.
 * Returns whether one may still be alive.
 */
static bool
end_late_orphans(void)
{
	pid_t parents[FZ_PROCESS_LATE];
	size_t n;
	bool some;

	fz_process_lock();
	n = fz_process.nlate_parents;
	memcpy(parents, fz_process.late_parents, n * sizeof(*parents));
	fz_process.nlate_parents = 0;
	fz_process_unlock();
	some = n != 0 && end_marked(parents, n, 0);
	for (size_t i = 0; i < n; i++) {
		if (some)
			look_again(parents[i]);
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
	if (!fz_proc_reap_killed(-pid, LATE_SOON_NS)) {
		note_killed(-pid);
		note_workers();
	}
	if (!died ||
	    !end_marked(&pid, 1, fz_clock_after(fz_clock_ns(), LATE_SOON_NS)))
		return;
	note_workers();
	look_again(pid);
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
	bool workers, some;

	fz_process_lock();
	workers = fz_process.late_workers;
	fz_process.late_workers = false;
	fz_process_unlock();
	some = end_late_orphans();
	if (workers)
		some |= fz_proctree_reap_workers(worker_died);
	fz_process_lock();
	for (size_t i = fz_process.nlate; i-- > 0;) {
		if (!reap_dead(fz_process.late[i]))
			forget(i);
	}
	some |= fz_process.nlate != 0 || fz_process.nlate_parents != 0;
	fz_process.late_workers |= workers && some;
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
