#include "gateway/lease.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "gateway/bus.h"
#include "gateway/gateway.h"
#include "gateway/strings.h"
#include "os/fd.h"

enum {
	LEASE_WINDOW = 2 << 20, /* maximum number of bytes in transit */
	LEASE_REPORT = LEASE_WINDOW / 4,
	/* maximum number of bytes that are read before memory is allocated */
	LEASE_SMALL = 8 << 10
};

struct fz_sent_packet {
	struct fz_sent_packet *next;
	unsigned type;
	uint32_t seq;
	size_t len;
	unsigned char bytes[]; /* the header, then the body */
};

struct fz_lease *
fz_lease_new(struct fz_gateway *g, const char *peer, int in, int out)
{
	struct fz_lease *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->gateway = g;
	l->id = ++g->nleases_ever;
	snprintf(l->peer, sizeof(l->peer), "%s", peer);
	l->in = in;
	l->out = out;
	l->in_at = l->out_at = l->conn_at = l->conn = -1;
	l->kept_tail = &l->kept;
	l->slot.fd = l->slot.at = -1;
	l->heard_ns = fz_clock_ns();
	fz_list_push(&g->leases, &l->link);
	return l;
}

struct fz_lease *
fz_lease_find(const struct fz_gateway *g, uint32_t id)
{
	for (struct fz_list *at = g->leases.next; at != &g->leases;
	     at = at->next) {
		struct fz_lease *l = (struct fz_lease *)at;

		if (l->id == id && !l->over)
			return l;
	}
	return NULL;
}

void
fz_lease_opened(struct fz_lease *l, uint32_t peer_id)
{
	l->opened = true;
	l->peer_id = peer_id;
}

/* Report the numbers of the packets and bytes that came. */
static void
report(struct fz_lease *l, unsigned type)
{
	struct fz_packet p = { .type = type,
		.lease = l->peer_id,
		.seq = l->got_seq,
		.arg = l->passed };

	if (l->gateway->bus == NULL)
		return;
	l->reported = l->passed;
	fz_bus_send_short(l->gateway->bus, l->peer, &p, NULL, 0);
}

void
fz_lease_ask(struct fz_lease *l)
{
	l->asked = true;
	if (l->opened)
		report(l, FZ_PACKET_AGAIN);
}

static void
send_kept(const struct fz_lease *l, struct fz_sent_packet *kept, bool again)
{
	struct fz_packet p = {
		.type = kept->type, .lease = l->peer_id, .seq = kept->seq
	};
	struct fz_bus *bus = l->gateway->bus;

	/*
	 * The server's answer to a repeated packet would say nothing, because
	 * the packet may have been received before.
	 */
	if (bus != NULL && l->conn != -1 && !again)
		fz_bus_send_stream(
		    bus, l->peer, l->id, &p, kept->bytes, kept->len);
	else if (bus != NULL)
		fz_bus_send(bus, l->peer, &p, kept->bytes, kept->len);
}

/*
 * A packet of the stream with room for `len` bytes. NULL if there is no memory.
 */
static struct fz_sent_packet *
new_packet(size_t len)
{
	return malloc(sizeof(struct fz_sent_packet) + FZ_PACKET_HEADER + len);
}

/* Send `kept`, and keep it until the peer has acknowledged it. */
static void
send_new(
    struct fz_lease *l, struct fz_sent_packet *kept, unsigned type, size_t len)
{
	kept->next = NULL;
	kept->type = type;
	kept->seq = l->sent_seq++;
	kept->len = len;
	l->sent += (uint32_t)len;
	*l->kept_tail = kept;
	l->kept_tail = &kept->next;
	send_kept(l, kept, false);
}

/* Free the packets below `seq`, because the peer has them. */
static void
drop_kept(struct fz_lease *l, uint32_t seq)
{
	while (l->kept != NULL && (int32_t)(l->kept->seq - seq) < 0) {
		struct fz_sent_packet *kept = l->kept;

		l->kept = kept->next;
		free(kept);
	}
	if (l->kept == NULL)
		l->kept_tail = &l->kept;
}

/*
 * End the direction to the process. This process has two descriptors of a
 * socket, so only a shutdown ends one direction.
 */
static void
end_out(struct fz_lease *l)
{
	if (l->out != -1)
		shutdown(l->out, SHUT_WR);
	fz_fd_close(&l->out);
}

/* End the lease because of a failure of this gateway. */
static void
fail(struct fz_lease *l, const char *what)
{
	char why[sizeof(l->why)];

	snprintf(why, sizeof(why), "%s %s",
	    l->conn != -1 ? "the gateway of the script" : "its gateway", what);
	fz_lease_end(l, why);
}

