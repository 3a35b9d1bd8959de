/*
 * nodes.h - the machines on which the workers of an engine URL run.
 *
 *	ssh://HOST[:SLOTS],...
 *
 * A worker on a node is a link_stream to a program: the ssh command, which
 * starts `fzlua --worker` there (node.h). Pools choose the node of each job by
 * the slots that are free, and know nothing else of the engine.
 */
#ifndef FZ_NODES_H
#define FZ_NODES_H

#include <stdbool.h>
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
};

struct fz_nodes {
	struct fz_nodes *next;
	char *url;
	struct fz_node *list;
	unsigned n, nslots;
};

/*
 * The nodes of `url`, which are kept in `*known` until fz_nodes_free(). A node
 * must have the version `identity`. NULL and `err` if it is no such URL.
 */
struct fz_nodes *fz_nodes_find(struct fz_nodes **known, const char *url,
    const char *identity, struct fz_err *err);

/*
 * The node with the most free slots for its size. NULL and `err` if no worker
 * can start on any of them.
 */
struct fz_node *fz_nodes_pick(struct fz_nodes *nodes, struct fz_err *err);

/* A worker has started on the node, or could not because of `why`. */
void fz_node_joined(struct fz_node *node);
void fz_node_failed(struct fz_node *node, const struct fz_err *why);

void fz_nodes_free(struct fz_nodes *known);

#endif
