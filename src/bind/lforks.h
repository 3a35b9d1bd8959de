/* lforks.h - a function of the host that is called around each fork. */
#ifndef FZ_LFORKS_H
#define FZ_LFORKS_H

#include "proc/children.h"

enum { FZ_LFORKS_BEFORE, FZ_LFORKS_PARENT, FZ_LFORKS_CHILD };

struct fz_lforks {
	struct fz_children_hook hook;
	/* the function of the host; NULL: there is none */
	void (*call)(void *ctx, int when);
	void *ctx;
};

/* From now on, call the function of the host around each fork of `children`. */
void fz_lforks_init(struct fz_lforks *forks, struct fz_children *children);

#endif
