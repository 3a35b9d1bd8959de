/*
 * proc.h - a child: how it starts, is ended, and dies.
 *
 * The proc files are the only ones that start workers. A child is a fork of
 * this process, or a program of its own. It leads a process group of its own,
 * adopts its orphaned descendants (PR_SET_CHILD_SUBREAPER), has /dev/null as
 * its standard input, ignores Ctrl-C, and ends itself and all its descendants
 * when its parent dies, whatever the cause. It leaves through fz_proc_exit().
 */
#ifndef FZ_PROC_H
#define FZ_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"

struct fz_children;
struct fz_death;
struct fz_err;

/* The time that a child has to end itself after it was asked to. */
#define FZ_PROC_ASKED_NS (FZ_CLOCK_SECOND / 4)

/*
 * The environment variable that names the worker. After fz_proc_adopt() its
 * value in each child is the pid of that child, and the programs that the child
 * starts inherit it. In the process that called fz_proc_adopt() the value is 0.
 */
#define FZ_PROC_MARK "FZLUA_WORKER"

struct fz_proc {
	pid_t pid; /* pid of the child; 0: no child */
	int pidfd; /* readable when the child is dead; -1 on old kernels */
	int64_t force_ns; /* when fz_proc_kill() uses force; 0: not asked */
	/* the children among which the child is counted; NULL: none */
	struct fz_children *children;
};

/* Options of a fork. The caller closes both descriptors. */
struct fz_proc_opts {
	int out; /* the child's standard output; -1: the parent's */
	int err; /* the child's standard error; -1: the parent's */
	/* the children among which the child is counted; NULL: none */
	struct fz_children *children;
};

/*
 * The signals that a child ignores. Ctrl-C is for the parent. SIGTTIN and
 * SIGTTOU would stop a process group in the background; ignored, they make a
 * read of the terminal fail and a write succeed. Programs that a child starts
 * ignore these signals, too.
 */
enum { FZ_PROC_NIGNORED = 3 };
extern const int fz_proc_ignored[FZ_PROC_NIGNORED];

/*
 * Runs in the child and returns its exit status. `failed` is NULL, or says why
 * the child could not be set up.
 */
typedef int (*fz_proc_main)(void *ctx, const struct fz_err *failed);

/*
 * Fork. The child runs `entry(ctx, NULL)` and then fz_proc_exit(). If the child
 * cannot be set up (a descriptor, a process group) it runs `entry(ctx, failed)`
 * instead, so that it can report that to its parent.
 *
 * The child has no signal blocked, and default actions for all signals except
 * these: those of fz_proc_ignored; SIGTERM and SIGPIPE, which also end its
 * descendants; SIGCONT and a real-time signal, which report the parent's death.
 * The streams of the parent stay the parent's: see os/stdio.h. Returns 0 in the
 * parent, or -1 and `err`.
 */
int fz_proc_fork(struct fz_proc *proc, const struct fz_proc_opts *opts,
    fz_proc_main entry, void *ctx, struct fz_err *err);

struct fz_proc_program {
	const char *path;
	char *const *argv;
	char *const *environ_; /* its environment; NULL: that of this process */
	bool enters;           /* the child will call fz_proc_enter() */
	/* becomes the child's standard input; 0: /dev/null */
	int in;
	/* the child inherits these descriptors, under the same numbers */
	const int *keep;
	size_t nkeep;
};

/*
 * Start a program in a process of its own. It ignores no signal; all signals
 * are blocked in a program that `enters`, else none. No code of this process
 * runs in the child, so the call is safe whatever other threads of a host do.
 * 0, or -1 and `err`, for example if there is no such program.
 */
int fz_proc_spawn(struct fz_proc *proc, const struct fz_proc_opts *opts,
    const struct fz_proc_program *program, struct fz_err *err);

/*
 * In a program that `parent` has started by fz_proc_spawn(): become a child
 * like those of fz_proc_fork(), with the descriptors in `keep` (-1: none) and
 * the standard ones. The process then leaves through fz_proc_exit(). 0, or -1
 * and `err`.
 */
int fz_proc_enter(pid_t parent, int *keep, size_t nkeep, struct fz_err *err);

/* Whether a process that uses this library started this one. */
bool fz_proc_is_child(void);

/*
 * Ask the child to end itself and all its descendants, as it does when its
 * parent dies. The child does so even if this process is killed after the call.
 * Never waits. True: the child will die soon; if it is stuck and still lives
 * FZ_PROC_ASKED_NS later, fz_proc_kill() will not wait for it. False: it is
 * dead, or blocks the signal; call fz_proc_kill().
 */
bool fz_proc_ask(struct fz_proc *proc);

/*
 * End the child and all its descendants, even those that called setsid() or
 * forked twice. Asks the child first, unless fz_proc_ask() did, waits for at
 * most FZ_PROC_ASKED_NS from then, and then uses force. The child still has to
 * be reaped. Safe to call again. Does nothing if it is not a child of this
 * process. After the child has died by itself, this reaches only its process
 * group.
 */
void fz_proc_kill(struct fz_proc *proc);

/*
 * Send the child SIGTERM, and SIGCONT so that a stopped child sees it. Does
 * nothing if it is not a child of this process.
 */
void fz_proc_terminate(const struct fz_proc *proc);

/*
 * Reap the child if it is dead; with `wait`, wait for that. Kills the rest of
 * its process group and, in a subreaper, the descendants of a child that
 * crashed, except those without FZ_PROC_MARK in their environment. Returns 1
 * and fills `death` if it is reaped (`proc` is then empty), 0 if it is alive.
 * The child counts as reaped, too, if other code has reaped it, or if the
 * kernel has reaped it because this process ignores SIGCHLD. Then the exit code
 * is unknown before Linux 6.15.
 */
int fz_proc_reap(struct fz_proc *proc, bool wait, struct fz_death *death);

/*
 * Reap descendants of dead children if they have died, too. Returns whether a
 * killed one is still alive: then call it again soon. At the end of all work,
 * fz_proc_reap_last() waits for their deaths, for a bounded time.
 */
bool fz_proc_reap_late(void);
void fz_proc_reap_last(void);

/*
 * Leave a child: flush all streams, end all descendants, _exit. The parent's
 * atexit handlers do not run. exit() does the same in a child. Never returns.
 */
_Noreturn void fz_proc_exit(int status);

/*
 * From now on be a subreaper while there are unreaped children, so that the
 * descendants of a child that crashes, even an idle one, become children of
 * this process and can be ended. Puts FZ_PROC_MARK into the environment. The
 * process must have no other children.
 */
void fz_proc_adopt(void);

/*
 * Limit the private memory of this process to `bytes` beyond its present use
 * (RLIMIT_DATA); 0 lifts the limit. 0, or -1 and `err`.
 */
int fz_proc_limit_memory(uint64_t bytes, struct fz_err *err);

#endif
