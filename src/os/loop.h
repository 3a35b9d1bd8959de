/*
 * loop.h - polls the descriptors and deadlines of one lua_State.
 *
 * Watches and timers are embedded in their owners; callbacks must not raise. A
 * turn waits, calls what is ready, and then calls what was deferred.
 */
#ifndef FZ_LOOP_H
#define FZ_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct fz_err;
struct fz_loop;

/* FZ_LOOP_EDGE reports changes only, like EPOLLET. */
enum { FZ_LOOP_READ = 1, FZ_LOOP_WRITE = 2, FZ_LOOP_EDGE = 4 };

struct fz_watch {
	int fd;          /* the watched descriptor; -1: not watched */
	unsigned events; /* FZ_LOOP_READ | FZ_LOOP_WRITE */
	void (*ready)(struct fz_watch *watch, unsigned events);
	struct fz_list link; /* in the loop's list of watches */
};

struct fz_timer {
	int64_t at_ns;
	void (*fired)(struct fz_timer *timer);
	size_t index; /* index in the heap of the loop; 0: not armed */
};

/* A call that is made once, at the end of the turn in which it was deferred. */
struct fz_defer {
	void (*call)(struct fz_defer *defer);
	struct fz_list link; /* in the loop's list of deferred calls */
};

/* A busy process that can say how soon it needs the loop's processor. */
struct fz_awaited {
	/*
	 * The time until which the process does not need the loop's processor;
	 * 0: it may need it now.
	 */
	int64_t (*hold_until)(const struct fz_awaited *awaited);
};

/* Called in a forked child, to drop what belongs to the parent. */
struct fz_fork_hook {
	void (*in_child)(struct fz_fork_hook *hook);
	struct fz_list link; /* in the loop's list of hooks */
};

/* NULL and `err` on failure. */
struct fz_loop *fz_loop_new(struct fz_err *err);
void fz_loop_free(struct fz_loop *loop);

/* Watch `fd` for `events`. Returns 0, or -1 and fills `err`. */
int fz_loop_watch(struct fz_loop *loop, struct fz_watch *watch, int fd,
    unsigned events, struct fz_err *err);

/* Change the events of a watch. A call that changes nothing is cheap. */
int fz_loop_rewatch(struct fz_loop *loop, struct fz_watch *watch,
    unsigned events, struct fz_err *err);

/*
 * End a watch, if there is one. Call it before the descriptor is closed.
 */
void fz_loop_unwatch(struct fz_loop *loop, struct fz_watch *watch);

/*
 * Make `*fd` nonblocking and private, and watch it. Then the watch owns the
 * descriptor, and `*fd` is -1. fz_loop_close() ends such a watch, if there is
 * one, and closes the descriptor. Returns 0, or -1 and fills `err`.
 */
int fz_loop_own(struct fz_loop *loop, struct fz_watch *watch, int *fd,
    unsigned events, struct fz_err *err);
void fz_loop_close(struct fz_loop *loop, struct fz_watch *watch);

/*
 * Arm the timer for `at_ns`; FZ_CLOCK_NEVER disarms it. 0, or -1 if there is no
 * memory.
 */
int fz_loop_arm(struct fz_loop *loop, struct fz_timer *timer, int64_t at_ns);
void fz_loop_disarm(struct fz_loop *loop, struct fz_timer *timer);

void fz_loop_defer(struct fz_loop *loop, struct fz_defer *defer);
void fz_loop_undefer(struct fz_defer *defer);

void fz_loop_hook(struct fz_loop *loop, struct fz_fork_hook *hook);
void fz_loop_unhook(struct fz_fork_hook *hook);

/*
 * Make a turn: wait until a descriptor is ready, a timer is due or `until_ns`
 * has come. Returns 1 if the turn called anything, 0 if only the time or a
 * signal came, or -1 and fills `err`.
 */
int fz_loop_turn(struct fz_loop *loop, int64_t until_ns, struct fz_err *err);

/*
 * Call may_sleep(ctx) before each wait of a turn. If it returns false, because
 * a signal handler has left something to do, the turn does not wait. A signal
 * that comes after the call ends the wait, at the latest after 20 ms.
 */
void fz_loop_may_sleep(
    struct fz_loop *loop, bool (*may_sleep)(void *ctx), void *ctx);

/*
 * A descriptor that a host polls, and that the loop owns. It is readable if a
 * descriptor of the loop is ready, or if the time of fz_loop_arm_fd() has come.
 * -1 and `err` on failure.
 */
int fz_loop_fd(struct fz_loop *loop, struct fz_err *err);

/*
 * Called after a turn: the next turn is due at `at_ns` or at the first timer,
 * whichever is earlier, or at once if calls are deferred. Does nothing before
 * fz_loop_fd().
 */
void fz_loop_arm_fd(struct fz_loop *loop, int64_t at_ns);

/*
 * Count one busy process more, or one fewer, among those whose events the loop
 * waits for.
 */
void fz_loop_busy(struct fz_loop *loop, bool more);

/* The number of busy processes that fz_loop_busy() has counted. */
unsigned fz_loop_nbusy(const struct fz_loop *loop);

/*
 * fz_loop_await(): while only one process is busy, a spin does not yield the
 * processor before `awaited` may need it. fz_loop_unawait() ends that.
 */
void fz_loop_await(struct fz_loop *loop, const struct fz_awaited *awaited);
void fz_loop_unawait(struct fz_loop *loop, const struct fz_awaited *awaited);

/* Number of watches and timers, plus one if calls are deferred. */
unsigned fz_loop_nwatched(const struct fz_loop *loop);

/* Make the deferred calls now. Do not call it from a callback of the loop. */
void fz_loop_flush(struct fz_loop *loop);

/*
 * In a forked child, before anything else: call the fork hooks, which close
 * what they own. Then forget the parent's watches and timers, and close private
 * descriptors (see fd.h). The watches on these and their owners are not written
 * to: the child must not use them.
 */
void fz_loop_in_child(struct fz_loop *loop);

/*
 * In a child that other code has forked: do what fz_loop_in_child() does. Later
 * calls do nothing. A fork handler calls this if the thread that forked has
 * used the loop last. Otherwise call it before the first use in each process.
 */
void fz_loop_adopt(struct fz_loop *loop);

#endif
