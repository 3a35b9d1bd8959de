/* llimits.h - reads the options of runs, batches and pools from Lua tables. */
#ifndef FZ_LLIMITS_H
#define FZ_LLIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "sched/limits.h"

/* Convert seconds at `idx`; `otherwise_ns` for nil. [-0, +0, e] */
int64_t fz_llimits_seconds(lua_State *L, int idx, int64_t otherwise_ns);

/*
 * Read timeout, retries, backoff, memory and retry_if from `idx` and the next
 * indexes, or from the fields of the table at `idx`. A nil changes nothing.
 * Only the presence of the function retry_if is noted: the caller calls it.
 * [-0, +0, e]
 */
void fz_llimits_read(lua_State *L, int idx, struct fz_limits *limits);
void fz_llimits_read_fields(lua_State *L, int idx, struct fz_limits *limits);

/* Whether the field `name` of the table at `idx` is true. [-0, +0, e] */
bool fz_llimits_flag(lua_State *L, int idx, const char *name);

/* Read the option on_error at `idx`; nil means "stop". [-0, +0, e] */
enum fz_policy fz_llimits_policy(lua_State *L, int idx);

#endif
