#include "gateway/submit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "gateway/beat.h"
#include "gateway/bus.h"
#include "gateway/connection.h"
#include "gateway/gateway.h"
#include "gateway/lease.h"
#include "gateway/listener.h"
#include "gateway/relay.h"
#include "gateway/strings.h"
#include "node/nats_url.h"
#include "os/fd.h"

enum {
	SUBMIT_SETUP_MAX = 8192,
	/* maximum number of bytes of a field of a node, such as its name */
	SUBMIT_FIELD_MAX = 80,
	SUBMIT_WHY_MAX = 128,
	SUBMIT_BODY_MAX =
	    FZ_PACKET_ID + 1 + 5 * SUBMIT_FIELD_MAX + SUBMIT_WHY_MAX,
};

/* Silence after which a node counts as gone. */
#define SUBMIT_GONE_NS FZ_BEAT_HOLD_NS
/* Time that nodes have for their first answer. */
#define SUBMIT_FIRST_NS (2 * FZ_CLOCK_SECOND)
/* Time that nodes have for each later answer. */
#define SUBMIT_NEXT_NS (FZ_CLOCK_SECOND / 10)

enum peer_state { PEER_READY, PEER_SILENT, PEER_GONE };

struct peer {
	struct fz_list link;
	char id[FZ_PACKET_ID + 1];
	/*
	 * The message for the script: the type, which is the state of the node,
	 * and strings.
	 */
	char body[SUBMIT_BODY_MAX];
	size_t len;
	enum peer_state state;
	bool told; /* this state was sent to the script */
	int64_t heard_ns;
	/* time since which the server does not know the node; 0: it does */
	int64_t absent_ns;
};

struct submit {
	struct fz_gateway g;
	const char *identity;
	int control;
	struct fz_listener listener;
	struct fz_list peers;
	bool listed; /* the list was sent to the script */
	int64_t list_ns;
};

/* Send a message to the script: the type, then `len` bytes. */
static int
tell(const struct submit *s, char type, const void *bytes, size_t len)
{
	char message[SUBMIT_BODY_MAX + 1];

	message[0] = type;
	memcpy(message + 1, bytes, len);
	return send(s->control, message, len + 1,
		   MSG_NOSIGNAL | MSG_DONTWAIT) >= 0
		   ? 0
		   : -1;
}

static int
fail(const struct submit *s, const char *why)
{
	tell(s, 'E', why, strlen(why) + 1);
	return EXIT_FAILURE;
}

static struct peer *
find_peer(const struct submit *s, const char *id)
{
	for (struct fz_list *at = s->peers.next; at != &s->peers;
	     at = at->next) {
		if (strcmp(((struct peer *)at)->id, id) == 0)
			return (struct peer *)at;
	}
	return NULL;
}

static struct peer *
add_peer(struct submit *s, const char *id)
{
	struct peer *peer = calloc(1, sizeof(*peer));

	if (peer == NULL)
		return NULL;
	snprintf(peer->id, sizeof(peer->id), "%s", id);
	fz_list_push(&s->peers, &peer->link);
	return peer;
}

/*
 * Set the message about the node: its fields, its state, and the reason for the
 * state.
 */
static void
set_state(struct peer *peer, const char *fields[5], enum peer_state state,
    const char *why)
{
	char body[SUBMIT_BODY_MAX];
	size_t len;

	len = fz_strings_copy(body, sizeof(peer->id), peer->id, FZ_PACKET_ID);
	for (int i = 0; i < 5; i++)
		len += fz_strings_copy(
		    body + len, SUBMIT_FIELD_MAX, fields[i], SIZE_MAX);
	len += fz_strings_copy(body + len, SUBMIT_WHY_MAX, why, SIZE_MAX);
	peer->told = peer->told && peer->state == state;
	peer->state = state;
	peer->len = len;
	memcpy(peer->body, body, len);
}

static void
set_reason(struct peer *peer, enum peer_state state, const char *why)
{
	struct fz_strings body = { peer->body, peer->body + peer->len };
	char copies[5][SUBMIT_FIELD_MAX];
	const char *fields[5];

	fz_strings_next(&body);
	for (int i = 0; i < 5; i++) {
		snprintf(
		    copies[i], sizeof(copies[i]), "%s", fz_strings_next(&body));
		fields[i] = copies[i];
	}
	set_state(peer, fields, state, why);
}