static void
fail_call(struct fz_lease *l, const char *what, int code)
{
	char text[100];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(code));
	fail(l, text);
}

static void
end_in(struct fz_lease *l)
{
	struct fz_sent_packet *kept = new_packet(0);

	fz_fd_close(&l->in);
	if (kept != NULL)
		send_new(l, kept, FZ_PACKET_END, 0);
	else
		fail(l, "is out of memory");
}

/* End the lease if both directions have ended, and both ends know that. */
static void
check_over(struct fz_lease *l)
{
	if (l->in == -1 && l->got_end && l->pending.len == 0 && l->kept == NULL)
		l->over = true;
}

void
fz_lease_poll(struct fz_lease *l)
{
	bool reads =
	    l->opened && l->in != -1 && l->sent - l->acked < LEASE_WINDOW &&
	    (l->gateway->bus == NULL || !fz_bus_is_full(l->gateway->bus));

	l->in_at = reads ? fz_gateway_add(l->gateway, l->in, POLLIN) : -1;
	l->out_at = -1;
	if (l->pending.len != 0 && l->out != -1)
		l->out_at = fz_gateway_add(l->gateway, l->out, POLLOUT);
}

/*
 * Read until `room` bytes have come or nothing is left to read. One read of a
 * socket returns only the bytes of one write, so more may be there. Returns 0
 * at the end of the stream, or a negative error code.
 */
static int
read_all(
    const struct fz_lease *l, unsigned char *bytes, size_t room, size_t *len)
{
	while (*len < room) {
		ssize_t n = fz_fd_read(l->in, bytes + *len, room - *len);

		if (n < 0 && errno == EAGAIN)
			return 1;
		if (n < 0 && !fz_fd_peer_closed())
			return -errno;
		if (n <= 0)
			return 0;
		*len += (size_t)n;
	}
	return 1;
}

/*
 * Make a packet of the bytes that can be read now. NULL if there is no memory.
 */
static struct fz_sent_packet *
read_packet(const struct fz_lease *l, size_t room, size_t *len, int *more)
{
	unsigned char small[LEASE_SMALL];
	size_t first = room < sizeof(small) ? room : sizeof(small);
	struct fz_sent_packet *kept;

	*more = read_all(l, small, first, len);
	if (*len < first)
		room = *len;
	kept = new_packet(room);
	if (kept == NULL)
		return NULL;
	memcpy(kept->bytes + FZ_PACKET_HEADER, small, *len);
	if (*more > 0)
		*more = read_all(l, kept->bytes + FZ_PACKET_HEADER, room, len);
	return kept;
}

/* Send the bytes that have come as one packet. */
static void
read_stream(struct fz_lease *l)
{
	size_t room = LEASE_WINDOW - (l->sent - l->acked);
	size_t most = l->gateway->body_max, len = 0;
	struct fz_sent_packet *kept;
	int more;

	kept = read_packet(l, room < most ? room : most, &len, &more);
	if (kept == NULL) {
		fail(l, "is out of memory");
		return;
	}
	if (len != 0)
		send_new(l, kept, FZ_PACKET_DATA, len);
	else
		free(kept);
	if (more < 0)
		fail_call(l, "cannot read", -more);
	else if (more == 0)
		end_in(l);
}

/*
 * Write the bytes that came. If no process reads them, they count as passed on.
 */
