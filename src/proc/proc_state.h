/* proc_state.h - what the files proc*.c share. */
#ifndef FZ_PROC_STATE_H
#define FZ_PROC_STATE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proc/proc.h"

/* The signal by which a parent asks a child to end itself. */
#define DEATH_SIGNAL (SIGRTMAX - 2)

/* What the parent passes to the child at the fork. */
struct birth {
	pid_t parent;
	bool alone; /* the parent has no other threads */
	/*
	 * a pipe that the parent closes after it has opened a pidfd of the
	 * child; -1: no pipe
	 */
	int watched[2];
};

/*
 * fz_proc_begin_adoption(): called before a child is started. If this process
 * has no other children, it becomes a subreaper. fz_proc_end_adoption(): called
 * after a child was reaped, or could not be started. If no children are left,
 * this process stops being a subreaper.
 */
void fz_proc_begin_adoption(void);
void fz_proc_end_adoption(void);

/* Fill `proc` for the child `pid`, which the caller adds to `children`. */
void fz_proc_watch(
    struct fz_proc *proc, pid_t pid, struct fz_children *children);

/* Set up a child that was just forked, run `entry`, and exit. */
_Noreturn void fz_proc_run_child(struct birth *birth,
    const struct fz_proc_opts *opts, fz_proc_main entry, void *ctx);

/* Called in a new child: clear the counts of the parent's children. */
void fz_proc_forget_children(void);

/*
 * Reap the killed children `which` (a number for waitpid()), and wait for their
 * deaths for at most `ns`. Returns whether all are reaped. Async-signal-safe.
 */
bool fz_proc_reap_killed(pid_t which, int64_t ns);

/*
 * End and reap the descendants of the dead child `pid`, if this process is a
 * subreaper and so has adopted them. The caller has killed the child's group.
 * Others are searched for only if the child `died` and so could not end them
 * itself. fz_proc_reap_late() reaps those that die late.
 *
 * fz_proc_forget_late(): the new child `pid` reuses the number of a process or
 * group that is gone, so forget what was noted for it.
 */
void fz_proc_end_orphans(pid_t pid, bool died);
void fz_proc_forget_late(pid_t pid);

/* Write the environment entry that marks the descendants of the child `pid`. */
void fz_proc_format_mark(char *mark, size_t len, pid_t pid);

/* Write the process name of a child of the process `parent`. */
void fz_proc_format_name(char *name, size_t len, pid_t parent);

/* Put FZ_PROC_MARK with the value 0 into the environment. */
void fz_proc_export_mark(void);

#endif
