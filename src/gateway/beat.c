#include "gateway/beat.h"

#include <stdbool.h>
#include <string.h>

#include "gateway/bus.h"
#include "gateway/gateway.h"
#include "gateway/lease.h"

enum {
	BEAT_ENTRY = 20,
	BEAT_ENTRIES = 48, /* most leases in one packet */
	BEAT_BODY_MAX = PACKET_ID + 1 + BEAT_ENTRIES * BEAT_ENTRY
};

#define FOR_EACH_LEASE(g, l)                                     \
	for (struct lease *l = (struct lease *)(g)->leases.next; \
	     &l->link != &(g)->leases; l = (struct lease *)l->link.next)

/*
 * Write the leases with `peer` that are in no packet yet; returns the length.
 */
static size_t
put_entries(const struct gateway *g, const char *peer, unsigned char *body)
{
	size_t most = bus_body_max(g->bus), len = PACKET_ID + 1;

	if (most > BEAT_BODY_MAX)
		most = BEAT_BODY_MAX;
	memcpy(body, g->id, PACKET_ID + 1);
	FOR_EACH_LEASE(g, l)
	{
		if (l->beaten || !l->opened || strcmp(l->peer, peer) != 0)
			continue;
		if (len + BEAT_ENTRY > most)
			break;
		l->beaten = true;
		fz_le32_store(body + len, l->peer_id);
		fz_le32_store(body + len + 4, l->id);
		fz_le32_store(body + len + 8, l->sent_seq);
		fz_le32_store(body + len + 12, lease_kept_seq(l));
		fz_le32_store(body + len + 16, l->acked);
		len += BEAT_ENTRY;
	}
	return len;
}

void
beat_send(struct gateway *g)
{
	const struct packet p = { .type = PACKET_BEAT };
	unsigned char body[BEAT_BODY_MAX];

	if (g->bus == NULL)
		return;
	FOR_EACH_LEASE(g, l)
	l->beaten = l->over;
	FOR_EACH_LEASE(g, l)
	{
		if (!l->beaten && l->opened)
			bus_probe(g->bus, l->peer, &p, body,
			    put_entries(g, l->peer, body));
	}
}

/* Close a lease of the sender that does not exist here any more. */
static void
close_unknown(struct gateway *g, const char *to, uint32_t lease)
{
	const struct packet p = { .type = PACKET_CLOSE, .lease = lease };

	bus_send_short(g->bus, to, &p, NULL, 0);
}

void
beat_take(struct gateway *g, const struct packet *p)
{
	const char *from = (const char *)p->body;
	const unsigned char *at = p->body + PACKET_ID + 1;
	size_t left;

	if (p->len < PACKET_ID + 1 || from[PACKET_ID] != '\0')
		return;
	for (left = p->len - PACKET_ID - 1; left >= BEAT_ENTRY;
	     left -= BEAT_ENTRY, at += BEAT_ENTRY) {
		struct lease *l = lease_find(g, fz_le32_load(at));

		if (l == NULL || strcmp(l->peer, from) != 0)
			close_unknown(g, from, fz_le32_load(at + 4));
		else if (l->opened)
			lease_heard(l, fz_le32_load(at + 8),
			    fz_le32_load(at + 12), fz_le32_load(at + 16));
	}
}

void
beat_absent(struct gateway *g, const char *id)
{
	FOR_EACH_LEASE(g, l)
	{
		if (strcmp(l->peer, id) == 0 && l->absent_ns == 0)
			l->absent_ns = g->turn_ns;
	}
}

void
beat_connected(struct gateway *g)
{
	g->connected_ns = g->turn_ns;
	FOR_EACH_LEASE(g, l)
	{
		l->absent_ns = 0;
		lease_ask(l);
	}
	beat_send(g);
}

/* Whether the other end was heard through the present connection. */
static bool
was_heard(const struct gateway *g, const struct lease *l)
{
	return g->bus != NULL && l->heard_ns > g->connected_ns;
}

void
beat_check(struct gateway *g, int64_t now_ns, int64_t stalled_ns)
{
	FOR_EACH_LEASE(g, l)
	{
		l->heard_ns += stalled_ns;
		if (l->absent_ns != 0)
			l->absent_ns += stalled_ns;
		if (l->absent_ns != 0 && was_heard(g, l) &&
		    now_ns - l->absent_ns > BEAT_ABSENT_NS)
			lease_end(
			    l, "it has left the NATS server without notice");
		else if (now_ns - l->heard_ns > BEAT_HOLD_NS)
			lease_end(l, "it has not answered for a minute");
	}
}
