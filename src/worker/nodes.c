#define _POSIX_C_SOURCE 200809L /* strdup, strndup */
#include "worker/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/vec.h"
#include "worker/nats_nodes.h"
#include "worker/nats_url.h"

/* From a failed start to the next one on the same node. */
#define NODE_DOWN_NS (5 * FZ_CLOCK_SECOND)
/* If all nodes that announce themselves have left, jobs wait for another one.
 */
#define NODES_WAIT_NS (10 * FZ_CLOCK_SECOND)

enum {
	/* Failed starts in a row, if workers have started there before. */
	NODE_FAILED_MAX = 3,
	NODE_SLOTS_MAX = 4096
};

#define NODES_SCHEME "ssh://"
/* The name of a host, or of one in the configuration of ssh. */
#define NODES_NAME                   \
	"abcdefghijklmnopqrstuvwxyz" \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._-"

/* ssh asks nothing, gives up early, and notices that a node is gone. */
#define NODES_COMMAND                                                   \
	"exec ${FZLUA_SSH:-ssh} -T -oBatchMode=yes -oConnectTimeout=3 " \
	"-oServerAliveInterval=5 -oServerAliveCountMax=3 %s "           \
	"\"${FZLUA_WORKER_COMMAND:-fzlua} --worker %s\""

/* The command for sh, for free(); NULL without memory. */
static char *
command_for(const char *name, const char *identity)
{
	size_t room = sizeof(NODES_COMMAND) + strlen(name) + strlen(identity);
	char *command = malloc(room);

	if (command != NULL)
		snprintf(command, room, NODES_COMMAND, name, identity);
	return command;
}

/* The number in `text`, which ends at `end`; 0 if it is none. */
static unsigned
slots_at(const char *text, const char *end)
{
	char *behind;
	unsigned long n = strtoul(text, &behind, 10);

	if (text == end || strchr("0123456789", *text) == NULL ||
	    behind != end || n > NODE_SLOTS_MAX)
		return 0;
	return (unsigned)n;
}

/* Read the node between `at` and `end`. 0, or -1 and `err`. */
static int
read_node(struct fz_node *node, const char *at, const char *end,
    const char *identity, struct fz_err *err)
{
	size_t len = strspn(at, NODES_NAME);

	node->slots = 1;
	if (at + len != end)
		node->slots = at[len] == ':' ? slots_at(at + len + 1, end) : 0;
	/* ssh would read a dash as an option. */
	if (len == 0 || *at == '-' || node->slots == 0)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "'%.*s' is not HOST or HOST:SLOTS", (int)(end - at), at);
	node->name = strndup(at, len);
	if (node->name != NULL)
		node->command = command_for(node->name, identity);
	return node->command != NULL ? 0 : fz_err_nomem(err, "an engine");
}

static int
read_nodes(struct fz_nodes *nodes, const char *at, const char *identity,
    struct fz_err *err)
{
	for (;; at++) {
		const char *end = at + strcspn(at, ",");
		struct fz_node *node = fz_nodes_add(nodes);

		if (node == NULL)
			return fz_err_nomem(err, "an engine");
		if (read_node(node, at, end, identity, err) != 0)
			return -1;
		nodes->nslots += node->slots;
		at = end;
		if (*at == '\0')
			return 0;
	}
}

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

static struct fz_nodes *
new_nodes(const char *url, const char *creds, const char *identity,
    struct fz_err *err)
{
	struct fz_nodes *nodes = calloc(1, sizeof(*nodes));
	int rc = -1;

	if (nodes != NULL)
		nodes->url = strdup(url);
	if (nodes == NULL || nodes->url == NULL)
		fz_err_nomem(err, "an engine");
	else if (fz_nats_url_is(url))
		rc = fz_nats_start(nodes, url, creds, identity, err);
	else
		rc = read_nodes(
		    nodes, url + strlen(NODES_SCHEME), identity, err);
	if (rc == 0)
		return nodes;
	fz_nodes_free(nodes);
	return NULL;
}

int
fz_nodes_check(const char *url, struct fz_err *err)
{
	struct fz_nats_url read;
	struct fz_nodes *nodes;

	if (fz_nats_url_is(url))
		return fz_nats_url_read(&read, url, err);
	if (strncmp(url, NODES_SCHEME, strlen(NODES_SCHEME)) != 0)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "an engine is 'local', 'ssh://HOST:SLOTS,...' or "
		    "'nats://HOST'");
	nodes = new_nodes(url, NULL, "", err);
	fz_nodes_free(nodes);
	return nodes != NULL ? 0 : -1;
}

/* A fork of the gateway's owner needs another one. */
static bool
is_usable(const struct fz_nodes *nodes)
{
	return nodes->nats == NULL || fz_nats_is_usable(nodes->nats);
}

struct fz_nodes *
fz_nodes_find(struct fz_nodes **known, const char *url, const char *creds,
    const char *identity, struct fz_err *err)
{
	struct fz_nodes *nodes = *known;

	while (nodes != NULL &&
	       (strcmp(nodes->url, url) != 0 || !is_usable(nodes)))
		nodes = nodes->next;
	if (nodes != NULL)
		return nodes;
	if (fz_nodes_check(url, err) != 0)
		return NULL;
	nodes = new_nodes(url, creds, identity, err);
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
	if (nodes->nats != NULL)
		fz_nats_update(nodes);
	return nodes->nats != NULL;
}

bool
fz_node_is_usable(const struct fz_node *node)
{
	return !node->gone && node->down_ns <= fz_clock_ns();
}

/* Whether none can be used, now and later. */
static bool
are_lost(const struct fz_nodes *nodes)
{
	if (nodes->nats == NULL)
		return true;
	if (!fz_nats_is_usable(nodes->nats))
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
		fz_nats_end(nodes->nats);
		free(nodes->list);
		free(nodes->url);
		free(nodes);
	}
}
