/* F_GETPIPE_SZ is an extension of Linux. */
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
#include "os/fd.h"
#include "os/loop.h"
#include "os/process.h"
#include "proc/death.h"
#include "proc/proc.h"
#include "worker/change.h"
#include "worker/engine.h"
#include "worker/program_state.h"

enum { PROGRAM_READ = 64 << 10, PROGRAM_PIPES = 4 };

struct output {
	struct fz_watch watch;
	struct fz_buf *bytes;
	struct fz_program *program;
	bool follow; /* the caller consumes the bytes while the program runs */
};

struct fz_program {
	struct fz_engine *engine;
	struct fz_change change; /* reports its end, output and need of input */
	struct fz_proc proc;
	char name[128]; /* name of the program, which may be truncated */
	struct fz_watch input, supervisor;
	struct output outputs[2]; /* standard output and error */
	struct fz_timer timer;
	struct fz_fork_hook hook;
	const unsigned char *unread; /* input that is not written yet */
	size_t nunread;
	bool feed; /* the caller will provide more input */
	struct fz_program_report report;
	size_t nreport; /* number of bytes of `report` that were read */
	bool ending;    /* the supervisor was asked to end */
	bool done;
	struct fz_program_end end;
};

#define PROGRAM_OF(member, ptr) FZ_CONTAINER_OF(ptr, struct fz_program, member)

static struct fz_loop *
loop_of(const struct fz_program *program)
{
	return program->engine->loop;
}

static void
let_go(struct fz_program *program)
{
	program->done = true;
	fz_loop_close(loop_of(program), &program->input);
	fz_loop_close(loop_of(program), &program->supervisor);
	for (int i = 0; i < 2; i++)
		fz_loop_close(loop_of(program), &program->outputs[i].watch);
	fz_loop_disarm(loop_of(program), &program->timer);
	fz_loop_unhook(&program->hook);
}

/* Read once, like fz_fd_read(); -1 with ENOMEM if there is no memory. */
static ssize_t
read_output(struct output *s)
{
	unsigned char *room = fz_buf_reserve(s->bytes, PROGRAM_READ);
	ssize_t n;

	if (room == NULL) {
		errno = ENOMEM;
		return -1;
	}
	n = fz_fd_read(s->watch.fd, room, PROGRAM_READ);
	if (n > 0)
		s->bytes->len += (size_t)n;
	return n;
}

static void
lose_output(struct fz_program *program)
{
	if (errno == ENOMEM)
		fz_err_set(&program->end.err, FZ_ERR_MEMORY,
		    "not enough memory for the output of '%s'", program->name);
	else
		fz_err_sys(&program->end.err, errno,
		    "cannot read the output of '%s'", program->name);
}

/*
 * Read at most as many bytes as the pipe can hold. Do not wait for its end: a
 * process that was not killed may still hold the pipe.
 */
static void
take_rest(struct fz_program *program, struct output *s)
{
	size_t most = s->bytes->len;
	ssize_t n = 1;

	if (s->watch.fd != -1)
		most += (size_t)fcntl(s->watch.fd, F_GETPIPE_SZ);
	while (s->bytes->len < most && n > 0)
		n = read_output(s);
	if (n == -1 && errno != EAGAIN)
		lose_output(program);
}

/* Read bytes of the supervisor's report. Returns the same as fz_fd_read(). */
static ssize_t
read_report(struct fz_program *program)
{
	size_t left = sizeof(program->report) - program->nreport;
	ssize_t n = fz_fd_read(program->supervisor.fd,
	    (char *)&program->report + program->nreport, left);

	if (n > 0)
		program->nreport += (size_t)n;
	return n;
}

static void
set_outcome(struct fz_program *program, const struct fz_death *death)
{
	struct fz_program_end *end = &program->end;
	int status = program->report.status;
	char text[160];

	if (end->err.kind != FZ_ERR_NONE)
		return;
	if (program->nreport == sizeof(program->report)) {
		end->err = program->report.err;
		/* the report came, so the program ended before it was killed */
		end->timed_out = false;
		end->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
		end->exitcode = WIFSIGNALED(status) ? 0 : WEXITSTATUS(status);
	} else if (end->timed_out) {
		end->signal = SIGKILL;
	} else {
		fz_err_set(&end->err, FZ_ERR_CRASH,
		    "the supervisor of '%s' died: %s", program->name,
		    fz_death_text(death, text, sizeof(text)));
	}
}

