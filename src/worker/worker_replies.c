#include "worker/worker_state.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"
#include "worker/blob.h"
#include "worker/nodes.h"

enum { WORKER_VALUES = 8 }; /* results taken without an allocation */
/* How long half a reply waits before the rest is looked for. */
#define WORKER_HALF_NS (100 * FZ_CLOCK_MS)

/*
 * The numbers of a worker. Each item has one; jobs are queued in their order.
 *
 *   answered <= next_number(head) <= claimed <= next_seq
 *
 *   answered     all items below it are answered
 *   next_number  head->seq + head->ndone: the first unanswered item
 *   claimed      one above the last started item. The worker computes the items
 *                from next_number on; a recall returns those from claimed on
 *   next_seq     the next item to be sent
 *
 * Results come in two ways: through the link, or peeked at in the mailbox
 * before the worker sends them. Each way keeps their order.
 *
 *   piped        the items below it have come through the link
 *   seen         the first items of a frame that was peeked at while it grew.
 *                They are answered. skip_seen() drops them when that frame
 *                comes
 */

/*
 * The worker has started all answered items and no unsent item. If the link
 * says otherwise, the job of the head has overwritten the number.
 */
uint32_t
fz_worker_claimed(const struct fz_worker_pipes *p)
{
	const struct fz_job *head = p->worker->head;
	uint32_t begun, started;

	begun =
	    head != NULL ? fz_worker_next_number(head) + 1 : p->link->next_seq;
	if (!p->link->ops->started(p->link, &started) ||
	    (int32_t)(started - p->answered) < 0 ||
	    (int32_t)(p->link->next_seq - started) < 0)
		return begun;
	return p->head_begun && (int32_t)(started - begun) < 0 ? begun
							       : started;
}

void
fz_worker_start_head(struct fz_worker_pipes *p, int64_t now_ns)
{
	struct fz_job *head = p->worker->head;

	if (head != NULL)
		head->started_ns = now_ns;
	if (head != NULL && !p->worker->dying)
		head->ops->started(head);
	if (p->timer.index != 0 ||
	    (head != NULL && head->timeout_ns != FZ_CLOCK_NEVER))
		fz_worker_arm_timeout(p);
}

static void
count_job_out(struct fz_worker *w)
{
	if (--w->njobs == 0 && !fz_worker_rests(w))
		fz_loop_busy(loop_of(w->pipes), false);
}

static struct fz_job *
pop_head(struct fz_worker *w)
{
	struct fz_job *job = w->head;

	w->head = job->next;
	if (w->head == NULL)
		w->tail = &w->head;
	count_job_out(w);
	w->nbytes -= job->nbytes;
	job->next = NULL;
	job->worker = NULL;
	return job;
}

/* What the worker reports is checked, because a function may overwrite it. */
static void
count_usage(struct fz_worker_pipes *p, struct fz_job *job)
{
	struct fz_usage usage;

	p->link->ops->usage(p->link, &usage);
	job->usage = (struct fz_usage){ 0, usage.peak_rss };
	if (usage.cpu_ns <= p->cpu_ns)
		return;
	job->usage.cpu_ns = usage.cpu_ns - p->cpu_ns;
	p->cpu_ns = usage.cpu_ns;
}

struct fz_job *
fz_worker_answer_head(struct fz_worker *w, uint32_t n)
{
	struct fz_job *job = w->head;

	if (job->measured)
		count_usage(w->pipes, job);
	job->ndone += n;
	w->nitems -= n;
	w->pipes->answered = fz_worker_next_number(job);
	return job->ndone == job->nitems ? pop_head(w) : job;
}

static struct fz_blob *
take_part(struct fz_worker_pipes *p, struct fz_reader *body, struct fz_err *err)
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

struct fz_failure
fz_worker_failure(const struct fz_worker_pipes *p)
{
	const struct fz_node *node = p->worker->node;

	return (struct fz_failure){
		.pid = p->pid,
		.node = node != NULL ? node->name : NULL,
		.exitcode = -1,
	};
}

static void
result_done(
    struct fz_worker_pipes *p, struct fz_job *job, struct fz_reader *body)
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
    struct fz_worker_pipes *p, struct fz_job *job, struct fz_reader *body)
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
	uint32_t seq, n;            /* number of the first; how many */
	const unsigned char *bytes; /* NULL: in the jobs' result buffers */
	size_t len;
};

