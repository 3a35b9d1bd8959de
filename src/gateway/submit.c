#define _GNU_SOURCE /* accept4, struct ucred */
#include "gateway/submit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "gateway/bus.h"
#include "gateway/gateway.h"
#include "gateway/lease.h"
#include "gateway/relay.h"
#include "gateway/strings.h"
#include "os/fd.h"
#include "worker/nats_url.h"

enum { SUBMIT_SETUP_MAX = 8192, SUBMIT_BODY_MAX = 600 };

/* How long nodes may take for their first answer, and the next ones. */
#define SUBMIT_FIRST_NS (2 * FZ_CLOCK_SECOND)
#define SUBMIT_NEXT_NS (FZ_CLOCK_SECOND / 10)

struct peer {
	struct fz_list link;
	char id[PACKET_ID + 1];
	/* The strings for the script, behind the type: its state. */
	char body[SUBMIT_BODY_MAX];
	size_t len;
	bool ready;
	bool told; /* the script knows this state */
	int64_t heard_ns;
};

struct submit {
	struct gateway g;
	struct fz_nats_url url;
	const char *creds, *identity;
	int control, listener;
	struct fz_list peers;
	bool listed; /* the script has the list */
	int64_t list_ns, beat_ns;
};

/* Send the script a message of `len` bytes behind the type. */
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

/* The script gets to know of a node only if it can be used, or could be. */
static void
set_state(struct peer *peer, const char *fields[5], const char *why)
{
	char body[SUBMIT_BODY_MAX];
	int len = snprintf(body, sizeof(body), "%s", peer->id) + 1;
	bool ready = *why == '\0';

	for (int i = 0; i < 5; i++)
		len += snprintf(body + len, 80, "%s", fields[i]) + 1;
	len += snprintf(body + len, 128, "%s", why) + 1;
	peer->told = peer->told && peer->ready == ready;
	peer->ready = ready;
	peer->len = (size_t)len;
	memcpy(peer->body, body, peer->len);
}

static void
set_reason(struct peer *peer, const char *why)
{
	struct strings body = { peer->body, peer->body + peer->len };
	char copies[5][80];
	const char *fields[5];

	strings_next(&body);
	for (int i = 0; i < 5; i++) {
		snprintf(
		    copies[i], sizeof(copies[i]), "%s", strings_next(&body));
		fields[i] = copies[i];
	}
	set_state(peer, fields, why);
}

static void
note_node(struct submit *s, const struct packet *p)
{
	struct strings body = { (const char *)p->body,
		(const char *)p->body + p->len };
	const char *id = strings_next(&body), *fields[5], *identity, *why;
	struct peer *peer = find_peer(s, id);
	char version[160];

	for (int i = 0; i < 5; i++)
		fields[i] = strings_next(&body);
	identity = strings_next(&body);
	why = strings_next(&body);
	if (strlen(id) != PACKET_ID)
		return;
	if (peer == NULL && (peer = add_peer(s, id)) == NULL)
		return;
	if (strcmp(identity, s->identity) != 0) {
		snprintf(version, sizeof(version),
		    "its fzlua is of version %.50s, and here of %.50s",
		    identity, s->identity);
		why = version;
	}
	peer->heard_ns = s->g.turn_ns;
	set_state(peer, fields, why);
	if (!s->listed && s->list_ns > s->g.turn_ns + SUBMIT_NEXT_NS)
		s->list_ns = s->g.turn_ns + SUBMIT_NEXT_NS;
}

static void
take_packets(struct submit *s)
{
	struct packet p;
	struct lease *l;

	while (bus_next(s->g.bus, &p)) {
		if (p.type == PACKET_NODE)
			note_node(s, &p);
		else if (p.type > PACKET_OPEN &&
			 (l = lease_find(&s->g, p.lease)) != NULL)
			lease_take(l, &p);
	}
}

static void
ask_nodes(const struct submit *s)
{
	struct packet p = { .type = PACKET_WHO };

	bus_send_short(s->g.bus, NULL, &p, NULL, 0);
}

/* Ask the node for a worker. */
static void
open_lease(struct submit *s, struct lease *l)
{
	struct packet p = { .type = PACKET_OPEN, .arg = l->id };
	char body[PACKET_ID + 1 + 160];
	int len =
	    snprintf(body, sizeof(body), "%s%c%.128s", s->g.id, 0, s->identity);
	const struct peer *peer = find_peer(s, l->peer);

	if (peer == NULL || !peer->ready || s->g.bus == NULL)
		lease_end(l, "it is not there any more");
	else
		bus_send_short(s->g.bus, l->peer, &p, body, (size_t)len + 1);
}

