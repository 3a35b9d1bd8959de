/*
 * lwork.h - the functions that run in this process, and their order.
 *
 * These are the functions of runs and batches with jobs = 0. The loop runs one
 * of them in each turn. A function that waits turns the loop, so other
 * functions may run during its wait.
 */
#ifndef FZ_LWORK_H
#define FZ_LWORK_H

#include <stdbool.h>

#include <lua.h>

#include "base/list.h"

/* The part of a run or a batch with jobs = 0 that calls its functions. */
struct fz_local {
	/* If a function is ready, run it, and return true. */
	int (*work)(lua_State *L, struct fz_local *local);
	/* Whether work() would run a function. */
	bool (*ready)(const struct fz_local *local);
	struct fz_list link; /* in the list of objects with functions to run */
	/* number of functions that were running when this object was added */
	unsigned depth;
};

struct fz_lwork {
	struct fz_list locals; /* objects with functions to run */
	/* number of functions that run, each in a wait of the one before */
	unsigned depth;
};

void fz_lwork_init(struct fz_lwork *work);

void fz_lwork_add(struct fz_lwork *work, struct fz_local *local);
void fz_lwork_drop(struct fz_local *local);

/*
 * If a function is ready, run it, and return true. Runs of the same depth are
 * served in order. While a function waits, functions of the runs that it
 * started are preferred, because a function of another run would have to end
 * before the waiting one continues. [-0, +0, e]
 */
int fz_lwork_run(lua_State *L, struct fz_lwork *work);

/* Whether fz_lwork_run() would run a function. */
bool fz_lwork_is_ready(const struct fz_lwork *work);

/* Whether no run or batch has functions to run. */
static inline bool
fz_lwork_is_empty(const struct fz_lwork *work)
{
	return fz_list_first(&work->locals) == NULL;
}

/* Drop all runs and batches. In a forked child these belong to the parent. */
void fz_lwork_clear(struct fz_lwork *work);

#endif
