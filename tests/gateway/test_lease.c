/*
 * Two gateways with a lease between them, over a bus that loses packets.
 * wrap: malloc
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/beat.h"
#include "gateway/gateway.h"
#include "gateway/lease.h"
#include "no_bus.h"
#include "os/fd.h"

enum { QUEUE_MAX = 4096, BODY_MAX = 4096, STREAM_LEN = 4 << 20 };

struct message {
	size_t len;
	unsigned char bytes[FZ_PACKET_HEADER + BODY_MAX];
};

/* Packets that are sent, but not yet delivered to `to`, in their order. */
struct fz_bus {
	struct fz_gateway *to;
	unsigned loses; /* percent of the packets that are lost */
	unsigned seed;
	struct message *queue;
	unsigned n;
	unsigned nprobes;
	unsigned
	    nstream; /* packets of a stream, each sent for the first time */
	uint32_t stream_lease, stream_seq; /* of the last packet */
};

struct end {
	struct fz_gateway g;
	struct fz_bus bus;
	struct fz_lease *lease;
	int user; /* the other end of the lease's socket */
	unsigned char *sent, *got;
	size_t nsent, ngot;
	bool ended; /* the user has closed its side for writing */
};

struct world {
	struct end a, b;
};

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

static bool no_memory;

void *
__wrap_malloc(size_t size)
{
	return no_memory ? NULL : __real_malloc(size);
}

size_t
fz_bus_body_max(const struct fz_bus *bus)
{
	(void)bus;
	return BODY_MAX;
}

bool
fz_bus_is_full(const struct fz_bus *bus)
{
	return bus->n > QUEUE_MAX / 2;
}

/* The rest of the connection, which these tests do not use. */
void
fz_bus_send(struct fz_bus *bus, const char *to, const struct fz_packet *header,
    unsigned char *bytes, size_t len)
{
	struct message *m = &bus->queue[bus->n];

	assert_string_equal(to, bus->to->id);
	fz_packet_write(bytes, header);
	if ((unsigned)rand_r(&bus->seed) % 100 < bus->loses)
		return;
	assert_true(bus->n++ < QUEUE_MAX);
	m->len = FZ_PACKET_HEADER + len;
	memcpy(m->bytes, bytes, m->len);
}

void
fz_bus_send_stream(struct fz_bus *bus, const char *to, uint32_t lease,
    const struct fz_packet *header, unsigned char *bytes, size_t len)
{
	bus->nstream++;
	bus->stream_lease = lease;
	bus->stream_seq = header->seq;
	fz_bus_send(bus, to, header, bytes, len);
}

void
fz_bus_send_short(struct fz_bus *bus, const char *to,
    const struct fz_packet *header, const void *body, size_t len)
{
	unsigned char bytes[FZ_PACKET_HEADER + BODY_MAX];

	if (len != 0)
		memcpy(bytes + FZ_PACKET_HEADER, body, len);
	fz_bus_send(bus, to, header, bytes, len);
}

void
fz_bus_probe(struct fz_bus *bus, const char *to, const struct fz_packet *header,
    const void *body, size_t len)
{
	bus->nprobes++;
	fz_bus_send_short(bus, to, header, body, len);
}

static void
take(struct fz_gateway *g, const struct fz_packet *p)
{
	struct fz_lease *l = fz_lease_find(g, p->lease);

	if (p->type == FZ_PACKET_BEAT)
		fz_beat_take(g, p);
	else if (l != NULL)
		fz_lease_take(l, p);
}

static void
deliver(struct fz_bus *bus)
{
	unsigned n = bus->n;
	struct fz_packet p;

	for (unsigned i = 0; i < n; i++) {
		fz_packet_read(&p, bus->queue[i].bytes, bus->queue[i].len);
		take(bus->to, &p);
	}
	memmove(bus->queue, bus->queue + n, (bus->n - n) * sizeof(*bus->queue));
	bus->n -= n;
}

static void
open_end(struct end *end, struct end *other, const char *id)
{
	int ends[2], out;

	assert_int_equal(fz_gateway_init(&end->g), 0);
	memcpy(end->g.id, id, FZ_PACKET_ID + 1);
	end->bus = (struct fz_bus){ .to = &other->g, .seed = (unsigned)id[0] };
	end->bus.queue = malloc(QUEUE_MAX * sizeof(*end->bus.queue));
	end->sent = malloc(STREAM_LEN);
	end->got = malloc(STREAM_LEN);
	end->g.bus = &end->bus;
	end->g.body_max = BODY_MAX;
	for (size_t i = 0; i < STREAM_LEN; i++)
		end->sent[i] = (unsigned char)rand_r(&end->bus.seed);
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	out = dup(ends[0]);
	end->user = ends[1];
	end->lease = fz_lease_new(&end->g,
	    id[0] == 'a' ? "bbbbbbbbbbbbbbbb" : "aaaaaaaaaaaaaaaa", ends[0],
	    out);
}

