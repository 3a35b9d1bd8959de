/*
 * children.h - the children that one instance has started.
 *
 * A process may have several instances. After a fork by one instance, the child
 * may use the objects of that instance, and no objects of another.
 */
#ifndef FZ_CHILDREN_H
#define FZ_CHILDREN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Functions to call at each fork of an instance. Each may be NULL. */
struct fz_children_hook {
	/* Called in the parent before the fork, and after it or its failure. */
	void (*forking)(struct fz_children_hook *hook);
	void (*resumed)(struct fz_children_hook *hook);
	/* Called in the parent after a successful fork. */
	void (*forked)(struct fz_children_hook *hook);
	/* Called in the child before its main function. */
	void (*born)(struct fz_children_hook *hook);
	struct fz_children_hook *next;
};

struct fz_child {
	pid_t pid;
	uint64_t number; /* number of the child in its instance, from 1 */
};

/* The children of an instance; all 0 at first. End with fz_children_fini(). */
struct fz_children {
	struct fz_child *list; /* children not yet reaped, by number */
	size_t n, room;
	uint64_t nforks;     /* number of children started so far */
	uint64_t nuncounted; /* last child without room in `list`; or 0 */
	struct fz_children_hook *hooks;
};

void fz_children_fini(struct fz_children *children);

/* Call `hook` at all later forks. The caller still owns it. */
void fz_children_add_hook(
    struct fz_children *children, struct fz_children_hook *hook);

/* The number of the newest child that is not reaped; 0 if there is none. */
uint64_t fz_children_newest(const struct fz_children *children);

/* For fz_proc_fork(): call the `forking` or the `resumed` functions. */
void fz_children_forking(struct fz_children *children);
void fz_children_resumed(struct fz_children *children);

/*
 * fz_children_add(): add a forked child, and call the `forked` functions.
 * fz_children_count(): add a program, which inherits nothing, so no function is
 * called. fz_children_drop(): remove a reaped child.
 */
void fz_children_add(struct fz_children *children, pid_t pid);
void fz_children_count(struct fz_children *children, pid_t pid);
void fz_children_drop(struct fz_children *children, pid_t pid);

/* In a child: remove the parent's children; in_child() calls `born` first. */
void fz_children_forget(struct fz_children *children);
void fz_children_in_child(struct fz_children *children);

#endif
