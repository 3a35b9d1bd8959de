/* F_SETPIPE_SZ is Linux. */
#define _GNU_SOURCE
#include "port_ends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "calls.h"
#include "os/fd.h"
#include "shared/arena.h"
#include "wire/child_items.h"
#include "wire/child_port.h"
#include "wire/wire.h"

int
port_ends_setup(void **state)
{
	struct port_ends *e = calloc(1, sizeof(*e));

	setenv("FZLUA_JOBS", "1", 1); /* no polling before a sleep */
	assert_int_equal(fz_fd_pipe(e->jobs, NULL), 0);
	assert_int_equal(fz_fd_pipe(e->results, NULL), 0);
	e->mailbox = fz_mailbox_new(&e->block, NULL);
	e->arena = fz_arena_new(NULL);
	assert_non_null(e->mailbox);
	assert_non_null(e->arena);
	fz_wire_in_init(&e->in);
	fz_buf_init(&e->out);
	assert_int_equal(fz_port_init(&e->port, e->jobs[0], e->results[1],
			     e->mailbox, e->arena, NULL),
	    0);
	*state = e;
	return 0;
}

int
port_ends_teardown(void **state)
{
	struct port_ends *e = *state;

	port_fini(&e->port);
	fz_wire_in_fini(&e->in);
	fz_buf_fini(&e->out);
	fz_arena_free(e->arena);
	fz_mailbox_free(e->mailbox, e->block);
	fz_mailbox_block_drop(e->block);
	for (int i = 0; i < 2; i++) {
		fz_fd_close(&e->jobs[i]);
		fz_fd_close(&e->results[i]);
	}
	free(e);
	return 0;
}

void
put_job(struct port_ends *e, uint32_t seq, unsigned flags, const char *arg)
{
	size_t start = fz_wire_begin(&e->out, FZ_WIRE_JOB, flags, seq);

	fz_buf_put_u32(&e->out, 3); /* func */
	fz_buf_put_u32(&e->out, 1); /* nargs */
	fz_buf_put_u32(&e->out, 2); /* nvalues */
	fz_buf_put_u64(&e->out, 44);
	fz_buf_put_u64(&e->out, 55);
	fz_wire_put_bytes(&e->out, arg, strlen(arg));
	fz_wire_end(&e->out, start);
}

void
write_jobs(struct port_ends *e)
{
	assert_int_equal(
	    fz_fd_write_all(e->jobs[1], e->out.data, e->out.len), 0);
	fz_buf_clear(&e->out);
}

void
put_reply(struct port_ends *e, const struct fz_call *call, const char *value)
{
	fz_port_begin(&e->port, call, FZ_WIRE_RESULT, 1);
	fz_buf_put(&e->port.value.buf, value, strlen(value));
	fz_port_put(&e->port);
	assert_int_equal(fz_port_send(&e->port, NULL), 0);
}

void
take_frame(struct port_ends *e, struct fz_frame *frame)
{
	while (fz_wire_next(&e->in, frame, NULL) != 1)
		assert_true(fz_wire_fill(&e->in, e->results[0]) > 0);
}

void
put_chunk(struct port_ends *e, uint32_t seq, unsigned flags, uint32_t nitems)
{
	size_t start = fz_wire_begin(&e->out, FZ_WIRE_CHUNK, flags, seq);

	fz_buf_put_u32(&e->out, 3); /* func */
	fz_buf_put_u32(&e->out, FZ_WIRE_MAP);
	fz_buf_put_u32(&e->out, nitems);
	fz_buf_put_u32(&e->out, 1);   /* nparts */
	fz_buf_put_u64(&e->out, 100); /* the first item */
	fz_buf_put_u64(&e->out, 44);
	fz_buf_put_u64(&e->out, 55);
	fz_buf_put_u64(&e->out, 1 << 20); /* the result buffer */
	fz_wire_put_bytes(&e->out, "items", 5);
	fz_wire_end(&e->out, start);
}

void
put_item(struct port_ends *e, uint32_t seq, char byte, size_t len)
{
	struct fz_call call = { .seq = seq };
	unsigned char *room = fz_port_item(&e->port, &call, NULL);

	assert_non_null(room);
	memset(room, byte, len);
	fz_port_item_end(&e->port, len);
}

void
drop_item(struct port_ends *e, uint32_t seq)
{
	struct fz_call call = { .seq = seq };
	unsigned char *room = fz_port_item(&e->port, &call, NULL);

	assert_non_null(room);
	memset(room, 'x', FZ_PORT_ITEM);
}

void
assert_items(const struct fz_frame *frame, uint32_t seq, uint32_t nitems,
    const char *bytes)
{
	assert_int_equal(frame->type, FZ_WIRE_ITEMS);
	assert_int_equal(frame->seq, seq);
	assert_int_equal(fz_le32_load(frame->body), nitems);
	assert_int_equal(frame->len, 4 + strlen(bytes));
	assert_memory_equal(frame->body + 4, bytes, strlen(bytes));
}

void
make_room(struct port_ends *e)
{
	assert_true(fcntl(e->results[1], F_SETPIPE_SZ, 1 << 20) >= 1 << 20);
}
