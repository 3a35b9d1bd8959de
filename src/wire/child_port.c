#include "wire/child_port.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/cpus.h"
#include "os/fd.h"
#include "os/spin.h"
#include "wire/child_items.h"

/* Longer than the time that a parent takes from a reply to its next job. */
#define PORT_HOLD_NS (FZ_CLOCK_MS / 100)

/*
 * The `resize` of the buffer for calls. If the bytes outgrow the mailbox's
 * buffer, they move to memory from malloc().
 */
static int
leave_mailbox(struct fz_buf *buf, size_t need)
{
	size_t cap = 2 * FZ_MAILBOX_IN;
	unsigned char *data;

	while (cap < need)
		cap *= 2;
	data = malloc(cap);
	if (data == NULL)
		return -1;
	memcpy(data, buf->data, buf->len);
	buf->data = data;
	buf->cap = cap;
	buf->store = NULL;
	return 0;
}

static void
stay_in_mailbox(struct fz_buf *buf)
{
	(void)buf;
}

const struct fz_buf_store fz_port_store = { leave_mailbox, stay_in_mailbox };

static void
free_extent(struct fz_port *port, const struct fz_frame *frame)
{
	struct fz_reader r;
	uint64_t offset;

	fz_reader_init(&r, frame->body, frame->len);
	offset = fz_reader_u64(&r);
	if (frame->type == FZ_WIRE_FREE && !r.failed && port->arena != NULL)
		fz_arena_give_back(port->arena, offset);
}

/* The parent shares the claim, so a refusal is final: never grant the item. */
static bool
grant_none(struct fz_port *port, struct fz_call *call, uint32_t seq)
{
	(void)port;
	(void)call;
	(void)seq;
	return false;
}

static const struct fz_port_ops shared_ops = { free_extent, grant_none, NULL };

int
fz_port_init(struct fz_port *port, int in, int out, struct fz_mailbox *mailbox,
    struct fz_arena *arena, struct fz_err *err)
{
	struct fz_mailbox_own *own = fz_mailbox_own_new(err);
	struct stat st = { 0 };

	if (own == NULL)
		return -1;
	*port = (struct fz_port){ .in = in,
		.out = out,
		.mailbox = mailbox,
		.own = own,
		.arena = arena };
	port->ops = &shared_ops;
	port->slot.fd = -1;
	port->account = &mailbox->account;
	fstat(out, &st);
	port->out_dev = st.st_dev;
	port->out_ino = st.st_ino;
	fz_claim_enter();
	fz_wire_in_init(&port->wire);
	port->wire.buf = (struct fz_buf){
		.data = own->in, .cap = FZ_MAILBOX_IN, .store = &fz_port_store
	};
	fz_buf_init(&port->frame);
	fz_arena_buf_init(&port->value, arena, 64 << 10);
	return 0;
}

/* Measure `call` from now on, if it asks for that. */
static void
start_meter(struct fz_port *port, const struct fz_call *call)
{
	if (!call->measured) {
		fz_meter_pause(&port->meter);
		return;
	}
	/* the items of the open frame are not measured */
	if (!port->items_measured)
		fz_port_close_items(port, 0);
	fz_meter_start(&port->meter);
}

/* Start the first item of `call`. False if the parent took the item back. */
static bool
claim(struct fz_port *port, struct fz_call *call)
{
	if (call->timed || call->type == FZ_WIRE_CHUNK)
		atomic_store(&port->mailbox->start_ns, fz_clock_ns());
	return fz_claim_start(&port->mailbox->claim, call->seq, &port->lost) ||
	       port->ops->grant(port, call, call->seq);
}

static void
open_job(struct fz_call *call)
{
	struct fz_reader *r = &call->args;

	call->func = fz_reader_u32(r);
	call->nitems = 1;
	call->nargs = fz_reader_u32(r);
	call->nvalues = fz_reader_u32(r);
	call->seed = fz_reader_u64(r);
	call->memory = fz_reader_u64(r);
}

static void
open_chunk(struct fz_call *call)
{
	struct fz_reader *r = &call->args;

	call->func = fz_reader_u32(r);
	call->kind = fz_reader_u32(r);
	call->nitems = fz_reader_u32(r);
	call->nargs = fz_reader_u32(r);
	call->item = fz_reader_u64(r);
	call->seed = fz_reader_u64(r);
	call->memory = fz_reader_u64(r);
	call->result_buffer = fz_reader_u64(r);
	if (call->nitems == 0)
		r->failed = true;
}

static void
open_func(struct fz_call *call)
{
	call->func = fz_reader_u32(&call->args);
	call->nargs = 1;
}