static bool
is_own_user(int conn)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	       cred.uid == geteuid();
}

/* A relay sends its request at once. */
static void
accept_relay(struct submit *s)
{
	int conn = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
	int fds[RELAY_NFDS] = { -1, -1 };
	struct pollfd pfd = { .fd = conn, .events = POLLIN };
	char id[PACKET_ID + 1];
	struct lease *l = NULL;

	if (conn == -1)
		return;
	if (is_own_user(conn) && poll(&pfd, 1, 1000) == 1 &&
	    relay_receive(conn, id, sizeof(id), fds) == 0 &&
	    fz_fd_nonblock(fds[0], NULL) == 0 &&
	    fz_fd_nonblock(fds[1], NULL) == 0)
		l = lease_new(&s->g, id, fds[0], fds[1]);
	if (l != NULL) {
		l->conn = conn;
		open_lease(s, l);
		return;
	}
	fz_fd_close(&fds[0]);
	fz_fd_close(&fds[1]);
	fz_fd_close(&conn);
}

/* Let the relay go, with the reason if it is one. */
static void
end_relay(const struct lease *l)
{
	const char *why = l->why;
	size_t len = strlen(why);

	if (len < 2) {
		why = "\n";
		len = 1;
	}
	if (len > RELAY_TEXT_MAX)
		len = RELAY_TEXT_MAX;
	send(l->conn, why, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
check_leases(struct submit *s)
{
	for (struct fz_list *at = s->g.leases.next, *next; at != &s->g.leases;
	     at = next) {
		struct lease *l = (struct lease *)at;
		const struct peer *peer = find_peer(s, l->peer);

		next = at->next;
		if (gateway_events(&s->g, l->conn_at) != 0)
			lease_end(l, ""); /* the relay was killed */
		else if (peer == NULL ||
			 s->g.turn_ns - peer->heard_ns > GATEWAY_SILENCE_NS)
			lease_end(l, "it does not answer");
		if (!l->over)
			continue;
		end_relay(l);
		lease_free(l);
	}
}

static void
check_peers(struct submit *s, int64_t now_ns, int64_t stalled_ns)
{
	for (struct fz_list *at = s->peers.next; at != &s->peers;
	     at = at->next) {
		struct peer *peer = (struct peer *)at;

		peer->heard_ns += stalled_ns;
		if (peer->ready && now_ns - peer->heard_ns > GATEWAY_SILENCE_NS)
			set_reason(peer, "it does not answer");
		if (!peer->told)
			peer->told = tell(s, 'N', peer->body, peer->len) == 0;
	}
}

static void
send_beats(struct submit *s)
{
	struct packet p = { .type = PACKET_BEAT };

	for (struct fz_list *at = s->peers.next; at != &s->peers; at = at->next)
		bus_send_short(s->g.bus, ((struct peer *)at)->id, &p, s->g.id,
		    sizeof(s->g.id));
}

/* Without the server no node can be reached; try again with each beat. */
static void
check_bus(struct submit *s, int64_t now_ns)
{
	if (s->g.bus != NULL && bus_is_lost(s->g.bus)) {
		bus_close(s->g.bus);
		s->g.bus = NULL;
		for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
		     at = at->next)
			lease_end((struct lease *)at,
			    "the connection to the NATS server is lost");
		for (struct fz_list *at = s->peers.next; at != &s->peers;
		     at = at->next)
			set_reason((struct peer *)at,
			    "the connection to the NATS server is lost");
	}
	if (now_ns < s->beat_ns)
		return;
	s->beat_ns = now_ns + GATEWAY_BEAT_NS;
	if (s->g.bus != NULL) {
		send_beats(s);
		return;
	}
	s->g.bus = bus_open(&s->url, s->creds, s->g.id, NULL);
	if (s->g.bus != NULL)
		ask_nodes(s);
}

/* End the list of nodes. 0, or -1 if the script was told that there is none. */
static int
end_list(struct submit *s)
{
	const struct peer *first = (struct peer *)fz_list_first(&s->peers);
	char text[SUBMIT_BODY_MAX];
	struct strings body;
	const char *name = "", *why = "";

	s->listed = true;
	for (const struct fz_list *at = s->peers.next; at != &s->peers;
	     at = at->next) {
		if (((const struct peer *)at)->ready)
			return tell(s, 'R', "", 1);
	}
	if (first == NULL) {
		snprintf(text, sizeof(text), "no node has joined %.200s",
		    s->url.shown);
	} else {
		body =
		    (struct strings){ first->body, first->body + first->len };
		strings_next(&body);
		name = strings_next(&body);
		for (int i = 0; i < 5; i++)
			why = strings_next(&body);
		snprintf(text, sizeof(text),
		    "no node at %.100s can be used: %.40s: %.100s",
		    s->url.shown, name, why);
	}
	fail(s, text);
	return -1;
}

static void
poll_leases(struct submit *s)
{
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next) {
		struct lease *l = (struct lease *)at;

		lease_poll(l);
		l->conn_at = gateway_add(&s->g, l->conn, POLLIN);
	}
}