static void
note_node(struct submit *s, const struct fz_packet *p)
{
	struct fz_strings body = { (const char *)p->body,
		(const char *)p->body + p->len };
	const char *id = fz_strings_next(&body), *fields[5], *identity, *why;
	struct peer *peer = find_peer(s, id);
	char version[160];

	for (int i = 0; i < 5; i++)
		fields[i] = fz_strings_next(&body);
	identity = fz_strings_next(&body);
	why = fz_strings_next(&body);
	if (!fz_packet_is_id(id))
		return;
	if (peer == NULL && (peer = add_peer(s, id)) == NULL)
		return;
	if (strcmp(identity, s->identity) != 0) {
		snprintf(version, sizeof(version),
		    "the node runs %.50s, this machine runs %.50s", identity,
		    s->identity);
		why = version;
	}
	peer->heard_ns = s->g.turn_ns;
	peer->absent_ns = 0;
	set_state(peer, fields, *why == '\0' ? PEER_READY : PEER_GONE, why);
	if (!s->listed && s->list_ns > s->g.turn_ns + SUBMIT_NEXT_NS)
		s->list_ns = s->g.turn_ns + SUBMIT_NEXT_NS;
}

/*
 * Note that the server does not know the gateway of this node: send no new jobs
 * there.
 */
static void
note_absent(struct submit *s, const struct fz_packet *p)
{
	const char *id = (const char *)p->body;
	struct peer *peer = find_peer(s, id);
	struct fz_lease *l = fz_lease_find(&s->g, p->lease);

	fz_beat_absent(&s->g, id);
	if (l != NULL)
		fz_lease_lose(l, p->seq);
	if (peer == NULL)
		return;
	if (peer->absent_ns == 0)
		peer->absent_ns = s->g.turn_ns;
	if (peer->state == PEER_READY)
		set_reason(peer, PEER_SILENT, "the node is not connected");
}

static void
take_packets(struct submit *s)
{
	struct fz_packet p;
	struct fz_lease *l;

	while (fz_bus_next(s->g.bus, &p)) {
		if (p.type == FZ_PACKET_NODE)
			note_node(s, &p);
		else if (p.type == FZ_PACKET_BEAT)
			fz_beat_take(&s->g, &p);
		else if (p.type == FZ_PACKET_ABSENT)
			note_absent(s, &p);
		else if (p.type > FZ_PACKET_OPEN &&
			 (l = fz_lease_find(&s->g, p.lease)) != NULL)
			fz_lease_take(l, &p);
	}
}

static void
ask_nodes(const struct submit *s)
{
	struct fz_packet p = { .type = FZ_PACKET_WHO };

	fz_bus_send_all(s->g.bus, FZ_BUS_NODES, &p, NULL, 0);
}

/* Ask the node for a worker, again with each beat until it answers. */
static void
open_lease(struct submit *s, struct fz_lease *l)
{
	struct fz_packet p = { .type = FZ_PACKET_OPEN, .arg = l->id };
	char body[FZ_PACKET_ID + 1 + 160];
	int len =
	    snprintf(body, sizeof(body), "%s%c%.128s", s->g.id, 0, s->identity);
	const struct peer *peer = find_peer(s, l->peer);

	if (peer == NULL || peer->state == PEER_GONE)
		fz_lease_end(l, "the node is not there any more");
	else if (s->g.bus != NULL)
		fz_bus_probe(s->g.bus, l->peer, &p, body, (size_t)len + 1);
}

static void
open_leases(struct submit *s)
{
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next) {
		if (!((struct fz_lease *)at)->opened)
			open_lease(s, (struct fz_lease *)at);
	}
}

/* Open a lease for a relay. */
static void
take_relay(struct submit *s, struct fz_relay_request *r)
{
	struct fz_lease *l = NULL;

	if (fz_fd_nonblock(r->fds[0], NULL) == 0 &&
	    fz_fd_nonblock(r->fds[1], NULL) == 0)
		l = fz_lease_new(&s->g, r->id, r->fds[0], r->fds[1]);
	if (l != NULL) {
		l->conn = r->conn;
		open_lease(s, l);
		return;
	}
	fz_fd_close(&r->fds[0]);
	fz_fd_close(&r->fds[1]);
	fz_listener_refuse(r->conn);
}

/*
 * End the relay. After a failure send the reason, and the number of bytes that
 * reached the node if the last bytes did not.
 */
