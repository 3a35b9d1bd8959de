/* usleep and MAP_ANONYMOUS are not in C11. */
#define _GNU_SOURCE
#include "batches.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "shared/arena.h"
#include "wire/blob.h"
#include "wire/child_direct.h"
#include "wire/child_items.h"
#include "wire/child_port.h"

struct item {
	struct items_home *home;
	struct fz_port *port;
	const struct fz_call *call;
	uint64_t arg;   /* the lower half of the item */
	uint64_t value; /* the result */
};

/* Call one item. Returns 0, or -1 if its result cannot be sent. */
typedef int item_function(const struct item *item);

static int
item_keep(const struct item *item)
{
	unsigned char *room = fz_port_item(item->port, item->call, NULL);

	if (room == NULL)
		return -1;
	fz_le64_store(room, item->value);
	fz_port_item_end(item->port, 8);
	return 0;
}

static int
item_reply(const struct item *item)
{
	fz_port_begin(item->port, item->call, FZ_WIRE_RESULT, 1);
	put_number(item->port, item->value);
	return fz_port_send(item->port, NULL);
}

static int
item_flush(const struct item *item)
{
	if (item_keep(item) != 0)
		return -1;
	return fz_port_flush(item->port, NULL);
}

static int
item_bulk(const struct item *item)
{
	fz_port_begin(item->port, item->call, FZ_WIRE_RESULT, 1);
	put_bytes(item->port, ITEMS_BULK);
	return fz_port_send(item->port, NULL);
}

static int
item_raise(const struct item *item)
{
	put_error(item->port, item->call);
	return fz_port_send(item->port, NULL);
}

static int
item_raise_late(const struct item *item)
{
	while (atomic_load(&item->home->shared->waiting) == 0)
		usleep(100);
	return item_raise(item);
}

static bool
is_first(const struct item *item)
{
	return atomic_fetch_add(&item->home->shared->onces, 1) == 0;
}

static int
item_raise_once(const struct item *item)
{
	return is_first(item) ? item_raise(item) : item_keep(item);
}

static int
item_sleep(const struct item *item)
{
	int64_t until_ns = fz_clock_ns() + (int64_t)item->arg * FZ_CLOCK_MS;

	atomic_fetch_add(&item->home->shared->sleeping, 1);
	nap_until(until_ns);
	return item_keep(item);
}

static int
item_probe(const struct item *item)
{
	struct item seen = *item;

	seen.value = item->home->probe(item->home->probe_ctx);
	return item_keep(&seen);
}

static int
item_wait(const struct item *item)
{
	struct items_shared *shared = item->home->shared;

	atomic_fetch_add(&shared->waiting, 1);
	while (!atomic_load(&shared->gate))
		usleep(100);
	return item_keep(item);
}

static int
item_kill(const struct item *item)
{
	(void)item;
	return raise(SIGKILL);
}

static int
item_kill_once(const struct item *item)
{
	return is_first(item) ? item_kill(item) : item_keep(item);
}

/* Put a reply into the mailbox, write `n` bytes of it to the pipe, and die. */
static int
die_writing(const struct item *item, size_t n)
{
	struct fz_port *port = item->port;

	fz_port_begin(port, item->call, FZ_WIRE_RESULT, 1);
	put_number(port, 1);
	port->flushed_ns = fz_clock_ns() + FZ_CLOCK_SECOND;
	fz_port_send(port, NULL);
	if (n > port->items.start)
		n = port->items.start;
	if (write(port->out, port->mailbox->out, n) != (ssize_t)n)
		_exit(92);
	return raise(SIGKILL);
}

static int
item_kill_stored(const struct item *item)
{
	return die_writing(item, 0);
}

static int
item_kill_half(const struct item *item)
{
	return die_writing(item, 21);
}

static int
item_kill_written(const struct item *item)
{
	return die_writing(item, FZ_MAILBOX_OUT);
}

static int
item_nap(const struct item *item)
{
	nap(1);
	return item_keep(item);
}

static item_function *const functions[ITEM_NOPS] = {
	[ITEM_KEEP] = item_keep,
	[ITEM_REPLY] = item_reply,
	[ITEM_FLUSH] = item_flush,
	[ITEM_BULK] = item_bulk,
	[ITEM_RAISE] = item_raise,
	[ITEM_RAISE_LATE] = item_raise_late,
	[ITEM_RAISE_ONCE] = item_raise_once,
	[ITEM_SLEEP] = item_sleep,
	[ITEM_PROBE] = item_probe,
	[ITEM_WAIT] = item_wait,
	[ITEM_KILL] = item_kill,
	[ITEM_KILL_ONCE] = item_kill_once,
	[ITEM_KILL_STORED] = item_kill_stored,
	[ITEM_KILL_HALF] = item_kill_half,
	[ITEM_KILL_WRITTEN] = item_kill_written,
	[ITEM_STORE] = item_keep, /* if there is no buffer */
	[ITEM_NAP_STORE] = item_nap,
};

static int
items_call(struct items_home *home, struct fz_port *port,
    const struct fz_call *call, uint64_t op_and_arg)
{
	struct item item = { home, port, call, op_and_arg & UINT32_MAX, 0 };

	item.value = item.arg + home->funcs[call->func];
	return functions[op_and_arg >> 32](&item);
}

