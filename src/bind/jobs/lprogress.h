/* lprogress.h - pushes the parts of an event for a progress function. */
#ifndef FZ_LPROGRESS_H
#define FZ_LPROGRESS_H

#include <lua.h>

struct fz_job_event;

/* Push the name of the event's kind. [-0, +1, m] */
void fz_lprogress_push_kind(lua_State *L, const struct fz_job_event *event);

/*
 * Push the pid of the worker or nil, and the seconds that the call took, or nil
 * if the event is not the end of a call. [-0, +2, -]
 */
void fz_lprogress_push_call(lua_State *L, const struct fz_job_event *event);

#endif
