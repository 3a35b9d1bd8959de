/*
 * children.h - the children that one instance has forked.
 *
 * An object that an instance made before a fork may be used by the child of
 * that fork, and by no child of another instance.
 */
#ifndef FZ_CHILDREN_H
#define FZ_CHILDREN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Called for each child. Each function may be NULL. */
struct fz_children_hook {
	/* Called in the parent before the fork, and after it or its failure. */
	void (*forking)(struct fz_children_hook *hook);
	void (*resumed)(struct fz_children_hook *hook);
	/* Called in the parent, after the child was counted. */
	void (*forked)(struct fz_children_hook *hook);
	/* Called in the child, before its entry function. */
	void (*born)(struct fz_children_hook *hook);
	struct fz_children_hook *next;
};

struct fz_child {
	pid_t pid;
	uint64_t number; /* counts the forks from 1 */
};

/* All zero: there are no children yet. End with fz_children_fini(). */
struct fz_children {
	struct fz_child *list; /* the children that are not reaped, by number */
	size_t n, room;
	uint64_t nforks;     /* number of children of this instance so far */
	uint64_t nuncounted; /* number of the last child not in `list`; or 0 */
	struct fz_children_hook *hooks;
};

void fz_children_fini(struct fz_children *children);

/* Call `hook` at all later forks. The caller still owns it. */
void fz_children_add_hook(
    struct fz_children *children, struct fz_children_hook *hook);

/* The number of the last child that is not reaped, or 0. */
uint64_t fz_children_newest(const struct fz_children *children);

/* For fz_proc_fork(): call the `forking` or the `resumed` functions. */
void fz_children_forking(struct fz_children *children);
void fz_children_resumed(struct fz_children *children);

/*
 * fz_children_add(): count a child that was forked. fz_children_count(): count
 * a child that was started as a program; it inherits nothing, so no hook is
 * called. fz_children_drop(): forget a child that was reaped.
 */
void fz_children_add(struct fz_children *children, pid_t pid);
void fz_children_count(struct fz_children *children, pid_t pid);
void fz_children_drop(struct fz_children *children, pid_t pid);

/* In a child: forget the parent's children; call the `born` functions first. */
void fz_children_forget(struct fz_children *children);
void fz_children_in_child(struct fz_children *children);

#endif
