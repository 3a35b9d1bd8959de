/*
 * proc.h - the start, the end and the death of a child. Only the files proc*.c
 * start workers.
 *
 * A child is a fork of this process, or a program. It leads its own process
 * group, adopts its orphaned descendants (PR_SET_CHILD_SUBREAPER), reads
 * /dev/null and ignores Ctrl-C. When its parent dies from any cause, it ends
 * all its descendants and itself. It leaves through fz_proc_exit().
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

/* Time for a child to end itself after it was asked to. */
#define FZ_PROC_ASKED_NS (FZ_CLOCK_SECOND / 4)

/*
 * The environment variable that marks the descendants of a worker. After
 * fz_proc_adopt() its value in a child, and in the programs that this child
 * starts, is the child's pid. In the process that called fz_proc_adopt() it is
 * 0.
 */
#define FZ_PROC_MARK "FZLUA_WORKER"

struct fz_proc {
	pid_t pid; /* pid of the child; 0: no child */
	int pidfd; /* readable after the death; -1: kernel without pidfds */
	int64_t force_ns; /* when to use force; 0: not asked to end */
	/* children of the instance that started the child; NULL: none */
	struct fz_children *children;
};

/* Options of a child. The caller closes both descriptors. */
struct fz_proc_opts {
	int out; /* standard output of the child; -1: that of the parent */
	int err; /* standard error of the child; -1: that of the parent */
	/* children of the instance that starts the child; NULL: none */
	struct fz_children *children;
};

/*
 * The signals that a child ignores; programs that it starts ignore them, too.
 * SIGINT: Ctrl-C is for the parent. SIGTTIN and SIGTTOU would stop a process
 * group in the background. If a process ignores them, its read from the
 * terminal fails instead, and its write succeeds.
 */
enum { FZ_PROC_NIGNORED = 3 };
extern const int fz_proc_ignored[FZ_PROC_NIGNORED];

/*
 * The main function of a child; returns the exit status. `failed` is NULL, or
 * says why the child could not be set up.
 */
typedef int (*fz_proc_main)(void *ctx, const struct fz_err *failed);

/*
 * Fork. The child runs `entry(ctx, NULL)` and then fz_proc_exit(). If the child
 * cannot be set up (a descriptor, a process group), it runs `entry(ctx,
 * failed)` instead, which can report the failure to the parent.
 *
 * The child blocks no signal. It ignores those of fz_proc_ignored. SIGTERM and
 * SIGPIPE end it and its descendants. SIGCONT, SIGHUP and a real-time signal
 * can report the parent's death. Others have their default actions. The child
 * does not write what the parent's streams have buffered: see os/stdio.h.
 *
 * Returns 0 in the parent, or -1 and `err`.
 */
int fz_proc_fork(struct fz_proc *proc, const struct fz_proc_opts *opts,
    fz_proc_main entry, void *ctx, struct fz_err *err);

struct fz_proc_program {
	const char *path;
	char *const *argv;
	char *const *environ_; /* its environment; NULL: that of this process */
	bool enters;           /* the program will call fz_proc_enter() */
	/* descriptor that becomes the program's standard input; 0: /dev/null */
	int in;
	/* descriptors that the program inherits under the same numbers */
	const int *keep;
	size_t nkeep;
};

/*
 * Start a program as a child. It ignores no signal; a program that `enters`
 * starts with all signals blocked, another with none. No code of this process
 * runs in the child, so a host with threads can call this. 0, or -1 and `err`,
 * for example if the program does not exist.
 */
int fz_proc_spawn(struct fz_proc *proc, const struct fz_proc_opts *opts,
    const struct fz_proc_program *program, struct fz_err *err);

/*
 * Called in a program that `parent` has started by fz_proc_spawn(): become a
 * child like those of fz_proc_fork(). Closes all descriptors except the
 * standard ones and those in `keep` (-1: an unused element). The process must
 * then leave through fz_proc_exit(). 0, or -1 and `err`.
 */
int fz_proc_enter(pid_t parent, int *keep, size_t nkeep, struct fz_err *err);

/* Whether a process that uses this library has started this process. */
bool fz_proc_is_child(void);

/*
 * Ask the child to end all its descendants and itself, as it would if its
 * parent died. The child does so even if this process is killed meanwhile.
 * Never waits. Returns true if the child will end soon; after FZ_PROC_ASKED_NS,
 * fz_proc_kill() uses force without a further wait. Returns false if the child
 * is dead or blocks the signal: then call fz_proc_kill().
 */
bool fz_proc_ask(struct fz_proc *proc);

/*
 * End the child and all its descendants, even those that called setsid() or
 * forked twice. Asks the child first if fz_proc_ask() did not; waits until
 * FZ_PROC_ASKED_NS after that request; then uses force. The child still has to
 * be reaped. Safe to call again. Does nothing if the process is no child of
 * this one. If the child has died before, this reaches only its process group.
 */
void fz_proc_kill(struct fz_proc *proc);

/*
 * Send SIGTERM to the child. SIGCONT follows, because a stopped child would not
 * handle SIGTERM. Does nothing if the process is no child of this one.
 */
void fz_proc_terminate(const struct fz_proc *proc);

/*
 * Reap the child if it is dead; if `wait`, wait for its death. Kills the rest
 * of its process group and, if it crashed and this process is a subreaper, its
 * descendants that have FZ_PROC_MARK in their environment.
 *
 * Returns 0 if it is alive. If it is reaped, returns 1, fills `death` and
 * empties `proc`; also if other code has reaped it, or the kernel because this
 * process ignores SIGCHLD. The exit code is then unknown before Linux 6.15.
 */
int fz_proc_reap(struct fz_proc *proc, bool wait, struct fz_death *death);

/*
 * fz_proc_reap_late(): reap killed descendants of dead children; true: one may
 * be alive, so call this again soon. fz_proc_reap_last(): wait for them, at the
 * end of all work, for a bounded time.
 */
bool fz_proc_reap_late(void);
void fz_proc_reap_last(void);

/*
 * End a child: flush all streams, end all descendants, _exit(). The parent's
 * exit handlers do not run. exit() does the same in a child.
 */
_Noreturn void fz_proc_exit(int status);

/*
 * Let this process be a subreaper whenever it has unreaped children. If a child
 * crashes, even an idle one, its descendants then become children of this
 * process, which can end them. Puts FZ_PROC_MARK into the environment. Before
 * this call, the process must have no children.
 */
void fz_proc_adopt(void);

/*
 * Limit the private memory of this process (RLIMIT_DATA) to its present use
 * plus `bytes`; 0 removes the limit. 0, or -1 and `err`.
 */
int fz_proc_limit_memory(uint64_t bytes, struct fz_err *err);

#endif
