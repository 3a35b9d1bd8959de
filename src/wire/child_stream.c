#include "wire/child_stream.h"

#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "os/fd.h"
#include "wire/child_items.h"
#include "wire/child_port.h"

/* Items that start together shall take this much time in all. */
#define STREAM_PERMIT_NS (FZ_CLOCK_MS / 2)

/*
 * Time within which the gateway grants a free slot. If a wait is longer, the
 * worker reports it to its parent.
 */
enum { STREAM_GRANT_MS = 5 };

/*
 * Answer a RECALL, unless an earlier call or the process on the node has done
 * it.
 */
static void
control(struct fz_port *port, const struct fz_frame *frame)
{
	struct fz_port_permit *permit = &port->permit;

	if (permit->held || frame->type != FZ_WIRE_RECALL ||
	    (int32_t)(frame->seq - permit->floor) <= 0)
		return;
	/*
	 * A failure is ignored, because then no other reply can be written
	 * either.
	 */
	if (fz_port_note(port, FZ_WIRE_RECALLED, frame->seq, 0, NULL) == 0)
		permit->floor = frame->seq;
}

/*
 * Read without waiting. Keeps the frame of `call`, whose bytes may move. False
 * if no bytes have come, because there are none now, the stream has ended, or
 * an error has occurred.
 */
static bool
read_more(struct fz_port *port, struct fz_call *call)
{
	struct pollfd pfd = { .fd = port->in, .events = POLLIN };
	const struct fz_buf *buf = &port->wire.buf;
	size_t at = (size_t)(call->args.p - buf->data);
	size_t end = (size_t)(call->args.end - buf->data);

	/* fz_port_next() handles the end of the calls, and errors. */
	if (poll(&pfd, 1, 0) != 1 || fz_wire_append(&port->wire, port->in) <= 0)
		return false;
	call->args.p = buf->data + at;
	call->args.end = buf->data + end;
	return true;
}

/*
 * Answer a RECALL that has come, even if earlier frames are not processed yet.
 * False if no new bytes have come.
 */
static bool
answer_recall(struct fz_port *port, struct fz_call *call)
{
	const unsigned char *at, *end;
	struct fz_frame frame;
	bool more = read_more(port, call);

	at = port->wire.buf.data + port->wire.at;
	end = port->wire.buf.data + port->wire.buf.len;
	while (fz_wire_scan(&at, end, &frame, NULL) == 1)
		control(port, &frame);
	return more;
}

static bool
is_taken_back(const struct fz_port *port, uint32_t seq)
{
	if (port->permit.held)
		return fz_claim_is_taken_back(&port->mailbox->held, seq);
	return (int32_t)(seq - port->permit.floor) < 0;
}

/*
 * The number of items to start together: more if the last ones took little
 * time, fewer if they took much.
 */
static uint32_t
permit_size(const struct fz_port_permit *permit, int64_t now_ns)
{
	int64_t took = now_ns - permit->since_ns;
	int64_t n = permit->n;

	if (took > STREAM_PERMIT_NS)
		n = n * STREAM_PERMIT_NS / took;
	else if (took < STREAM_PERMIT_NS / 2)
		n = 2 * n;
	return n > 0 ? (uint32_t)n : 1;
}

static void
renew(struct fz_port_permit *permit, const struct fz_call *call, uint32_t seq)
{
	uint32_t left = call->nitems - (seq - call->seq);
	int64_t now_ns = fz_clock_ns();

	permit->n = permit_size(permit, now_ns);
	if (seq == call->seq || call->timed)
		permit->n = 1; /* the first of a frame, or timed: alone */
	if (permit->n > left)
		permit->n = left;
	permit->since_ns = now_ns;
	permit->floor = seq;
	permit->end = seq + permit->n;
}

/* Whether a slot is free now. */
static bool
poll_grant(struct fz_slot_line *slot)
{
	struct pollfd pfd = { .fd = slot->fd, .events = POLLIN };

	poll(&pfd, 1, STREAM_GRANT_MS);
	return fz_slot_line_check(slot);
}

