/*
 * proc.h - the start, the end and the death of a child.
 *
 * Only the files proc*.c start workers. A child is a fork of this process, or a
 * program. It leads its own process group. It is a subreaper
 * (PR_SET_CHILD_SUBREAPER), so it adopts descendants that become orphans. Its
 * standard input is /dev/null, and it ignores Ctrl-C. When its parent dies from
 * any cause, the child ends all its descendants and itself. It leaves through
 * fz_proc_exit().
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

/*
 * Time for a child to end itself after it was asked. After that time it is
 * killed.
 */
#define FZ_PROC_ASKED_NS (FZ_CLOCK_SECOND / 4)

/*
 * The environment variable that marks the descendants of a worker. After
 * fz_proc_adopt() its value in each child is the pid of that child. Programs
 * that the child starts inherit this value. In the process that called
 * fz_proc_adopt() the value is 0.
 */
#define FZ_PROC_MARK "FZLUA_WORKER"

struct fz_proc {
	pid_t pid; /* pid of the child; 0: no child */
	/* readable after the child's death; -1 if the kernel has no pidfds */
	int pidfd;
	/*
	 * time at which fz_proc_kill() may use force; 0: the child was not
	 * asked to end itself
	 */
	int64_t force_ns;
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
 * The child blocks no signal. It ignores the signals of fz_proc_ignored.
 * SIGTERM and SIGPIPE end the child together with its descendants. SIGCONT,
 * SIGHUP and a real-time signal can report the parent's death. All other
 * signals have their default actions. What the parent has buffered in its
 * streams is not written by the child: see os/stdio.h.
 *
 * Returns 0 in the parent, or -1 and `err`.
 */
int fz_proc_fork(struct fz_proc *proc, const struct fz_proc_opts *opts,
    fz_proc_main entry, void *ctx, struct fz_err *err);

struct fz_proc_program {
	const char *path;
	char *const *argv;
	/* environment of the program; NULL: that of this process */
	char *const *environ_;
	bool enters; /* the program will call fz_proc_enter() */
	/* descriptor that becomes the program's standard input; 0: /dev/null */
	int in;
	/* descriptors that the program inherits under the same numbers */
	const int *keep;
	size_t nkeep;
};

/*
 * Start a program as a child. It ignores no signal. A program that `enters`
 * starts with all signals blocked, another one with none. No code of this
 * process runs in the child before exec. A host with other threads can
 * therefore call this safely. 0, or -1 and `err`, for example if the program
 * does not exist.
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
 * of the child's process group. If this process is a subreaper and the child
 * has crashed, kills the descendants of the child, too; a descendant without
 * FZ_PROC_MARK in its environment is not found. Returns 0 if the child is
 * alive. Returns 1 if it is reaped; fills `death` and empties `proc`.
 *
 * The result is also 1 if other code has reaped the child, or if the kernel did
 * because this process ignores SIGCHLD. The exit code is then unknown before
 * Linux 6.15.
 */
int fz_proc_reap(struct fz_proc *proc, bool wait, struct fz_death *death);

/*
 * fz_proc_reap_late(): reap killed descendants of dead children. Returns
 * whether one may still be alive; then call this again soon.
 * fz_proc_reap_last(): do the same at the end of all work, and wait for their
 * deaths for a bounded time.
 */
bool fz_proc_reap_late(void);
void fz_proc_reap_last(void);

/*
 * End a child: flush all streams, end all descendants, call _exit(). The exit
 * handlers of the parent do not run. exit() does the same in a child. Never
 * returns.
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
