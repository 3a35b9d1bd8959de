/*
 * nodes.h - the machines on which the workers of an engine URL run.
 *
 * 	ssh://HOST[:SLOTS],...
 * 	nats://HOST[:PORT][/TEAM]	see nats_nodes.h
 *
 * A worker on a node is a link_stream to a program: the ssh command, which
 * starts `fzlua --worker` there (node.h), or fzlua-nats, whose gateway on the
 * node starts that command. Pools choose the node of each job by the slots that
 * are free, and know nothing else of the engine.
 */
#ifndef FZ_NODES_H
#define FZ_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * First character of a line that the command of a node may print before it
 * ends. A number follows: how many bytes of its input, modulo 2^32, can have
 * come to the node at most. So calls behind them have not begun.
 */
#define FZ_NODES_REACHED '\x01'

struct fz_node {
	char *name;     /* name in the URL, without the slots */
	unsigned slots; /* number of jobs that run there at once */
	/* number of workers that have a job; the pools count them */
	unsigned nbusy;
	char *command; /* command for sh that starts a worker there */
	bool joined;   /* a worker has started there */
	/*
	 * measured time to the node and back; 0: unknown. The dispatcher sends
	 * additional work ahead for this time.
	 */
	int64_t way_ns;
	/* number of failed starts since the last successful one */
	unsigned nfailed;
	int64_t down_ns;   /* no worker starts there before this time */
	struct fz_err why; /* error of the last failed start */
	/* For a node that announces itself. */
	/* id of its gateway; "": the node does not announce itself */
	char id[24];
	bool gone;   /* the node cannot be used now, because of `why` */
	bool silent; /* the node is gone, and may come back */
	/* processors and load when the node was announced */
	unsigned processors;
	char load[16];
};

struct fz_nodes {
	struct fz_nodes *next;
	const struct fz_nodes_ops *ops;
	char *url;
	struct fz_node **list; /* the nodes; their addresses do not change */
	size_t cap;
	unsigned n, nslots;
	int64_t usable_ns; /* time at which a node could last be used */
	void *own;         /* for the engine */
};

/*
 * An engine. It makes the list of nodes. Each has a name, slots, and a command
 * for sh whose standard streams are those of a `fzlua --worker` on the node;
 * the command ends with that worker.
 */
struct fz_nodes_ops {
	/* Whether the URL has the scheme of this engine. */
	bool (*has_scheme)(const char *url);
	/* Check a URL of that scheme. 0, or -1 and `err`. */
	int (*check)(const char *url, struct fz_err *err);
	/*
	 * Fill the list of nodes->url, with fz_nodes_add(), and nslots, the sum
	 * of the slots. `creds` and `identity` are those of fz_nodes_find(). 0,
	 * or -1 and `err`; then end() follows.
	 */
	int (*start)(struct fz_nodes *nodes, const char *creds,
	    const char *identity, struct fz_err *err);
	/* Update the list. NULL: it never changes. */
	void (*update)(struct fz_nodes *nodes);
	/*
	 * Whether this process, which may be a fork, can use the nodes. NULL:
	 * always.
	 */
	bool (*is_usable)(const struct fz_nodes *nodes);
	/* Free the memory of the engine. NULL: it has none. */
	void (*end)(struct fz_nodes *nodes);
};

extern const struct fz_nodes_ops fz_ssh_nodes, fz_nats_nodes;

/*
 * Check whether `url` can be an engine, without a connection. 0, or -1 and
 * `err`.
 */
int fz_nodes_check(const char *url, struct fz_err *err);

/*
 * The nodes of `url`, which are kept in `*known` until fz_nodes_free(). A node
 * must have the version `identity`. `creds` is the file with the secrets for
 * the URL; NULL: none. NULL and `err` if `url` is no engine URL, or if no node
 * can be reached.
 */
struct fz_nodes *fz_nodes_find(struct fz_nodes **known, const char *url,
    const char *creds, const char *identity, struct fz_err *err);

/*
 * fz_nodes_add(): add an empty node; NULL if there is no memory.
 * fz_nodes_drop_last(): drop the last node.
 */
struct fz_node *fz_nodes_add(struct fz_nodes *nodes);
void fz_nodes_drop_last(struct fz_nodes *nodes);

/*
 * The node with the most free slots for its size. NULL if no worker can start
 * on any of them now; `err` is filled if that will not change.
 */
struct fz_node *fz_nodes_pick(struct fz_nodes *nodes, struct fz_err *err);

/* Update the nodes. Returns whether their engine reports changes. */
bool fz_nodes_update(struct fz_nodes *nodes);

/* Whether a worker can start on the node now. */
bool fz_node_is_usable(const struct fz_node *node);

/*
 * Note that a worker has started on the node, or that it could not, because of
 * `why`.
 */
void fz_node_joined(struct fz_node *node);
void fz_node_failed(struct fz_node *node, const struct fz_err *why);

/*
 * Note that the start of a job on the node was known `took_ns` after the job
 * was sent to a worker that had none.
 */
void fz_node_note_way(struct fz_node *node, int64_t took_ns);

void fz_nodes_free(struct fz_nodes *known);

#endif