/*
 * Acquire a slot of the node. The parent is notified if the worker waits, and
 * may take the items back. False if the parent has done so, or is gone.
 */
static bool
take_slot(struct fz_port *port, struct fz_call *call, uint32_t seq)
{
	struct fz_slot_line *slot = &port->slot;
	struct pollfd pfd[] = { { .fd = port->in, .events = POLLIN },
		{ .events = POLLIN } };

	if (slot->fd == -1 || fz_slot_line_check(slot))
		return true;
	fz_slot_line_want(slot);
	if (poll_grant(slot))
		return true;
	if (fz_port_note(port, FZ_WIRE_WAITING, seq, 0, NULL) != 0 ||
	    fz_port_flush(port, NULL) != 0)
		return false;
	while (!fz_slot_line_check(slot)) {
		pfd[1].fd = slot->fd;
		if (poll(pfd, 2, -1) < 1 || pfd[0].revents == 0)
			continue;
		if (answer_recall(port, call) && !is_taken_back(port, seq))
			continue;
		fz_port_flush(port, NULL);
		fz_slot_line_stop(slot);
		return false;
	}
	return true;
}

/*
 * Start the items of the permit. The process on the node sees the start in the
 * mailbox, and can read finished replies there. Therefore replies are written
 * before this start only if they may have waited long.
 */
static bool
start_held(struct fz_port *port)
{
	const struct fz_port_permit *permit = &port->permit;

	fz_port_close_items(port, 0);
	if (port->items.start != 0 &&
	    permit->since_ns - port->flushed_ns > STREAM_PERMIT_NS) {
		port->flushed_ns = permit->since_ns;
		if (fz_port_flush(port, NULL) != 0)
			return false;
	}
	return fz_claim_start(
	    &port->mailbox->held, permit->end - 1, &port->lost);
}

static bool
announce(struct fz_port *port, uint32_t seq)
{
	return fz_port_note(port, FZ_WIRE_STARTED, seq, port->permit.n, NULL) ==
		   0 &&
	       fz_port_flush(port, NULL) == 0;
}

static bool
grant(struct fz_port *port, struct fz_call *call, uint32_t seq)
{
	struct fz_port_permit *permit = &port->permit;

	if (port->lost || is_taken_back(port, seq))
		return false;
	if (!permit->held)
		answer_recall(port, call);
	if (is_taken_back(port, seq) || !take_slot(port, call, seq))
		return false;
	renew(permit, call, seq);
	if (!(permit->held ? start_held(port) : announce(port, seq)))
		return false;
	fz_claim_permit(&port->mailbox->claim, permit->end);
	return true;
}

static void
wait_for_call(struct fz_port *port)
{
	fz_slot_line_wait(&port->slot, port->in);
}

static const struct fz_port_ops stream_ops = { control, grant, wait_for_call };

int
fz_child_stream_init(struct fz_port *port, int in, int out,
    struct fz_mailbox *shared, bool held, struct fz_err *err)
{
	struct fz_mailbox *mailbox =
	    shared != NULL ? shared : fz_mailbox_new_private(err);

	if (mailbox == NULL ||
	    fz_port_init(port, in, out, mailbox, NULL, err) != 0)
		return -1;
	port->ops = &stream_ops;
	port->account = NULL;
	port->permit.held = held;
	if (!held)
		/* from now on the parent can trust this number */
		atomic_store(&mailbox->claim.started, fz_claim_word(0));
	fz_claim_permit(&mailbox->claim, 0);
	return 0;
}

void
fz_child_stream_refuse(int out, enum fz_err_kind kind, const char *text)
{
	struct fz_buf frame = FZ_BUF_INIT;

	fz_wire_begin(&frame, FZ_WIRE_REFUSED, 0, (uint32_t)kind);
	fz_buf_put(&frame, text, strlen(text));
	fz_wire_end(&frame, 0);
	if (!frame.failed)
		fz_fd_write_all(out, frame.data, frame.len);
	fz_buf_fini(&frame);
}
