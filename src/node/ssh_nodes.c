#define _POSIX_C_SOURCE 200809L /* strndup */
#include "node/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SSH_SLOTS_MAX = 4096 };

#define SSH_SCHEME "ssh://"
/* The characters of a host's name, or of a name in the configuration of ssh. */
#define SSH_NAME                     \
	"abcdefghijklmnopqrstuvwxyz" \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._-"

/*
 * The options of ssh: ask no questions, stop trying to connect after a few
 * seconds, and notice that a node is gone.
 */
#define SSH_COMMAND                                                     \
	"exec ${FZLUA_SSH:-ssh} -T -oBatchMode=yes -oConnectTimeout=3 " \
	"-oServerAliveInterval=5 -oServerAliveCountMax=3 %s "           \
	"\"${FZLUA_WORKER_COMMAND:-fzlua} --worker %s\""

/* The command for sh, for free(). NULL if there is no memory. */
static char *
command_for(const char *name, const char *identity)
{
	size_t room = sizeof(SSH_COMMAND) + strlen(name) + strlen(identity);
	char *command = malloc(room);

	if (command != NULL)
		snprintf(command, room, SSH_COMMAND, name, identity);
	return command;
}

/* The number in `text`, which ends at `end`; 0 if it is none or too large. */
static unsigned
slots_at(const char *text, const char *end)
{
	char *behind;
	unsigned long n = strtoul(text, &behind, 10);

	if (text == end || strchr("0123456789", *text) == NULL ||
	    behind != end || n > SSH_SLOTS_MAX)
		return 0;
	return (unsigned)n;
}

/* Read the node between `at` and `end`. 0, or -1 and `err`. */
static int
read_node(struct fz_node *node, const char *at, const char *end,
    const char *identity, struct fz_err *err)
{
	size_t len = strspn(at, SSH_NAME);

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

static bool
has_scheme(const char *url)
{
	return strncmp(url, SSH_SCHEME, strlen(SSH_SCHEME)) == 0;
}

static int
start(struct fz_nodes *nodes, const char *creds, const char *identity,
    struct fz_err *err)
{
	(void)creds; /* ssh has credentials of its own */
	return read_nodes(
	    nodes, nodes->url + strlen(SSH_SCHEME), identity, err);
}

/* Check the URL: read its nodes and drop them. */
static int
check(const char *url, struct fz_err *err)
{
	struct fz_nodes nodes = { 0 };
	int rc = read_nodes(&nodes, url + strlen(SSH_SCHEME), "", err);

	while (nodes.n != 0)
		fz_nodes_drop_last(&nodes);
	free(nodes.list);
	return rc;
}

const struct fz_nodes_ops fz_ssh_nodes = {
	.has_scheme = has_scheme,
	.check = check,
	.start = start,
};