static int
setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	open_end(&w->a, &w->b, "aaaaaaaaaaaaaaaa");
	open_end(&w->b, &w->a, "bbbbbbbbbbbbbbbb");
	fz_lease_opened(w->a.lease, w->b.lease->id);
	fz_lease_opened(w->b.lease, w->a.lease->id);
	*state = w;
	return 0;
}

static void
close_end(struct end *end)
{
	fz_lease_free(end->lease);
	if (end->user != -1)
		close(end->user);
	free(end->g.pfd);
	free(end->bus.queue);
	free(end->sent);
	free(end->got);
}

static int
teardown(void **state)
{
	struct world *w = *state;

	close_end(&w->a);
	close_end(&w->b);
	free(w);
	return 0;
}

/* Write and read as many bytes as possible at the user's end of the socket. */
static void
use(struct end *end)
{
	ssize_t n = 0;

	if (!end->ended)
		n = send(end->user, end->sent + end->nsent,
		    STREAM_LEN - end->nsent, MSG_NOSIGNAL);
	if (n > 0)
		end->nsent += (size_t)n;
	if (end->nsent == STREAM_LEN && !end->ended) {
		shutdown(end->user, SHUT_WR);
		end->ended = true;
	}
	n = read(end->user, end->got + end->ngot, STREAM_LEN - end->ngot);
	if (n > 0)
		end->ngot += (size_t)n;
}

static void
turn(struct end *end)
{
	int64_t stalled_ns;

	use(end);
	fz_gateway_begin(&end->g);
	fz_lease_poll(end->lease);
	fz_gateway_wait(&end->g, 0, &stalled_ns);
	if (!end->lease->over)
		fz_lease_work(end->lease);
	deliver(&end->bus);
}

static void
exchange(struct world *w)
{
	for (int i = 0; i < 100000; i++) {
		turn(&w->a);
		turn(&w->b);
		if (i % 16 == 0) {
			fz_beat_send(&w->a.g);
			fz_beat_send(&w->b.g);
		}
		if (w->a.lease->over && w->b.lease->over)
			break;
	}
	use(&w->a);
	use(&w->b);
	assert_true(w->a.lease->over && w->b.lease->over);
	assert_string_equal(w->a.lease->why, "");
	assert_string_equal(w->b.lease->why, "");
	assert_int_equal(w->a.ngot, STREAM_LEN);
	assert_int_equal(w->b.ngot, STREAM_LEN);
	assert_memory_equal(w->a.got, w->b.sent, STREAM_LEN);
	assert_memory_equal(w->b.got, w->a.sent, STREAM_LEN);
}

static void
test_lease_passes_both_directions_on(void **state)
{
	exchange(*state);
}

static void
test_lease_sends_again_what_was_lost(void **state)
{
	struct world *w = *state;

	w->a.bus.loses = w->b.bus.loses = 20;
	exchange(w);
}

static void
test_lease_goes_on_with_a_new_connection(void **state)
{
	struct world *w = *state;

	for (int round = 0; round < 20; round++) {
		struct end *end = round % 2 ? &w->a : &w->b;

		for (int i = 0; i < 5; i++) {
			turn(&w->a);
			turn(&w->b);
		}
		end->g.bus = NULL; /* packets under way are lost */
		w->a.bus.n = w->b.bus.n = 0;
		for (int i = 0; i < 5; i++) {
			turn(&w->a);
			turn(&w->b);
			w->a.bus.n = w->b.bus.n = 0;
		}
		end->g.bus = &end->bus;
		fz_beat_connected(&end->g);
	}
	exchange(w);
}

static void
test_lease_keeps_no_more_than_its_window(void **state)
{
	struct world *w = *state;

	w->a.bus.loses = 100;
	for (int i = 0; i < 1000; i++) {
		use(&w->a);
		turn(&w->a);
	}
	assert_int_equal(w->a.lease->sent - w->a.lease->acked, 2 << 20);
	assert_ptr_not_equal(w->a.lease->kept, NULL);
	w->a.bus.loses = 0;
	exchange(w);
}

static void
test_lease_ends_without_memory(void **state)
{
	struct world *w = *state;

	use(&w->a);
	no_memory = true;
	turn(&w->a);
	no_memory = false;
	assert_true(w->a.lease->over);
	assert_non_null(strstr(w->a.lease->why, "out of memory"));
	turn(&w->a);
	assert_true(w->b.lease->over);
}

static void
test_lease_of_one_end_alone_is_closed(void **state)
{
	struct world *w = *state;

	w->a.bus.loses = 100; /* the CLOSE is lost */
	fz_lease_end(w->a.lease, "");
	w->a.bus.loses = 0;
	fz_beat_send(&w->b.g);
	deliver(&w->b.bus);
	assert_false(w->b.lease->over);
	deliver(&w->a.bus);
	assert_true(w->b.lease->over);
}

/* Check the lease `ns` after its peer was heard. */
static void
check_at(struct end *end, int64_t ns)
{
	end->g.turn_ns = end->lease->heard_ns + ns;
	fz_beat_check(&end->g, end->g.turn_ns, 0);
}