static void
end_relay(const struct fz_lease *l)
{
	char text[FZ_RELAY_TEXT_MAX];
	uint32_t reached;
	int len = 1;

	snprintf(text, sizeof(text), "%s", strlen(l->why) < 2 ? "\n" : l->why);
	if (strlen(l->why) >= 2)
		len = (int)strlen(text) + 1;
	if (len > 1 && fz_lease_has_lost(l, &reached))
		len += snprintf(text + len, sizeof(text) - (size_t)len,
			   "%" PRIu32, reached) +
		       1;
	send(l->conn, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
check_leases(struct submit *s, int64_t now_ns, int64_t stalled_ns)
{
	fz_beat_check(&s->g, now_ns, stalled_ns);
	for (struct fz_list *at = s->g.leases.next, *next; at != &s->g.leases;
	     at = next) {
		struct fz_lease *l = (struct fz_lease *)at;

		next = at->next;
		if (fz_gateway_events(&s->g, l->conn_at) != 0)
			fz_lease_end(l, ""); /* the relay was killed */
		if (!l->over)
			continue;
		end_relay(l);
		fz_lease_free(l);
	}
}

/*
 * Whether the node has left since this connection was made, and has not
 * returned.
 */
static bool
has_gone(const struct submit *s, const struct peer *peer, int64_t now_ns)
{
	return peer->absent_ns != 0 && s->g.bus != NULL &&
	       peer->heard_ns > s->g.connected_ns &&
	       now_ns - peer->absent_ns > FZ_BEAT_ABSENT_NS;
}

/* Check a node that may be silent because it is frozen or cut off. */
static void
check_peer(struct submit *s, struct peer *peer, int64_t now_ns)
{
	int64_t silent_ns = now_ns - peer->heard_ns;

	if (peer->state == PEER_SILENT &&
	    (silent_ns > SUBMIT_GONE_NS || has_gone(s, peer, now_ns)))
		set_reason(peer, PEER_GONE, "the node does not answer");
	else if (silent_ns > FZ_GATEWAY_SILENCE_NS && peer->state == PEER_READY)
		set_reason(peer, PEER_SILENT,
		    s->g.bus != NULL
			? "the node does not answer"
			: "the connection to the NATS server is lost");
}

static void
check_peers(struct submit *s, int64_t now_ns, int64_t stalled_ns)
{
	static const char types[] = { 'N', 'S', 'N' };

	for (struct fz_list *at = s->peers.next; at != &s->peers;
	     at = at->next) {
		struct peer *peer = (struct peer *)at;

		peer->heard_ns += stalled_ns;
		if (peer->absent_ns != 0)
			peer->absent_ns += stalled_ns;
		check_peer(s, peer, now_ns);
		if (!peer->told)
			peer->told = tell(s, types[peer->state], peer->body,
					 peer->len) == 0;
	}
}

/*
 * Mark all nodes as unreachable, because the connection to the server is lost.
 */
static void
lose_peers(struct submit *s)
{
	for (struct fz_list *at = s->peers.next; at != &s->peers;
	     at = at->next) {
		struct peer *peer = (struct peer *)at;

		if (peer->state == PEER_READY)
			set_reason(peer, PEER_SILENT,
			    "the connection to the NATS server is lost");
	}
}

/* Ask the silent nodes whether they can be reached again. */
static void
ask_silent(const struct submit *s)
{
	const struct fz_packet p = { .type = FZ_PACKET_WHO };

	for (struct fz_list *at = s->peers.next; at != &s->peers;
	     at = at->next) {
		const struct peer *peer = (struct peer *)at;

		if (peer->state == PEER_SILENT)
			fz_bus_probe(s->g.bus, peer->id, &p, NULL, 0);
	}
}

static void
check_connection(struct submit *s, int64_t now_ns)
{
	bool beats = now_ns >= s->g.beat_ns;

	switch (fz_connection_check(&s->g, now_ns)) {
	case FZ_CONNECTION_LOST:
		lose_peers(s);
		break;
	case FZ_CONNECTION_MADE:
		ask_nodes(s);
		break;
	default:
		break;
	}
	if (!beats || s->g.bus == NULL)
		return;
	open_leases(s);
	ask_silent(s);
}

/*
 * End the list of nodes. 0, or -1 if the script got the message that there is
 * none.
 */
static int
end_list(struct submit *s)
{
	const struct peer *first = (struct peer *)fz_list_first(&s->peers);
	char text[SUBMIT_BODY_MAX];
	struct fz_strings body;
	const char *name = "", *why = "";

	for (const struct fz_list *at = s->peers.next; at != &s->peers;
	     at = at->next) {
		if (((const struct peer *)at)->state != PEER_READY)
			continue;
		/*
		 * If this fails, because the script has much to read, the next
		 * turn tries again.
		 */
		s->listed = tell(s, 'R', "", 1) == 0;
		return 0;
	}
	s->listed = true;
	if (first == NULL) {
		snprintf(text, sizeof(text), "no node has joined %.200s",
		    s->g.url.shown);
	} else {
		body = (struct fz_strings){ first->body,
			first->body + first->len };
		fz_strings_next(&body);
		name = fz_strings_next(&body);
		for (int i = 0; i < 5; i++)
			why = fz_strings_next(&body);
		snprintf(text, sizeof(text),
		    "no node at %.100s can be used: %.40s: %.100s",
		    s->g.url.shown, name, why);
	}
	fail(s, text);
	return -1;
}

static void
poll_leases(struct submit *s)
{
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next) {
		struct fz_lease *l = (struct fz_lease *)at;

		fz_lease_poll(l);
		l->conn_at = fz_gateway_add(&s->g, l->conn, POLLIN);
	}
}

/* Make one turn. 0, or -1 at the end of the script's process. */
static int
turn(struct submit *s)
{
	int64_t until_ns = s->g.beat_ns, now_ns, stalled_ns;
	struct fz_relay_request request;
	int control;

	if (!s->listed && s->list_ns < until_ns)
		until_ns = s->list_ns;
	fz_gateway_begin(&s->g);
	control = fz_gateway_add(&s->g, s->control, POLLIN);
	until_ns = fz_listener_poll(&s->listener, &s->g, until_ns);
	fz_gateway_add_bus(&s->g);
	poll_leases(s);
	now_ns = fz_gateway_wait(&s->g, until_ns, &stalled_ns);
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next)
		fz_lease_work((struct fz_lease *)at);
	if (fz_gateway_has_packets(&s->g))
		take_packets(s);
	check_connection(s, now_ns);
	check_peers(s, now_ns, stalled_ns);
	check_leases(s, now_ns, stalled_ns);
	if (fz_listener_work(&s->listener, &s->g, &request))
		take_relay(s, &request);
	if (fz_gateway_events(&s->g, control) != 0)
		return -1;
	return s->listed || now_ns < s->list_ns ? 0 : end_list(s);
}

