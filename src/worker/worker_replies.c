#include "worker/worker_state.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "node/nodes.h"
#include "wire/blob.h"
#include "worker/handover.h"

enum { WORKER_VALUES = 8 }; /* number of results that need no allocation */

static struct fz_blob *
take_part(
    struct fz_worker_private *p, struct fz_reader *body, struct fz_err *err)
{
	struct fz_part part;

	if (fz_wire_part(body, &part) != 0) {
		fz_err_set(
		    err, FZ_ERR_CRASH, "the worker sent an incomplete reply");
		return NULL;
	}
	if (part.bytes != NULL)
		return fz_blob_new(part.bytes, part.len, err);
	return p->link->ops->blob(p->link, part.offset, part.len, err);
}

static void
result_done(
    struct fz_worker_private *p, struct fz_job *job, struct fz_reader *body)
{
	uint32_t n = fz_reader_u32(body);
	struct fz_blob *some[WORKER_VALUES], **values = some;
	struct fz_failure failure = fz_worker_failure(p);

	if (n > fz_reader_left(body) / 8) {
		fz_err_set(&failure.err, FZ_ERR_CRASH,
		    "the worker sent an incomplete reply");
		job->ops->failed(job, &failure);
		return;
	}
	if (n > WORKER_VALUES)
		values = malloc(n * sizeof(*values));
	if (values == NULL) {
		for (uint32_t i = 0; i < n; i++)
			fz_blob_unref(take_part(p, body, NULL));
		fz_err_nomem(&failure.err, "results");
		job->ops->failed(job, &failure);
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		values[i] = take_part(p, body, NULL);
	job->ops->done(job, values, n);
	if (values != some)
		free(values);
}

static void
error_done(
    struct fz_worker_private *p, struct fz_job *job, struct fz_reader *body)
{
	struct fz_failure failure = fz_worker_failure(p);
	uint32_t kind = fz_reader_u32(body);

	fz_reader_u32(body);
	failure.apart = kind == FZ_ERR_NONE;
	failure.value = take_part(p, body, &failure.err);
	if (failure.value != NULL)
		failure.err.kind = kind != FZ_ERR_NONE && kind < FZ_ERR_NKINDS
				       ? (enum fz_err_kind)kind
				       : FZ_ERR_ERROR;
	job->ops->failed(job, &failure);
}

/* Results of consecutive items. */
struct results {
	uint32_t seq; /* number of the first item */
	uint32_t n;   /* number of items */
	/*
	 * the encoded results; NULL: they are in the result buffers of the jobs
	 */
	const unsigned char *bytes;
	size_t len;
};

/* Skip the results that were read from the mailbox before. */
static void
skip_seen(const struct fz_worker_seen *seen, struct results *r)
{
	if (r->bytes == NULL || seen->nitems == 0 || seen->seq != r->seq ||
	    seen->nitems > r->n || seen->len > r->len)
		return;
	r->seq += seen->nitems;
	r->n -= seen->nitems;
	r->bytes += seen->len;
	r->len -= seen->len;
}

/*
 * Answer items of the current job with the results from index `at` on. Returns
 * the number of answered items.
 */
static uint32_t
answer_items(struct fz_worker_private *p, const struct results *r, uint32_t at,
    struct fz_blob *blob, int64_t now_ns)
{
	uint32_t first = p->worker->head->ndone;
	uint32_t n = p->worker->head->nitems - first;
	struct fz_job *job;

	if (n > r->n - at)
		n = r->n - at;
	job = fz_worker_answer_head(p->worker, n);
	if (r->bytes != NULL)
		job->ops->items(job, first, n, blob, at);
	else
		job->ops->items(job, first, n, job->result_buffer, first);
	fz_worker_start_head(p, now_ns);
	return n;
}

/*
 * Process the results of consecutive items. Returns the number of new results;
 * the others were read from the mailbox before.
 */
static uint32_t
take_items(struct fz_worker_private *p, struct results r, int64_t now_ns)
{
	struct fz_worker *w = p->worker;
	struct fz_blob *blob = NULL;
	uint32_t at = 0, news = 0;

	skip_seen(&p->seen, &r);
	while (at < r.n && w->head != NULL) {
		int32_t known =
		    (int32_t)(fz_worker_next_number(w->head) - (r.seq + at));
		uint32_t n;

		if (known > 0) {
			at += (uint32_t)known;
			continue;
		}
		if (blob == NULL && r.bytes != NULL)
			blob = fz_blob_new(r.bytes, r.len, NULL);
		n = answer_items(p, &r, at, blob, now_ns);
		at += n;
		news += n;
	}
	fz_blob_unref(blob);
	return news;
}

static void
answer_value(
    struct fz_worker_private *p, struct fz_job *job, struct fz_reader *values)
{
	struct fz_failure failure;
	struct fz_blob *value;
	struct fz_err err;