/* Item `i` of a chunk, whose items are at `at`, or NULL: they were not sent. */
static uint64_t
items_at(const struct items_home *home, const unsigned char *at, uint64_t i)
{
	if (at != NULL)
		return fz_le64_load(at + 8 * (i - home->first));
	return ITEM_OF(home->result_buffer != NULL ? ITEM_STORE : ITEM_KEEP, i);
}

static void
items_note(struct items_home *home, uint64_t i)
{
	atomic_fetch_add(&home->shared->ran[i % ITEMS_MAX], 1);
	atomic_fetch_add(
	    &home->shared->ncalls[home->birth % ITEMS_WORKER_MAX], 1);
}

static bool
items_is_stored(const struct items_home *home, uint64_t item)
{
	enum item_op op = (enum item_op)(item >> 32);

	return home->result_buffer != NULL &&
	       (op == ITEM_STORE || op == ITEM_NAP_STORE);
}

/*
 * Store the results of items, beginning with the current one. Returns 0 if the
 * item that is current at the end is done, 1 if it has another operation, and
 * -1 if results cannot be stored.
 */
static int
items_run(struct items_home *home, struct fz_port *port, struct fz_call *call,
    const unsigned char *at)
{
	struct fz_direct run;
	int rc = 0;

	if (fz_direct_begin(port, call, &run, NULL) != 0)
		return -1;
	do {
		uint64_t i = call->item + (run.seq - call->seq);
		uint64_t item = items_at(home, at, i), v;
		unsigned char *raw =
		    home->result_buffer + ITEMS_RAW * (i - home->first);

		if (!items_is_stored(home, item)) {
			rc = 1;
			break;
		}
		items_note(home, i);
		if (item >> 32 == ITEM_NAP_STORE)
			nap(1);
		v = (item & UINT32_MAX) + home->funcs[call->func];
		fz_le64_store(raw, v);
		fz_le64_store(raw + 8, ~v);
		fz_direct_stored(&run); /* called when the value is complete */
	} while (fz_direct_advance(&run));
	fz_direct_end(port, call, &run);
	return rc;
}

int
items_chunk(struct items_home *home, struct fz_port *port, struct fz_call *call)
{
	struct fz_part part = { .bytes = NULL };
	const unsigned char *at = NULL;
	size_t len = ITEMS_RAW * (size_t)call->nitems;
	int rc = 0;

	home->first = call->item;
	home->result_buffer = NULL;
	if (call->type == FZ_WIRE_CHUNK && call->result_buffer != 0) {
		home->result_buffer = fz_arena_map_room(
		    port->arena, call->result_buffer, len, NULL);
		if (home->result_buffer == NULL)
			_exit(89);
	}
	if (call->nargs != 0) {
		if (fz_wire_part(&call->args, &part) != 0)
			_exit(90);
		at = part.bytes;
		if (at == NULL)
			at = fz_arena_map(
			    port->arena, part.offset, part.len, NULL);
		if (at == NULL || part.len < 8 * (size_t)call->nitems)
			_exit(91);
	}
	do {
		uint64_t item = items_at(home, at, call->item);

		if (items_is_stored(home, item)) {
			rc = items_run(home, port, call, at);
		} else {
			items_note(home, call->item);
			rc = items_call(home, port, call, item);
		}
	} while (rc == 1 || (rc == 0 && fz_port_advance(port, call)));
	if (at != NULL && part.bytes == NULL)
		fz_arena_unmap(port->arena, at, part.len);
	if (home->result_buffer != NULL)
		fz_arena_unmap(port->arena, home->result_buffer, len);
	return rc == 0 ? fz_port_end_chunk(port, NULL) : -1;
}

int
items_serve(void *ctx, struct fz_port *port)
{
	struct items_home *home = ctx;
	struct fz_call call;
	int rc;

	home->birth = atomic_fetch_add(&home->shared->births, 1);
	while ((rc = fz_port_next(port, &call, NULL)) == 1) {
		if (call.type == FZ_WIRE_FUNC) {
			home->funcs[call.func] = next_number(port, &call);
			atomic_fetch_add(&home->shared->nfuncs, 1);
		} else if (call.type == FZ_WIRE_KEEP) {
			atomic_fetch_add(call.nargs != 0
					     ? &home->shared->nkept
					     : &home->shared->nforgot,
			    1);
		} else if (items_chunk(home, port, &call) != 0) {
			return 96;
		}
	}
	return rc == 0 ? 0 : 97;
}

struct items_home *
items_home_new(void)
{
	struct items_home *home = calloc(1, sizeof(*home));

	assert_non_null(home);
	home->shared = mmap(NULL, sizeof(*home->shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(home->shared != MAP_FAILED);
	return home;
}

void
items_home_free(struct items_home *home)
{
	munmap(home->shared, sizeof(*home->shared));
	free(home);
}

void
items_forget(struct items_shared *shared, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		atomic_store(&shared->ran[i], 0);
}

uint64_t
items_slot(const unsigned char *buffer, size_t n)
{
	uint64_t v = fz_le64_load(buffer + ITEMS_RAW * n);

	assert_int_equal(fz_le64_load(buffer + ITEMS_RAW * n + 8), ~v);
	return v;
}

struct fz_blob *
items_part(const uint64_t *items, size_t n)
{
	unsigned char *bytes = malloc(8 * n);
	struct fz_blob *blob = NULL;

	if (bytes == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++)
		fz_le64_store(bytes + 8 * i, items[i]);
	blob = fz_blob_new(bytes, 8 * n, NULL);
	free(bytes);
	return blob;
}