static void
open_keep(struct fz_call *call)
{
	call->func = fz_reader_u32(&call->args);
	call->nargs = fz_reader_u32(&call->args);
}

/*
 * Read the body of a SETUP: `func` is set to the number of the worker, `kind`
 * to the flags.
 */
static void
open_setup(struct fz_call *call)
{
	call->func = fz_reader_u32(&call->args);
	call->kind = fz_reader_u32(&call->args);
	call->nargs = 1;
}

enum opened { OPENED_BROKEN = -1, OPENED_NOTHING, OPENED_CALL, OPENED_REFUSED };

/* Read the head of a frame. If the frame is a call, claim its first item. */
static enum opened
open_call(struct fz_port *port, const struct fz_frame *frame,
    struct fz_call *call, struct fz_err *err)
{
	call->type = frame->type;
	call->timed = frame->flags & FZ_WIRE_TIMED;
	call->measured = frame->flags & FZ_WIRE_MEASURED;
	call->seq = frame->seq;
	call->nunread = 0;
	call->unread_seq = call->seq - 1; /* no item has unread arguments yet */
	fz_reader_init(&call->args, frame->body, frame->len);
	switch ((int)frame->type) {
	case FZ_WIRE_JOB:
		open_job(call);
		break;
	case FZ_WIRE_CHUNK:
		open_chunk(call);
		break;
	case FZ_WIRE_FUNC:
		open_func(call);
		break;
	case FZ_WIRE_KEEP:
		open_keep(call);
		break;
	case FZ_WIRE_SETUP:
		open_setup(call);
		break;
	default:
		port->ops->control(port, frame);
		return OPENED_NOTHING;
	}
	if (call->args.failed) {
		fz_err_set(err, FZ_ERR_CRASH, "a job frame is too short");
		return OPENED_BROKEN;
	}
	if (frame->type == FZ_WIRE_FUNC || frame->type == FZ_WIRE_KEEP ||
	    frame->type == FZ_WIRE_SETUP)
		return OPENED_CALL;
	if (port->accepts != NULL && !port->accepts(call))
		return OPENED_REFUSED;
	start_meter(port, call);
	return claim(port, call) ? OPENED_CALL : OPENED_NOTHING;
}

void
fz_port_sleep_at_once(struct fz_port *port)
{
	port->spin.nbusy = UINT_MAX;
}

void
fz_port_step(struct fz_call *call)
{
	struct fz_part part;

	while (call->unread_seq != call->seq) {
		for (; call->nunread != 0; call->nunread--)
			fz_wire_part(&call->args, &part);
		call->unread_seq++;
		call->nunread = call->nargs;
		call->seed = fz_reader_u64(&call->args);
	}
}

int
fz_port_argument(struct fz_port *port, struct fz_call *call, const void **bytes,
    size_t *len, struct fz_err *err)
{
	struct fz_part part;

	if (fz_wire_part(&call->args, &part) != 0)
		return fz_err_set(
		    err, FZ_ERR_CRASH, "a job frame lacks arguments");
	call->nunread--;
	*bytes = part.bytes;
	*len = part.len;
	if (part.bytes != NULL)
		return 0;
	if (port->arena == NULL)
		return fz_err_set(err, FZ_ERR_CRASH,
		    "an argument is in memory that is not shared");
	*bytes = fz_arena_map(port->arena, part.offset, part.len, err);
	port->mapped = (struct fz_span){ *bytes, part.len };
	return *bytes != NULL ? 0 : -1;
}

static void
unmap(const struct fz_port *port, struct fz_span *span)
{
	if (span->at != NULL)
		fz_arena_unmap(port->arena, span->at, span->len);
	span->at = NULL;
}

void
fz_port_release(struct fz_port *port)
{
	unmap(port, &port->mapped);
}

void *
fz_port_map_results(
    struct fz_port *port, const struct fz_call *call, size_t size)
{
	size_t len = call->nitems * size;
	void *at = NULL;

	if (call->result_buffer != 0 && size != 0 && port->arena != NULL)
		at = fz_arena_map_room(
		    port->arena, call->result_buffer, len, NULL);
	port->results = (struct fz_span){ at, len };
	return at;
}

static uint32_t
nexpected(const struct fz_port *port)
{
	return atomic_load_explicit(
	    &port->mailbox->nexpected, memory_order_relaxed);
}

static void
note_cpu(struct fz_port *port)
{
	uint32_t cpu = (uint32_t)(fz_cpus_current() + 1);

	if (cpu == port->cpu)
		return;
	port->cpu = cpu;
	atomic_store_explicit(&port->mailbox->cpu, cpu, memory_order_relaxed);
}

