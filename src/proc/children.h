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
	/*
	 * forking(): called in the parent before the fork. resumed(): called in
	 * the parent after the fork, even if it failed.
	 */
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
	/* number of the child among those of this instance, from 1 */
	uint64_t number;
};

/*
 * The children of an instance. Initialise with zeros, and end with
 * fz_children_fini().
 */
struct fz_children {
	/* children that are not reaped, sorted by number */
	struct fz_child *list;
	size_t n, room;
	/* number of children that this instance has started so far */
	uint64_t nforks;
	/* number of the last child that did not fit into `list`; 0: none */
	uint64_t nuncounted;
	struct fz_children_hook *hooks;
};

void fz_children_fini(struct fz_children *children);

/*
 * Call the functions of `hook` at all later forks. `hook` must stay valid; the
 * caller frees it.
 */
void fz_children_add_hook(
    struct fz_children *children, struct fz_children_hook *hook);

/* The number of the newest child that is not reaped; 0 if there is none. */
uint64_t fz_children_newest(const struct fz_children *children);

/*
 * Used by fz_proc_fork(): call the `forking` functions, or the `resumed`
 * functions, of all hooks.
 */
void fz_children_forking(struct fz_children *children);
void fz_children_resumed(struct fz_children *children);

/*
 * fz_children_add(): add a forked child, and call the `forked` functions of all
 * hooks. fz_children_count(): add a child that is a program; no hook is called,
 * because such a child inherits nothing. fz_children_drop(): remove a child
 * that was reaped.
 */
void fz_children_add(struct fz_children *children, pid_t pid);
void fz_children_count(struct fz_children *children, pid_t pid);
void fz_children_drop(struct fz_children *children, pid_t pid);

/*
 * Called in a new child. fz_children_forget(): remove the parent's children.
 * fz_children_in_child(): call the `born` functions of all hooks, and then
 * remove the parent's children.
 */
void fz_children_forget(struct fz_children *children);
void fz_children_in_child(struct fz_children *children);

#endif
