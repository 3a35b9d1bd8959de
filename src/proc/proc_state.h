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

/* Passed from the parent to the child at the fork. */
struct birth {
	pid_t parent;
	bool alone; /* the parent has a single thread */
	/*
	 * A pipe, on which end of file means that the parent has a pidfd. -1:
	 * there is none.
	 */
	int watched[2];
};

/*
 * fz_proc_begin_adoption(): call it before a child is started. The first child
 * makes this process a subreaper. fz_proc_end_adoption(): call it after a child
 * is reaped, or could not be started. After the last child this process stops
 * being a subreaper.
 */
void fz_proc_begin_adoption(void);
void fz_proc_end_adoption(void);

/* Watch the new child `pid`, which the caller adds to `children`. */
void fz_proc_watch(
    struct fz_proc *proc, pid_t pid, struct fz_children *children);

/* Set up a child that was just forked, run its entry, and exit. */
_Noreturn void fz_proc_run_child(struct birth *birth,
    const struct fz_proc_opts *opts, fz_proc_main entry, void *ctx);

/* In a child: clear the records of the parent's children. */
void fz_proc_forget_children(void);

/*
 * Reap killed children until none is left, for `ns` at most; `which` as for
 * waitpid(). Returns whether none is left. Async-signal-safe.
 */
bool fz_proc_reap_killed(pid_t which, int64_t ns);

/*
 * Reap or kill the descendants of the dead child `pid`, which are children of
 * this process now if it is a subreaper, as the command is. The processes in
 * the child's group were killed already. The other descendants are searched for
 * if the child `died` and so could not end them itself. fz_proc_reap_late()
 * reaps those that die late. fz_proc_forget_late(): the new child `pid` reuses
 * the number of a process or a group that is gone, so forget what was noted for
 * that number.
 */
void fz_proc_end_orphans(pid_t pid, bool died);
void fz_proc_forget_late(pid_t pid);

/* Write the environment entry that marks the descendants of `pid`. */
void fz_proc_format_mark(char *mark, size_t len, pid_t pid);

/* Write the process name of a child of `parent`. */
void fz_proc_format_name(char *name, size_t len, pid_t parent);

/* Put FZ_PROC_MARK with number 0 into the environment. */
void fz_proc_export_mark(void);

#endif