/* Poll for a moment, because the next call often follows at once. */
static void
poll_for_call(struct fz_port *port)
{
	struct pollfd pfd = { .fd = port->in, .events = POLLIN };

	while (fz_spin_again(&port->spin)) {
		note_cpu(port);
		if (poll(&pfd, 1, 0) != 0) {
			fz_spin_paid(&port->spin);
			return;
		}
		if (nexpected(port) != port->nexpected) {
			port->nexpected = nexpected(port);
			fz_spin_hold(&port->spin,
			    fz_clock_after(fz_clock_ns(), PORT_HOLD_NS));
		}
	}
}

/* Wait for a frame, and return kept memory to the system during the wait. */
static void
wait_for_frame(struct fz_port *port)
{
	struct pollfd pfd = { .fd = port->in, .events = POLLIN };
	int64_t until_ns = fz_idle_until(&port->idle, port->arena);

	if (until_ns != FZ_CLOCK_NEVER &&
	    poll(&pfd, 1, fz_clock_poll_ms(fz_clock_ns(), until_ns)) == 0)
		fz_idle_trim(&port->idle, port->arena);
}

int
fz_port_next(struct fz_port *port, struct fz_call *call, struct fz_err *err)
{
	struct fz_frame frame;
	ptrdiff_t n;
	int rc;

	for (;;) {
		while ((rc = fz_wire_next(&port->wire, &frame, err)) == 1) {
			rc = open_call(port, &frame, call, err);
			if (rc == OPENED_REFUSED)
				return fz_port_flush(port, err);
			if (rc != OPENED_NOTHING)
				return rc;
			if (port->lost)
				break;
		}
		if (rc < 0 || fz_port_flush(port, err) != 0)
			return -1;
		if (port->lost)
			return fz_err_set(err, FZ_ERR_CRASH,
			    "the memory shared with the parent was "
			    "overwritten");
		poll_for_call(port);
		wait_for_frame(port);
		if (port->ops->wait != NULL)
			port->ops->wait(port);
		n = fz_wire_fill(&port->wire, port->in);
		fz_meter_pause(&port->meter);
		note_cpu(port);
		port->nexpected = nexpected(port);
		if (n == 0)
			return 0;
		if (n < 0)
			return fz_err_sys(err, errno, "cannot read jobs");
	}
}

/* Free the extents of an abandoned reply. */
static void
abandon(struct fz_port *port)
{
	struct fz_reader r;
	struct fz_part part;

	if (!port->open || port->frame.len < FZ_WIRE_HEADER + 4)
		return;
	fz_reader_init(&r, port->frame.data, port->frame.len);
	fz_reader_take(&r, FZ_WIRE_HEADER + 4);
	while (fz_reader_left(&r) != 0 && fz_wire_part(&r, &part) == 0) {
		if (part.bytes == NULL)
			fz_arena_give_back(port->arena, part.offset);
	}
	port->open = false;
}

void
fz_port_begin(struct fz_port *port, const struct fz_call *call,
    enum fz_wire_type type, uint32_t word)
{
	abandon(port);
	fz_buf_clear(&port->frame);
	fz_buf_clear(&port->value.buf);
	fz_wire_begin(&port->frame, type, call->measured ? FZ_WIRE_MEASURED : 0,
	    call->seq);
	fz_buf_put_u32(&port->frame, word);
	if (type == FZ_WIRE_ERROR)
		fz_buf_put_u32(&port->frame, 1);
	port->open = type == FZ_WIRE_RESULT;
}

void
fz_port_put(struct fz_port *port)
{
	struct fz_buf *value = &port->value.buf;
	size_t len = value->len;

	if (value->failed) {
		port->frame.failed = true;
	} else if (port->value.in_arena) {
		/* without room for the offset, the extent would leak */
		if (fz_buf_reserve(&port->frame, 16) != NULL)
			fz_wire_put_offset(
			    &port->frame, fz_arena_buf_take(&port->value), len);
	} else {
		fz_wire_put_bytes(&port->frame, value->data, len);
	}
	fz_buf_clear(value);
}

/*
 * Write to the parent, unless a function has closed the descriptor: its number
 * may belong to a file of the user by now.
 */
static int
write_out(struct fz_port *port, const void *bytes, size_t n, struct fz_err *err)
{
	struct stat st;

	if (fstat(port->out, &st) != 0 || st.st_ino != port->out_ino ||
	    st.st_dev != port->out_dev)
		return fz_err_set(
		    err, FZ_ERR_CRASH, "the pipe to the parent was closed");
	if (fz_fd_write_all(port->out, bytes, n) != 0)
		return fz_err_sys(err, errno, "cannot write results");
	return 0;
}

