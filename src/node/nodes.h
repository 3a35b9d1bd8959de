/*
 * nodes.h - the machines on which the workers of an engine URL run.
 *
 * 	ssh://HOST[:SLOTS],...
 * 	nats://HOST[:PORT][/TEAM]	see nats_nodes.h
 *
 * A worker on a node is a link_stream to a program: the ssh command, which
 * starts `fzlua --worker` there (node_main.h), or fzlua-nats, whose gateway on
 * the node starts that command. Pools choose the node of each job by its free
 * slots, and know nothing else of the engine.
 */
#ifndef FZ_NODES_H
#define FZ_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * The command of a node may print a line: this character and a number. At most
 * that many bytes of the command's input, modulo 2^32, may have reached the
 * node, so calls in later bytes have not begun.
 */
#define FZ_NODES_REACHED '\x01'

struct fz_node {
	char *name;     /* name in the URL, without the slots */
	unsigned slots; /* number of jobs that run there at once */
	/* number of the node's workers that have a job, set by the pools */
	unsigned nbusy;
	char *command; /* shell command that starts a worker on the node */
	bool joined;   /* a worker has started there */
	/*
	 * measured time to the node and back; 0: unknown. The dispatcher sends
	 * more jobs ahead to a distant node, so that it has work for this time.
	 */
	int64_t way_ns;
	/* number of failed starts since the last successful one */
	unsigned nfailed;
	int64_t down_ns;   /* no worker starts there before this time */
	struct fz_err why; /* error of the last failed start */
	/* only for a node that announces itself: */
	/* id of the node's gateway; "": the node does not announce itself */
	char id[24];
	bool gone;   /* the node cannot be used now; `why` has the reason */
	bool silent; /* the node sends no beats, and may return */
	/* number of processors and load average, as announced by the node */
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
	int64_t usable_ns; /* last time at which a node was usable */
	void *own;         /* memory of the engine */
};

/*
 * An engine lists nodes. Each node has a name, slots, and a shell command. The
 * command connects its standard streams to those of a `fzlua --worker` on the
 * node, and ends with that worker.
 */
struct fz_nodes_ops {
	/* Whether the engine has the scheme of the URL. */
	bool (*has_scheme)(const char *url);
	/* Check a URL that has the engine's scheme. 0, or -1 and `err`. */
	int (*check)(const char *url, struct fz_err *err);
	/*
	 * Add the nodes of nodes->url, and set nslots, the sum of their slots.
	 * `creds` and `identity` are those of fz_nodes_find(). 0, or -1 and
	 * `err`; then end() follows.
	 */
	int (*start)(struct fz_nodes *nodes, const char *creds,
	    const char *identity, struct fz_err *err);
	/* Update the list of nodes. NULL: the list never changes. */
	void (*update)(struct fz_nodes *nodes);
	/*
	 * Whether this process, which may be a fork of the one that called
	 * start(), can use the nodes. NULL: always.
	 */
	bool (*is_usable)(const struct fz_nodes *nodes);
	/* Free the memory of the engine. NULL: there is none to free. */
	void (*end)(struct fz_nodes *nodes);
};

extern const struct fz_nodes_ops fz_ssh_nodes, fz_nats_nodes;

/* Check the form of an engine URL, without a connection. 0, or -1 and `err`. */
int fz_nodes_check(const char *url, struct fz_err *err);

/*
 * The nodes of `url`, which stay in the list `*known` until fz_nodes_free().
 * `identity` is the version that fzlua must have on the nodes. `creds` is the
 * path of the file with the secrets for the URL; NULL: none. Returns NULL and
 * fills `err` if `url` is no engine URL, or if no node can be reached.
 */
struct fz_nodes *fz_nodes_find(struct fz_nodes **known, const char *url,
    const char *creds, const char *identity, struct fz_err *err);

/*
 * fz_nodes_add() appends an empty node, and returns NULL if there is no memory.
 * fz_nodes_drop_last() removes the last node.
 */
struct fz_node *fz_nodes_add(struct fz_nodes *nodes);
void fz_nodes_drop_last(struct fz_nodes *nodes);

/*
 * The node with the smallest share of busy slots. NULL if no worker can start
 * on any node now; fills `err` if that is not expected to change.
 */
struct fz_node *fz_nodes_pick(struct fz_nodes *nodes, struct fz_err *err);

/* Update the list of nodes. False: it never changes. */
bool fz_nodes_update(struct fz_nodes *nodes);

/* Whether a worker can start on the node now. */
bool fz_node_is_usable(const struct fz_node *node);

/*
 * fz_node_joined(): note that a worker has started on the node.
 * fz_node_failed(): note that a start on the node has failed because of `why`.
 */
void fz_node_joined(struct fz_node *node);
void fz_node_failed(struct fz_node *node, const struct fz_err *why);

/*
 * Measure the time to the node and back. A job was sent to an idle worker; the
 * message that the job has started came `took_ns` later.
 */
void fz_node_note_way(struct fz_node *node, int64_t took_ns);

void fz_nodes_free(struct fz_nodes *known);

#endif