/* End all leases with the script, and notify the nodes. */
static void
leave(struct submit *s)
{
	while (fz_list_first(&s->g.leases) != NULL) {
		struct fz_lease *l =
		    (struct fz_lease *)fz_list_first(&s->g.leases);

		fz_lease_end(l, "");
		fz_lease_free(l);
	}
	while (fz_list_first(&s->peers) != NULL) {
		struct fz_list *peer = fz_list_first(&s->peers);

		fz_list_remove(peer);
		free(peer);
	}
	fz_listener_close(&s->listener);
	fz_bus_close(s->g.bus);
	free(s->g.pfd);
}

static int
start(struct submit *s, char setup[SUBMIT_SETUP_MAX])
{
	struct fz_strings strings = { setup, setup };
	struct fz_err err = { 0 };
	ssize_t n = fz_fd_read(s->control, setup, SUBMIT_SETUP_MAX);

	if (n < 0) {
		fz_err_sys(
		    &err, errno, "the gateway to NATS cannot read its setup");
		fail(s, err.text);
		return -1;
	}
	strings.end += n;
	if (fz_nats_url_read(&s->g.url, fz_strings_next(&strings), &err) != 0) {
		fail(s, err.text);
		return -1;
	}
	s->g.creds = fz_strings_next(&strings);
	s->identity = fz_strings_next(&strings);
	if (fz_listener_open(&s->listener, fz_strings_next(&strings)) != 0) {
		fz_err_sys(
		    &err, errno, "the gateway to NATS cannot make its socket");
		fail(s, err.text);
		return -1;
	}
	s->g.role = FZ_BUS_SUBMITTERS;
	if (fz_connection_open(&s->g, &err) == 0)
		return 0;
	fail(s, err.text);
	return -1;
}

int
fz_gateway_submit(int fd)
{
	char setup[SUBMIT_SETUP_MAX];
	struct submit s = { .control = fd, .listener = FZ_LISTENER_INIT };

	fz_list_init(&s.peers);
	if (fz_gateway_init(&s.g) != 0)
		return fail(&s, "the kernel has no random numbers");
	if (start(&s, setup) != 0)
		return EXIT_FAILURE;
	s.list_ns = fz_clock_ns() + SUBMIT_FIRST_NS;
	ask_nodes(&s);
	while (turn(&s) == 0)
		continue;
	leave(&s);
	return EXIT_SUCCESS;
}
