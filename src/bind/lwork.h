/*
 * lwork.h - the functions that run in this process, and their order.
 *
 * These are functions of runs and batches with jobs = 0; the loop runs one in
 * each turn. A function that waits turns the loop, so other functions may run
 * inside it.
 */
#ifndef FZ_LWORK_H
#define FZ_LWORK_H

#include <stdbool.h>

#include <lua.h>

#include "base/list.h"

/* A run or a batch with jobs = 0, whose functions run in this process. */
struct fz_local {
	/* Run one function, if any is ready; returns whether it did. */
	int (*work)(lua_State *L, struct fz_local *local);
	/* Whether work() would run a function. */
	bool (*ready)(const struct fz_local *local);
	struct fz_list link; /* in the list of objects with functions to run */
	/* number of functions that were running when the object was added */
	unsigned depth;
};

struct fz_lwork {
	struct fz_list locals; /* objects whose functions run in this process */
	/* number of running functions; each was called inside the one before */
	unsigned depth;
};

void fz_lwork_init(struct fz_lwork *work);

void fz_lwork_add(struct fz_lwork *work, struct fz_local *local);
void fz_lwork_drop(struct fz_local *local);

/*
 * Run one function, if any is ready; returns whether it did. Runs that started
 * at the same depth are served in order. While a function waits, functions of
 * the runs that it started are preferred, because a function of another run
 * would have to end before the waiting one continues. [-0, +0, e]
 */
int fz_lwork_run(lua_State *L, struct fz_lwork *work);

/* Whether fz_lwork_run() would run a function. */
bool fz_lwork_is_ready(const struct fz_lwork *work);

/* Whether there are no objects. */
static inline bool
fz_lwork_is_empty(const struct fz_lwork *work)
{
	return fz_list_first(&work->locals) == NULL;
}

/* Drop all objects; in a child, those of the parent. */
void fz_lwork_clear(struct fz_lwork *work);

#endif
