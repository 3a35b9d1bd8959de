#include "node/node_jobs.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/err.h"
#include "wire/claim.h"
#include "wire/mailbox.h"

/* Maximum time between two checks of a worker that starts no item. */
#define NODE_JOBS_PAUSE_NS (32 * FZ_CLOCK_MS)

enum { ITEMS_COUNT = 4 }; /* bytes before the items in the body of a frame */

int
fz_node_jobs_init(
    struct fz_node_jobs *jobs, struct fz_buf *out, struct fz_err *err)
{
	*jobs = (struct fz_node_jobs){ .out = out, .check_ns = FZ_CLOCK_NEVER };
	fz_wire_in_init(&jobs->unread);
	jobs->mailbox = fz_mailbox_new(&jobs->block, err);
	if (jobs->mailbox == NULL)
		return -1;
	fz_claim_init(&jobs->mailbox->held);
	return 0;
}

/*
 * 1 + number of the last item in a frame with calls or replies; `otherwise` for
 * frames of other types.
 */
static uint32_t
end_of(const struct fz_frame *frame, uint32_t otherwise)
{
	uint32_t nitems = 1;
	struct fz_reader body;

	fz_reader_init(&body, frame->body, frame->len);
	switch ((int)frame->type) {
	case FZ_WIRE_JOB:
	case FZ_WIRE_RESULT:
	case FZ_WIRE_ERROR:
		break;
	case FZ_WIRE_CHUNK:
		fz_reader_take(&body, 8); /* skip the function and the kind */
		nitems = fz_reader_u32(&body);
		break;
	case FZ_WIRE_ITEMS:
	case FZ_WIRE_VALUES:
		nitems = fz_reader_u32(&body);
		break;
	default:
		return otherwise;
	}
	return body.failed ? otherwise : frame->seq + nitems;
}

/*
 * 1 + number of the item that started last. If a function of the worker has
 * overwritten the claim, that is unknown: then the first unanswered item counts
 * as started.
 */
static uint32_t
started(const struct fz_node_jobs *jobs)
{
	const struct fz_claim *held = &jobs->mailbox->held;

	if (fz_claim_is_whole(held))
		return fz_claim_started(held);
	return jobs->answered + (jobs->answered != jobs->came);
}

/*
 * 1 + number of the item that runs. The worker may have permission to start
 * items after it, too. These count as started only for a RECALL.
 */
static uint32_t
running(const struct fz_node_jobs *jobs)
{
	uint64_t word = atomic_load(&jobs->mailbox->claim.started);
	uint32_t begun = (uint32_t)word, end = started(jobs);

	if (fz_claim_is_word(word) && (int32_t)(begun - jobs->answered) > 0 &&
	    (int32_t)(end - begun) > 0)
		return begun;
	return end;
}

/* Report the start of all items with numbers below `end` to the parent. */
static void
announce(struct fz_node_jobs *jobs, uint32_t end)
{
	size_t start;

	if ((int32_t)(end - jobs->announced) <= 0 ||
	    (int32_t)(end - jobs->came) > 0)
		return;
	start = fz_wire_begin(jobs->out, FZ_WIRE_STARTED, 0, jobs->announced);
	fz_buf_put_u32(jobs->out, end - jobs->announced);
	fz_wire_end(jobs->out, start);
	if (!jobs->out->failed)
		jobs->announced = end;
}

static void
check_soon(struct fz_node_jobs *jobs)
{
	jobs->pause_ns = FZ_NODE_JOBS_QUIET_NS;
	jobs->check_ns = FZ_CLOCK_NEVER;
	if (jobs->answered != jobs->came)
		jobs->check_ns = fz_clock_after(fz_clock_ns(), jobs->pause_ns);
}

static void
recall(struct fz_node_jobs *jobs, uint32_t end)
{
	struct fz_claim *held = &jobs->mailbox->held;
	uint32_t first;
	size_t start;

	if (!fz_claim_is_whole(held))
		/* a broken claim cannot stop the worker from starting them */
		return;
	first = fz_claim_recall(held, end);
	announce(jobs, started(jobs));
	/* no check waits for items that were taken back */
	if ((int32_t)(first - jobs->answered) >= 0 &&
	    (int32_t)(jobs->came - first) > 0)
		jobs->came = first;
	start = fz_wire_begin(jobs->out, FZ_WIRE_RECALLED, 0, end);
	fz_buf_put_u32(jobs->out, 0);
	fz_wire_end(jobs->out, start);
}

