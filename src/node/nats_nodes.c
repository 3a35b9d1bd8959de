#define _GNU_SOURCE /* getrandom */
#include "node/nats_nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "node/nats_url.h"
#include "node/nodes.h"
#include "os/fd.h"
#include "os/process.h"
#include "proc/death.h"
#include "proc/proc.h"
#include "proc/start.h"

enum {
	NATS_MESSAGE_MAX = 1024,
	NATS_SETUP_MAX = 8192,
	NATS_FIELDS = 7,
	NATS_SLOTS_MAX = 4096
};

/*
 * Maximum time to wait for the list of nodes. It is longer than the time limit
 * of the gateway, because the gateway may wait for a processor.
 */
#define NATS_START_NS (10 * FZ_CLOCK_SECOND)
/* Maximum time for the gateway to end after its socket is closed. */
#define NATS_LEAVE_NS FZ_CLOCK_SECOND
/* Time between two reads of the gateway's reports. */
#define NATS_UPDATE_NS (10 * FZ_CLOCK_MS)

struct fz_nats {
	struct fz_proc proc;
	/* generation of the process that owns the gateway */
	uint32_t generation;
	int control;
	char name[48]; /* name of the socket for its relays */
	char program[FZ_NATS_PROGRAM_MAX];
	int64_t updated_ns;
	/* why the last announced node was not added; FZ_ERR_NONE: all were */
	struct fz_err refused;
};

/* A message of the gateway: one byte with the type, then the fields. */
struct message {
	char bytes[NATS_MESSAGE_MAX + 1];
	const char *fields[NATS_FIELDS];
};

void
fz_nats_program(char path[FZ_NATS_PROGRAM_MAX])
{
	const char *named = getenv("FZLUA_NATS");
	const char *program = fz_start_program(NULL);
	char own[FZ_NATS_PROGRAM_MAX - 16];
	ssize_t len = -1;
	char *slash;

	if (named != NULL && *named != '\0') {
		snprintf(path, FZ_NATS_PROGRAM_MAX, "%s", named);
		return;
	}
	if (strcmp(program, "/proc/self/exe") == 0)
		len = readlink(program, own, sizeof(own) - 1);
	if (len >= 0)
		own[len] = '\0';
	else
		snprintf(own, sizeof(own), "%s", program);
	slash = strrchr(own, '/');
	if (slash != NULL)
		slash[1] = '\0';
	snprintf(path, FZ_NATS_PROGRAM_MAX, "%sfzlua-nats",
	    slash != NULL ? own : "");
	if (slash != NULL && access(path, X_OK) != 0)
		snprintf(path, FZ_NATS_PROGRAM_MAX, "fzlua-nats");
}

int
fz_nats_missing(struct fz_err *err)
{
	return fz_err_set(err, FZ_ERR_ERROR,
	    "the engine nats:// needs the program fzlua-nats, which is built "
	    "only if the package libnats-dev is installed");
}

static void
split_fields(struct message *m, size_t len)
{
	const char *at = m->bytes + 1;

	m->bytes[len] = '\0';
	for (int i = 0; i < NATS_FIELDS; i++) {
		m->fields[i] = at <= m->bytes + len ? at : "";
		at += strlen(m->fields[i]) + 1;
	}
}

