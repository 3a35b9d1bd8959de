#include "proc/children.h"

#include <stdlib.h>
#include <string.h>

#include "base/vec.h"

void
fz_children_fini(struct fz_children *children)
{
	free(children->list);
	children->list = NULL;
	children->n = children->room = 0;
}

void
fz_children_add_hook(
    struct fz_children *children, struct fz_children_hook *hook)
{
	hook->next = children->hooks;
	children->hooks = hook;
}

uint64_t
fz_children_newest(const struct fz_children *children)
{
	size_t n = children->n;
	uint64_t newest = n != 0 ? children->list[n - 1].number : 0;

	return newest > children->nuncounted ? newest : children->nuncounted;
}

void
fz_children_count(struct fz_children *children, pid_t pid)
{
	struct fz_child *list = fz_vec_room(children->list, &children->room,
	    children->n + 1, sizeof(*children->list));

	children->nforks++;
	if (list == NULL) {
		children->nuncounted = children->nforks;
		return;
	}
	children->list = list;
	list[children->n++] = (struct fz_child){ pid, children->nforks };
}

void
fz_children_add(struct fz_children *children, pid_t pid)
{
	fz_children_count(children, pid);
	for (struct fz_children_hook *h = children->hooks; h != NULL;
	     h = h->next) {
		if (h->forked != NULL)
			h->forked(h);
	}
}

void
fz_children_forking(struct fz_children *children)
{
	for (struct fz_children_hook *h = children->hooks; h != NULL;
	     h = h->next) {
		if (h->forking != NULL)
			h->forking(h);
	}
}

void
fz_children_resumed(struct fz_children *children)
{
	for (struct fz_children_hook *h = children->hooks; h != NULL;
	     h = h->next) {
		if (h->resumed != NULL)
			h->resumed(h);
	}
}

void
fz_children_drop(struct fz_children *children, pid_t pid)
{
	struct fz_child *list = children->list;
	size_t i = children->n;

	while (i > 0 && list[i - 1].pid != pid)
		i--;
	if (i == 0)
		return;
	children->n--;
	memmove(&list[i - 1], &list[i], (children->n - i + 1) * sizeof(*list));
}

void
fz_children_forget(struct fz_children *children)
{
	children->n = 0;
	children->nuncounted = 0;
}

void
fz_children_in_child(struct fz_children *children)
{
	for (struct fz_children_hook *h = children->hooks; h != NULL;
	     h = h->next) {
		if (h->born != NULL)
			h->born(h);
	}
	fz_children_forget(children);
}
