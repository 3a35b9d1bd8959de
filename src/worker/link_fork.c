#include "worker/link.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "os/fd.h"
#include "shared/arena.h"
#include "wire/child_port.h"
#include "wire/mailbox.h"
#include "worker/engine.h"
#include "worker/worker_slice.h"

/* A link of two pipes, a mailbox, and the worker's slice of the arena. */
struct link_fork {
	struct fz_link link;
	struct fz_mailbox *mailbox;
	/* the block in which the mailbox is */
	struct fz_mailbox_block *block;
	struct fz_worker_slice *slice;
};

static struct link_fork *
of(struct fz_link *link)
{
	return (struct link_fork *)link;
}

static const struct fz_mailbox *
mailbox_of(const struct fz_link *link)
{
	return ((const struct link_fork *)link)->mailbox;
}

/*
 * Tell the worker to free its bytes at `offset` of the arena, because this
 * process does not need them any more.
 */
static void
give_back(void *ctx, uint64_t offset)
{
	struct fz_link *link = ctx;
	size_t start = fz_wire_begin(&link->unsent, FZ_WIRE_FREE, 0, 0);

	fz_buf_put_u64(&link->unsent, offset);
	/*
	 * If there is no memory for this frame, the bytes stay allocated until
	 * the worker dies.
	 */
	fz_link_end_frame(link, start, NULL);
}

static int
open_pipes(struct link_fork *f, struct fz_err *err)
{
	int jobs[2] = { -1, -1 }, results[2] = { -1, -1 }, rc = -1;

	if (fz_fd_pipe(jobs, err) == 0 && fz_fd_pipe(results, err) == 0)
		rc = fz_link_attach(&f->link, &jobs[1], &results[0], err);
	f->link.worker_in = jobs[0];
	f->link.worker_out = results[1];
	fz_fd_close(&jobs[1]);
	fz_fd_close(&results[0]);
	return rc;
}

static struct fz_link *
fork_open(struct fz_engine *engine, struct fz_err *err)
{
	struct link_fork *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		fz_err_nomem(err, "a worker");
		return NULL;
	}
	fz_link_init(&f->link, &fz_link_fork, engine);
	fz_engine_arena(engine);
	f->slice = fz_worker_slice_new(engine, give_back, f, err);
	f->mailbox =
	    f->slice != NULL ? fz_mailbox_new(&engine->mailboxes, err) : NULL;
	f->block = engine->mailboxes;
	if (f->mailbox != NULL && open_pipes(f, err) == 0) {
		f->link.account = &f->mailbox->account;
		return &f->link;
	}
	fz_link_free(&f->link);
	return NULL;
}

static int
fork_enter(struct fz_link *link, struct fz_port *port, struct fz_err *err)
{
	const struct link_fork *f = of(link);
	struct fz_arena *arena = link->engine->inherited;

	if (arena != NULL)
		fz_arena_enter(arena, fz_worker_slice_number(f->slice));
	return fz_port_init(
	    port, link->worker_in, link->worker_out, f->mailbox, arena, err);
}

static void
fork_refuse(struct fz_link *link, const char *text)
{
	struct fz_mailbox *mailbox = of(link)->mailbox;
	uint32_t n = (uint32_t)strlen(text);

	memcpy(mailbox->out, text, n);
	atomic_store(&mailbox->nwhy, n);
}

static bool
fork_refusal(const struct fz_link *link, struct fz_err *err)
{
	const struct fz_mailbox *mailbox = mailbox_of(link);
	size_t len = atomic_load(&mailbox->nwhy);

	if (len == 0 || len > FZ_ERR_TEXT_MAX)
		return false;
	fz_err_set(
	    err, FZ_ERR_ERROR, "%.*s", (int)len, (const char *)mailbox->out);
	return true;
}

static void
fork_forked(struct fz_link *link)
{
	fz_mailbox_keep(of(link)->mailbox);
}

static void
fork_put(struct fz_link *link, struct fz_blob *blob)
{
	fz_wire_put_blob(&link->unsent, blob);
}

static struct fz_blob *
fork_blob(struct fz_link *link, uint64_t offset, size_t len, struct fz_err *err)
{
	struct fz_blob *blob =
	    fz_worker_slice_blob(of(link)->slice, offset, len, err);

	if (blob == NULL)
		give_back(link, offset);
	return blob;
}

static void
fork_expect(struct fz_link *link)
{
	atomic_fetch_add_explicit(
	    &of(link)->mailbox->nexpected, 1, memory_order_relaxed);
}

static int
fork_cpu(const struct fz_link *link)
{
	return (int)atomic_load_explicit(
		   &mailbox_of(link)->cpu, memory_order_relaxed) -
	       1;
}

static void
fork_settle(struct fz_link *link, uint32_t answered)
{
	fz_claim_settle(&of(link)->mailbox->claim, answered);
}

static bool
fork_started(const struct fz_link *link, uint32_t *started)
{
	const struct fz_claim *claim = &mailbox_of(link)->claim;

	*started = fz_claim_started(claim);
	return fz_claim_is_whole(claim);
}

static int64_t
fork_started_at(const struct fz_link *link)
{
	return atomic_load(&mailbox_of(link)->start_ns);
}

static bool
fork_recall(struct fz_link *link)
{
	fz_claim_recall(&of(link)->mailbox->claim, link->next_seq);
	return true;
}

static int
fork_next(struct fz_link *link, struct fz_frame *frame, struct fz_err *err)
{
	return fz_wire_next(&link->wire, frame, err);
}

static int
fork_peek(struct fz_link *link, struct fz_buf *frames)
{
	return fz_mailbox_peek(mailbox_of(link), frames);
}

static bool
fork_is_sending(const struct fz_link *link)
{
	const struct fz_mailbox *mailbox = mailbox_of(link);

	return fz_mailbox_open(mailbox).start != 0 ||
	       atomic_load(&mailbox->writing) != 0;
}

static void
fork_close(struct fz_link *link)
{
	struct link_fork *f = of(link);

	fz_worker_slice_orphan(f->slice);
	fz_mailbox_free(f->mailbox, f->block);
}

const struct fz_link_ops fz_link_fork = {
	.flags = FZ_LINK_SHARED_MEMORY | FZ_LINK_EXACT_RECALL,
	.open = fork_open,
	.enter = fork_enter,
	.refuse = fork_refuse,
	.refusal = fork_refusal,
	.forked = fork_forked,
	.put = fork_put,
	.blob = fork_blob,
	.expect = fork_expect,
	.cpu = fork_cpu,
	.settle = fork_settle,
	.started = fork_started,
	.started_at = fork_started_at,
	.recall = fork_recall,
	.next = fork_next,
	.peek = fork_peek,
	.is_sending = fork_is_sending,
	.close = fork_close,
};
