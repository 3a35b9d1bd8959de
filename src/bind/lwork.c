#include "bind/lwork.h"

#include <stddef.h>

#include "base/container.h"

void
fz_lwork_init(struct fz_lwork *work)
{
	fz_list_init(&work->locals);
	work->depth = 0;
}

void
fz_lwork_add(struct fz_lwork *work, struct fz_local *local)
{
	local->depth = work->depth;
	fz_list_push(&work->locals, &local->link);
}

void
fz_lwork_drop(struct fz_local *local)
{
	fz_list_remove(&local->link);
}

static struct fz_local *
local_of(struct fz_list *link)
{
	return FZ_CONTAINER_OF(link, struct fz_local, link);
}

/*
 * Run one function of the oldest run of this depth that has a ready function.
 */
static int
work_at_depth(lua_State *L, struct fz_list *locals, unsigned depth)
{
	for (struct fz_list *link = locals->next; link != locals;
	     link = link->next) {
		struct fz_local *local = local_of(link);

		if (local->depth == depth && local->work(L, local))
			return 1;
	}
	return 0;
}

/* Run one function of the youngest run that has a ready function. */
static int
work_youngest(lua_State *L, struct fz_list *locals)
{
	for (struct fz_list *link = locals->prev; link != locals;
	     link = link->prev) {
		struct fz_local *local = local_of(link);

		if (local->work(L, local))
			return 1;
	}
	return 0;
}

int
fz_lwork_run(lua_State *L, struct fz_lwork *work)
{
	unsigned depth = work->depth++;
	int worked = work_at_depth(L, &work->locals, depth) ||
		     work_youngest(L, &work->locals);

	work->depth = depth;
	return worked;
}

bool
fz_lwork_is_ready(const struct fz_lwork *work)
{
	const struct fz_list *locals = &work->locals;

	for (struct fz_list *l = locals->next; l != locals; l = l->next) {
		const struct fz_local *local = local_of(l);

		if (local->ready(local))
			return true;
	}
	return false;
}

void
fz_lwork_clear(struct fz_lwork *work)
{
	struct fz_list *link;

	while ((link = fz_list_first(&work->locals)) != NULL)
		fz_list_remove(link);
}
