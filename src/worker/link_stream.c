/* F_DUPFD_CLOEXEC is no part of C or POSIX. */
#define _GNU_SOURCE
#include "worker/link_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "node/node_jobs.h"
#include "os/fd.h"
#include "proc/death.h"
#include "wire/blob.h"
#include "wire/child_stream.h"
#include "wire/mailbox.h"
#include "worker/engine.h"
#include "worker/link.h"

/*
 * Maximum pause within a frame. After a longer pause the rest of the frame is
 * no longer expected. TCP keepalives notice a broken connection earlier.
 */
#define STREAM_PAUSE_NS (10 * FZ_CLOCK_SECOND)

struct link_stream {
	struct fz_link link;
	struct fz_mailbox *mailbox; /* shared with the worker; NULL: none */
	uint32_t started;           /* 1 + number of the last announced item */
	int64_t started_ns;         /* time of the last announcement */
	/* the worker waits for a slot of its node, and then starts an item */
	bool waits;
	int64_t heard_ns;    /* time at which the last bytes came */
	uint32_t recall_end; /* number in the last RECALL */
	bool died;           /* the node has reported its end */
	struct fz_death death;
	char cause[128];   /* why the node ended the worker; "": it did not */
	struct fz_err why; /* why the worker cannot start, or FZ_ERR_NONE */
};

static struct link_stream *
of(struct fz_link *link)
{
	return (struct link_stream *)link;
}

static const struct link_stream *
of_const(const struct fz_link *link)
{
	return (const struct link_stream *)link;
}

struct fz_link *
fz_link_stream_new(
    struct fz_engine *engine, int *out, int *in, struct fz_err *err)
{
	struct link_stream *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		fz_err_nomem(err, "a worker");
		return NULL;
	}
	fz_link_init(&s->link, &fz_link_stream, engine);
	s->link.pause_ns = STREAM_PAUSE_NS;
	if (fz_link_attach(&s->link, out, in, err) == 0)
		return &s->link;
	fz_link_free(&s->link);
	return NULL;
}

