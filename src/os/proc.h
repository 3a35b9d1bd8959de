/*
 * proc.h - a forked child: how it starts, how it is ended, how it died.
 *
 * The only file that forks. A child leads a process group of its own, adopts
 * its orphaned descendants (PR_SET_CHILD_SUBREAPER), reads nothing from
 * standard input, ignores Ctrl-C, and ends itself and all its descendants
 * when its parent dies by whatever means. It leaves through fz_proc_exit().
 */
#ifndef FZ_PROC_H
#define FZ_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"

struct fz_death;
struct fz_err;

/* A child that was asked to end itself is ended by force after this time. */
#define FZ_PROC_ASKED_NS (FZ_CLOCK_SECOND / 4)

/*
 * After fz_proc_adopt(), a child has its pid in this environment variable, and
 * the programs it starts inherit it. The process that adopts has 0 there.
 */
#define FZ_PROC_MARK "FZLUA_WORKER"

struct fz_proc {
	pid_t pid; /* 0: none */
	int pidfd; /* readable once the child is dead; -1 on old kernels */
	int64_t force_ns; /* when fz_proc_kill() stops waiting; 0: not asked */
};

/* Both stay open under their own numbers too: the caller's to close. */
struct fz_proc_opts {
	int out; /* becomes the child's standard output, -1: the parent's */
	int err; /* becomes its standard error, -1: the parent's */
};

/*
 * What a child ignores: Ctrl-C is its parent's, and a process group in the
 * background must not be stopped for the terminal: a read of it fails instead,
 * and a write succeeds. A program that a child starts inherits this.
 */
enum { FZ_PROC_NIGNORED = 3 };
extern const int fz_proc_ignored[FZ_PROC_NIGNORED];

/* The child's life; what it returns is its exit status. */
typedef int (*fz_proc_main)(void *ctx, const struct fz_err *failed);

/*
 * Fork. In the child `entry(ctx, NULL)` runs and then fz_proc_exit(); where
 * the child could not be set up (a descriptor, a process group) it is
 * `entry(ctx, what failed)` instead, so that it can tell its parent. No signal
 * is blocked in the child, and all have their default action but those of
 * fz_proc_ignored, SIGTERM and SIGPIPE, which also end what it has started, and
 * SIGCONT and a real-time one, which report the parent's death. The streams of
 * the parent stay the parent's: see streams.h. Returns 0 in the parent, or -1
 * and `err`.
 */
int fz_proc_fork(struct fz_proc *proc, const struct fz_proc_opts *opts,
    fz_proc_main entry, void *ctx, struct fz_err *err);

/* What else is to be done for each child. Either function may be NULL. */
struct fz_proc_hook {
	void (*forked)(void); /* in the parent, which has counted the child */
	void (*born)(void);   /* in the child, before its entry */
	struct fz_proc_hook *next;
	bool hooked;
};

/* Call it at all forks from now on; again does nothing. It stays the caller's.
 */
void fz_proc_hook(struct fz_proc_hook *hook);

/*
 * How many children this process has forked, and the number of the last one of
 * them, from 1, that is not reaped; 0: there is none.
 */
uint64_t fz_proc_forks(void);
uint64_t fz_proc_newest(void);

/*
 * How many calls of fz_proc_fork() lie between the first process and this one.
 * An object that was made at a smaller depth is an inherited copy.
 */
unsigned fz_proc_depth(void);

/* Whether this process was itself forked by fz_proc_fork(). */
bool fz_proc_is_child(void);

/*
 * Ask the child to end itself and everything it started, as it does when its
 * parent dies: if this process is killed meanwhile, the child goes on with it.
 * Never waits. True: the child is dead soon, and if it still lives
 * FZ_PROC_ASKED_NS later, because it is wedged, fz_proc_kill() does not wait
 * either. False: it is dead, or blocks the signal; call fz_proc_kill().
 */
bool fz_proc_ask(struct fz_proc *proc);

/*
 * End the child and everything it started: setsid and double forks are no
 * escape. Asks it first, unless that was done, waits until FZ_PROC_ASKED_NS
 * after that at most, and then uses force. The child is still to be reaped.
 * Safe to call again. Does nothing when it is no child of this process. What a
 * child that died by itself has started is out of reach, but for its process
 * group.
 */
void fz_proc_kill(struct fz_proc *proc);

/*
 * Send the child SIGTERM, and wake it to be ended where it was stopped. Does
 * nothing when it is no child of this process.
 */
void fz_proc_terminate(const struct fz_proc *proc);

/*
 * Reap the child if it is dead, or wait until it is when `wait` is set. Kills
 * what is left of its process group and, in a subreaper, all that a child that
 * crashed had started (unless it has a new environment). Returns 1 and fills
 * `death` when it is reaped (`proc` is then empty), 0 when it is alive. A child
 * that other code has reaped, or the kernel because SIGCHLD is ignored here,
 * counts as reaped; before Linux 6.15 its exit code is then not known.
 */
int fz_proc_reap(struct fz_proc *proc, bool wait, struct fz_death *death);

/*
 * Leave a child: flush all streams, end all descendants, _exit. No atexit
 * handler of the parent runs. exit() does the same in a child. Never returns.
 */
_Noreturn void fz_proc_exit(int status);

/*
 * From now on be a subreaper while there are children that are not reaped, as
 * an idle child may crash as well: what it has started becomes a child of this
 * process, to be ended. Puts FZ_PROC_MARK into the environment. For a process
 * that has no other children.
 */
void fz_proc_adopt(void);

/*
 * Limit the private memory that this process may have beyond what it has now
 * (RLIMIT_DATA); 0 lifts the limit. 0, or -1 and `err`.
 */
int fz_proc_limit_memory(uint64_t bytes, struct fz_err *err);

#endif
