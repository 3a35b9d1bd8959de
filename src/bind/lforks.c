#include "bind/lforks.h"

#include <stddef.h>

#include "base/container.h"

static void
call(struct fz_children_hook *hook, int when)
{
	struct fz_lforks *forks = FZ_CONTAINER_OF(hook, struct fz_lforks, hook);

	if (forks->call != NULL)
		forks->call(forks->ctx, when);
}

static void
forking(struct fz_children_hook *hook)
{
	call(hook, FZ_LFORKS_BEFORE);
}

static void
resumed(struct fz_children_hook *hook)
{
	call(hook, FZ_LFORKS_PARENT);
}

/* In a child: forks of the child do not concern the host. */
static void
born(struct fz_children_hook *hook)
{
	call(hook, FZ_LFORKS_CHILD);
	FZ_CONTAINER_OF(hook, struct fz_lforks, hook)->call = NULL;
}

void
fz_lforks_init(struct fz_lforks *forks, struct fz_children *children)
{
	*forks = (struct fz_lforks){
		.hook = { .forking = forking, .resumed = resumed, .born = born }
	};
	fz_children_add_hook(children, &forks->hook);
}