/* Create a socket pair and a link for the worker that is forked next. */
static struct fz_link *
stream_open(struct fz_engine *engine, struct fz_err *err)
{
	struct fz_link *link = NULL;
	int ends[2], in = -1;

	if (fz_fd_socket_pair(ends, err) != 0)
		return NULL;
	in = fcntl(ends[0], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (in == -1)
		fz_err_sys(err, errno, "cannot duplicate a socket");
	else
		link = fz_link_stream_new(engine, &ends[0], &in, err);
	if (link != NULL) {
		link->worker_in = link->worker_out = ends[1];
		ends[1] = -1;
	}
	fz_fd_close(&ends[0]);
	fz_fd_close(&ends[1]);
	fz_fd_close(&in);
	return link;
}

static int
stream_enter(struct fz_link *link, struct fz_port *port, struct fz_err *err)
{
	fz_fd_close(&link->worker_memory);
	return fz_child_stream_init(port, link->worker_in, link->worker_out,
	    of(link)->mailbox, false, err);
}

static void
stream_share(struct fz_link *link)
{
	of(link)->mailbox = fz_mailbox_new_file(&link->worker_memory, NULL);
}

static void
stream_forked(struct fz_link *link)
{
	if (of(link)->mailbox != NULL)
		fz_mailbox_keep(of(link)->mailbox);
}

static void
stream_refuse(struct fz_link *link, const char *text)
{
	fz_child_stream_refuse(link->worker_out, FZ_ERR_ERROR, text);
}

static bool
stream_refusal(const struct fz_link *link, struct fz_err *err)
{
	*err = of_const(link)->why;
	return err->kind != FZ_ERR_NONE;
}

static bool
stream_death(const struct fz_link *link, struct fz_death *death)
{
	*death = of_const(link)->death;
	return of_const(link)->died;
}

static const char *
stream_cause(const struct fz_link *link)
{
	return of_const(link)->cause;
}

static void
stream_put(struct fz_link *link, struct fz_blob *blob)
{
	struct fz_arena *arena = link->engine->arena;
	const void *bytes = fz_blob_map(blob, arena, NULL);

	if (bytes == NULL) {
		link->unsent.failed = true;
		return;
	}
	fz_wire_put_bytes(&link->unsent, bytes, blob->len);
	fz_blob_unmap(blob, arena, bytes);
}

/*
 * Called only for a reply that was forged in the mailbox: next() refuses
 * replies with values in an arena.
 */
static struct fz_blob *
stream_blob(
    struct fz_link *link, uint64_t offset, size_t len, struct fz_err *err)
{
	(void)link;
	(void)offset;
	(void)len;
	fz_err_set(
	    err, FZ_ERR_CRASH, "a reply is in memory that is not shared");
	return NULL;
}

static bool
stream_started(const struct fz_link *link, uint32_t *started)
{
	*started = of_const(link)->started;
	return true;
}

/*
 * Items that were announced together have not all started. The mailbox has no
 * number if the worker could not map it.
 */
static void
stream_ended(struct fz_link *link)
{
	struct link_stream *s = of(link);
	uint64_t word;

	if (s->mailbox == NULL)
		return;
	word = atomic_load(&s->mailbox->claim.started);
	if (fz_claim_is_word(word) &&
	    (int32_t)(s->started - (uint32_t)word) > 0)
		s->started = (uint32_t)word;
}

static int64_t
stream_started_at(const struct fz_link *link)
{
	return of_const(link)->started_ns;
}

static bool
stream_recall(struct fz_link *link)
{
	struct link_stream *s = of(link);
	size_t start;

	if (link->recalling)
		return false;
	if ((int32_t)(link->next_seq - s->started) <= 0)
		return true; /* the worker has started all items */
	start = fz_wire_begin(&link->unsent, FZ_WIRE_RECALL, 0, link->next_seq);
	/* Without memory, no RECALL is sent; the owner tries again later. */
	link->recalling = fz_link_end_frame(link, start, NULL) == 0;
	s->recall_end = link->next_seq;
	return false;
}

static int
note_started(struct link_stream *s, const struct fz_frame *frame)
{
	struct fz_reader body;
	uint32_t n, end;

	fz_reader_init(&body, frame->body, frame->len);
	n = fz_reader_u32(&body);
	end = frame->seq + n;
	if (n == 0 || n > INT32_MAX || (int32_t)(frame->seq - s->started) < 0 ||
	    (int32_t)(s->link.next_seq - end) < 0)
		return -1;
	s->waits = false;
	s->started = end;
	s->started_ns = fz_clock_ns();
	return 0;
}

/* Note that the worker waits for a slot. -1: it runs here, so it cannot. */
static int
note_waiting(struct link_stream *s)
{
	s->waits = s->link.owner->joined != NULL;
	return s->waits ? 0 : -1;
}

static bool
stream_waits(const struct fz_link *link)
{
	return of_const(link)->waits;
}

static int
note_recalled(struct link_stream *s, const struct fz_frame *frame)
{
	if (!s->link.recalling || frame->seq != s->recall_end)
		return -1;
	s->link.recalling = s->waits = false;
	return 1; /* pass the frame to the owner, which takes back the items */
}

static int
note_refusal(struct link_stream *s, const struct fz_frame *frame)
{
	enum fz_err_kind kind = FZ_ERR_ERROR;
	size_t len =
	    frame->len < FZ_ERR_TEXT_MAX ? frame->len : FZ_ERR_TEXT_MAX;

	if (frame->seq != FZ_ERR_NONE && frame->seq < FZ_ERR_NKINDS)
		kind = (enum fz_err_kind)frame->seq;
	fz_err_set(&s->why, kind, "%.*s", (int)len, frame->body);
	return 0;
}

static int
note_death(struct link_stream *s, struct fz_reader *body)
{
	size_t len;

	s->death.signal = (int)fz_reader_u32(body);
	s->death.exitcode = (int)fz_reader_u32(body);
	s->died = !body->failed;
	len = fz_reader_left(body);
	if (body->failed)
		return -1;
	if (len > sizeof(s->cause) - 1)
		len = sizeof(s->cause) - 1;
	memcpy(s->cause, body->p, len);
	s->cause[len] = '\0';
	return 0;
}

static int
pass_printed(struct link_stream *s, struct fz_reader *body)
{
	uint32_t file = fz_reader_u32(body);

	if (body->failed || file > FZ_STDIO_ERR)
		return -1;
	s->link.owner->printed(
	    s->link.ctx, (enum fz_stdio)file, body->p, fz_reader_left(body));
	return 0;
}

static int
pass_joined(struct link_stream *s, struct fz_reader *body)
{
	pid_t pid = (pid_t)fz_reader_u32(body);

	if (body->failed)
		return -1;
	s->link.owner->joined(s->link.ctx, pid);
	return 0;
}

/* Process a frame that fz_node_main() added, beside a worker on a node. */
static int
take_node_frame(struct link_stream *s, const struct fz_frame *frame)
{
	struct fz_reader body;

	if (s->link.owner->joined == NULL)
		return -1;
	fz_reader_init(&body, frame->body, frame->len);
	switch ((int)frame->type) {
	case FZ_WIRE_JOINED:
		return pass_joined(s, &body);
	case FZ_WIRE_PRINTED:
		return pass_printed(s, &body);
	case FZ_WIRE_LEAVING:
		s->link.owner->leaving(s->link.ctx);
		return 0;
	default:
		return note_death(s, &body);
	}
}

/* Whether all values of a reply are inside its frame. */
static bool
is_inline(const struct fz_frame *frame)
{
	bool each =
	    frame->type == FZ_WIRE_VALUES && (frame->flags & FZ_WIRE_MEASURED);
	struct fz_reader body;
	struct fz_part part;
	const unsigned char *used;

	if (frame->type == FZ_WIRE_ITEMS)
		return true;
	fz_reader_init(&body, frame->body, frame->len);
	fz_wire_cut_used(frame, &body, &used);
	fz_reader_take(&body, frame->type == FZ_WIRE_ERROR ? 8 : 4);
	while (fz_reader_left(&body) != 0) {
		if (each)
			fz_reader_take(&body, FZ_WIRE_USED);
		if (fz_wire_part(&body, &part) == 0 && part.bytes == NULL)
			return false;
	}
	return frame->type != FZ_WIRE_STORED;
}

/*
 * Note that the answered items have started. Nodes announce only items that
 * take longer than FZ_NODE_JOBS_QUIET_NS; the others are assumed to have taken
 * that time.
 */
static void
note_answered(struct link_stream *s, const struct fz_frame *frame)
{
	uint32_t n = 1, end;
	struct fz_reader body;

	fz_reader_init(&body, frame->body, frame->len);
	if (frame->type == FZ_WIRE_ITEMS || frame->type == FZ_WIRE_VALUES)
		n = fz_reader_u32(&body);
	end = frame->seq + n;
	/* ignore impossible numbers: the owner will refuse the frame */
	if (s->link.owner->joined == NULL || n > INT32_MAX ||
	    (int32_t)(end - s->started) <= 0 ||
	    (int32_t)(s->link.next_seq - end) < 0)
		return;
	s->waits = false;
	s->started = end;
	s->started_ns = fz_clock_ns() - FZ_NODE_JOBS_QUIET_NS;
}

/*
 * Process a frame. Returns 1 if the owner must handle the frame, 0 if the link
 * has handled it, -1 if the frame is not allowed.
 */
static int
take_frame(struct link_stream *s, const struct fz_frame *frame)
{
	switch ((int)frame->type) {
	case FZ_WIRE_STARTED:
		return note_started(s, frame);
	case FZ_WIRE_RECALLED:
		return note_recalled(s, frame);
	case FZ_WIRE_WAITING:
		return note_waiting(s);
	case FZ_WIRE_REFUSED:
		return note_refusal(s, frame);
	case FZ_WIRE_JOINED:
	case FZ_WIRE_PRINTED:
	case FZ_WIRE_DIED:
	case FZ_WIRE_LEAVING:
		return take_node_frame(s, frame);
	default:
		note_answered(s, frame);
		return is_inline(frame) ? 1 : -1;
	}
}

static int
stream_next(struct fz_link *link, struct fz_frame *frame, struct fz_err *err)
{
	struct link_stream *s = of(link);
	int rc;

	while ((rc = fz_wire_next(&link->wire, frame, err)) == 1) {
		rc = take_frame(s, frame);
		if (rc == 1)
			return 1;
		if (rc < 0)
			return fz_err_set(err, FZ_ERR_CRASH,
			    "the stream of the worker carries a frame that no "
			    "worker sends");
	}
	s->heard_ns = fz_clock_ns();
	return rc;
}

static int
stream_peek(struct fz_link *link, struct fz_buf *frames)
{
	const struct fz_mailbox *mailbox = of(link)->mailbox;

	return mailbox != NULL ? fz_mailbox_peek(mailbox, frames) : 0;
}

static bool
stream_is_sending(const struct fz_link *link)
{
	return fz_clock_ns() - of_const(link)->heard_ns < link->pause_ns;
}

static void
stream_close(struct fz_link *link)
{
	fz_mailbox_unmap(of(link)->mailbox);
}

const struct fz_link_ops fz_link_stream = {
	.open = stream_open,
	.share = stream_share,
	.enter = stream_enter,
	.refuse = stream_refuse,
	.refusal = stream_refusal,
	.death = stream_death,
	.cause = stream_cause,
	.forked = stream_forked,
	.put = stream_put,
	.blob = stream_blob,
	.started = stream_started,
	.ended = stream_ended,
	.started_at = stream_started_at,
	.waits = stream_waits,
	.recall = stream_recall,
	.next = stream_next,
	.peek = stream_peek,
	.is_sending = stream_is_sending,
	.close = stream_close,
};
