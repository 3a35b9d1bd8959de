/* cgroup.h - the control groups of this process. */
#ifndef FZ_CGROUP_H
#define FZ_CGROUP_H

#include <stdbool.h>

/* Called with the directory of a group; v2: in the unified hierarchy. */
typedef void (*fz_cgroup_visit)(void *ctx, const char *dir, bool v2);

/*
 * Visit the group of this process in each hierarchy that may limit `controller`
 * ("cpu", "memory"), and the groups above it, if they are mounted here. Visits
 * none without /proc, or if there is no memory.
 */
void fz_cgroup_each(const char *controller, fz_cgroup_visit visit, void *ctx);

#endif
