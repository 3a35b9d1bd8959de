/* members.h - processes that share the shared heap, and are killed anywhere. */
#ifndef MEMBERS_H
#define MEMBERS_H

#include <sys/types.h>

int members_setup(void **state);
int members_teardown(void **state);

/* A new member that calls f(ctx), and then exits with what it returns. */
pid_t member_start(int (*f)(void *ctx), void *ctx);

/*
 * Wait for the end of a member. Returns its exit status, or minus the signal.
 */
int member_wait(pid_t pid);

void member_kill(pid_t pid);

/*
 * Count a step, at the begin and at the end of each wrapped call. A process of
 * member_start_dying() is killed at its `n`-th step.
 */
void members_step(void);

/* A new member that calls f(ctx), and is killed at its `n`-th step. */
pid_t member_start_dying(int (*f)(void *ctx), void *ctx, unsigned n);

#endif