/* 0, or -1 at the end of the script's process. */
static int
turn(struct submit *s)
{
	int64_t until_ns = s->beat_ns, now_ns, stalled_ns;
	int control, listener, bus = -1;

	if (!s->listed && s->list_ns < until_ns)
		until_ns = s->list_ns;
	gateway_begin(&s->g);
	control = gateway_add(&s->g, s->control, POLLIN);
	listener = gateway_add(&s->g, s->listener, POLLIN);
	if (s->g.bus != NULL)
		bus = gateway_add(&s->g, bus_fd(s->g.bus), POLLIN);
	poll_leases(s);
	now_ns = gateway_wait(&s->g, until_ns, &stalled_ns);
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next)
		lease_work((struct lease *)at);
	if (gateway_events(&s->g, bus) != 0)
		take_packets(s);
	check_bus(s, now_ns);
	check_peers(s, now_ns, stalled_ns);
	check_leases(s);
	if (gateway_events(&s->g, listener) != 0)
		accept_relay(s);
	if (gateway_events(&s->g, control) != 0)
		return -1;
	return s->listed || now_ns < s->list_ns ? 0 : end_list(s);
}

static int
listen_at(struct submit *s, const char *name)
{
	struct sockaddr_un address;
	socklen_t len = relay_address(&address, name);

	s->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s->listener == -1 ||
	    bind(s->listener, (struct sockaddr *)&address, len) != 0)
		return -1;
	return listen(s->listener, SOMAXCONN);
}

/* The leases end with the script: the nodes get to know it. */
static void
leave(struct submit *s)
{
	while (fz_list_first(&s->g.leases) != NULL) {
		struct lease *l = (struct lease *)fz_list_first(&s->g.leases);

		lease_end(l, "");
		lease_free(l);
	}
	while (fz_list_first(&s->peers) != NULL) {
		struct fz_list *peer = fz_list_first(&s->peers);

		fz_list_remove(peer);
		free(peer);
	}
	fz_fd_close(&s->listener);
	bus_close(s->g.bus);
	free(s->g.pfd);
}

static int
start(struct submit *s, char setup[SUBMIT_SETUP_MAX])
{
	struct strings strings = { setup, setup };
	struct fz_err err = { 0 };
	ssize_t n = fz_fd_read(s->control, setup, SUBMIT_SETUP_MAX);

	if (n <= 0)
		return -1;
	strings.end += n;
	if (fz_nats_url_read(&s->url, strings_next(&strings), &err) != 0) {
		fail(s, err.text);
		return -1;
	}
	s->creds = strings_next(&strings);
	s->identity = strings_next(&strings);
	if (listen_at(s, strings_next(&strings)) != 0) {
		fail(s, "the gateway to NATS cannot make its socket");
		return -1;
	}
	s->g.bus = bus_open(&s->url, s->creds, s->g.id, &err);
	if (s->g.bus != NULL)
		return 0;
	fail(s, err.text);
	return -1;
}

int
submit_main(int fd)
{
	char setup[SUBMIT_SETUP_MAX];
	struct submit s = { .control = fd, .listener = -1 };

	fz_list_init(&s.peers);
	if (gateway_init(&s.g) != 0)
		return EXIT_FAILURE;
	if (start(&s, setup) != 0)
		return EXIT_FAILURE;
	s.beat_ns = fz_clock_ns() + GATEWAY_BEAT_NS;
	s.list_ns = fz_clock_ns() + SUBMIT_FIRST_NS;
	ask_nodes(&s);
	while (turn(&s) == 0)
		continue;
	leave(&s);
	return EXIT_SUCCESS;
}
