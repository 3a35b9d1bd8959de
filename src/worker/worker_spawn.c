#include "worker/worker_spawn.h"

#include <stdlib.h>
#include <string.h>

#include "os/fd.h"
#include "shared/arena.h"
#include "shared/heap.h"
#include "worker/worker_slice.h"
#include "worker/worker_state.h"

/* The ends of a new worker's pipes, -1 once they are closed or given away. */
struct ends {
	struct fz_worker_pipes *p;
	int jobs[2], results[2], out[2], err[2];
};

enum { START_ENDS = 8 };

static int
child_main(void *ctx, const struct fz_err *failed)
{
	struct ends *b = ctx;
	struct fz_worker_pipes *p = b->p;
	struct fz_engine *engine = p->opts.engine;
	uint32_t slice = fz_worker_slice_number(p->slice);
	struct fz_port port;

	if (failed != NULL) {
		uint32_t n = (uint32_t)strlen(failed->text);

		memcpy(p->cell->out, failed->text, n);
		atomic_store(&p->cell->nwhy, n);
		return EXIT_FAILURE;
	}
	fz_fd_close(&b->jobs[1]);
	fz_fd_close(&b->results[0]);
	fz_fd_close(&b->out[0]);
	fz_fd_close(&b->err[0]);
	fz_fd_close(&b->out[1]); /* it is 1 now */
	fz_fd_close(&b->err[1]);
	fz_loop_in_child(engine->loop);
	if (engine->inherited != NULL)
		fz_arena_enter(engine->inherited, slice);
	fz_port_init(
	    &port, b->jobs[0], b->results[1], p->cell, engine->inherited);
	return p->opts.main(p->opts.main_ctx, &port);
}

static int *
end_of(struct ends *b, int i)
{
	int *pipes[] = { b->jobs, b->results, b->out, b->err };

	return &pipes[i / 2][i % 2];
}

static int
open_pipes(struct ends *b, struct fz_err *err)
{
	if (fz_fd_pipe(b->jobs, err) != 0 || fz_fd_pipe(b->results, err) != 0 ||
	    fz_fd_pipe(b->out, err) != 0 || fz_fd_pipe(b->err, err) != 0)
		return -1;
	return 0;
}

static void
close_pipes(struct ends *b)
{
	for (int i = 0; i < START_ENDS; i++)
		fz_fd_close(end_of(b, i));
}

/* Watch `*fd`, which the watch then owns. */
static int
watch_end(struct fz_worker_pipes *p, struct fz_watch *watch, int *fd,
    unsigned events, struct fz_err *err)
{
	if (fz_fd_nonblock(*fd, err) != 0 ||
	    fz_fd_make_private(*fd, err) != 0 ||
	    fz_loop_watch(loop_of(p), watch, *fd, events, err) != 0)
		return -1;
	*fd = -1;
	return 0;
}

static int
watch_pipes(struct fz_worker_pipes *p, struct ends *b, struct fz_err *err)
{
	if (watch_end(p, &p->jobs, &b->jobs[1], 0, err) != 0 ||
	    watch_end(p, &p->results, &b->results[0], FZ_LOOP_READ, err) != 0)
		return -1;
	if (fz_worker_output_open(&p->output, FZ_STREAM_OUT, b->out[0], err) !=
	    0)
		return -1;
	b->out[0] = -1;
	if (fz_worker_output_open(&p->output, FZ_STREAM_ERR, b->err[0], err) !=
	    0)
		return -1;
	b->err[0] = -1;
	if (p->proc.pidfd == -1)
		return 0;
	return fz_loop_watch(
	    loop_of(p), &p->death, p->proc.pidfd, FZ_LOOP_READ, err);
}

int
fz_worker_spawn(struct fz_worker_pipes *p, struct fz_err *err)
{
	struct ends b = { p, { -1, -1 }, { -1, -1 }, { -1, -1 }, { -1, -1 } };
	struct fz_proc_opts opts;

	fz_engine_arena(p->opts.engine);
	fz_heap_open(NULL); /* who wants to share will be told why not */
	p->slice = fz_worker_slice_new(p->opts.engine, p->worker, err);
	p->cell = p->slice != NULL ? fz_cell_new(err) : NULL;
	if (p->cell == NULL || open_pipes(&b, err) != 0)
		goto fail;
	opts = (struct fz_proc_opts){ .out = b.out[1], .err = b.err[1] };
	if (fz_proc_fork(&p->proc, &opts, child_main, &b, err) != 0 ||
	    watch_pipes(p, &b, err) != 0)
		goto fail;
	p->kept = fz_cell_keep(p->cell);
	close_pipes(&b); /* the child's ends */
	p->worker->pid = p->proc.pid;
	return 0;
fail:
	close_pipes(&b);
	return -1;
}
