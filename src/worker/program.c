/* F_GETPIPE_SZ is Linux. */
#define _GNU_SOURCE
#include "worker/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/container.h"
#include "os/death.h"
#include "os/fd.h"
#include "os/process.h"
#include "os/loop.h"
#include "os/proc.h"
#include "worker/change.h"
#include "worker/engine.h"
#include "worker/program_state.h"

enum { EXEC_READ = 64 << 10, EXEC_PIPES = 4 };

struct stream {
	struct fz_watch watch;
	struct fz_buf *bytes;
	struct fz_program *exec;
	bool follow; /* the caller consumes the bytes while it runs */
};

struct fz_program {
	struct fz_engine *engine;
	struct fz_change change; /* it has ended */
	struct fz_proc proc;
	char name[128]; /* of the program, perhaps cut */
	struct fz_watch input, supervisor;
	struct stream streams[2]; /* its standard output and error */
	struct fz_timer timer;
	struct fz_fork_hook hook;
	const unsigned char *unread; /* input that is not written yet */
	size_t nunread;
	bool feed; /* more input follows */
	struct fz_program_report report;
	size_t nreport; /* bytes of it that were read */
	bool ending;    /* the supervisor was asked to end */
	bool done;
	struct fz_program_end end;
};

#define EXEC_OF(member, ptr) FZ_CONTAINER_OF(ptr, struct fz_program, member)

static struct fz_loop *
loop_of(const struct fz_program *exec)
{
	return exec->engine->loop;
}

static void
let_go(struct fz_program *exec)
{
	exec->done = true;
	fz_loop_close(loop_of(exec), &exec->input);
	fz_loop_close(loop_of(exec), &exec->supervisor);
	for (int i = 0; i < 2; i++)
		fz_loop_close(loop_of(exec), &exec->streams[i].watch);
	fz_loop_disarm(loop_of(exec), &exec->timer);
	fz_loop_unhook(&exec->hook);
}

/* One read, as fz_fd_read(); -1 with ENOMEM if there is no memory. */
static ssize_t
read_stream(struct stream *s)
{
	unsigned char *room = fz_buf_reserve(s->bytes, EXEC_READ);
	ssize_t n;

	if (room == NULL) {
		errno = ENOMEM;
		return -1;
	}
	n = fz_fd_read(s->watch.fd, room, EXEC_READ);
	if (n > 0)
		s->bytes->len += (size_t)n;
	return n;
}

static void
lose_output(struct fz_program *exec)
{
	if (errno == ENOMEM)
		fz_err_set(&exec->end.err, FZ_ERR_MEMORY,
		    "not enough memory for the output of '%s'", exec->name);
	else
		fz_err_sys(&exec->end.err, errno,
		    "cannot read the output of '%s'", exec->name);
}

/* Read what is in the pipe; a process that still writes has escaped. */
static void
take_rest(struct fz_program *exec, struct stream *s)
{
	size_t most = s->bytes->len;
	ssize_t n = 1;

	if (s->watch.fd != -1)
		most += (size_t)fcntl(s->watch.fd, F_GETPIPE_SZ);
	while (s->bytes->len < most && n > 0)
		n = read_stream(s);
	if (n == -1 && errno != EAGAIN)
		lose_output(exec);
}

/* Read bytes of the report, as fz_fd_read(). */
static ssize_t
read_report(struct fz_program *exec)
{
	size_t left = sizeof(exec->report) - exec->nreport;
	ssize_t n = fz_fd_read(
	    exec->supervisor.fd, (char *)&exec->report + exec->nreport, left);

	if (n > 0)
		exec->nreport += (size_t)n;
	return n;
}

static void
set_outcome(struct fz_program *exec, const struct fz_death *death)
{
	struct fz_program_end *end = &exec->end;
	int status = exec->report.status;
	char text[160];

	if (end->err.kind != FZ_ERR_NONE)
		return;
	if (exec->nreport == sizeof(exec->report)) {
		end->err = exec->report.err;
		end->timed_out = false; /* it ended in time */
		end->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
		end->exitcode = WIFSIGNALED(status) ? 0 : WEXITSTATUS(status);
	} else if (end->timed_out) {
		end->signal = SIGKILL;
	} else {
		fz_err_set(&end->err, FZ_ERR_CRASH,
		    "the process that watched over '%s' died: %s", exec->name,
		    fz_death_text(death, text, sizeof(text)));
	}
}

/* The supervisor is dead or about to be. */
static void
finish(struct fz_program *exec)
{
	struct fz_death death;

	fz_proc_reap(&exec->proc, true, &death);
	while (exec->nreport < sizeof(exec->report) && read_report(exec) > 0)
		continue;
	for (int i = 0; i < 2; i++)
		take_rest(exec, &exec->streams[i]);
	set_outcome(exec, &death);
	let_go(exec);
	fz_changed(&exec->change);
}

