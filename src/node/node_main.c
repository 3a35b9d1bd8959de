#define _POSIX_C_SOURCE 200809L /* unsetenv, sigprocmask */
#include "node/node_main.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "node/node_jobs.h"
#include "os/fd.h"
#include "proc/death.h"
#include "proc/proc.h"
#include "wire/child_stream.h"
#include "wire/wire.h"

/* Maximum time for the worker to end itself after the end of the input. */
#define NODE_LEAVE_NS FZ_CLOCK_SECOND
/* Time between two empty outputs, see show_life(). */
#define NODE_LIFE_NS (5 * FZ_CLOCK_SECOND)

enum {
	NODE_READ = 64 << 10,
	/* Maximum number of bytes of calls that wait here for a busy worker. */
	NODE_AHEAD = 256 << 10,
	/* bytes of a frame's body that include its number of items */
	NODE_BODY = 12,
	/*
	 * Maximum number of bytes of the worker's output that are passed on in
	 * front of its next replies.
	 */
	NODE_PRINTED_MAX = 1 << 20
};

/* Bytes that this process passes on. */
struct transit {
	struct fz_buf buf;
	size_t written; /* number of bytes of `buf` that are written */
};

struct node {
	const struct fz_node_opts *opts;
	struct fz_proc proc;
	int link;        /* the socket to the worker; -1 after its end */
	int worker_link; /* worker's end of `link`; -1 after its start */
	int printed[2];  /* pipes of the worker's output; -1: ended */
	int worker_files[2];
	int signals; /* a signalfd for SIGTERM */
	bool leaves; /* this process has received a SIGTERM */
	/* the worker's end of a slot_line; -1: none, or the worker has it */
	int slot;
	/* time to send the next empty output; FZ_CLOCK_NEVER: none is sent */
	int64_t life_ns;
	bool ended;       /* reads no more calls; the worker must end */
	int64_t leave_ns; /* if `ended`: time at which the worker is killed */
	struct fz_node_jobs jobs;
	struct transit calls; /* frames that the worker has not read */
	size_t next_call;     /* offset in `calls` of the next frame to note */
	bool unknown;         /* a frame of `calls` is malformed */
	struct transit out;   /* frames that the parent has not read */
	bool mute;            /* nothing more is written to the parent */
	char why[128];        /* why this process ends the worker, or "" */
};

/* Note why this process must end the worker; the first reason is kept. */
static void
fail(struct node *n, const char *what, int code)
{
	if (n->why[0] == '\0')
		snprintf(
		    n->why, sizeof(n->why), "%s: %s", what, strerror(code));
}

static void
drop(struct transit *t)
{
	fz_buf_clear(&t->buf);
	t->written = 0;
}

static void
mask_term(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(how, &set, NULL);
}

/*
 * Block SIGTERM, and open a descriptor from which to read it. Returns -1 on
 * failure: SIGTERM then has no effect.
 */
