#include "worker/worker_output.h"

#include <stddef.h>

#include "base/container.h"
#include "os/fd.h"
#include "os/lines.h"

void
fz_relay_init(struct fz_relay *relay, struct fz_engine *engine)
{
	relay->engine = engine;
	for (int i = FZ_STREAM_OUT; i <= FZ_STREAM_ERR; i++)
		relay->streams[i] = (struct fz_relay_stream){
			.watch = { .fd = -1 },
			.stream = (enum fz_stream)i,
			.relay = relay,
		};
}

static void
pass_on(void *ctx, const char *bytes, size_t len)
{
	struct fz_relay_stream *s = ctx;
	struct fz_engine *engine = s->relay->engine;

	engine->output(engine->output_ctx, s->stream, bytes, len);
}

/*
 * Until the pipe is empty, or nobody can write to it any more. For lack of
 * memory lines are lost, but a worker must not wait on a full pipe.
 */
static void
pump(struct fz_relay_stream *s)
{
	if (s->lines != NULL && fz_lines_pump(s->lines, NULL) == 0)
		fz_loop_unwatch(s->relay->engine->loop, &s->watch);
}

static void
stream_ready(struct fz_watch *watch, unsigned events)
{
	(void)events;
	pump(FZ_CONTAINER_OF(watch, struct fz_relay_stream, watch));
}

int
fz_relay_open(
    struct fz_relay *relay, enum fz_stream stream, int fd, struct fz_err *err)
{
	struct fz_relay_stream *s = &relay->streams[stream];

	if (fz_fd_nonblock(fd, err) != 0 || fz_fd_make_private(fd, err) != 0)
		return -1;
	s->watch.ready = stream_ready;
	if (fz_loop_watch(
		relay->engine->loop, &s->watch, fd, FZ_LOOP_READ, err) != 0)
		return -1;
	s->lines = fz_lines_new(fd, pass_on, s, err);
	if (s->lines != NULL)
		return 0;
	fz_loop_unwatch(relay->engine->loop, &s->watch);
	return -1;
}

void
fz_relay_pump(struct fz_relay *relay)
{
	pump(&relay->streams[FZ_STREAM_OUT]);
	pump(&relay->streams[FZ_STREAM_ERR]);
}

void
fz_relay_flush(struct fz_relay *relay)
{
	for (int i = FZ_STREAM_OUT; i <= FZ_STREAM_ERR; i++) {
		if (relay->streams[i].lines != NULL)
			fz_lines_flush(relay->streams[i].lines);
	}
}

void
fz_relay_drain(struct fz_relay *relay)
{
	fz_relay_pump(relay);
	fz_relay_flush(relay);
}

void
fz_relay_fini(struct fz_relay *relay)
{
	for (int i = FZ_STREAM_OUT; i <= FZ_STREAM_ERR; i++) {
		struct fz_relay_stream *s = &relay->streams[i];

		fz_loop_unwatch(relay->engine->loop, &s->watch);
		fz_lines_free(s->lines);
		s->lines = NULL;
	}
}