/* Wait for the death of the supervisor, which comes soon; read the rest. */
static void
finish(struct fz_program *program)
{
	struct fz_death death;

	fz_proc_reap(&program->proc, true, &death);
	fz_engine_reap_late(program->engine);
	while (program->nreport < sizeof(program->report) &&
	       read_report(program) > 0)
		continue;
	for (int i = 0; i < 2; i++)
		take_rest(program, &program->outputs[i]);
	set_outcome(program, &death);
	let_go(program);
	fz_changed(&program->change);
}

/* Ask the supervisor to end. The timer kills it if it does not. */
static void
end_soon(struct fz_program *program)
{
	if (program->ending)
		return;
	program->ending = true;
	if (fz_proc_ask(&program->proc) &&
	    fz_loop_arm(
		loop_of(program), &program->timer, program->proc.force_ns) == 0)
		return;
	fz_proc_kill(&program->proc);
	finish(program);
}

static void
lose_input(struct fz_program *program, int code)
{
	fz_err_sys(&program->end.err, code, "cannot write the input of '%s'",
	    program->name);
	fz_loop_close(loop_of(program), &program->input);
	end_soon(program);
}

/*
 * Called when all bytes are written (`written`), or when the program reads no
 * more. If more input may follow, watch only for the end of the pipe until
 * then.
 */
static void
input_written(struct fz_program *program, bool written)
{
	struct fz_err *err = &program->end.err;

	if (!program->feed || !written) {
		fz_loop_close(loop_of(program), &program->input);
		return;
	}
	if (fz_loop_rewatch(loop_of(program), &program->input, 0, err) != 0)
		end_soon(program);
	fz_changed(&program->change);
}

/* Write input. EPIPE is no error: a program need not read all of it. */
static void
input_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_program *program = PROGRAM_OF(input, watch);
	ssize_t n = fz_fd_write(watch->fd, program->unread, program->nunread);

	(void)events;
	if (n == -1 && errno == EAGAIN)
		return;
	if (n == -1 && errno != EPIPE) {
		lose_input(program, errno);
		return;
	}
	if (n > 0) {
		program->unread += n;
		program->nunread -= (size_t)n;
	}
	if (n == -1 || program->nunread == 0)
		input_written(program, n > 0);
}

static void
output_ready(struct fz_watch *watch, unsigned events)
{
	struct output *s = FZ_CONTAINER_OF(watch, struct output, watch);
	ssize_t n = read_output(s);

	(void)events;
	if (n == 0) {
		fz_loop_close(loop_of(s->program), watch);
	} else if (n == -1 && errno != EAGAIN) {
		lose_output(s->program);
		fz_loop_close(loop_of(s->program), watch);
		end_soon(s->program);
	} else if (n > 0 && s->follow) {
		fz_changed(&s->program->change);
	}
}

static void
supervisor_ready(struct fz_watch *watch, unsigned events)
{
	struct fz_program *program = PROGRAM_OF(supervisor, watch);
	ssize_t n = read_report(program);

	(void)events;
	if (n == 0)
		finish(program);
	else if (n == -1 && errno != EAGAIN)
		end_soon(program);
}

static void
time_is_up(struct fz_timer *timer)
{
	struct fz_program *program = PROGRAM_OF(timer, timer);

	if (program->ending) {
		fz_proc_kill(&program->proc);
		finish(program);
		return;
	}
	program->end.timed_out = true;
	end_soon(program);
}

/* In a forked child: forget the program, which belongs to the parent. */
static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_program *program = PROGRAM_OF(hook, hook);

	fz_err_set(&program->end.err, FZ_ERR_CLOSED,
	    "'%s' was started by another process", program->name);
	fz_fd_close(&program->proc.pidfd);
	program->proc.pid = 0;
	let_go(program);
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
	for (int i = 0; i < 2 * PROGRAM_PIPES; i++)
		fz_fd_close(end_of(b, i));
}

/* Take over and watch an end of a pipe, unless `*fd` is -1. */
static int
watch_end(struct fz_program *program, struct fz_watch *watch, int *fd,
    unsigned events, struct fz_err *err)
{
	return *fd != -1 ? fz_loop_own(loop_of(program), watch, fd, events, err)
			 : 0;
}