/* The type of the next message; 0: there is none now; -1: no more follow. */
static int
next_message(struct fz_nats *nats, struct message *m)
{
	ssize_t n =
	    recv(nats->control, m->bytes, NATS_MESSAGE_MAX, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	split_fields(m, (size_t)n);
	return (unsigned char)m->bytes[0];
}

/*
 * The shell command that starts a worker on node `id`. The path of the program
 * has no quote: start_gateway() has checked that.
 */
static char *
command_for(const struct fz_nats *nats, const char *id)
{
	size_t room = sizeof(nats->program) + sizeof(nats->name) + 64;
	char *command = malloc(room);

	if (command != NULL)
		snprintf(command, room, "exec '%s' --relay %s %.16s",
		    nats->program, nats->name, id);
	return command;
}

static struct fz_node *
find_node(struct fz_nodes *nodes, const char *id)
{
	for (unsigned i = 0; i < nodes->n; i++) {
		if (strcmp(nodes->list[i]->id, id) == 0)
			return nodes->list[i];
	}
	return NULL;
}

static bool
is_id(const char *id)
{
	return strlen(id) == 16 && strspn(id, "0123456789abcdef") == 16;
}

/*
 * Add a node that was announced for the first time. NULL if there is no memory.
 */
static struct fz_node *
add_node(struct fz_nodes *nodes, const char *id, const char *name)
{
	struct fz_node *node = fz_nodes_add(nodes);

	if (node == NULL)
		return NULL;
	snprintf(node->id, sizeof(node->id), "%s", id);
	node->name = strdup(name);
	node->command = command_for(nodes->own, id);
	if (node->name != NULL && node->command != NULL)
		return node;
	fz_nodes_drop_last(nodes);
	return NULL;
}

/* Add or update a node. Fields: id name slots workers processors load why. */
static void
take_node(struct fz_nodes *nodes, const struct message *m, bool silent)
{
	struct fz_nats *nats = nodes->own;
	struct fz_node *node = find_node(nodes, m->fields[0]);
	unsigned long slots = strtoul(m->fields[2], NULL, 10);

	if (!is_id(m->fields[0]))
		return;
	if (slots == 0 || slots > NATS_SLOTS_MAX) {
		fz_err_set(&nats->refused, FZ_ERR_ERROR,
		    "node %.64s cannot be used: it announces %.16s slots",
		    m->fields[1], m->fields[2]);
		return;
	}
	if (node == NULL)
		node = add_node(nodes, m->fields[0], m->fields[1]);
	if (node == NULL) {
		fz_err_nomem(&nats->refused, "a node");
		return;
	}
	nodes->nslots -= node->gone ? 0 : node->slots;
	node->slots = (unsigned)slots;
	node->processors = (unsigned)strtoul(m->fields[4], NULL, 10);
	snprintf(node->load, sizeof(node->load), "%s", m->fields[5]);
	node->gone = *m->fields[6] != '\0';
	node->silent = silent;
	nodes->nslots += node->gone ? 0 : node->slots;
	node->down_ns = 0;
	node->nfailed = 0;
	if (node->gone)
		fz_err_set(&node->why, FZ_ERR_ERROR,
		    "cannot start a worker on %.64s: %.128s", node->name,
		    m->fields[6]);
}

/* Mark all nodes as gone. */
static void
lose_all(struct fz_nodes *nodes)
{
	for (unsigned i = 0; i < nodes->n; i++) {
		nodes->list[i]->gone = true;
		nodes->list[i]->silent = false;
		fz_err_set(&nodes->list[i]->why, FZ_ERR_ERROR,
		    "the gateway to NATS has ended");
	}
	nodes->nslots = 0;
}

static void
update(struct fz_nodes *nodes)
{
	struct fz_nats *nats = nodes->own;
	int64_t now_ns = fz_clock_ns();
	struct message m;
	int type;

	if (nats->control == -1 || now_ns - nats->updated_ns < NATS_UPDATE_NS)
		return;
	nats->updated_ns = now_ns;
	while ((type = next_message(nats, &m)) > 0) {
		if (type == 'N' || type == 'S')
			take_node(nodes, &m, type == 'S');
	}
	if (type == 0)
		return;
	fz_fd_close(&nats->control);
	lose_all(nodes);
}

/* Read messages until the list is complete. */
static int
wait_for_list(struct fz_nodes *nodes, struct fz_err *err)
{
	struct fz_nats *nats = nodes->own;
	int64_t until_ns = fz_clock_after(fz_clock_ns(), NATS_START_NS);
	struct pollfd pfd = { .fd = nats->control, .events = POLLIN };
	struct message m;

	for (;;) {
		int64_t now_ns = fz_clock_ns();

		switch (next_message(nats, &m)) {
		case 'N':
			take_node(nodes, &m, false);
			continue;
		case 'R':
			nodes->usable_ns = now_ns;
			if (nodes->n != 0 || nats->refused.kind == FZ_ERR_NONE)
				return 0;
			*err = nats->refused;
			return -1;
		case 'E':
			return fz_err_set(err, FZ_ERR_ERROR, "%s", m.fields[0]);
		case -1:
			return fz_err_set(
			    err, FZ_ERR_ERROR, "the gateway to NATS has ended");
		default:
			break;
		}
		if (now_ns >= until_ns)
			return fz_err_set(err, FZ_ERR_ERROR,
			    "the gateway to NATS does not answer");
		poll(&pfd, 1, fz_clock_poll_ms(now_ns, until_ns));
	}
}

/* Send the secrets by this socket, as other users can read command lines. */
static int
send_setup(const struct fz_nats *nats, const char *url, const char *creds,
    const char *identity, struct fz_err *err)
{
	const char *const strings[] = { url, creds != NULL ? creds : "",
		identity, nats->name };
	char setup[NATS_SETUP_MAX];
	size_t len = 0;

	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
		size_t n = strlen(strings[i]) + 1;

		if (n > sizeof(setup) - len)
			return fz_err_set(err, FZ_ERR_ERROR,
			    "the URL of the engine is too long");
		memcpy(setup + len, strings[i], n);
		len += n;
	}
	if (send(nats->control, setup, len, MSG_NOSIGNAL) >= 0)
		return 0;
	return fz_err_sys(err, errno, "cannot reach the gateway to NATS");
}

