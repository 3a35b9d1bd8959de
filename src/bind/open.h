/*
 * open.h - every binding that nothing else in C uses, as lualib.h has it.
 *
 * Each function adds what its file binds to the core table, which is on top of
 * the stack. [-0, +0, e]
 */
#ifndef FZ_OPEN_H
#define FZ_OPEN_H

#include <lua.h>

/* bind/jobs/ */
int fz_lbatch_open(lua_State *L);   /* batches of calls of a pool */
int fz_lprocess_open(lua_State *L); /* a function in a process of its own */
int fz_lprogram_open(lua_State *L); /* another program */
int fz_lrun_open(lua_State *L);     /* the run of a graph */

/* bind/shared/ */
int fz_larray_open(lua_State *L); /* many numbers of one type */
int fz_lbarrier_open(lua_State *L);
int fz_lcondition_open(lua_State *L);
int fz_levent_open(lua_State *L);
int fz_lmember_open(lua_State *L); /* the processes that share */
int fz_lpipe_open(lua_State *L);
int fz_lqueue_open(lua_State *L);
int fz_lsemaphore_open(lua_State *L);
int fz_lvalue_open(lua_State *L); /* one number */

#endif