static void
test_beat_ends_a_lease_whose_peer_has_gone(void **state)
{
	struct world *w = *state;
	int64_t start_ns = w->a.lease->heard_ns;

	w->a.g.connected_ns = start_ns - 1;
	w->a.g.turn_ns = start_ns + FZ_CLOCK_SECOND;
	fz_beat_absent(&w->a.g, "cccccccccccccccc");
	fz_beat_absent(&w->a.g, w->b.g.id);
	check_at(&w->a, 2 * FZ_CLOCK_SECOND);
	assert_false(w->a.lease->over);
	check_at(&w->a, 4 * FZ_CLOCK_SECOND);
	assert_true(w->a.lease->over);
}

static void
test_beat_waits_for_a_peer_that_connects_again(void **state)
{
	struct world *w = *state;
	int64_t start_ns = w->a.lease->heard_ns;

	/* The server was restarted: the peer may connect a bit later. */
	w->a.g.connected_ns = start_ns + FZ_CLOCK_SECOND;
	w->a.g.turn_ns = start_ns + FZ_CLOCK_SECOND;
	fz_beat_absent(&w->a.g, w->b.g.id);
	check_at(&w->a, 30 * FZ_CLOCK_SECOND);
	assert_false(w->a.lease->over);
	check_at(&w->a, 61 * FZ_CLOCK_SECOND);
	assert_true(w->a.lease->over);
}

static void
test_beat_does_not_count_time_that_it_was_stopped(void **state)
{
	struct world *w = *state;
	int64_t now_ns = w->a.lease->heard_ns + 90 * FZ_CLOCK_SECOND;

	w->a.g.turn_ns = now_ns;
	fz_beat_check(&w->a.g, now_ns, 80 * FZ_CLOCK_SECOND);
	assert_false(w->a.lease->over);
}

static void
test_beat_is_one_packet_for_each_peer(void **state)
{
	struct world *w = *state;
	struct fz_lease *more[60];

	for (int i = 0; i < 60; i++) {
		more[i] = fz_lease_new(&w->a.g, w->b.g.id, -1, -1);
		fz_lease_opened(more[i], (uint32_t)i + 100);
	}
	fz_beat_send(&w->a.g);
	/* A packet has at most 48 leases. */
	assert_int_equal(w->a.bus.nprobes, 2);
	for (int i = 0; i < 60; i++)
		fz_lease_free(more[i]);
}

/* Send `n` bytes as one packet, whose number must be `seq`. */
static void
send_stream(struct end *end, size_t n, uint32_t seq)
{
	int64_t stalled_ns;

	assert_int_equal(write(end->user, end->sent, n), (ssize_t)n);
	fz_gateway_begin(&end->g);
	fz_lease_poll(end->lease);
	fz_gateway_wait(&end->g, fz_clock_ns() + FZ_CLOCK_SECOND, &stalled_ns);
	fz_lease_work(end->lease);
	assert_int_equal(end->bus.nstream, seq + 1);
	assert_int_equal(end->bus.stream_lease, end->lease->id);
	assert_int_equal(end->bus.stream_seq, seq);
}

static void
test_lease_knows_what_has_not_reached_its_peer(void **state)
{
	struct world *w = *state;
	struct fz_lease *l = w->a.lease;
	struct fz_packet again = { .type = FZ_PACKET_AGAIN, .seq = 1 };
	uint32_t reached;

	l->conn = dup(w->a.user); /* this end belongs to a submitter */
	send_stream(&w->a, 100, 0);
	assert_false(fz_lease_has_lost(l, &reached));
	send_stream(&w->a, 50, 1);
	send_stream(&w->a, 20, 2);
	fz_lease_lose(l, 1);
	fz_lease_lose(l, 2);
	assert_true(fz_lease_has_lost(l, &reached));
	assert_int_equal(reached, 100);
	/* The peer has announced itself again, and may get new packets. */
	fz_lease_take(l, &again);
	assert_false(fz_lease_has_lost(l, &reached));
	assert_int_equal(w->a.bus.nstream, 3);
	fz_lease_lose(l, 2);
	fz_lease_heard(l, 3, 0, 0);
	assert_false(fz_lease_has_lost(l, &reached));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lease_passes_both_directions_on),
		TEST(test_lease_sends_again_what_was_lost),
		TEST(test_lease_goes_on_with_a_new_connection),
		TEST(test_lease_keeps_no_more_than_its_window),
		TEST(test_lease_ends_without_memory),
		TEST(test_lease_of_one_end_alone_is_closed),
		TEST(test_beat_ends_a_lease_whose_peer_has_gone),
		TEST(test_beat_waits_for_a_peer_that_connects_again),
		TEST(test_beat_does_not_count_time_that_it_was_stopped),
		TEST(test_beat_is_one_packet_for_each_peer),
		TEST(test_lease_knows_what_has_not_reached_its_peer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