/*
 * Write a reply that is too big for the mailbox. `writing` tells the parent
 * that the rest of the frame follows.
 */
static int
write_big(struct fz_port *port, const struct fz_buf *frame, struct fz_err *err)
{
	int rc;

	atomic_store(&port->mailbox->writing, 1);
	rc = write_out(port, frame->data, frame->len, err);
	atomic_store(&port->mailbox->writing, 0);
	port->written += frame->len;
	atomic_store(&port->mailbox->written, port->written);
	return rc;
}

int
fz_port_flush(struct fz_port *port, struct fz_err *err)
{
	fz_port_close_items(port, 0);
	if (port->items.start == 0)
		return 0;
	if (write_out(port, port->own->out, port->items.start, err) != 0)
		return -1;
	port->written += port->items.start;
	port->replies = (struct fz_mailbox_sum){ 0 };
	fz_port_set_complete(port, 0);
	atomic_store_explicit(
	    &port->mailbox->written, port->written, memory_order_release);
	atomic_store(&port->mailbox->epoch, ++port->epoch);
	atomic_thread_fence(memory_order_release);
	return 0;
}

/* Publish the next `len` bytes as a complete reply. */
static void
add_reply(struct fz_port *port, size_t len)
{
	fz_port_show(port, port->items.start, len);
	fz_port_set_complete(port, port->items.start + (uint32_t)len);
}

int
fz_port_note(struct fz_port *port, enum fz_wire_type type, uint32_t seq,
    uint32_t number, struct fz_err *err)
{
	struct fz_buf note = { .cap = FZ_WIRE_HEADER + 4,
		.store = &fz_port_store };

	fz_port_close_items(port, 0);
	if (note.cap > FZ_MAILBOX_ROOM - port->items.start &&
	    fz_port_flush(port, err) != 0)
		return -1;
	note.data = port->own->out + port->items.start;
	fz_wire_begin(&note, type, 0, seq);
	fz_buf_put_u32(&note, number);
	fz_wire_end(&note, 0);
	add_reply(port, note.len);
	return 0;
}

void
fz_port_store_used(struct fz_port *port, unsigned char *p)
{
	struct fz_used used;

	fz_meter_end(&port->meter, &used);
	fz_wire_store_used(p, &used);
}

/* Let replies share a write, unless the last write was long ago. */
static int
pause_replies(struct fz_port *port, struct fz_err *err)
{
	int64_t now;

	if (port->wire.at == port->wire.buf.len)
		return 0; /* the next read flushes the replies */
	now = port->meter.now_ns != 0 ? port->meter.now_ns : fz_clock_ns();
	if (now - port->flushed_ns < FZ_PORT_FLUSH_NS)
		return 0;
	port->flushed_ns = now;
	return fz_port_flush(port, err);
}

int
fz_port_end_chunk(struct fz_port *port, struct fz_err *err)
{
	int rc;

	if (port->items_measured)
		/* close the frame, so that each chunk has a frame of its own */
		fz_port_close_items(port, 0);
	if (port->results.at == NULL)
		return pause_replies(port, err);
	/* Write first, because unmapping much memory takes long. */
	rc = fz_port_flush(port, err);
	unmap(port, &port->results);
	return rc;
}

/* Append the usage to the reply under construction. */
static void
append_used(struct fz_port *port)
{
	unsigned char *p = fz_buf_reserve(&port->frame, FZ_WIRE_USED);

	if (p == NULL)
		return;
	fz_port_store_used(port, p);
	port->frame.len += FZ_WIRE_USED;
}

int
fz_port_send(struct fz_port *port, struct fz_err *err)
{
	struct fz_buf *frame = &port->frame;

	fz_port_close_items(port, 1);
	if (!frame->failed && (frame->data[1] & FZ_WIRE_MEASURED))
		append_used(port);
	fz_wire_end(frame, 0);
	if (frame->failed)
		return fz_err_set(
		    err, FZ_ERR_MEMORY, "not enough memory for the results");
	if (frame->len > FZ_MAILBOX_ROOM - port->items.start &&
	    fz_port_flush(port, err) != 0)
		return -1;
	port->open = false;
	if (frame->len > FZ_MAILBOX_ROOM)
		return write_big(port, frame, err);
	memcpy(port->own->out + port->items.start, frame->data, frame->len);
	add_reply(port, frame->len);
	return pause_replies(port, err);
}
