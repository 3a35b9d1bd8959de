/*
 * nodes.h - the machines on which the workers of an engine URL run.
 *
 *	ssh://HOST[:SLOTS],...
 *	nats://HOST[:PORT][/TEAM]	see nats_nodes.h
 *
 * A worker on a node is a link_stream to a program: the ssh command, which
 * starts `fzlua --worker` there (node.h), or fzlua-nats, which has it started.
 * Pools choose the node of each job by the slots that are free, and know
 * nothing else of the engine.
 */
#ifndef FZ_NODES_H
#define FZ_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct fz_node {
	char *name;        /* as in the URL, without the slots */
	unsigned slots;    /* jobs that run there at once */
	unsigned nbusy;    /* workers that have a job; the pools' to count */
	char *command;     /* for sh: starts a worker there */
	bool joined;       /* a worker has started there */
	unsigned nfailed;  /* starts that failed since one that did not */
	int64_t down_ns;   /* no worker starts there before */
	struct fz_err why; /* of the last failed start */
	/* Of a node that announces itself. */
	char id[24];         /* "": it does not */
	bool gone;           /* it cannot be used now, because of `why` */
	bool silent;         /* it is gone, and may come back */
	unsigned processors; /* when it was announced */
	char load[16];
};

struct fz_nodes {
	struct fz_nodes *next;
	const struct fz_nodes_ops *ops;
	char *url;
	struct fz_node **list; /* a node stays where it is */
	size_t cap;
	unsigned n, nslots;
	int64_t usable_ns; /* when a node could be used last */
	void *own;         /* the engine's */
};

/*
 * An engine. It fills the list of nodes: each has a name, slots, and a command
 * for sh whose standard streams are those of a `fzlua --worker` there, and
 * whose end is that of the worker.
 */
struct fz_nodes_ops {
	/* Whether the URL is of this engine; then whether it can be one. */
	bool (*has_scheme)(const char *url);
	int (*check)(const char *url, struct fz_err *err);
	/*
	 * Fill the list of nodes->url, with fz_nodes_add(), and nslots, the sum
	 * of the slots. `creds` and `identity` are those of fz_nodes_find(). 0,
	 * or -1 and `err`; then end() follows.
	 */
	int (*start)(struct fz_nodes *nodes, const char *creds,
	    const char *identity, struct fz_err *err);
	/* Change the list to what is known now. NULL: it never changes. */
	void (*update)(struct fz_nodes *nodes);
	/* Whether this process can use them, perhaps a fork. NULL: always. */
	bool (*is_usable)(const struct fz_nodes *nodes);
	/* Free what is its own; NULL: nothing. */
	void (*end)(struct fz_nodes *nodes);
};

extern const struct fz_nodes_ops fz_ssh_nodes, fz_nats_nodes;

/* Whether `url` can be an engine, without a try. 0, or -1 and `err`. */
int fz_nodes_check(const char *url, struct fz_err *err);

/*
 * The nodes of `url`, which are kept in `*known` until fz_nodes_free(). A node
 * must have the version `identity`. `creds` is the file with secrets for it,
 * NULL: none. NULL and `err` if it is no such URL, or no node can be reached.
 */
struct fz_nodes *fz_nodes_find(struct fz_nodes **known, const char *url,
    const char *creds, const char *identity, struct fz_err *err);

/* Add an empty node, or drop the last one. NULL without memory. */
struct fz_node *fz_nodes_add(struct fz_nodes *nodes);
void fz_nodes_drop_last(struct fz_nodes *nodes);

/*
 * The node with the most free slots for its size. NULL if no worker can start
 * on any of them now; and `err` if that will not change.
 */
struct fz_node *fz_nodes_pick(struct fz_nodes *nodes, struct fz_err *err);

/* Take what is known of the nodes since. Returns whether they report it. */
bool fz_nodes_update(struct fz_nodes *nodes);

/* Whether a worker can start there now. */
bool fz_node_is_usable(const struct fz_node *node);

/* A worker has started on the node, or could not because of `why`. */
void fz_node_joined(struct fz_node *node);
void fz_node_failed(struct fz_node *node, const struct fz_err *why);

void fz_nodes_free(struct fz_nodes *known);

#endif