static void
write_stream(struct fz_lease *l)
{
	while (l->pending.len != 0) {
		size_t left = l->pending.len - l->written;
		ssize_t n = -1;

		if (l->out != -1)
			n = fz_fd_write(
			    l->out, l->pending.data + l->written, left);
		if (n < 0 && l->out != -1 && errno == EAGAIN)
			break;
		if (n < 0 && l->out != -1 && !fz_fd_peer_closed()) {
			fail_call(l, "cannot write", errno);
			return;
		}
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
	if (l->passed - l->reported >= LEASE_REPORT)
		report(l, FZ_PACKET_ACK);
	if (l->pending.len != 0 || !l->got_end)
		return;
	end_out(l);
	/* For a submitter: the process on the node has stopped reading. */
	if (l->conn != -1 && l->in != -1)
		end_in(l);
}

void
fz_lease_work(struct fz_lease *l)
{
	if (!l->over && fz_gateway_events(l->gateway, l->in_at) != 0)
		read_stream(l);
	if (!l->over && fz_gateway_events(l->gateway, l->out_at) != 0)
		write_stream(l);
	check_over(l);
}

static void
put_pending(struct fz_lease *l, const struct fz_packet *p)
{
	if (l->pending.len - l->written + p->len > LEASE_WINDOW) {
		fz_lease_end(l, "its peer sends more than it may");
		return;
	}
	/*
	 * Remove written bytes only when they are many, so that the rest is
	 * rarely moved.
	 */
	if (l->written > LEASE_WINDOW) {
		fz_buf_consume(&l->pending, l->written);
		l->written = 0;
	}
	fz_buf_put(&l->pending, p->body, p->len);
	if (l->pending.failed)
		fail(l, "is out of memory");
	else
		write_stream(l);
}

static void
take_data(struct fz_lease *l, const struct fz_packet *p)
{
	if (l->got_end || (int32_t)(p->seq - l->got_seq) < 0)
		return; /* the packet was sent again */
	if (p->seq != l->got_seq) {
		if (!l->asked)
			fz_lease_ask(l);
		return;
	}
	l->asked = false;
	l->got_seq++;
	l->got_end = p->type == FZ_PACKET_END;
	put_pending(l, p);
	if (l->got_end) /* the peer waits for an acknowledgement */
		report(l, FZ_PACKET_ACK);
}

/* Process an ACK or an AGAIN. */
static void
take_report(struct fz_lease *l, const struct fz_packet *p)
{
	if ((int32_t)(l->sent_seq - p->seq) < 0)
		return;
	drop_kept(l, p->seq);
	if (l->sent - p->arg <= l->sent - l->acked)
		l->acked = p->arg;
	if (p->type != FZ_PACKET_AGAIN)
		return;
	/* the last acknowledgement may be lost, too */
	report(l, FZ_PACKET_ACK);
	for (struct fz_sent_packet *kept = l->kept; kept != NULL;
	     kept = kept->next)
		send_kept(l, kept, true);
}

/* Note that the peer lives. */
static void
hear(struct fz_lease *l)
{
	l->heard_ns = l->gateway->turn_ns;
	l->absent_ns = 0;
	l->has_lost = false;
}

void
fz_lease_take(struct fz_lease *l, const struct fz_packet *p)
{
	hear(l);
	switch (p->type) {
	case FZ_PACKET_OPENED:
		fz_lease_opened(l, p->arg);
		break;
	case FZ_PACKET_DATA:
	case FZ_PACKET_END:
		take_data(l, p);
		break;
	case FZ_PACKET_ACK:
	case FZ_PACKET_AGAIN:
		take_report(l, p);
		break;
	case FZ_PACKET_CLOSE:
		fz_strings_copy(
		    l->why, sizeof(l->why), (const char *)p->body, p->len);
		l->over = true;
		break;
	default:
		break;
	}
	check_over(l);
}

uint32_t
fz_lease_kept_seq(const struct fz_lease *l)
{
	return l->kept != NULL ? l->kept->seq : l->sent_seq;
}

void
fz_lease_heard(
    struct fz_lease *l, uint32_t seq, uint32_t kept_seq, uint32_t acked)
{
	hear(l);
	if ((int32_t)(seq - l->got_seq) > 0)
		/*
		 * a packet is missing: ask for it, because packets keep their
		 * order
		 */
		fz_lease_ask(l);
	else if (kept_seq != l->got_seq || acked != l->passed)
		report(l, FZ_PACKET_ACK);
}

void
fz_lease_lose(struct fz_lease *l, uint32_t seq)
{
	if (!l->has_lost || (int32_t)(seq - l->lost_seq) < 0)
		l->lost_seq = seq;
	l->has_lost = true;
}

bool
fz_lease_has_lost(const struct fz_lease *l, uint32_t *reached)
{
	*reached = l->sent;
	for (const struct fz_sent_packet *kept = l->kept; kept != NULL;
	     kept = kept->next) {
		if ((int32_t)(kept->seq - l->lost_seq) >= 0)
			*reached -= (uint32_t)kept->len;
	}
	return l->has_lost;
}

void
fz_lease_end(struct fz_lease *l, const char *why)
{
	struct fz_packet p = { .type = FZ_PACKET_CLOSE, .lease = l->peer_id };

	if (l->over)
		return;
	l->over = true;
	snprintf(l->why, sizeof(l->why), "%s", why);
	if (l->gateway->bus != NULL && l->peer_id != 0)
		fz_bus_send_short(
		    l->gateway->bus, l->peer, &p, why, strlen(why));
}

void
fz_lease_free(struct fz_lease *l)
{
	fz_list_remove(&l->link);
	end_out(l);
	fz_fd_close(&l->in);
	fz_fd_close(&l->conn);
	fz_fd_close(&l->slot.fd);
	fz_buf_fini(&l->pending);
	drop_kept(l, l->sent_seq);
	free(l);
}
