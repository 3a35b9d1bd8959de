/*
 * waiter_steps.h - calls for waiters at which a member may be killed, see
 * members_step().
 *
 * A test that includes this has this line in its first comment:
 *
 *  wrap: fz_waiter_begin fz_waiter_notify
 */
#ifndef WAITER_STEPS_H
#define WAITER_STEPS_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/waiter.h"

bool __real_fz_waiter_begin(uint32_t self, uint32_t name, uint32_t number);
bool __wrap_fz_waiter_begin(uint32_t self, uint32_t name, uint32_t number);
bool __real_fz_waiter_notify(
    const struct fz_waiter *w, enum fz_waiter_state state);
bool __wrap_fz_waiter_notify(
    const struct fz_waiter *w, enum fz_waiter_state state);

#endif
