/*
 * open.h - the open functions of the bindings that have no header of their own.
 *
 * Each function adds the functions of its file to the core table, which is on
 * top of the stack. [-0, +0, e]
 */
#ifndef FZ_OPEN_H
#define FZ_OPEN_H

#include <lua.h>

/* in bind/ */
int fz_lblocks_open(lua_State *L);     /* blocks of records of a file */
int fz_ldatabase_open(lua_State *L);   /* files of SQLite, compression */
int fz_ldescriptor_open(lua_State *L); /* descriptors of the script */
int fz_lrecords_open(lua_State *L);    /* the records of a block */
int fz_lmachine_open(lua_State *L);    /* clocks, processors, seeds */
int fz_lterm_open(lua_State *L);       /* progress lines on a terminal */

/* in bind/batch/, bind/jobs/ and bind/run/ */
int fz_lbatch_open(lua_State *L);   /* batches of calls of a pool */
int fz_lcall_open(lua_State *L);    /* single calls of a pool */
int fz_lprocess_open(lua_State *L); /* functions in separate processes */
int fz_lprogram_open(lua_State *L); /* external programs */
int fz_lrun_open(lua_State *L);     /* runs of graphs */
int fz_lwindow_open(lua_State *L);  /* items of loops over a source */
int fz_limap_open(lua_State *L);    /* items of an imap */
int fz_lpage_open(lua_State *L);    /* the data of the page of a run */
int fz_lstream_open(lua_State *L);  /* many runs of one graph */
/* recorded results; opened after databases */
int fz_lresults_open(lua_State *L);

/* in bind/shared/ */
int fz_larray_open(lua_State *L); /* arrays of numbers */
int fz_lbarrier_open(lua_State *L);
int fz_lcondition_open(lua_State *L);
int fz_levent_open(lua_State *L);
/* the state that all bindings of bind/shared need; opened first */
int fz_lshared_open(lua_State *L);
int fz_lmember_open(lua_State *L); /* members: processes of the run */
int fz_lpipe_open(lua_State *L);
int fz_lqueue_open(lua_State *L);
int fz_lsemaphore_open(lua_State *L);
int fz_lvalue_open(lua_State *L); /* single numbers */

#endif