void
fz_node_jobs_take(struct fz_node_jobs *jobs, const struct fz_frame *frame)
{
	bool idle = jobs->answered == jobs->came;

	if (frame->type == FZ_WIRE_RECALL)
		recall(jobs, frame->seq);
	jobs->came = end_of(frame, jobs->came);
	if (idle)
		check_soon(jobs);
}

/*
 * Note that a frame of the worker was passed on. 0, or -1 if there was no
 * memory. After a failure all later frames are dropped, too, because replies
 * must not have gaps.
 */
static int
note_passed(struct fz_node_jobs *jobs, const struct fz_frame *frame)
{
	if (jobs->out->failed) {
		jobs->error = ENOMEM;
		return -1;
	}
	jobs->answered = end_of(frame, jobs->answered);
	if ((int32_t)(jobs->answered - jobs->announced) > 0)
		jobs->announced = jobs->answered;
	return 0;
}

/*
 * Whether items of this frame, which begins at byte `at` of all replies, were
 * passed on while it grew.
 */
static bool
has_grown(
    const struct fz_node_jobs *jobs, const struct fz_frame *frame, uint64_t at)
{
	const struct fz_node_grown *grown = &jobs->grown;
	bool has_items =
	    frame->type == FZ_WIRE_ITEMS || frame->type == FZ_WIRE_VALUES;

	return grown->nitems != 0 && grown->at == at && has_items &&
	       grown->nitems <= end_of(frame, frame->seq) - frame->seq &&
	       grown->len <= frame->len - ITEMS_COUNT;
}

/*
 * Pass on a frame that begins at byte `at` of all replies, without the items
 * that were passed on while it grew. 0, or -1 as note_passed().
 */
static int
pass_on(struct fz_node_jobs *jobs, const struct fz_frame *frame, uint64_t at)
{
	struct fz_node_grown known = { 0 };
	uint32_t end = end_of(frame, frame->seq);
	struct fz_buf *out = jobs->out;
	size_t start;

	if (jobs->error != 0)
		return -1;
	if (has_grown(jobs, frame, at))
		known = jobs->grown;
	if (known.nitems == 0) {
		fz_buf_put(out, frame->body - FZ_WIRE_HEADER,
		    FZ_WIRE_HEADER + frame->len);
	} else if (known.nitems != end - frame->seq) {
		start = fz_wire_begin(
		    out, frame->type, frame->flags, frame->seq + known.nitems);
		fz_buf_put_u32(out, end - frame->seq - known.nitems);
		fz_buf_put(out, frame->body + ITEMS_COUNT + known.len,
		    frame->len - ITEMS_COUNT - known.len);
		fz_wire_end(out, start);
	}
	return note_passed(jobs, frame);
}

static void
note_replies(struct fz_node_jobs *jobs)
{
	fz_claim_settle(&jobs->mailbox->held, jobs->answered);
	check_soon(jobs);
}

int
fz_node_jobs_read(struct fz_node_jobs *jobs, int fd)
{
	struct fz_wire_in *in = &jobs->unread;
	ptrdiff_t got = fz_wire_fill(in, fd);
	struct fz_frame frame;
	uint32_t answered = jobs->answered;
	int rc = 0;

	if (got < 0 && errno == EAGAIN)
		return -1;
	if (got < 0 && errno != ECONNRESET)
		jobs->error = errno;
	if (got <= 0)
		return 0;
	jobs->nread += (uint64_t)got;
	while ((rc = fz_wire_next(in, &frame, NULL)) == 1) {
		uint64_t end = jobs->nread - (in->buf.len - in->at);

		if (end <= jobs->npassed)
			continue; /* already passed on by pass_copies() */
		if (pass_on(jobs, &frame, end - FZ_WIRE_HEADER - frame.len) !=
		    0)
			return 0;
		jobs->npassed = end;
	}
	if (jobs->answered != answered)
		note_replies(jobs);
	return rc == 0;
}

