/* memrchr is an extension of GNU. */
#define _GNU_SOURCE
#include "worker/worker_output.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/container.h"
#include "node/nodes.h"
#include "os/fd.h"
#include "os/lines.h"

void
fz_worker_output_init(struct fz_worker_output *output, struct fz_engine *engine)
{
	output->engine = engine;
	for (int i = FZ_STDIO_OUT; i <= FZ_STDIO_ERR; i++)
		output->pipes[i] = (struct fz_worker_output_pipe){
			.watch = { .fd = -1 },
			.file = (enum fz_stdio)i,
			.output = output,
		};
}

/*
 * Keep the last line of `bytes`, which are whole lines. If the first line
 * begins with FZ_NODES_REACHED, keep its number.
 */
static void
hold(struct fz_worker_output *output, const char *bytes, size_t len)
{
	const char *line;

	if (bytes[0] == FZ_NODES_REACHED) {
		output->has_reached = true;
		output->reached = (uint32_t)strtoul(bytes + 1, NULL, 10);
	}
	while (len > 0 && strchr("\r\n", bytes[len - 1]) != NULL)
		len--;
	if (len == 0)
		return;
	line = memrchr(bytes, '\n', len);
	line = line != NULL ? line + 1 : bytes;
	snprintf(output->said, sizeof(output->said), "%.*s",
	    (int)(bytes + len - line), line);
}

static void
pass_on(void *ctx, const char *bytes, size_t len)
{
	struct fz_worker_output_pipe *s = ctx;
	struct fz_engine *engine = s->output->engine;

	if (s->output->on_node && !s->output->adding) {
		hold(s->output, bytes, len);
		return;
	}
	engine->output(engine->output_ctx, s->file, bytes, len);
}

/*
 * Read lines until the pipe is empty or has ended. Without memory lines are
 * dropped, because the worker would wait if the pipe stayed full.
 */
static void
pump(struct fz_worker_output_pipe *s)
{
	if (s->lines != NULL && fz_lines_pump(s->lines, NULL) == 0)
		fz_loop_unwatch(s->output->engine->loop, &s->watch);
}

static void
pipe_ready(struct fz_watch *watch, unsigned events)
{
	(void)events;
	pump(FZ_CONTAINER_OF(watch, struct fz_worker_output_pipe, watch));
}

int
fz_worker_output_open(struct fz_worker_output *output, enum fz_stdio file,
    int fd, struct fz_err *err)
{
	struct fz_worker_output_pipe *s = &output->pipes[file];

	if (fd == -1) {
		s->lines = fz_lines_new(-1, pass_on, s, err);
		return s->lines != NULL ? 0 : -1;
	}
	if (fz_fd_nonblock(fd, err) != 0 || fz_fd_make_private(fd, err) != 0)
		return -1;
	s->watch.ready = pipe_ready;
	if (fz_loop_watch(
		output->engine->loop, &s->watch, fd, FZ_LOOP_READ, err) != 0)
		return -1;
	s->lines = fz_lines_new(fd, pass_on, s, err);
	if (s->lines != NULL)
		return 0;
	fz_loop_unwatch(output->engine->loop, &s->watch);
	return -1;
}

void
fz_worker_output_add(struct fz_worker_output *output, enum fz_stdio file,
    const void *bytes, size_t len)
{
	output->adding = true;
	fz_lines_add(output->pipes[file].lines, bytes, len);
	output->adding = false;
}

void
fz_worker_output_pump(struct fz_worker_output *output)
{
	pump(&output->pipes[FZ_STDIO_OUT]);
	pump(&output->pipes[FZ_STDIO_ERR]);
}

void
fz_worker_output_flush(struct fz_worker_output *output)
{
	/*
	 * The program that connects a worker on a node prints whole lines, so
	 * an incomplete line is the worker's.
	 */
	output->adding = !output->holds;
	for (int i = FZ_STDIO_OUT; i <= FZ_STDIO_ERR; i++) {
		if (output->pipes[i].lines != NULL)
			fz_lines_flush(output->pipes[i].lines);
	}
	output->adding = false;
}

void
fz_worker_output_drain(struct fz_worker_output *output)
{
	fz_worker_output_pump(output);
	fz_worker_output_flush(output);
}

void
fz_worker_output_fini(struct fz_worker_output *output)
{
	for (int i = FZ_STDIO_OUT; i <= FZ_STDIO_ERR; i++) {
		struct fz_worker_output_pipe *s = &output->pipes[i];

		fz_loop_unwatch(output->engine->loop, &s->watch);
		fz_lines_free(s->lines);
		s->lines = NULL;
	}
}
