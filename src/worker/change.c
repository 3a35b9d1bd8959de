#include "worker/change.h"

#include "base/container.h"
#include "worker/engine.h"

void
fz_change_init(struct fz_change *change, struct fz_engine *engine)
{
	*change = (struct fz_change){ .engine = engine, .id = ++engine->nids };
}

void
fz_change_fini(struct fz_change *change)
{
	fz_list_remove(&change->link);
}

void
fz_changed(struct fz_change *change)
{
	change->engine->wake_count++;
	if (!fz_list_is_linked(&change->link))
		fz_list_push(&change->engine->changed, &change->link);
}

uint64_t
fz_change_take(struct fz_engine *engine)
{
	struct fz_list *link = fz_list_first(&engine->changed);

	if (link == NULL)
		return 0;
	fz_list_remove(link);
	return FZ_CONTAINER_OF(link, struct fz_change, link)->id;
}
