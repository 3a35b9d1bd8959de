#include "gateway/lease.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "gateway/bus.h"
#include "gateway/gateway.h"
#include "os/fd.h"

enum {
	LEASE_WINDOW = 2 << 20, /* bytes on their way */
	LEASE_REPORT = LEASE_WINDOW / 4
};

struct lease *
lease_new(struct gateway *g, const char *peer, int in, int out)
{
	struct lease *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->gateway = g;
	l->id = ++g->nleases_ever;
	snprintf(l->peer, sizeof(l->peer), "%s", peer);
	l->in = in;
	l->out = out;
	l->in_at = l->out_at = l->conn_at = l->conn = -1;
	l->heard_ns = fz_clock_ns();
	fz_list_push(&g->leases, &l->link);
	return l;
}

struct lease *
lease_find(const struct gateway *g, uint32_t id)
{
	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		struct lease *l = (struct lease *)at;

		if (l->id == id && !l->over)
			return l;
	}
	return NULL;
}

void
lease_opened(struct lease *l, uint32_t peer_id)
{
	l->opened = true;
	l->peer_id = peer_id;
}

static void
send_packet(struct lease *l, unsigned type, uint32_t seq, uint32_t arg)
{
	struct packet p = {
		.type = type, .lease = l->peer_id, .seq = seq, .arg = arg
	};

	if (l->gateway->bus != NULL)
		bus_send_short(l->gateway->bus, l->peer, &p, NULL, 0);
}

/* A socket has two descriptors here: only a shutdown ends one direction. */
static void
end_out(struct lease *l)
{
	if (l->out != -1)
		shutdown(l->out, SHUT_WR);
	fz_fd_close(&l->out);
}

static void
end_in(struct lease *l)
{
	send_packet(l, PACKET_END, l->sent_seq++, 0);
	fz_fd_close(&l->in);
}

static void
check_over(struct lease *l)
{
	if (l->in == -1 && l->got_end && l->pending.len == 0)
		l->over = true;
}

void
lease_poll(struct lease *l)
{
	bool reads =
	    l->opened && l->in != -1 && l->sent - l->acked < LEASE_WINDOW;

	l->in_at = reads ? gateway_add(l->gateway, l->in, POLLIN) : -1;
	l->out_at = -1;
	if (l->pending.len != 0 && l->out != -1)
		l->out_at = gateway_add(l->gateway, l->out, POLLOUT);
}

/* Send what the descriptor has, as one packet. */
static void
read_stream(struct lease *l)
{
	struct packet p = { .type = PACKET_DATA, .lease = l->peer_id };
	size_t room = LEASE_WINDOW - (l->sent - l->acked);
	size_t most = bus_body_max(l->gateway->bus), len = 0;
	unsigned char *bytes;
	ssize_t n = 0;

	if (room > most)
		room = most;
	bytes = malloc(PACKET_HEADER + room);
	if (bytes == NULL) {
		lease_end(l, "its gateway has no memory");
		return;
	}
	/* A socket gives what its peer wrote at once; the rest may be there. */
	while (len < room) {
		n = fz_fd_read(l->in, bytes + PACKET_HEADER + len, room - len);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (len != 0) {
		p.seq = l->sent_seq++;
		l->sent += (uint32_t)len;
		bus_send(l->gateway->bus, l->peer, &p, bytes, len);
	}
	free(bytes);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		end_in(l);
}

/* Write what came. If nobody reads it, it counts as passed on. */
static void
write_stream(struct lease *l)
{
	while (l->pending.len != 0) {
		size_t left = l->pending.len - l->written;
		ssize_t n = -1;

		if (l->out != -1)
			n = fz_fd_write(
			    l->out, l->pending.data + l->written, left);
		if (n < 0 && l->out != -1 && errno == EAGAIN)
			break;
		if (n < 0) {
			fz_fd_close(&l->out);
			n = (ssize_t)left;
		}
		l->written += (size_t)n;
		l->passed += (uint32_t)n;
		if (l->written == l->pending.len) {
			fz_buf_clear(&l->pending);
			l->written = 0;
		}
	}
	if (l->passed - l->reported >= LEASE_REPORT) {
		l->reported = l->passed;
		send_packet(l, PACKET_ACK, 0, l->passed);
	}
	if (l->pending.len == 0 && l->got_end)
		end_out(l);
}

void
lease_work(struct lease *l)
{
	if (!l->over && gateway_events(l->gateway, l->in_at) != 0)
		read_stream(l);
	if (!l->over && gateway_events(l->gateway, l->out_at) != 0)
		write_stream(l);
	check_over(l);
}

static void
take_data(struct lease *l, const struct packet *p)
{
	if (p->seq != l->got_seq || l->got_end) {
		lease_end(l, "the NATS server has lost messages");
		return;
	}
	l->got_seq++;
	l->got_end = p->type == PACKET_END;
	if (l->pending.len - l->written + p->len > LEASE_WINDOW) {
		lease_end(l, "its peer sends more than it may");
		return;
	}
	/* What was written goes only once all is, so that bytes seldom move. */
	if (l->written > LEASE_WINDOW) {
		fz_buf_consume(&l->pending, l->written);
		l->written = 0;
	}
	fz_buf_put(&l->pending, p->body, p->len);
	if (l->pending.failed)
		lease_end(l, "its gateway has no memory");
	else
		write_stream(l);
}

void
lease_take(struct lease *l, const struct packet *p)
{
	l->heard_ns = l->gateway->turn_ns;
	switch (p->type) {
	case PACKET_OPENED:
		lease_opened(l, p->arg);
		break;
	case PACKET_DATA:
	case PACKET_END:
		take_data(l, p);
		break;
	case PACKET_ACK:
		if (p->arg - l->acked <= l->sent - l->acked)
			l->acked = p->arg;
		break;
	case PACKET_CLOSE:
		snprintf(l->why, sizeof(l->why), "%.*s",
		    (int)(p->len < sizeof(l->why) ? p->len : sizeof(l->why)),
		    p->body);
		l->over = true;
		break;
	default:
		break;
	}
	check_over(l);
}

void
lease_end(struct lease *l, const char *why)
{
	struct packet p = { .type = PACKET_CLOSE, .lease = l->peer_id };

	if (l->over)
		return;
	l->over = true;
	snprintf(l->why, sizeof(l->why), "%s", why);
	if (l->gateway->bus != NULL && l->peer_id != 0)
		bus_send_short(l->gateway->bus, l->peer, &p, why, strlen(why));
}

void
lease_free(struct lease *l)
{
	fz_list_remove(&l->link);
	end_out(l);
	fz_fd_close(&l->in);
	fz_fd_close(&l->conn);
	fz_buf_fini(&l->pending);
	free(l);
}
