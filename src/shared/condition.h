/*
 * condition.h - processes that wait until others notify them.
 *
 * Whoever begins to wait or notifies holds the lock of the condition. Who was
 * notified ends its wait when it has that lock again: when it dies before, its
 * notification is another's.
 */
#ifndef FZ_CONDITION_H
#define FZ_CONDITION_H

#include <stdbool.h>
#include <stdint.h>

#define FZ_CONDITION_ALL UINT32_MAX

/* Begin to wait; false where this process waits for something already. */
bool fz_condition_begin(uint32_t *tickets, uint32_t name, uint32_t self);

/* Notify the `n` that have waited longest and live; fewer where there are. */
void fz_condition_notify(uint32_t name, uint32_t n);

/* Hand on what the dead were notified of. For who waits, now and then. */
void fz_condition_inherit(uint32_t name);

#endif