	fz_err_init(&err);
	value = take_part(p, values, &err);
	if (value != NULL) {
		job->ops->done(job, &value, 1);
		return;
	}
	failure = fz_worker_failure(p);
	failure.err = err;
	job->ops->failed(job, &failure);
}

/* As take_items(), but for results that are separate values. */
static uint32_t
take_values(struct fz_worker_private *p, struct results r, bool measured,
    int64_t now_ns)
{
	struct fz_worker *w = p->worker;
	struct fz_reader values;
	struct fz_part known;
	struct fz_job *job;
	uint32_t news = 0;

	skip_seen(&p->seen, &r);
	fz_reader_init(&values, r.bytes, r.len);
	for (; r.n != 0 && w->head != NULL; r.n--, r.seq++) {
		const unsigned char *used = NULL;

		if (measured)
			used = fz_reader_take(&values, FZ_WIRE_USED);
		if ((int32_t)(fz_worker_next_number(w->head) - r.seq) > 0) {
			fz_wire_part(&values, &known);
			continue;
		}
		fz_worker_note_used(p, used, now_ns);
		job = fz_worker_answer_head(w, 1);
		job->ended_ns = now_ns;
		answer_value(p, job, &values);
		fz_worker_start_head(p, now_ns);
		news++;
	}
	return news;
}

/* The items that a reply answers. */
struct reply_items {
	enum fz_wire_type type;
	uint32_t seq, nitems;
	size_t len; /* size of the results in bytes */
};

/* Whether the jobs in the queue can have results of this type. */
static bool
fits_jobs(const struct fz_worker *w, const struct reply_items *c)
{
	const struct fz_job *job = w->head;

	if (c->type != FZ_WIRE_ITEMS && c->type != FZ_WIRE_STORED)
		return true;
	for (; job != NULL && (int32_t)(job->seq - (c->seq + c->nitems)) < 0;
	     job = job->next) {
		if (job->ops->items == NULL ||
		    (c->type == FZ_WIRE_STORED && job->result_buffer == NULL))
			return false;
	}
	return true;
}

/*
 * Whether the worker may send this reply: the items were sent to it, and all
 * items before them are answered. A reply to items that are answered already is
 * allowed.
 */
static bool
is_possible(const struct fz_worker_private *p, const struct reply_items *c)
{
	const struct fz_worker *w = p->worker;
	uint32_t end = c->seq + c->nitems;

	if (c->nitems == 0 || c->nitems > INT32_MAX ||
	    (c->type == FZ_WIRE_ITEMS && c->nitems > c->len) ||
	    (c->type == FZ_WIRE_VALUES && c->nitems > c->len / 8))
		return false;
	if ((int32_t)(p->answered - end) >= 0)
		return true;
	return w->head != NULL &&
	       (int32_t)(fz_worker_next_number(w->head) - c->seq) >= 0 &&
	       (int32_t)(p->link->next_seq - end) >= 0 && fits_jobs(w, c);
}

/* Whether a frame of this type has results of several items. */
static bool
has_items(enum fz_wire_type type)
{
	return type == FZ_WIRE_ITEMS || type == FZ_WIRE_VALUES ||
	       type == FZ_WIRE_STORED;
}

/* Read which items a frame answers. False: it is no valid reply. */
static bool
read_reply_items(const struct fz_frame *frame, struct reply_items *c)
{
	struct fz_reader body;
	const unsigned char *used;

	*c = (struct reply_items){ frame->type, frame->seq, 1, 0 };
	fz_reader_init(&body, frame->body, frame->len);
	if (fz_wire_cut_used(frame, &body, &used) != 0)
		return false;
	if (frame->type == FZ_WIRE_RESULT || frame->type == FZ_WIRE_ERROR)
		return true;
	if (!has_items(frame->type))
		return false;
	c->nitems = fz_reader_u32(&body);
	c->len = fz_reader_left(&body);
	return !body.failed;
}

/* Process a valid reply. Returns the number of new results. */
static uint32_t
take_reply(
    struct fz_worker_private *p, const struct fz_frame *frame, int64_t now_ns)
{
	struct fz_worker *w = p->worker;
	struct fz_reader body;
	const unsigned char *used;
	struct fz_job *job;