/* Leave out the results that were peeked at before the frame came. */
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

/* Answer items of the head from number `at` of the results on. How many. */
static uint32_t
answer_items(struct fz_worker_pipes *p, const struct results *r, uint32_t at,
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
 * Returns how many of the results are new: others were copied from the mailbox.
 */
static uint32_t
take_items(struct fz_worker_pipes *p, struct results r, int64_t now_ns)
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
    struct fz_worker_pipes *p, struct fz_job *job, struct fz_reader *values)
{
	struct fz_failure failure = fz_worker_failure(p);
	struct fz_blob *value = take_part(p, values, &failure.err);

	if (value != NULL)
		job->ops->done(job, &value, 1);
	else
		job->ops->failed(job, &failure);
}

/* As take_items(); each result is a value of its own. */
static uint32_t
take_values(struct fz_worker_pipes *p, struct results r, int64_t now_ns)
{
	struct fz_worker *w = p->worker;
	struct fz_reader values;
	struct fz_part known;
	struct fz_job *job;
	uint32_t news = 0;

	skip_seen(&p->seen, &r);
	fz_reader_init(&values, r.bytes, r.len);
	for (; r.n != 0 && w->head != NULL; r.n--, r.seq++) {
		if ((int32_t)(fz_worker_next_number(w->head) - r.seq) > 0) {
			fz_wire_part(&values, &known);
			continue;
		}
		job = fz_worker_answer_head(w, 1);
		job->ended_ns = now_ns;
		answer_value(p, job, &values);
		fz_worker_start_head(p, now_ns);
		news++;
	}
	return news;
}

/* The items that a reply is for. */
struct reply_items {
	enum fz_wire_type type;
	uint32_t seq, nitems;
	size_t len; /* bytes of the results of items */
};

/* Whether replies of that type fit the jobs from the head on. */
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
 * Whether the worker can have sent that reply: the items were sent to it, and
 * no item before them is unanswered. A reply that is known is harmless.
 */
static bool
is_possible(const struct fz_worker_pipes *p, const struct reply_items *c)
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

/* Whether frames of that type have results of several items. */
static bool
has_items(enum fz_wire_type type)
{
	return type == FZ_WIRE_ITEMS || type == FZ_WIRE_VALUES ||
	       type == FZ_WIRE_STORED;
}

/* Read which items a frame answers; false if no worker sends such a frame. */
static bool
read_reply_items(const struct fz_frame *frame, struct reply_items *c)
{
	struct fz_reader body;

	*c = (struct reply_items){ frame->type, frame->seq, 1, 0 };
	if (frame->type == FZ_WIRE_RESULT || frame->type == FZ_WIRE_ERROR)
		return true;
	if (!has_items(frame->type))
		return false;
	fz_reader_init(&body, frame->body, frame->len);
	c->nitems = fz_reader_u32(&body);
	c->len = fz_reader_left(&body);
	return !body.failed;
}

/* Process a reply. Returns how many of its results are new. */
static uint32_t
take_reply(
    struct fz_worker_pipes *p, const struct fz_frame *frame, int64_t now_ns)
{
	struct fz_worker *w = p->worker;
	struct fz_reader body;
	struct fz_job *job;

