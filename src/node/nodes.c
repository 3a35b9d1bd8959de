#define _POSIX_C_SOURCE 200809L /* strdup */
#include "node/nodes.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/vec.h"

/* Minimum time between a failed start and the next start on the node. */
#define NODE_DOWN_NS (5 * FZ_CLOCK_SECOND)
/*
 * Time that jobs wait for another node after all nodes have left. It applies
 * only to engines whose nodes announce themselves.
 */
#define NODES_WAIT_NS (10 * FZ_CLOCK_SECOND)

/*
 * Upper limit of a measured time to a node and back. Longer times have other
 * causes, such as a busy machine or a wait for a slot of the node.
 */
#define NODE_WAY_MAX_NS (FZ_CLOCK_SECOND / 4)

/*
 * Number of failed starts in a row after which a node is not used for
 * NODE_DOWN_NS. One is enough if no worker has ever started there.
 */
enum { NODE_FAILED_MAX = 3 };

/* To add an engine, add a line here and a word in find_engine(). */
static const struct fz_nodes_ops *const engines[] = { &fz_ssh_nodes,
	&fz_nats_nodes };

struct fz_node *
fz_nodes_add(struct fz_nodes *nodes)
{
	struct fz_node **list =
	    fz_vec_room(nodes->list, &nodes->cap, nodes->n + 1, sizeof(*list));

	if (list == NULL)
		return NULL;
	nodes->list = list;
	list[nodes->n] = calloc(1, sizeof(struct fz_node));
	return list[nodes->n] != NULL ? list[nodes->n++] : NULL;
}

void
fz_nodes_drop_last(struct fz_nodes *nodes)
{
	struct fz_node *node = nodes->list[--nodes->n];

	free(node->name);
	free(node->command);
	free(node);
}

/* The engine whose scheme the URL has; NULL and `err` if there is none. */
static const struct fz_nodes_ops *
find_engine(const char *url, struct fz_err *err)
{
	for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++) {
		if (engines[i]->has_scheme(url))
			return engines[i];
	}
	fz_err_set(err, FZ_ERR_ERROR,
	    "an engine is 'local', 'ssh://HOST:SLOTS,...' or 'nats://HOST'");
	return NULL;
}

static struct fz_nodes *
new_nodes(const struct fz_nodes_ops *ops, const char *url, const char *creds,
    const char *identity, struct fz_err *err)
{
	struct fz_nodes *nodes = calloc(1, sizeof(*nodes));
	int rc = -1;

	if (nodes != NULL) {
		nodes->ops = ops;
		nodes->url = strdup(url);
	}
	if (nodes == NULL || nodes->url == NULL)
		fz_err_nomem(err, "an engine");
	else
		rc = ops->start(nodes, creds, identity, err);
	/* fz_nodes_pick() reports the error of the first node */
	if (rc == 0 && nodes->n == 0)
		rc = fz_err_set(err, FZ_ERR_ERROR, "the engine has no nodes");
	if (rc == 0)
		return nodes;
	fz_nodes_free(nodes);
	return NULL;
}

int
fz_nodes_check(const char *url, struct fz_err *err)
{
	const struct fz_nodes_ops *ops = find_engine(url, err);

	return ops != NULL ? ops->check(url, err) : -1;
}

static bool
is_usable(const struct fz_nodes *nodes)
{
	return nodes->ops->is_usable == NULL || nodes->ops->is_usable(nodes);
}

struct fz_nodes *
fz_nodes_find(struct fz_nodes **known, const char *url, const char *creds,
    const char *identity, struct fz_err *err)
{
	struct fz_nodes *nodes = *known;
	const struct fz_nodes_ops *ops;

	while (nodes != NULL &&
	       (strcmp(nodes->url, url) != 0 || !is_usable(nodes)))
		nodes = nodes->next;
	if (nodes != NULL)
		return nodes;
	ops = find_engine(url, err);
	if (ops == NULL || ops->check(url, err) != 0)
		return NULL;
	nodes = new_nodes(ops, url, creds, identity, err);
	if (nodes != NULL) {
		nodes->next = *known;
		*known = nodes;
	}
	return nodes;
}

static bool
is_freer(const struct fz_node *a, const struct fz_node *b)
{
	return b == NULL ||
	       (uint64_t)a->nbusy * b->slots < (uint64_t)b->nbusy * a->slots;
}

bool
fz_nodes_update(struct fz_nodes *nodes)
{
	if (nodes->ops->update == NULL)
		return false;
	nodes->ops->update(nodes);
	return true;
}

bool
fz_node_is_usable(const struct fz_node *node)
{
	return !node->gone && node->down_ns <= fz_clock_ns();
}

/* Whether no node can be used now, and none is expected to return. */
static bool
are_lost(const struct fz_nodes *nodes)
{
	if (nodes->ops->update == NULL || !is_usable(nodes))
		return true;
	for (unsigned i = 0; i < nodes->n; i++) {
		if (nodes->list[i]->silent)
			return false;
	}
	return fz_clock_ns() - nodes->usable_ns > NODES_WAIT_NS;
}

struct fz_node *
fz_nodes_pick(struct fz_nodes *nodes, struct fz_err *err)
{
	struct fz_node *best = NULL;

	fz_nodes_update(nodes);
	for (unsigned i = 0; i < nodes->n; i++) {
		struct fz_node *node = nodes->list[i];

		if (fz_node_is_usable(node) && is_freer(node, best))
			best = node;
	}
	if (best != NULL)
		nodes->usable_ns = fz_clock_ns();
	else if (err != NULL && are_lost(nodes))
		*err = nodes->list[0]->why;
	return best;
}

void
fz_node_joined(struct fz_node *node)
{
	node->joined = true;
	node->nfailed = 0;
	node->down_ns = 0;
}

void
fz_node_note_way(struct fz_node *node, int64_t took_ns)
{
	if (took_ns > NODE_WAY_MAX_NS)
		took_ns = NODE_WAY_MAX_NS;
	if (node->way_ns == 0 || took_ns < node->way_ns)
		node->way_ns = took_ns;
	else /* a longer time may have other causes, so it has little weight */
		node->way_ns += (took_ns - node->way_ns) / 8;
}

void
fz_node_failed(struct fz_node *node, const struct fz_err *why)
{
	node->nfailed++;
	node->why = *why;
	if (!node->joined || node->nfailed >= NODE_FAILED_MAX)
		node->down_ns = fz_clock_after(fz_clock_ns(), NODE_DOWN_NS);
}

void
fz_nodes_free(struct fz_nodes *known)
{
	while (known != NULL) {
		struct fz_nodes *nodes = known;

		known = nodes->next;
		while (nodes->n != 0)
			fz_nodes_drop_last(nodes);
		if (nodes->ops->end != NULL)
			nodes->ops->end(nodes);
		free(nodes->list);
		free(nodes->url);
		free(nodes);
	}
}
