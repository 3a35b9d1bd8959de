#include "gateway/beat.h"

#include <stdbool.h>
#include <string.h>

#include "gateway/bus.h"
#include "gateway/gateway.h"
#include "gateway/lease.h"

enum {
	BEAT_ENTRY = 20,
	BEAT_ENTRIES = 48, /* maximum number of leases in one packet */
	BEAT_BODY_MAX = FZ_PACKET_ID + 1 + BEAT_ENTRIES * BEAT_ENTRY
};

#define FOR_EACH_LEASE(g, l)                                           \
	for (struct fz_lease *l = (struct fz_lease *)(g)->leases.next; \
	     &l->link != &(g)->leases; l = (struct fz_lease *)l->link.next)

/*
 * Write the unsent leases with `peer` at `body`. Returns the number of bytes.
 */
static size_t
put_entries(const struct fz_gateway *g, const char *peer, unsigned char *body)
{
	size_t most = fz_bus_body_max(g->bus), len = FZ_PACKET_ID + 1;

	if (most > BEAT_BODY_MAX)
		most = BEAT_BODY_MAX;
	memcpy(body, g->id, FZ_PACKET_ID + 1);
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
		fz_le32_store(body + len + 12, fz_lease_kept_seq(l));
		fz_le32_store(body + len + 16, l->acked);
		len += BEAT_ENTRY;
	}
	return len;
}

void
fz_beat_send(struct fz_gateway *g)
{
	const struct fz_packet p = { .type = FZ_PACKET_BEAT };
	unsigned char body[BEAT_BODY_MAX];

	if (g->bus == NULL)
		return;
	FOR_EACH_LEASE(g, l)
	l->beaten = l->over;
	FOR_EACH_LEASE(g, l)
	{
		if (!l->beaten && l->opened)
			fz_bus_probe(g->bus, l->peer, &p, body,
			    put_entries(g, l->peer, body));
	}
}

/* Close a lease that is in a beat from `to`, but not in this gateway. */
static void
close_unknown(struct fz_gateway *g, const char *to, uint32_t lease)
{
	const struct fz_packet p = { .type = FZ_PACKET_CLOSE, .lease = lease };

	fz_bus_send_short(g->bus, to, &p, NULL, 0);
}

void
fz_beat_take(struct fz_gateway *g, const struct fz_packet *p)
{
	const char *from = (const char *)p->body;
	const unsigned char *at = p->body + FZ_PACKET_ID + 1;
	size_t left;

	if (p->len < FZ_PACKET_ID + 1 || from[FZ_PACKET_ID] != '\0')
		return;
	for (left = p->len - FZ_PACKET_ID - 1; left >= BEAT_ENTRY;
	     left -= BEAT_ENTRY, at += BEAT_ENTRY) {
		struct fz_lease *l = fz_lease_find(g, fz_le32_load(at));

		if (l == NULL || strcmp(l->peer, from) != 0)
			close_unknown(g, from, fz_le32_load(at + 4));
		else if (l->opened)
			fz_lease_heard(l, fz_le32_load(at + 8),
			    fz_le32_load(at + 12), fz_le32_load(at + 16));
	}
}

void
fz_beat_absent(struct fz_gateway *g, const char *id)
{
	FOR_EACH_LEASE(g, l)
	{
		if (strcmp(l->peer, id) == 0 && l->absent_ns == 0)
			l->absent_ns = g->turn_ns;
	}
}

void
fz_beat_connected(struct fz_gateway *g)
{
	g->connected_ns = g->turn_ns;
	FOR_EACH_LEASE(g, l)
	{
		l->absent_ns = 0;
		fz_lease_ask(l);
	}
	fz_beat_send(g);
}

/* Whether the other end was heard through the present connection. */
static bool
was_heard(const struct fz_gateway *g, const struct fz_lease *l)
{
	return g->bus != NULL && l->heard_ns > g->connected_ns;
}

void
fz_beat_check(struct fz_gateway *g, int64_t now_ns, int64_t stalled_ns)
{
	FOR_EACH_LEASE(g, l)
	{
		l->heard_ns += stalled_ns;
		if (l->absent_ns != 0)
			l->absent_ns += stalled_ns;
		if (l->absent_ns != 0 && was_heard(g, l) &&
		    now_ns - l->absent_ns > FZ_BEAT_ABSENT_NS)
			fz_lease_end(l, "its gateway has left without notice");
		else if (now_ns - l->heard_ns > FZ_BEAT_HOLD_NS)
			fz_lease_end(
			    l, "its gateway has not answered for a minute");
	}
}
