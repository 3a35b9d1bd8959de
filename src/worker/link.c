#include "worker/link.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/container.h"
#include "base/err.h"
#include "os/fd.h"
#include "worker/engine.h"

#define LINK_OF(member, ptr) FZ_CONTAINER_OF(ptr, struct fz_link, member)

static struct fz_loop *
loop_of(const struct fz_link *link)
{
	return link->engine->loop;
}

static void
close_end(struct fz_link *link, struct fz_watch *end)
{
	/*
	 * A socket also has a second descriptor, for the other direction; so
	 * closing this one does not end this direction.
	 */
	if (end->fd != -1 && end == &link->out &&
	    !(link->ops->flags & FZ_LINK_SHARED_MEMORY))
		shutdown(end->fd, SHUT_WR);
	fz_loop_close(loop_of(link), end);
}

void
fz_link_lose(struct fz_link *link, struct fz_watch *end)
{
	close_end(link, end);
	link->owner->lost(link->ctx);
}

static void
flush(struct fz_link *link)
{
	unsigned events = 0;
	ssize_t n;

	if (link->out.fd == -1)
		return;
	n = fz_fd_write(link->out.fd, link->unsent.data + link->written,
	    link->unsent.len - link->written);
	if (n < 0 && errno != EAGAIN) {
		fz_link_lose(link, &link->out);
		return;
	}
	if (n > 0)
		link->written += (size_t)n;
	/*
	 * Remove written bytes only if they are more than half: a removal moves
	 * the rest.
	 */
	if (link->written > link->unsent.len / 2) {
		fz_buf_consume(&link->unsent, link->written);
		link->written = 0;
	}
	if (link->unsent.len != 0)
		events = FZ_LOOP_WRITE;
	if (fz_loop_rewatch(loop_of(link), &link->out, events, NULL) != 0)
		fz_link_lose(link, &link->out);
}

static void
flush_deferred(struct fz_defer *defer)
{
	flush(LINK_OF(flush, defer));
}

static void
out_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_link *link = LINK_OF(out, watch);

	if (events & FZ_LOOP_READ) /* the worker has closed its end */
		fz_link_lose(link, watch);
	else
		flush(link);
}

static void
in_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_link *link = LINK_OF(in, watch);

	(void)events;
	link->owner->ready(link->ctx);
}

void
fz_link_init(struct fz_link *link, const struct fz_link_ops *ops,
    struct fz_engine *engine)
{
	*link = (struct fz_link){ .ops = ops,
		.engine = engine,
		.out = { .fd = -1, .ready = out_ready },
		.in = { .fd = -1, .ready = in_ready },
		.flush = { .call = flush_deferred },
		.worker_in = -1,
		.worker_out = -1,
		.worker_memory = -1 };
	fz_buf_init(&link->unsent);
	fz_wire_in_init(&link->wire);
}

int
fz_link_attach(struct fz_link *link, int *out, int *in, struct fz_err *err)
{
	struct fz_loop *loop = loop_of(link);

	if (fz_loop_own(loop, &link->out, out, 0, err) != 0)
		return -1;
	return fz_loop_own(loop, &link->in, in, FZ_LOOP_READ, err);
}

struct fz_link *
fz_link_open(const struct fz_link_ops *ops, struct fz_engine *engine,
    const struct fz_link_owner *owner, void *ctx, struct fz_err *err)
{
	struct fz_link *link = ops->open(engine, err);

	if (link == NULL)
		return NULL;
	link->owner = owner;
	link->ctx = ctx;
	return link;
}

static void
close_worker_ends(struct fz_link *link)
{
	if (link->worker_out != link->worker_in)
		fz_fd_close(&link->worker_out);
	fz_fd_close(&link->worker_in);
	link->worker_out = -1;
	fz_fd_close(&link->worker_memory);
}

void
fz_link_lower_ends(struct fz_link *link)
{
	bool both = link->worker_out == link->worker_in;

	fz_fd_lower(&link->worker_in);
	if (both)
		link->worker_out = link->worker_in;
	else
		fz_fd_lower(&link->worker_out);
}

void
fz_link_forked(struct fz_link *link)
{
	close_worker_ends(link);
	if (link->ops->forked != NULL)
		link->ops->forked(link);
}

int
fz_link_end_frame(struct fz_link *link, size_t start, struct fz_err *err)
{
	fz_wire_end(&link->unsent, start);
	if (link->unsent.failed) {
		link->unsent.failed = false;
		link->unsent.len = start;
		return fz_err_nomem(err, "a job to be sent");
	}
	link->nput += (uint32_t)(link->unsent.len - start);
	fz_loop_defer(loop_of(link), &link->flush);
	return 0;
}

void
fz_link_write(struct fz_link *link)
{
	fz_loop_undefer(&link->flush);
	flush(link);
}

ptrdiff_t
fz_link_fill(struct fz_link *link)
{
	ptrdiff_t n = fz_wire_fill(&link->wire, link->in.fd);

	/*
	 * ECONNRESET means the end, too: the worker has died before it read
	 * everything from its socket.
	 */
	return n < 0 && errno == ECONNRESET ? 0 : n;
}

void
fz_link_finish(struct fz_link *link)
{
	close_end(link, &link->out);
}

void
fz_link_free(struct fz_link *link)
{
	if (link == NULL)
		return;
	fz_loop_undefer(&link->flush);
	close_end(link, &link->out);
	close_end(link, &link->in);
	close_worker_ends(link);
	if (link->ops->close != NULL)
		link->ops->close(link);
	fz_buf_fini(&link->unsent);
	fz_wire_in_fini(&link->wire);
	free(link);
}