	fz_reader_init(&body, frame->body, frame->len);
	fz_wire_cut_used(frame, &body, &used);
	fz_worker_note_used(p, used, now_ns);
	if (has_items(frame->type)) {
		struct results r = { frame->seq, fz_reader_u32(&body), NULL,
			fz_reader_left(&body) };

		if (frame->type != FZ_WIRE_STORED)
			r.bytes = body.p;
		return frame->type == FZ_WIRE_VALUES
			   ? take_values(
				 p, r, frame->flags & FZ_WIRE_MEASURED, now_ns)
			   : take_items(p, r, now_ns);
	}
	if (w->head == NULL || frame->seq != fz_worker_next_number(w->head))
		return 0;
	job = fz_worker_answer_head(w, 1);
	job->ended_ns = now_ns;
	if (frame->type == FZ_WIRE_RESULT)
		result_done(p, job, &body);
	else
		error_done(p, job, &body);
	fz_worker_start_head(p, now_ns);
	return 1;
}

static void
count_news(struct fz_worker *w, unsigned n, int64_t now_ns)
{
	int64_t since = w->private->link->ops->started_at(w->private->link);
	int64_t each;

	if (n == 0)
		return;
	if (since < w->news_ns || since > now_ns)
		/* it started before the last reply: count from there */
		since = w->news_ns;
	else if (w->node != NULL && w->rested && w->mean_ns != 0)
		/* a first job has to wait for the worker's start */
		fz_node_note_way(w->node, since - w->news_ns);
	w->rested = false;
	each = (now_ns - since) / n;
	w->mean_ns = w->mean_ns != 0 ? (7 * w->mean_ns + each) / 8 : each;
	if (w->mean_ns == 0)
		w->mean_ns = 1;
	w->news_ns = now_ns;
}

/*
 * Check and process a reply that came through the link. Returns the number of
 * new results, or -1 and `err`.
 */
static int
take_frame(struct fz_worker_private *p, const struct fz_frame *frame,
    int64_t now_ns, struct fz_err *err)
{
	struct reply_items c;
	uint32_t news;

	if (!read_reply_items(frame, &c) || (int32_t)(c.seq - p->piped) < 0 ||
	    !is_possible(p, &c))
		return fz_err_set(err, FZ_ERR_CRASH,
		    "the worker replied to an item that it was not sent");
	p->piped = c.seq + c.nitems;
	news = take_reply(p, frame, now_ns);
	/* usage of later items begins after this */
	if (frame->flags & FZ_WIRE_GROWS)
		p->used_ns = now_ns;
	return (int)news;
}

int
fz_worker_take_replies(struct fz_worker_private *p, struct fz_err *err)
{
	struct fz_link *link = p->link;
	bool exact = link->ops->flags & FZ_LINK_EXACT_RECALL;
	int64_t now_ns = fz_clock_ns();
	struct fz_frame frame;
	unsigned news = 0, returned = 0;
	int rc;

	/*
	 * Pass on the output first, because the worker printed it before it
	 * sent the reply.
	 */
	fz_worker_output_pump(&p->output);
	while ((rc = link->ops->next(link, &frame, err)) == 1) {
		if (frame.type == FZ_WIRE_RECALLED && !exact) {
			returned += fz_worker_return(
			    p, fz_worker_claimed(p), frame.seq);
			continue;
		}
		rc = take_frame(p, &frame, now_ns, err);
		if (rc < 0)
			break;
		news += (unsigned)rc;
	}
	count_news(p->worker, news, now_ns);
	return rc < 0 ? -1 : (int)(news + returned);
}

/* Kill a worker if reading from its link has failed. */
static void
kill_unread(struct fz_worker *w, int code)
{
	struct fz_err err = { 0 };

	fz_err_sys(&err, code, "the results of the worker cannot be read");
	fz_worker_kill(
	    w, code == ENOMEM ? FZ_ERR_MEMORY : FZ_ERR_CRASH, err.text);
}

void
fz_worker_replies_ready(void *ctx)
{
	struct fz_worker_private *p = ctx;
	struct fz_err err = { 0 };
	ptrdiff_t n;
	int nreplies;

	fz_handover_replied(p->worker);
	n = fz_link_fill(p->link);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		kill_unread(p->worker, errno);
	if (n <= 0) {
		fz_link_lose(p->link, &p->link->in);
		return;
	}
	if (p->distrusted)
		return;
	nreplies = fz_worker_take_replies(p, &err);
	fz_worker_watch_half(p);
	p->distrusted = nreplies < 0;
	if (p->distrusted)
		fz_worker_kill(p->worker, FZ_ERR_CRASH, err.text);
	else
		fz_worker_report_idle(p, (unsigned)nreplies);
	fz_worker_check_unwanted(p);
}

/* Whether all items with numbers below `n` are answered. */
static bool
is_answered(const struct fz_worker *w, uint32_t n)
{
	return w->head == NULL ||
	       (int32_t)(fz_worker_next_number(w->head) - n) >= 0;
}

/*
 * Whether a growing frame has the last results of a job, but not yet the usage
 * of the job. The worker adds the usage next.
 */
static bool
lacks_used(const struct fz_worker *w, const struct reply_items *c)
{
	const struct fz_job *head = w->head;

	return head != NULL && head->measured && c->type != FZ_WIRE_VALUES &&
	       (int32_t)(c->seq + c->nitems - (head->seq + head->nitems)) >= 0;
}

/*
 * Process a reply that was copied from the mailbox; without its usage only if
 * `all`. False: the worker cannot have written it.
 */
static bool
take_unsent(struct fz_worker_private *p, const struct fz_frame *frame, bool all,
    int64_t now_ns, unsigned *news)
{
	bool grows = frame->flags & FZ_WIRE_GROWS;
	bool exact = p->link->ops->flags & FZ_LINK_EXACT_RECALL;
	struct reply_items c;
	uint32_t end, nnew;

	if (!read_reply_items(frame, &c) || !is_possible(p, &c))
		return false;
	end = c.seq + c.nitems;
	if ((grows || !exact) && (int32_t)(fz_worker_claimed(p) - end) < 0)
		return false;
	if (grows && !all && lacks_used(p->worker, &c))
		return true;
	nnew = take_reply(p, frame, now_ns);
	*news += nnew;
	/* the usage of later items begins after this time */
	if (grows && nnew != 0)
		p->used_ns = now_ns;
	/*
	 * Note which items of a growing frame were processed, but only if
	 * earlier replies are all processed.
	 */
	if (grows && c.type != FZ_WIRE_STORED && is_answered(p->worker, end))
		p->seen = (struct fz_worker_seen){ c.seq, c.nitems, c.len };
	return true;
}

/* Process copied replies. Returns the number of new results. */
static unsigned
take_copies(struct fz_worker_private *p, const struct fz_buf *frames, bool all)
{
	const unsigned char *at = frames->data, *end = at + frames->len;
	int64_t now_ns = fz_clock_ns();
	struct fz_frame frame;
	unsigned news = 0;

	fz_worker_output_pump(&p->output);
	while (fz_wire_scan(&at, end, &frame, NULL) == 1 &&
	       take_unsent(p, &frame, all, now_ns, &news))
		continue;
	count_news(p->worker, news, now_ns);
	return news;
}

static unsigned
peek(struct fz_worker_private *p, bool all)
{
	struct fz_buf frames = FZ_BUF_INIT;
	unsigned news = 0;
	int rc = 0;

	if (p->link->ops->peek != NULL)
		rc = p->link->ops->peek(p->link, &frames);
	if (rc > 0)
		news = take_copies(p, &frames, all);
	else if (rc < 0)
		p->worker->retiring = true;
	fz_buf_fini(&frames);
	return news;
}

unsigned
fz_worker_take_unsent(struct fz_worker_private *p)
{
	return peek(p, true);
}

void
fz_worker_peek(struct fz_worker *worker)
{
	if (worker->dying)
		return;
	fz_worker_report_idle(worker->private, peek(worker->private, false));
	fz_worker_check_unwanted(worker->private);
}