static int
watch_all(struct fz_program *x, struct fz_program_pipes *b, struct fz_err *err)
{
	unsigned input = b->opts->ninput != 0 ? FZ_LOOP_WRITE : 0;
	struct output *s = x->outputs;

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
alloc_program(const struct fz_program_opts *opts, struct fz_err *err)
{
	struct fz_program *program = calloc(1, sizeof(*program));

	if (program == NULL) {
		fz_err_nomem(err, "a program");
		return NULL;
	}
	program->engine = opts->engine;
	fz_change_init(&program->change, opts->engine);
	program->proc.pidfd = -1;
	snprintf(program->name, sizeof(program->name), "%s", opts->argv[0]);
	program->unread = opts->input;
	program->nunread = opts->ninput;
	program->feed = opts->feed;
	fz_buf_init(&program->end.out);
	fz_buf_init(&program->end.errors);
	program->input = (struct fz_watch){ .fd = -1, .ready = input_ready };
	program->supervisor =
	    (struct fz_watch){ .fd = -1, .ready = supervisor_ready };
	for (int i = 0; i < 2; i++)
		program->outputs[i] = (struct output){
			.watch = { .fd = -1, .ready = output_ready },
			.bytes =
			    i == 0 ? &program->end.out : &program->end.errors,
			.program = program,
			.follow = opts->follow[i],
		};
	program->timer.fired = time_is_up;
	program->hook.in_child = in_child;
	return program;
}

/* Fork the supervisor and watch its pipes. */
static int
start(struct fz_program *program, const struct fz_program_opts *opts,
    struct fz_err *err)
{
	struct fz_program_pipes b = { opts, program->name, { -1, -1 },
		{ -1, -1 }, { -1, -1 }, { -1, -1 } };
	struct fz_proc_opts inherit = {
		.out = -1, .err = -1, .children = &opts->engine->children
	};
	int rc = -1;

	fz_process_begin_spawn();
	if (open_pipes(&b, err) == 0 &&
	    fz_proc_fork(&program->proc, &inherit, fz_program_supervisor_main,
		&b, err) == 0)
		rc = watch_all(program, &b, err);
	/* close the supervisor's ends or, after a failure, all ends */
	close_pipes(&b);
	fz_process_end_spawn();
	return rc;
}

struct fz_program *
fz_program_new(const struct fz_program_opts *opts, struct fz_err *err)
{
	struct fz_program *program = alloc_program(opts, err);

	if (program == NULL)
		return NULL;
	if (start(program, opts, err) != 0) {
		fz_program_free(program);
		return NULL;
	}
	fz_loop_hook(opts->engine->loop, &program->hook);
	return program;
}

uint64_t
fz_program_id(const struct fz_program *program)
{
	return program->change.id;
}

struct fz_program_end *
fz_program_end(struct fz_program *program)
{
	return program->done ? &program->end : NULL;
}

bool
fz_program_hungry(const struct fz_program *program)
{
	return program->feed && program->nunread == 0 &&
	       program->input.fd != -1;
}

void
fz_program_feed(struct fz_program *program, const void *bytes, size_t nbytes)
{
	struct fz_err *err = &program->end.err;

	program->unread = bytes;
	program->nunread = nbytes;
	if (nbytes == 0)
		fz_loop_close(loop_of(program), &program->input);
	else if (fz_loop_rewatch(loop_of(program), &program->input,
		     FZ_LOOP_WRITE, err) != 0)
		end_soon(program);
}

static bool
has_unread(const struct output *s)
{
	return s->follow && s->bytes->len != 0;
}

bool
fz_program_ready(const struct fz_program *program)
{
	return program->done || fz_program_hungry(program) ||
	       has_unread(&program->outputs[0]) ||
	       has_unread(&program->outputs[1]);
}

struct fz_buf *
fz_program_output(struct fz_program *program, int which)
{
	return program->outputs[which].bytes;
}

void
fz_program_free(struct fz_program *program)
{
	struct fz_death death;

	if (program == NULL)
		return;
	if (!program->done) {
		fz_proc_kill(&program->proc);
		fz_proc_reap(&program->proc, true, &death);
		fz_engine_reap_late(program->engine);
		let_go(program);
	}
	fz_buf_fini(&program->end.out);
	fz_buf_fini(&program->end.errors);
	fz_change_fini(&program->change);
	free(program);
}
