/*
 * condition.h - processes wait until another process notifies them.
 *
 * A process holds the lock of the condition when it begins to wait and when it
 * notifies. A notified process ends its wait when it holds that lock again. If
 * it dies before that, another waiter is notified.
 */
#ifndef FZ_CONDITION_H
#define FZ_CONDITION_H

#include <stdbool.h>
#include <stdint.h>

#define FZ_CONDITION_ALL UINT32_MAX

/* Begin to wait for the condition. Returns the same as fz_waiter_begin(). */
bool fz_condition_begin(uint32_t *tickets, uint32_t name, uint32_t waiter);

/*
 * Notify the `n` living processes that have waited longest. Notify all if fewer
 * are waiting.
 */
void fz_condition_notify(uint32_t name, uint32_t n);

/* Pass on notifications of dead processes. Waiters call this repeatedly. */
void fz_condition_recover(uint32_t name);

#endif