static int
open_signals(void)
{
	sigset_t set;

	mask_term(SIG_BLOCK);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int
worker_main(void *ctx, const struct fz_err *failed)
{
	struct node *n = ctx;
	const struct fz_node_worker shared = { n->jobs.mailbox, n->slot };

	fz_fd_close(&n->link);
	fz_fd_close(&n->signals);
	for (int i = 0; i < 2; i++) {
		fz_fd_close(&n->printed[i]);
		fz_fd_close(&n->worker_files[i]);
	}
	mask_term(SIG_UNBLOCK);
	if (failed == NULL)
		return n->opts->serve(n->opts->ctx, n->worker_link, &shared);
	fz_child_stream_refuse(n->worker_link, failed->kind, failed->text);
	return EXIT_FAILURE;
}

static void
close_all(struct node *n)
{
	fz_fd_close(&n->link);
	fz_fd_close(&n->signals);
	fz_fd_close(&n->worker_link);
	fz_fd_close(&n->slot);
	for (int i = 0; i < 2; i++) {
		fz_fd_close(&n->printed[i]);
		fz_fd_close(&n->worker_files[i]);
	}
}

static int
open_files(struct node *n, struct fz_err *err)
{
	int ends[2];

	if (fz_fd_socket_pair(ends, err) != 0)
		return -1;
	n->link = ends[0];
	n->worker_link = ends[1];
	for (int i = 0; i < 2; i++) {
		if (fz_fd_pipe(ends, err) != 0)
			return -1;
		n->printed[i] = ends[0];
		n->worker_files[i] = ends[1];
		if (fz_fd_nonblock(ends[0], err) != 0)
			return -1;
	}
	return fz_fd_nonblock(n->link, err);
}

static int
start_worker(struct node *n, struct fz_err *err)
{
	struct fz_proc_opts opts = { 0 };

	if (open_files(n, err) != 0)
		return -1;
	opts.out = n->worker_files[0];
	opts.err = n->worker_files[1];
	if (fz_proc_fork(&n->proc, &opts, worker_main, n, err) != 0)
		return -1;
	fz_fd_close(&n->worker_link);
	fz_fd_close(&n->slot);
	fz_fd_close(&n->worker_files[0]);
	fz_fd_close(&n->worker_files[1]);
	return 0;
}

static void
put_joined(struct node *n)
{
	size_t start = fz_wire_begin(&n->out.buf, FZ_WIRE_JOINED, 0, 0);

	fz_buf_put_u32(&n->out.buf, (uint32_t)n->proc.pid);
	fz_wire_end(&n->out.buf, start);
}

static void
put_death(struct node *n, const struct fz_death *death)
{
	size_t start = fz_wire_begin(&n->out.buf, FZ_WIRE_DIED, 0, 0);

	fz_buf_put_u32(&n->out.buf, (uint32_t)death->signal);
	fz_buf_put_u32(&n->out.buf, (uint32_t)death->exitcode);
	fz_buf_put(&n->out.buf, n->why, strlen(n->why));
	fz_wire_end(&n->out.buf, start);
}

/* Pass on some output of the worker. Returns whether more may be readable. */
static bool
take_printed(struct node *n, int file)
{
	unsigned char bytes[NODE_READ];
	size_t start;
	ssize_t got;

	if (n->printed[file] == -1)
		return false;
	got = fz_fd_read(n->printed[file], bytes, sizeof(bytes));
	if (got == 0)
		fz_fd_close(&n->printed[file]);
	if (got <= 0)
		return false;
	start = fz_wire_begin(&n->out.buf, FZ_WIRE_PRINTED, 0, 0);
	fz_buf_put_u32(&n->out.buf, (uint32_t)file);
	fz_buf_put(&n->out.buf, bytes, (size_t)got);
	fz_wire_end(&n->out.buf, start);
	return true;
}

static void
take_all_printed(struct node *n)
{
	size_t most = n->out.buf.len + NODE_PRINTED_MAX;

	for (int file = 0; file < 2; file++) {
		while (n->out.buf.len < most && take_printed(n, file))
			continue;
	}
}

/* Pass on the whole frames of the worker. A malformed frame closes the link. */
static void
take_replies(struct node *n)
{
	/* output that was printed before the reply must precede it */
	take_all_printed(n);
	if (fz_node_jobs_read(&n->jobs, n->link) == 0)
		fz_fd_close(&n->link);
	if (n->jobs.error != 0)
		fail(n, "the node cannot read from the worker", n->jobs.error);
}

static void
end_input(struct node *n)
{
	if (!n->ended)
		n->leave_ns = fz_clock_after(fz_clock_ns(), NODE_LEAVE_NS);
	n->ended = true;
}

/*
 * At the first SIGTERM, ask the parent to send no more calls. At the second
 * one, end the worker at once.
 */
static void
take_signal(struct node *n)
{
	struct signalfd_siginfo info;

	if (fz_fd_read(n->signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (n->leaves) {
		n->ended = true;
		n->leave_ns = 0;
		return;
	}
	n->leaves = true;
	fz_wire_end(
	    &n->out.buf, fz_wire_begin(&n->out.buf, FZ_WIRE_LEAVING, 0, 0));
}

/*
 * Note each frame of which the head and the first NODE_BODY bytes of the body
 * have arrived. Malformed bytes are passed on, and the worker refuses them.
 */
static void
note_calls(struct node *n)
{
	const struct fz_buf *buf = &n->calls.buf;
	struct fz_frame frame;
	int rc = 1;

	while (n->next_call < buf->len && rc == 1) {
		const unsigned char *at = buf->data + n->next_call;

		rc = fz_wire_head(
		    at, buf->len - n->next_call, NODE_BODY, &frame);
		if (rc != 1)
			break;
		fz_node_jobs_take(&n->jobs, &frame);
		n->next_call += FZ_WIRE_HEADER + frame.len;
	}
	n->unknown = n->unknown || rc < 0;
}

/* The number of bytes that may be written to the worker now. */
static size_t
ncalls(const struct node *n)
{
	size_t len = n->calls.buf.len;

	return (n->unknown || len < n->next_call ? len : n->next_call) -
	       n->calls.written;
}

static void
take_calls(struct node *n)
{
	unsigned char *room = fz_buf_reserve(&n->calls.buf, NODE_READ);
	ssize_t got;

	if (room == NULL)
		return;
	got = fz_fd_read(STDIN_FILENO, room, NODE_READ);
	if (got > 0)
		n->calls.buf.len += (size_t)got;
	else if (got == 0 || fz_fd_peer_closed())
		end_input(n);
	else if (errno != EAGAIN)
		fail(n, "the node cannot read the calls", errno);
	note_calls(n);
}

/* Write at most `len` bytes without waiting. 0, or -1 if `fd` is closed. */
static int
write_some(int fd, struct transit *t, size_t len)
{
	ssize_t n = fz_fd_write(fd, t->buf.data + t->written, len);

	if (n > 0)
		t->written += (size_t)n;
	return n >= 0 || errno == EAGAIN ? 0 : -1;
}

/* Drop the written bytes, if they are many: a drop moves the rest. */
static void
forget_calls(struct node *n)
{
	struct transit *t = &n->calls;
	size_t done = t->written;

	if (done != t->buf.len && (done < NODE_READ || done < t->buf.len / 2))
		return;
	fz_buf_consume(&t->buf, done);
	t->written = 0;
	n->next_call -= n->unknown ? 0 : done;
}

static void
write_calls(struct node *n)
{
	if (ncalls(n) != 0 && write_some(n->link, &n->calls, ncalls(n)) != 0) {
		/* a worker that has closed its end is about to end */
		if (!fz_fd_peer_closed())
			fail(n, "the node cannot write to the worker", errno);
		n->calls.written += ncalls(n);
	}
	forget_calls(n);
	if (n->ended && ncalls(n) == 0)
		shutdown(n->link, SHUT_WR);
}

/*
 * Handle a failed write. The output may end within a frame, so nothing else can
 * be written to it. The reason therefore goes to standard error.
 */
static void
lose_output(struct node *n)
{
	int code = errno;

	if (!fz_fd_peer_closed()) {
		fail(n, "the node cannot write to its output", code);
		fprintf(stderr, "the process of a worker cannot write: %s\n",
		    strerror(code));
	}
	n->mute = true;
	end_input(n);
}

static void
write_out(struct node *n)
{
	struct transit *t = &n->out;
	int rc = 0;

	if (t->buf.len != 0 && !n->mute)
		rc = write_some(STDOUT_FILENO, t, t->buf.len - t->written);
	if (rc != 0)
		lose_output(n);
	/* A failure of the buffer must stay set: works() checks it. */
	if (n->mute || (t->written == t->buf.len && !t->buf.failed))
		drop(t);
}

enum { IN, OUT, LINK, SIGNALS, PRINTED, NPOLL = PRINTED + 2 };

/*
 * Whether to read more calls. This process reads calls ahead even while the
 * worker is busy, because a RECALL may follow the calls.
 */
static bool
reads_calls(const struct node *n)
{
	return !n->ended && !n->unknown &&
	       (ncalls(n) < NODE_AHEAD || n->next_call > n->calls.buf.len);
}

/*
 * Set the events to poll for. Read from the worker only after all earlier bytes
 * are written to the parent.
 */
static void
set_events(const struct node *n, struct pollfd pfd[NPOLL])
{
	bool reads_worker = n->out.buf.len == 0;

	for (int i = 0; i < NPOLL; i++)
		pfd[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
	if (reads_calls(n))
		pfd[IN].fd = STDIN_FILENO;
	pfd[SIGNALS].fd = n->signals;
	pfd[OUT].events = POLLOUT;
	if (n->out.buf.len != 0)
		pfd[OUT].fd = STDOUT_FILENO;
	if (reads_worker || ncalls(n) != 0)
		pfd[LINK].fd = n->link;
	pfd[LINK].events = (short)((reads_worker ? POLLIN : 0) |
				   (ncalls(n) != 0 ? POLLOUT : 0));
	for (int i = 0; i < 2 && reads_worker; i++)
		pfd[PRINTED + i].fd = n->printed[i];
}

static void
pass_on(struct node *n, const struct pollfd pfd[NPOLL])
{
	if (pfd[SIGNALS].revents != 0)
		take_signal(n);
	if (pfd[IN].revents != 0)
		take_calls(n);
	if (pfd[PRINTED].revents != 0 || pfd[PRINTED + 1].revents != 0)
		take_all_printed(n);
	if (pfd[LINK].revents & ~POLLOUT && n->out.buf.len == 0)
		take_replies(n);
	if (n->link != -1)
		write_calls(n);
	write_out(n);
}

/* Announce items that have run for longer than FZ_NODE_JOBS_QUIET_NS. */
static void
check_jobs(struct node *n, int64_t now_ns)
{
	if (now_ns < n->jobs.check_ns || n->out.buf.len != 0)
		return;
	take_all_printed(n);
	fz_node_jobs_check(&n->jobs, now_ns);
	write_out(n);
}

/*
 * Send a frame of empty output. If the connection is lost, that write fails
 * soon, and the worker is ended; sshd alone would not notice for hours. The
 * gateways of NATS send beats instead.
 */
static void
show_life(struct node *n, int64_t now_ns)
{
	size_t start;

	n->life_ns = now_ns + NODE_LIFE_NS;
	if (n->out.buf.len != 0)
		return;
	start = fz_wire_begin(&n->out.buf, FZ_WIRE_PRINTED, 0, 0);
	fz_buf_put_u32(&n->out.buf, 0);
	fz_wire_end(&n->out.buf, start);
	write_out(n);
}

/* The latest time for poll() to return. */
static int64_t
turn_until(const struct node *n)
{
	int64_t until_ns = n->ended ? n->leave_ns : n->life_ns;

	if (n->out.buf.len == 0 && n->jobs.check_ns < until_ns)
		until_ns = n->jobs.check_ns;
	return until_ns;
}

/* Whether this process has not failed. */
static bool
works(struct node *n)
{
	if (n->calls.buf.failed || n->out.buf.failed)
		fail(n, "the node cannot pass on a message", ENOMEM);
	return n->why[0] == '\0';
}

/* Pass bytes on until the worker has closed its end, or must end. */
static void
serve_calls(struct node *n)
{
	struct pollfd pfd[NPOLL];

	while (works(n) && n->link != -1) {
		int64_t now_ns = fz_clock_ns();

		if (n->ended && now_ns >= n->leave_ns)
			return;
		if (!n->ended && now_ns >= n->life_ns)
			show_life(n, now_ns);
		set_events(n, pfd);
		if (poll(pfd, NPOLL, fz_clock_poll_ms(now_ns, turn_until(n))) >
		    0)
			pass_on(n, pfd);
		if (n->jobs.check_ns != FZ_CLOCK_NEVER)
			check_jobs(n, fz_clock_ns());
	}
}

/* Whether the worker ends within NODE_LEAVE_NS after it has closed its end. */
static bool
ends_itself(const struct node *n)
{
	struct pollfd pfd = { .fd = n->proc.pidfd, .events = POLLIN };

	return n->link == -1 && pfd.fd != -1 &&
	       poll(&pfd, 1, NODE_LEAVE_NS / FZ_CLOCK_MS) == 1;
}

static void
write_rest(struct node *n)
{
	struct pollfd pfd = { .fd = STDOUT_FILENO, .events = POLLOUT };
	int ms = n->ended ? NODE_LEAVE_NS / FZ_CLOCK_MS : -1;

	n->out.buf.failed = false;
	while (n->out.buf.len != 0 && poll(&pfd, 1, ms) != 0)
		write_out(n);
}

/* End the worker. Send the rest of its output, and the reason of its end. */
static void
end_worker(struct node *n)
{
	struct fz_death death;

	if (!ends_itself(n))
		fz_proc_kill(&n->proc);
	fz_proc_reap(&n->proc, true, &death);
	while (n->link != -1 && fz_node_jobs_read(&n->jobs, n->link) == 1)
		continue;
	/* its frames are whole despite the failure */
	n->out.buf.failed = false;
	fz_node_jobs_end(&n->jobs);
	take_all_printed(n);
	put_death(n, &death);
	write_rest(n);
	fz_proc_reap_last();
}

static int
refuse(const struct fz_err *err)
{
	fz_child_stream_refuse(STDOUT_FILENO, err->kind, err->text);
	return EXIT_FAILURE;
}

static int
check_version(const char *wanted, const char *own)
{
	struct fz_err err = { 0 };

	if (wanted == NULL || strcmp(wanted, own) == 0)
		return 0;
	fz_err_set(&err, FZ_ERR_ERROR,
	    "the node has fzlua %s, the script has fzlua %.64s", own, wanted);
	return refuse(&err);
}

int
fz_node_main(const struct fz_node_opts *opts)
{
	struct node n = { .opts = opts,
		.link = -1,
		.signals = -1,
		.worker_link = -1,
		.printed = { -1, -1 },
		.worker_files = { -1, -1 },
		.slot = opts->slot,
		.life_ns = opts->slot == -1 ? fz_clock_ns() + NODE_LIFE_NS
					    : FZ_CLOCK_NEVER };
	struct fz_err err = { 0 };

	if (check_version(opts->wanted, opts->own) != 0)
		return EXIT_FAILURE;
	signal(SIGPIPE, SIG_IGN);
	/* Maps that the worker starts run on this machine. */
	unsetenv("FZLUA_ENGINE");
	fz_proc_adopt();
	n.signals = open_signals();
	if (fz_node_jobs_init(&n.jobs, &n.out.buf, &err) != 0 ||
	    start_worker(&n, &err) != 0) {
		fz_node_jobs_fini(&n.jobs);
		close_all(&n);
		return refuse(&err);
	}
	put_joined(&n);
	fz_fd_nonblock(STDIN_FILENO, NULL);
	fz_fd_nonblock(STDOUT_FILENO, NULL);
	write_out(&n);
	serve_calls(&n);
	end_worker(&n);
	close_all(&n);
	fz_node_jobs_fini(&n.jobs);
	fz_buf_fini(&n.calls.buf);
	fz_buf_fini(&n.out.buf);
	return EXIT_SUCCESS;
}