static int
start_program(struct fz_nats *nats, int end, struct fz_err *err)
{
	char option[] = "--submit";
	char *argv[] = { nats->program, option, NULL };
	const struct fz_proc_opts opts = { .out = -1, .err = -1 };
	const struct fz_proc_program program = {
		.path = nats->program, .argv = argv, .in = end
	};
	struct fz_err reason = { 0 };

	if (fz_proc_spawn(&nats->proc, &opts, &program, &reason) == 0)
		return 0;
	if (reason.code == ENOENT)
		return fz_nats_missing(err);
	return fz_err_set(err, reason.kind, "%s", reason.text);
}

static int
start(struct fz_nats *nats, struct fz_err *err)
{
	int ends[2], rc;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return fz_err_sys(err, errno, "cannot make a pair of sockets");
	rc = fz_fd_clear_standard(&ends[0], err);
	if (rc == 0)
		rc = fz_fd_clear_standard(&ends[1], err);
	if (rc == 0)
		rc = start_program(nats, ends[1], err);
	fz_fd_close(&ends[1]);
	nats->control = ends[0];
	return rc == 0 ? fz_fd_make_private(nats->control, err) : -1;
}

static int
start_gateway(struct fz_nodes *nodes, const char *creds, const char *identity,
    struct fz_err *err)
{
	struct fz_nats *nats = calloc(1, sizeof(*nats));
	uint64_t random[2];

	if (nats == NULL)
		return fz_err_nomem(err, "an engine");
	nodes->own = nats;
	nats->proc.pidfd = nats->control = -1;
	nats->generation = fz_process.generation;
	fz_nats_program(nats->program);
	if (strchr(nats->program, '\'') != NULL)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "the path of fzlua-nats must not contain a quote");
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return fz_err_sys(err, errno, "cannot get random numbers");
	snprintf(nats->name, sizeof(nats->name), "fzlua-%016llx%016llx",
	    (unsigned long long)random[0], (unsigned long long)random[1]);
	if (start(nats, err) != 0 ||
	    send_setup(nats, nodes->url, creds, identity, err) != 0)
		return -1;
	return wait_for_list(nodes, err);
}

/*
 * Whether this process owns the gateway; a fork of its owner needs another one.
 */
static bool
is_usable(const struct fz_nodes *nodes)
{
	const struct fz_nats *nats = nodes->own;

	return nats->generation == fz_process.generation && nats->control != -1;
}

static void
end(struct fz_nodes *nodes)
{
	struct fz_nats *nats = nodes->own;
	struct fz_death death;
	struct pollfd pfd;

	if (nats == NULL)
		return;
	if (nats->generation == fz_process.generation) {
		fz_fd_close(&nats->control);
		pfd =
		    (struct pollfd){ .fd = nats->proc.pidfd, .events = POLLIN };
		if (nats->proc.pid != 0 &&
		    (pfd.fd == -1 ||
			poll(&pfd, 1, NATS_LEAVE_NS / FZ_CLOCK_MS) != 1))
			fz_proc_kill(&nats->proc);
		if (nats->proc.pid != 0)
			fz_proc_reap(&nats->proc, true, &death);
	}
	free(nats);
}

static int
check(const char *url, struct fz_err *err)
{
	struct fz_nats_url read;

	return fz_nats_url_read(&read, url, err);
}

const struct fz_nodes_ops fz_nats_nodes = {
	.has_scheme = fz_nats_url_is,
	.check = check,
	.start = start_gateway,
	.update = update,
	.is_usable = is_usable,
	.end = end,
};