	fz_reader_init(&body, frame->body, frame->len);
	if (has_items(frame->type)) {
		struct results r = { frame->seq, fz_reader_u32(&body), NULL,
			fz_reader_left(&body) };

		if (frame->type != FZ_WIRE_STORED)
			r.bytes = body.p;
		return frame->type == FZ_WIRE_VALUES ? take_values(p, r, now_ns)
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
	int64_t since = w->pipes->link->ops->started_at(w->pipes->link), each;

	if (n == 0)
		return;
	if (since < w->news_ns || since > now_ns)
		since = w->news_ns; /* transport takes time, too */
	each = (now_ns - since) / n;
	w->mean_ns = w->mean_ns != 0 ? (7 * w->mean_ns + each) / 8 : each;
	if (w->mean_ns == 0)
		w->mean_ns = 1;
	w->news_ns = now_ns;
}

static void
end_busy(struct fz_worker_pipes *p, unsigned nreplies)
{
	if (nreplies != 0 && p->worker->head == NULL && !p->worker->dying)
		p->opts.ops->idle(p->opts.ops_ctx, p->worker);
}

/* Process a reply that came. Returns how many are new; -1 and `err`. */
static int
take_frame(struct fz_worker_pipes *p, const struct fz_frame *frame,
    int64_t now_ns, struct fz_err *err)
{
	struct reply_items c;

	if (!read_reply_items(frame, &c) || (int32_t)(c.seq - p->piped) < 0 ||
	    !is_possible(p, &c))
		return fz_err_set(err, FZ_ERR_CRASH,
		    "the worker replied to an item that it was not sent");
	p->piped = c.seq + c.nitems;
	return (int)take_reply(p, frame, now_ns);
}

int
fz_worker_take_replies(struct fz_worker_pipes *p, struct fz_err *err)
{
	struct fz_link *link = p->link;
	bool exact = link->ops->flags & FZ_LINK_EXACT_RECALL;
	int64_t now_ns = fz_clock_ns();
	struct fz_frame frame;
	unsigned news = 0, returned = 0;
	int rc;

	/* The worker printed it before it sent its replies. */
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

/*
 * A function may have written bytes that look like the beginning of a reply.
 * Then the rest never comes.
 */
static void
watch_half(struct fz_worker_pipes *p)
{
	const struct fz_wire_in *wire = &p->link->wire;
	bool half = wire->at != wire->buf.len && !p->worker->dying;

	if (half && p->half.index == 0)
		fz_loop_arm(loop_of(p), &p->half,
		    fz_clock_after(fz_clock_ns(), WORKER_HALF_NS));
	else if (!half)
		fz_loop_disarm(loop_of(p), &p->half);
}

void
fz_worker_check_half(struct fz_timer *timer)
{
	struct fz_worker_pipes *p = PIPES_OF(half, timer);
	/* Asked before the poll, so that no byte is missed. */
	bool more = p->link->ops->is_sending(p->link);
	struct pollfd pfd = { .fd = p->link->in.fd, .events = POLLIN };

	if (pfd.fd == -1 || p->worker->dying)
		return;
	if (p->output.holds) {
		fz_worker_kill(p->worker, FZ_ERR_CRASH, "it does not answer");
		return;
	}
	if (more || poll(&pfd, 1, 0) != 0) {
		watch_half(p);
		return;
	}
	p->distrusted = true;
	fz_worker_kill(
	    p->worker, FZ_ERR_CRASH, "the worker sent only half a reply");
}

void
fz_worker_replies_ready(void *ctx)
{
	struct fz_worker_pipes *p = ctx;
	struct fz_err err = { 0 };
	ptrdiff_t n = fz_link_fill(p->link);
	int nreplies;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		fz_worker_kill(p->worker,
		    errno == ENOMEM ? FZ_ERR_MEMORY : FZ_ERR_CRASH,
		    "its results cannot be read");
	if (n <= 0) {
		fz_link_lose(p->link, &p->link->in);
		return;
	}
	if (p->distrusted)
		return;
	nreplies = fz_worker_take_replies(p, &err);
	watch_half(p);
	p->distrusted = nreplies < 0;
	if (p->distrusted)
		fz_worker_kill(p->worker, FZ_ERR_CRASH, err.text);
	else
		end_busy(p, (unsigned)nreplies);
}

/* Whether all numbers below `n` are answered. */
static bool
is_answered(const struct fz_worker *w, uint32_t n)
{
	return w->head == NULL ||
	       (int32_t)(fz_worker_next_number(w->head) - n) >= 0;
}

/*
 * Process a reply that was not sent yet. False: the worker cannot have written
 * it.
 */
static bool
take_unsent(struct fz_worker_pipes *p, const struct fz_frame *frame,
    int64_t now_ns, unsigned *news)
{
	bool grows = frame->flags & FZ_WIRE_GROWS;
	struct reply_items c;
	uint32_t end;

	if (!read_reply_items(frame, &c) || !is_possible(p, &c))
		return false;
	end = c.seq + c.nitems;
	if (grows && (int32_t)(fz_worker_claimed(p) - end) < 0)
		return false;
	*news += take_reply(p, frame, now_ns);
	/* Not while earlier items are still on their way. */
	if (grows && c.type != FZ_WIRE_STORED && is_answered(p->worker, end))
		p->seen = (struct fz_worker_seen){ c.seq, c.nitems, c.len };
	return true;
}

/* Take the copies of replies in `frames`. Returns how many are new. */
static unsigned
take_all_unsent(struct fz_worker_pipes *p, const struct fz_buf *frames)
{
	const unsigned char *at = frames->data, *end = at + frames->len;
	int64_t now_ns = fz_clock_ns();
	struct fz_frame frame;
	unsigned news = 0;

	fz_worker_output_pump(&p->output);
	while (fz_wire_scan(&at, end, &frame, NULL) == 1 &&
	       take_unsent(p, &frame, now_ns, &news))
		continue;
	count_news(p->worker, news, now_ns);
	return news;
}

unsigned
fz_worker_take_unsent(struct fz_worker_pipes *p)
{
	struct fz_buf frames = FZ_BUF_INIT;
	unsigned news = 0;
	int rc = 0;

	if (p->link->ops->peek != NULL)
		rc = p->link->ops->peek(p->link, &frames);
	if (rc > 0)
		news = take_all_unsent(p, &frames);
	else if (rc < 0)
		p->worker->retiring = true;
	fz_buf_fini(&frames);
	return news;
}

void
fz_worker_peek(struct fz_worker *worker)
{
	if (!worker->dying)
		end_busy(worker->pipes, fz_worker_take_unsent(worker->pipes));
}

/* Return a job, or its items from number `from` on. Returns how many. */
static uint32_t
return_items(struct fz_worker *w, struct fz_job *job, uint32_t from)
{
	uint32_t n = job->nitems - job->ndone;

	if ((int32_t)(from - fz_worker_next_number(job)) > 0)
		n = job->seq + job->nitems - from;
	job->nitems -= n;
	w->nitems -= n;
	w->nsent -= n;
	job->ops->returned(job, n);
	return n;
}

/* Dequeue the jobs from `at` on that are below `end`. Returns their list. */
static struct fz_job *
dequeue(struct fz_worker *w, struct fz_job **at, uint32_t end)
{
	struct fz_job *jobs = *at, **last = at;

	while (*last != NULL && (int32_t)((*last)->seq - end) < 0)
		last = &(*last)->next;
	if (last == at)
		return NULL;
	*at = *last;
	*last = NULL;
	if (*at == NULL)
		w->tail = at;
	return jobs;
}

static uint32_t
return_job(struct fz_worker *w, struct fz_job *job)
{
	job->next = NULL;
	job->worker = NULL;
	count_job_out(w);
	w->nbytes -= job->nbytes;
	return return_items(w, job, job->seq);
}

unsigned
fz_worker_return(struct fz_worker_pipes *p, uint32_t from, uint32_t end)
{
	struct fz_worker *w = p->worker;
	struct fz_job **at = &w->head, *jobs, *cut = NULL;
	unsigned n = 0;

	while (*at != NULL && (int32_t)((*at)->seq + (*at)->nitems - from) <= 0)
		at = &(*at)->next;
	/* A job that has begun keeps the items that were started. */
	if (*at != NULL && (int32_t)(from - fz_worker_next_number(*at)) > 0) {
		cut = *at;
		at = &cut->next;
	}
	jobs = dequeue(w, at, end);
	if (cut != NULL)
		n += return_items(w, cut, from);
	while (jobs != NULL) {
		struct fz_job *job = jobs;

		jobs = job->next;
		n += return_job(w, job);
	}
	return n;
}

bool
fz_worker_has_begun(const struct fz_worker *worker)
{
	const struct fz_job *head = worker->head;

	return head != NULL &&
	       (int32_t)(fz_worker_claimed(worker->pipes) - head->seq) > 0;
}

unsigned
fz_worker_recall(struct fz_worker *worker)
{
	struct fz_worker_pipes *p = worker->pipes;
	uint32_t started;
	unsigned n;

	/* If the worker has overwritten that, it may start items that would be
	 * returned. */
	if (!p->link->ops->started(p->link, &started)) {
		worker->retiring = true;
		return 0;
	}
	if (!p->link->ops->recall(p->link))
		return 0; /* they are returned when the answer comes */
	n = fz_worker_return(p, fz_worker_claimed(p), p->link->next_seq);
	end_busy(p, n);
	return n;
}