/*
 * Pass on the new items of a frame that grows at byte `at` of all replies, but
 * only if the worker has started an item after them: `begun` is 1 + the number
 * of a started item. Otherwise the worker may be about to complete the frame,
 * and to add the usage of these items.
 */
static void
pass_growing(struct fz_node_jobs *jobs, const struct fz_frame *frame,
    uint64_t at, uint32_t begun)
{
	uint32_t end = end_of(frame, frame->seq);

	if ((int32_t)(begun - end) > 0 && pass_on(jobs, frame, at) == 0)
		jobs->grown = (struct fz_node_grown){ at, end - frame->seq,
			frame->len - ITEMS_COUNT };
}

/*
 * Pass on the replies in `frames` that were not passed on before. `from` is the
 * number of bytes of replies before `frames`. `begun`: see pass_growing().
 */
static void
pass_copies(struct fz_node_jobs *jobs, const struct fz_buf *frames,
    uint64_t from, uint32_t begun)
{
	const unsigned char *at = frames->data, *end = at + frames->len;
	struct fz_frame frame;

	while (fz_wire_scan(&at, end, &frame, NULL) == 1) {
		uint64_t to = from + (uint64_t)(at - frames->data);
		uint64_t start = to - FZ_WIRE_HEADER - frame.len;

		if (to <= jobs->npassed)
			continue;
		if (frame.flags & FZ_WIRE_GROWS) {
			pass_growing(jobs, &frame, start, begun);
			return;
		}
		if (pass_on(jobs, &frame, start) != 0)
			return;
		jobs->npassed = to;
	}
}

/*
 * 1 + number of the item that the worker started last. The number is not
 * checked: a wrong one, which a function of the worker has written, only
 * changes when items are passed on.
 */
static uint32_t
last_begun(const struct fz_mailbox *mailbox)
{
	return (uint32_t)atomic_load(&mailbox->claim.started);
}

/*
 * Pass on finished replies that the worker has not written to its socket.
 * `begun`: see pass_growing(). Returns whether there were any.
 */
static bool
take_unwritten(struct fz_node_jobs *jobs, uint32_t begun)
{
	struct fz_mailbox *mailbox = jobs->mailbox;
	uint64_t written = atomic_load(&mailbox->written);
	uint32_t answered = jobs->answered;
	struct fz_buf frames = FZ_BUF_INIT;

	/*
	 * Use the copies only if all earlier replies were read, and if the
	 * worker wrote no reply during the copy. Otherwise the replies arrive
	 * through the socket.
	 */
	if (fz_mailbox_peek(mailbox, &frames) == 1 &&
	    atomic_load(&mailbox->written) == written &&
	    written <= jobs->npassed)
		pass_copies(jobs, &frames, written, begun);
	fz_buf_fini(&frames);
	return jobs->answered != answered;
}

void
fz_node_jobs_check(struct fz_node_jobs *jobs, int64_t now_ns)
{
	if (take_unwritten(jobs, last_begun(jobs->mailbox)))
		note_replies(jobs);
	announce(jobs, running(jobs));
	jobs->check_ns = FZ_CLOCK_NEVER;
	/*
	 * No check is needed while the only unanswered item runs, because the
	 * worker writes its replies before it reads another one. If it has more
	 * items, it may keep the reply, and start an item that runs for long.
	 */
	if (jobs->answered == jobs->came ||
	    (jobs->announced == jobs->came && jobs->came == jobs->answered + 1))
		return;
	if (jobs->pause_ns < NODE_JOBS_PAUSE_NS)
		jobs->pause_ns *= 2;
	jobs->check_ns = fz_clock_after(now_ns, jobs->pause_ns);
}

void
fz_node_jobs_end(struct fz_node_jobs *jobs)
{
	/* a frame that grows is never completed */
	take_unwritten(jobs, jobs->came + 1);
	announce(jobs, running(jobs));
}

void
fz_node_jobs_fini(struct fz_node_jobs *jobs)
{
	fz_mailbox_free(jobs->mailbox, jobs->block);
	fz_mailbox_block_drop(jobs->block);
	fz_wire_in_fini(&jobs->unread);
}
