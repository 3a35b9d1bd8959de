/*
 * condition.h - processes wait until another process notifies them.
 *
 * A process holds the lock of the condition when it begins to wait and when it
 * notifies. A notified process ends its wait when it holds that lock again; if
 * it dies before that, its notification is passed on to another waiter.
 */
#ifndef FZ_CONDITION_H
#define FZ_CONDITION_H

#include <stdbool.h>
#include <stdint.h>

#define FZ_CONDITION_ALL UINT32_MAX

/* Begin to wait, see fz_waiter_begin(). */
bool fz_condition_begin(uint32_t *tickets, uint32_t name, uint32_t waiter);

/*
 * Notify the `n` living processes that have waited longest, or all if fewer
 * wait.
 */
void fz_condition_notify(uint32_t name, uint32_t n);

/* Pass on the notifications of dead processes. Waiters call it repeatedly. */
void fz_condition_recover(uint32_t name);

#endif