/* Ask the supervisor to end; the timer kills it if it does not. */
static void
end_soon(struct fz_program *exec)
{
	if (exec->ending)
		return;
	exec->ending = true;
	if (fz_proc_ask(&exec->proc) &&
	    fz_loop_arm(loop_of(exec), &exec->timer, exec->proc.force_ns) == 0)
		return;
	fz_proc_kill(&exec->proc);
	finish(exec);
}

static void
lose_input(struct fz_program *exec, int code)
{
	fz_err_sys(
	    &exec->end.err, code, "cannot write the input of '%s'", exec->name);
	fz_loop_close(loop_of(exec), &exec->input);
	end_soon(exec);
}

/*
 * All bytes are written, or the program reads no more. While it waits for more
 * input only the end of the pipe is an event, and `written` is false then.
 */
static void
input_written(struct fz_program *exec, bool written)
{
	struct fz_err *err = &exec->end.err;

	if (!exec->feed || !written) {
		fz_loop_close(loop_of(exec), &exec->input);
		return;
	}
	if (fz_loop_rewatch(loop_of(exec), &exec->input, 0, err) != 0)
		end_soon(exec);
	fz_changed(&exec->change);
}

/* A program need not read all its input. */
static void
input_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_program *exec = EXEC_OF(input, watch);
	ssize_t n = fz_fd_write(watch->fd, exec->unread, exec->nunread);

	(void)events;
	if (n == -1 && errno == EAGAIN)
		return;
	if (n == -1 && errno != EPIPE) {
		lose_input(exec, errno);
		return;
	}
	if (n > 0) {
		exec->unread += n;
		exec->nunread -= (size_t)n;
	}
	if (n == -1 || exec->nunread == 0)
		input_written(exec, n > 0);
}

static void
output_ready(struct fz_watch *watch, unsigned events)
{
	struct stream *s = FZ_CONTAINER_OF(watch, struct stream, watch);
	ssize_t n = read_stream(s);

	(void)events;
	if (n == 0) {
		fz_loop_close(loop_of(s->exec), watch);
	} else if (n == -1 && errno != EAGAIN) {
		lose_output(s->exec);
		fz_loop_close(loop_of(s->exec), watch);
		end_soon(s->exec);
	} else if (n > 0 && s->follow) {
		fz_changed(&s->exec->change);
	}
}

static void
supervisor_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_program *exec = EXEC_OF(supervisor, watch);
	ssize_t n = read_report(exec);

	(void)events;
	if (n == 0)
		finish(exec);
	else if (n == -1 && errno != EAGAIN)
		end_soon(exec);
}

static void
time_is_up(struct fz_timer *timer)
{
	struct fz_program *exec = EXEC_OF(timer, timer);

	if (exec->ending) {
		fz_proc_kill(&exec->proc);
		finish(exec);
		return;
	}
	exec->end.timed_out = true;
	end_soon(exec);
}

/* In a child: the program belongs to the parent. */
static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_program *exec = EXEC_OF(hook, hook);

	fz_err_set(&exec->end.err, FZ_ERR_CLOSED,
	    "'%s' was started by another process", exec->name);
	fz_fd_close(&exec->proc.pidfd);
	exec->proc.pid = 0;
	let_go(exec);
}

static int
open_pipes(struct fz_program_pipes *b, struct fz_err *err)
{
	const struct fz_program_opts *opts = b->opts;

	if ((opts->ninput != 0 || opts->feed) && fz_fd_pipe(b->in, err) != 0)
		return -1;
	if (opts->files[1] == NULL && fz_fd_pipe(b->out, err) != 0)
		return -1;
	if (opts->files[2] == NULL && fz_fd_pipe(b->err, err) != 0)
		return -1;
	return fz_fd_pipe(b->report, err);
}

static int *
end_of(struct fz_program_pipes *b, int i)
{
	int *pipes[] = { b->in, b->out, b->err, b->report };

	return &pipes[i / 2][i % 2];
}

static void
close_pipes(struct fz_program_pipes *b)
{
	for (int i = 0; i < 2 * EXEC_PIPES; i++)
		fz_fd_close(end_of(b, i));
}

/* Watch an end of a pipe, if there is one. */
static int
watch_end(struct fz_program *exec, struct fz_watch *watch, int *fd,
    unsigned events, struct fz_err *err)
{
	return *fd != -1 ? fz_loop_own(loop_of(exec), watch, fd, events, err)
			 : 0;
}

