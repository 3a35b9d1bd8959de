/*
 * lwork.h - the functions that run in this process, and which is next.
 *
 * Those of runs and batches with jobs = 0: the loop runs one in a turn. A
 * function may wait, and turns the loop meanwhile, so that others run inside
 * it.
 */
#ifndef FZ_LWORK_H
#define FZ_LWORK_H

#include <stdbool.h>

#include <lua.h>

#include "base/list.h"

/* An object with functions to run in this process: a run with jobs = 0. */
struct fz_local {
	/* Run one function, if any is ready; returns whether it did. */
	int (*work)(lua_State *L, struct fz_local *local);
	/* Whether work() would run one. */
	bool (*ready)(const struct fz_local *local);
	struct fz_list link; /* in the list of the work */
	unsigned depth;      /* of the functions inside which it was added */
};

struct fz_lwork {
	struct fz_list locals; /* runs whose functions run in this process */
	unsigned depth; /* of their functions that run: one waits for another */
};

void fz_lwork_init(struct fz_lwork *work);

void fz_lwork_add(struct fz_lwork *work, struct fz_local *local);
void fz_lwork_drop(struct fz_local *local);

/*
 * Run one function, if any is ready; returns whether it did. Runs that started
 * beside each other are served in order. A function that waits is served by the
 * runs that it started, because a function of another run would have to end
 * before it continues. [-0, +0, e]
 */
int fz_lwork_run(lua_State *L, struct fz_lwork *work);

/* Whether fz_lwork_run() would run a function. */
bool fz_lwork_is_ready(const struct fz_lwork *work);

/* Whether no object was added. */
static inline bool
fz_lwork_is_empty(const struct fz_lwork *work)
{
	return fz_list_first(&work->locals) == NULL;
}

/* Drop all objects, those of the parent in a child. */
void fz_lwork_clear(struct fz_lwork *work);

#endif
