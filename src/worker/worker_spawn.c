#include "worker/worker_spawn.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "node/nodes.h"
#include "os/fd.h"
#include "os/process.h"
#include "shared/heap.h"
#include "wire/account.h"
#include "wire/child_port.h"
#include "wire/child_spawned.h"
#include "worker/worker_state.h"

/*
 * Maximum pause within a reply from a node. It can be long, because ssh and the
 * gateways notice a broken connection earlier.
 */
#define WORKER_PAUSE_NS (90 * FZ_CLOCK_SECOND)
/* Maximum time from the start to the first answer of a node. */
#define WORKER_JOIN_NS (10 * FZ_CLOCK_SECOND)

/*
 * The pipes for the output of a new worker; -1: the end is closed, or another
 * object owns it.
 */
struct ends {
	struct fz_worker_private *p;
	int out[2], err[2];
};

static int
refuse(struct fz_link *link, const struct fz_err *err)
{
	link->ops->refuse(link, err->text);
	return EXIT_FAILURE;
}

static int
child_main(void *ctx, const struct fz_err *failed)
{
	struct ends *b = ctx;
	struct fz_worker_private *p = b->p;
	struct fz_port port;
	struct fz_err err;

	if (failed != NULL)
		return refuse(p->link, failed);
	fz_fd_close(&b->out[0]);
	fz_fd_close(&b->err[0]);
	fz_fd_close(&b->out[1]); /* close it: descriptor 1 is a copy */
	fz_fd_close(&b->err[1]);
	fz_link_lower_ends(p->link);
	fz_loop_in_child(p->opts.engine->loop);
	if (p->link->ops->enter(p->link, &port, &err) != 0)
		return refuse(p->link, &err);
	return p->opts.main(p->opts.main_ctx, &port);
}

static void
close_pipes(struct ends *b)
{
	for (int i = 0; i < 2; i++) {
		fz_fd_close(&b->out[i]);
		fz_fd_close(&b->err[i]);
	}
}

static int
watch_output(struct fz_worker_private *p, struct ends *b, struct fz_err *err)
{
	struct fz_worker_output *output = &p->output;

	if (fz_worker_output_open(output, FZ_STDIO_OUT, b->out[0], err) != 0)
		return -1;
	b->out[0] = -1;
	if (fz_worker_output_open(output, FZ_STDIO_ERR, b->err[0], err) != 0)
		return -1;
	b->err[0] = -1;
	if (p->proc.pidfd == -1)
		return 0;
	return fz_loop_watch(
	    loop_of(p), &p->death, p->proc.pidfd, FZ_LOOP_READ, err);
}

/* Append the frame SETUP to the link, which is the first one for a program. */
static int
send_setup(struct fz_worker_private *p, struct fz_err *err)
{
	const struct fz_worker_program *program = &p->opts.program;
	struct fz_link *link = p->link;
	size_t start = fz_wire_begin(&link->unsent, FZ_WIRE_SETUP, 0, 0);

	fz_buf_put_u32(&link->unsent, program->number);
	fz_buf_put_u32(&link->unsent, program->flags);
	link->ops->put(link, program->setup);
	return fz_link_end_frame(link, start, err);
}

/* Start the local program that connects the worker; see joined(). */
static int
start_on_node(struct fz_worker_private *p, const struct fz_proc_opts *opts,
    struct fz_err *err)
{
	char sh[] = "sh", option[] = "-c";
	char *argv[] = { sh, option, p->opts.program.node->command, NULL };
	struct fz_proc_opts on_node = *opts;
	const struct fz_proc_program program = {
		.path = "/bin/sh",
		.argv = argv,
		.in = p->link->worker_in,
	};

	p->output.holds = p->output.on_node = true;
	p->link->pause_ns = WORKER_PAUSE_NS;
	on_node.out = p->link->worker_out;
	if (fz_proc_spawn(&p->proc, &on_node, &program, err) != 0)
		return -1;
	if (fz_loop_arm(loop_of(p), &p->half,
		fz_clock_after(fz_clock_ns(), WORKER_JOIN_NS)) != 0)
		return fz_err_nomem(err, "a worker");
	return send_setup(p, err);
}

static void
joined(void *ctx, pid_t pid)
{
	struct fz_worker_private *p = ctx;

	p->pid = pid;
	p->joined_ns = fz_clock_ns();
	p->output.holds = false;
	p->output.said[0] = '\0';
	fz_node_joined(p->worker->node);
}

static void
printed(void *ctx, enum fz_stdio file, const void *bytes, size_t len)
{
	struct fz_worker_private *p = ctx;

	fz_worker_output_add(&p->output, file, bytes, len);
}

/*
 * Called when the node leaves: the worker finishes the jobs that it has
 * started, and the others are returned.
 */
static void
leaving(void *ctx)
{
	struct fz_worker_private *p = ctx;
	struct fz_worker *w = p->worker;

	if (w->retiring || w->dying)
		return;
	w->retiring = true;
	if (w->head != NULL)
		fz_worker_recall(w);
	else if (!w->leaving)
		p->opts.ops->idle(p->opts.ops_ctx, w);
}