static int
watch_all(struct fz_program *x, struct fz_program_pipes *b, struct fz_err *err)
{
	unsigned input = b->opts->ninput != 0 ? FZ_LOOP_WRITE : 0;
	struct stream *s = x->streams;

	if (watch_end(x, &x->input, &b->in[1], input, err) != 0 ||
	    watch_end(x, &s[0].watch, &b->out[0], FZ_LOOP_READ, err) != 0 ||
	    watch_end(x, &s[1].watch, &b->err[0], FZ_LOOP_READ, err) != 0 ||
	    watch_end(x, &x->supervisor, &b->report[0], FZ_LOOP_READ, err) != 0)
		return -1;
	if (fz_loop_arm(loop_of(x), &x->timer,
		fz_clock_after(fz_clock_ns(), b->opts->timeout_ns)) != 0)
		return fz_err_nomem(err, "a timer");
	return 0;
}

static struct fz_program *
alloc_exec(const struct fz_program_opts *opts, struct fz_err *err)
{
	struct fz_program *exec = calloc(1, sizeof(*exec));

	if (exec == NULL) {
		fz_err_nomem(err, "a program");
		return NULL;
	}
	exec->engine = opts->engine;
	fz_change_init(&exec->change, opts->engine);
	exec->proc.pidfd = -1;
	snprintf(exec->name, sizeof(exec->name), "%s", opts->argv[0]);
	exec->unread = opts->input;
	exec->nunread = opts->ninput;
	exec->feed = opts->feed;
	fz_buf_init(&exec->end.out);
	fz_buf_init(&exec->end.errors);
	exec->input = (struct fz_watch){ .fd = -1, .ready = input_ready };
	exec->supervisor =
	    (struct fz_watch){ .fd = -1, .ready = supervisor_ready };
	for (int i = 0; i < 2; i++)
		exec->streams[i] = (struct stream){
			.watch = { .fd = -1, .ready = output_ready },
			.bytes = i == 0 ? &exec->end.out : &exec->end.errors,
			.exec = exec,
			.follow = opts->follow[i],
		};
	exec->timer.fired = time_is_up;
	exec->hook.in_child = in_child;
	return exec;
}

/* Fork the supervisor and watch its pipes. */
static int
start(struct fz_program *exec, const struct fz_program_opts *opts,
    struct fz_err *err)
{
	struct fz_program_pipes b = { opts, exec->name, { -1, -1 }, { -1, -1 },
		{ -1, -1 }, { -1, -1 } };
	struct fz_proc_opts inherit = {
		.out = -1, .err = -1, .children = &opts->engine->children
	};
	int rc = -1;

	fz_process_begin_spawn();
	if (open_pipes(&b, err) == 0 &&
	    fz_proc_fork(&exec->proc, &inherit, fz_program_supervisor_main, &b,
		err) == 0)
		rc = watch_all(exec, &b, err);
	close_pipes(&b); /* the supervisor's ends, or all */
	fz_process_end_spawn();
	return rc;
}

struct fz_program *
fz_program_new(const struct fz_program_opts *opts, struct fz_err *err)
{
	struct fz_program *exec = alloc_exec(opts, err);

	if (exec == NULL)
		return NULL;
	if (start(exec, opts, err) != 0) {
		fz_program_free(exec);
		return NULL;
	}
	fz_loop_hook(opts->engine->loop, &exec->hook);
	return exec;
}

uint64_t
fz_program_id(const struct fz_program *exec)
{
	return exec->change.id;
}

struct fz_program_end *
fz_program_end(struct fz_program *exec)
{
	return exec->done ? &exec->end : NULL;
}

bool
fz_program_hungry(const struct fz_program *exec)
{
	return exec->feed && exec->nunread == 0 && exec->input.fd != -1;
}

void
fz_program_feed(struct fz_program *exec, const void *bytes, size_t nbytes)
{
	struct fz_err *err = &exec->end.err;

	exec->unread = bytes;
	exec->nunread = nbytes;
	if (nbytes == 0)
		fz_loop_close(loop_of(exec), &exec->input);
	else if (fz_loop_rewatch(
		     loop_of(exec), &exec->input, FZ_LOOP_WRITE, err) != 0)
		end_soon(exec);
}

static bool
has_unread(const struct stream *s)
{
	return s->follow && s->bytes->len != 0;
}

bool
fz_program_ready(const struct fz_program *exec)
{
	return exec->done || fz_program_hungry(exec) ||
	       has_unread(&exec->streams[0]) || has_unread(&exec->streams[1]);
}

struct fz_buf *
fz_program_output(struct fz_program *exec, int stream)
{
	return exec->streams[stream].bytes;
}

void
fz_program_free(struct fz_program *exec)
{
	struct fz_death death;

	if (exec == NULL)
		return;
	if (!exec->done) {
		fz_proc_kill(&exec->proc);
		fz_proc_reap(&exec->proc, true, &death);
		let_go(exec);
	}
	fz_buf_fini(&exec->end.out);
	fz_buf_fini(&exec->end.errors);
	fz_change_fini(&exec->change);
	free(exec);
}