/*
 * Let a worker that is a program share this process's slots. If its tokens
 * cannot be counted, those that it holds when it is killed are lost until the
 * next fz_slots_resize(). Returns whether the program must inherit the pipe.
 */
static bool
lend_slots(struct fz_worker_private *p, struct fz_child_spawned *spawned)
{
	const struct fz_worker_slots *slots = &p->opts.program.slots;
	struct fz_engine *engine = p->opts.engine;

	spawned->slots = FZ_CHILD_SPAWNED_NO_SLOTS;
	if (slots->environ_ == NULL)
		return false;
	spawned->slots =
	    slots->shared[0] != -1 ? (int)slots->n : FZ_CHILD_SPAWNED_OF_MAKE;
	p->account = fz_account_new(
	    &engine->membership, &engine->accounts, slots->lineage);
	if (p->account != NULL) {
		p->link->account = p->account->account;
		spawned->account = p->account->name;
	}
	return slots->shared[0] != -1;
}

static int
start_program(struct fz_worker_private *p, const struct fz_proc_opts *opts,
    struct fz_err *err)
{
	struct fz_child_spawned spawned = { .parent = getpid(),
		.link = p->link->worker_in,
		.memory = p->link->worker_memory };
	struct fz_child_spawned_words words = { 0 };
	struct fz_err reason;
	int keep[6];
	struct fz_proc_program program = {
		.path = p->opts.program.path,
		.environ_ = p->opts.program.slots.environ_,
		.enters = true,
		.keep = keep,
	};
	int rc;

	fz_heap_open_files(&spawned.heap);
	keep[program.nkeep++] = spawned.link;
	if (spawned.memory != -1)
		keep[program.nkeep++] = spawned.memory;
	if (spawned.heap.file != -1) {
		keep[program.nkeep++] = spawned.heap.file;
		keep[program.nkeep++] = spawned.heap.wake;
	}
	if (lend_slots(p, &spawned)) {
		keep[program.nkeep++] = p->opts.program.slots.shared[0];
		keep[program.nkeep++] = p->opts.program.slots.shared[1];
	}
	program.argv = fz_child_spawned_argv(&spawned, &words);
	rc = fz_proc_spawn(&p->proc, opts, &program, &reason);
	fz_heap_close_files(&spawned.heap);
	if (rc == 0)
		return send_setup(p, err);
	return fz_err_set(err, reason.kind,
	    "%.190s (FZLUA_WORKER_COMMAND may name the fzlua command)",
	    reason.text);
}

static const struct fz_link_owner link_owner = {
	.ready = fz_worker_replies_ready,
	.lost = fz_worker_link_lost,
};

static const struct fz_link_owner node_link_owner = {
	.ready = fz_worker_replies_ready,
	.lost = fz_worker_link_lost,
	.joined = joined,
	.printed = printed,
	.leaving = leaving,
};

static const struct fz_link_ops *
link_ops(const struct fz_worker_opts *opts)
{
	if (opts->program.path != NULL || opts->program.node != NULL)
		return &fz_link_stream;
	return opts->link != NULL ? opts->link : &fz_link_fork;
}

static const struct fz_link_owner *
owner_of(const struct fz_worker_opts *opts)
{
	return opts->program.node != NULL ? &node_link_owner : &link_owner;
}

static int
spawn(struct fz_worker_private *p, struct fz_err *err)
{
	struct ends b = { p, { -1, -1 }, { -1, -1 } };
	struct fz_proc_opts opts;
	int rc;

	/* Ignore a failure: the first use of a shared object will report it. */
	fz_heap_open(NULL);
	p->link = fz_link_open(
	    link_ops(&p->opts), p->opts.engine, owner_of(&p->opts), p, err);
	if (p->link == NULL || fz_fd_pipe(b.out, err) != 0 ||
	    fz_fd_pipe(b.err, err) != 0)
		goto fail;
	opts = (struct fz_proc_opts){ .out = b.out[1],
		.err = b.err[1],
		.children = &p->opts.engine->children };
	if (p->opts.program.node == NULL && p->link->ops->share != NULL)
		p->link->ops->share(p->link);
	if (p->opts.program.node != NULL)
		rc = start_on_node(p, &opts, err);
	else if (p->opts.program.path != NULL)
		rc = start_program(p, &opts, err);
	else
		rc = fz_proc_fork(&p->proc, &opts, child_main, &b, err);
	if (rc != 0 || watch_output(p, &b, err) != 0)
		goto fail;
	fz_link_forked(p->link);
	close_pipes(&b); /* close the child's ends, which are left in `b` */
	p->worker->pid = p->proc.pid;
	p->pid = p->worker->node == NULL ? p->proc.pid : 0;
	p->worker->recalls = p->link->ops->flags & FZ_LINK_EXACT_RECALL;
	p->worker->ahead = p->worker->recalls || p->worker->node != NULL;
	return 0;
fail:
	close_pipes(&b);
	return -1;
}

int
fz_worker_spawn(struct fz_worker_private *p, struct fz_err *err)
{
	int64_t began_ns = fz_clock_ns();
	int rc;

	fz_process_begin_spawn();
	rc = spawn(p, err);
	fz_process_end_spawn();
	p->launch_ns = fz_clock_ns() - began_ns;
	return rc;
}
