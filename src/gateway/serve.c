#define _GNU_SOURCE /* for signalfd and getloadavg */
#include "gateway/serve.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "gateway/beat.h"
#include "gateway/bus.h"
#include "gateway/connection.h"
#include "gateway/gateway.h"
#include "gateway/lease.h"
#include "gateway/node_process.h"
#include "gateway/node_slots.h"
#include "gateway/strings.h"
#include "node/nats_url.h"
#include "os/cpus.h"
#include "os/fd.h"

enum { SERVE_SETUP_MAX = 8192 };

/* Time that the processes have to end themselves. */
#define SERVE_LEAVE_NS (3 * FZ_CLOCK_SECOND)

struct serve {
	struct fz_gateway g;
	const char *identity, *command, *slots, *name, *allow;
	struct fz_node_slots shared;
	int signals; /* a signalfd: readable if a signal has come */
	unsigned nsignals;
	int64_t announce_ns; /* time of the next announcement */
};

/*
 * Announce the node by the strings id, name, slots, workers, processors, load,
 * identity and why. The string `why` is the reason why the node accepts no more
 * leases, or "".
 */
static void
announce(struct serve *s)
{
	struct fz_packet p = { .type = FZ_PACKET_NODE };
	char body[512];
	double load = 0;
	unsigned nleases = 0;
	int len;

	s->announce_ns = s->g.turn_ns + FZ_GATEWAY_ANNOUNCE_NS;
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next)
		nleases++;
	if (getloadavg(&load, 1) != 1)
		load = 0;
	len = snprintf(body, sizeof(body),
	    "%s%c%.64s%c%s%c%u%c%d%c%.2f%c%.128s%c%s", s->g.id, 0, s->name, 0,
	    s->slots, 0, nleases, 0, fz_cpus_count(), 0, load, 0, s->identity,
	    0, s->nsignals != 0 ? "the node is leaving" : "");
	fz_bus_send_all(s->g.bus, FZ_BUS_SUBMITTERS, &p, body, (size_t)len + 1);
}

static void
refuse(struct serve *s, const char *to, uint32_t lease, const char *why)
{
	struct fz_packet p = { .type = FZ_PACKET_CLOSE, .lease = lease };

	fz_bus_send_short(s->g.bus, to, &p, why, strlen(why));
}

static void
confirm(struct serve *s, const struct fz_lease *l)
{
	const struct fz_packet p = {
		.type = FZ_PACKET_OPENED, .lease = l->peer_id, .arg = l->id
	};

	fz_bus_send_short(s->g.bus, l->peer, &p, NULL, 0);
}

/* The lease that the submitter has asked for already; NULL if there is none. */
static struct fz_lease *
find_opened(const struct serve *s, const char *peer, uint32_t peer_id)
{
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next) {
		struct fz_lease *l = (struct fz_lease *)at;

		if (l->peer_id == peer_id && strcmp(l->peer, peer) == 0)
			return l;
	}
	return NULL;
}

static void
open_lease(struct serve *s, const struct fz_packet *p)
{
	struct fz_strings body = { (const char *)p->body,
		(const char *)p->body + p->len };
	const char *peer = fz_strings_next(&body),
		   *identity = fz_strings_next(&body);
	const struct fz_node_process_opts opts = { s->command, identity,
		s->allow };
	struct fz_err err = { 0 };
	struct fz_node_process process;
	struct fz_lease *l;

	if (!fz_packet_is_id(peer))
		return;
	l = find_opened(s, peer, p->arg);
	if (l != NULL) { /* the first answer was lost */
		confirm(s, l);
		return;
	}
	if (s->nsignals != 0) {
		refuse(s, peer, p->arg, "the node is leaving");
		return;
	}
	if (fz_node_process_start(&opts, &process, &err) != 0) {
		refuse(s, peer, p->arg, err.text);
		return;
	}
	l = fz_lease_new(&s->g, peer, process.in, process.out);
	if (l == NULL) { /* the process ends when its input is closed */
		fz_fd_close(&process.in);
		fz_fd_close(&process.out);
		fz_fd_close(&process.slot);
		refuse(s, peer, p->arg, "the node is out of memory");
		return;
	}
	l->pid = process.pid;
	l->slot.fd = process.slot;
	fz_lease_opened(l, p->arg);
	confirm(s, l);
}

static void
take_packets(struct serve *s)
{
	struct fz_packet p;
	struct fz_lease *l;

	while (fz_bus_next(s->g.bus, &p)) {
		if (p.type == FZ_PACKET_WHO)
			announce(s);
		else if (p.type == FZ_PACKET_OPEN)
			open_lease(s, &p);
		else if (p.type == FZ_PACKET_BEAT)
			fz_beat_take(&s->g, &p);
		else if (p.type == FZ_PACKET_ABSENT)
			fz_beat_absent(&s->g, (const char *)p.body);
		else if (p.type > FZ_PACKET_OPENED &&
			 (l = fz_lease_find(&s->g, p.lease)) != NULL)
			fz_lease_take(l, &p);
	}
}

/* Drop the leases that have ended, and those of lost submitters. */
static void
check_leases(struct serve *s, int64_t now_ns, int64_t stalled_ns)
{
	fz_beat_check(&s->g, now_ns, stalled_ns);
	for (struct fz_list *at = s->g.leases.next, *next; at != &s->g.leases;
	     at = next) {
		struct fz_lease *l = (struct fz_lease *)at;

		next = at->next;
		if (l->over)
			fz_lease_free(l);
	}
}

static void
end_all(struct serve *s, const char *why)
{
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next)
		fz_lease_end((struct fz_lease *)at, why);
}

/*
 * Called at the first signal. A process that gets SIGTERM lets its worker
 * return the jobs that the worker has not started. The worker ends when it has
 * finished the jobs that it has started.
 */
static void
leave(struct serve *s)
{
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next) {
		if (((struct fz_lease *)at)->pid != 0)
			kill(((struct fz_lease *)at)->pid, SIGTERM);
	}
	if (s->g.bus != NULL)
		announce(s);
}

static void
take_signal(struct serve *s)
{
	struct signalfd_siginfo info;

	if (fz_fd_read(s->signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (s->nsignals++ == 0)
		leave(s);
	else
		end_all(s, "the node was ended by a second signal");
}

/*
 * Reap the dead processes, and forget their pids, which other processes may
 * get.
 */
static void
reap(struct serve *s)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
		for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
		     at = at->next) {
			if (((struct fz_lease *)at)->pid == pid)
				((struct fz_lease *)at)->pid = 0;
		}
	}
}

static void
report_joined(const struct serve *s)
{
	fprintf(stderr, "fzlua: node %s with %s slots has joined %s\n", s->name,
	    s->slots, s->g.url.shown);
}

static void
check_connection(struct serve *s, int64_t now_ns)
{
	switch (fz_connection_check(&s->g, now_ns)) {
	case FZ_CONNECTION_LOST:
		fprintf(stderr, "fzlua: the connection to %s is lost\n",
		    s->g.url.shown);
		break;
	case FZ_CONNECTION_MADE:
		report_joined(s);
		announce(s);
		break;
	default:
		if (s->g.bus != NULL && now_ns >= s->announce_ns)
			announce(s);
	}
}

static void
turn(struct serve *s)
{
	int64_t until_ns = s->g.beat_ns, now_ns, stalled_ns;
	int signals;

	if (s->announce_ns < until_ns && s->g.bus != NULL)
		until_ns = s->announce_ns;
	fz_gateway_begin(&s->g);
	signals = fz_gateway_add(&s->g, s->signals, POLLIN);
	fz_gateway_add_bus(&s->g);
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next)
		fz_lease_poll((struct fz_lease *)at);
	fz_node_slots_poll(&s->g);
	now_ns = fz_gateway_wait(&s->g, until_ns, &stalled_ns);
	for (struct fz_list *at = s->g.leases.next; at != &s->g.leases;
	     at = at->next)
		fz_lease_work((struct fz_lease *)at);
	if (fz_gateway_has_packets(&s->g))
		take_packets(s);
	if (fz_gateway_events(&s->g, signals) != 0)
		take_signal(s);
	check_leases(s, now_ns, stalled_ns);
	fz_node_slots_work(&s->g, &s->shared);
	check_connection(s, now_ns);
	reap(s);
}

static bool
goes_on(const struct serve *s)
{
	return s->nsignals == 0 ||
	       (s->nsignals == 1 && fz_list_first(&s->g.leases) != NULL);
}

/* Wait for the processes, whose input has ended. */
static void
wait_for_processes(void)
{
	int64_t until_ns = fz_clock_ns() + SERVE_LEAVE_NS;
	const struct timespec pause = { .tv_nsec = 5 * FZ_CLOCK_MS };

	while (fz_clock_ns() < until_ns &&
	       (waitpid(-1, NULL, WNOHANG) >= 0 || errno == EINTR))
		nanosleep(&pause, NULL);
}

static int
read_setup(struct serve *s, int fd, char setup[SERVE_SETUP_MAX])
{
	struct fz_err err;
	struct fz_strings strings = { setup, setup };
	ssize_t n;

	while ((n = fz_fd_read(fd, setup + (strings.end - setup),
		    (size_t)(setup + SERVE_SETUP_MAX - strings.end))) > 0)
		strings.end += n;
	if (n < 0) {
		fprintf(stderr, "fzlua: cannot read the setup: %s\n",
		    strerror(errno));
		return -1;
	}
	if (fz_nats_url_read(&s->g.url, fz_strings_next(&strings), &err) != 0) {
		fprintf(stderr, "fzlua: %s\n", err.text);
		return -1;
	}
	s->g.creds = fz_strings_next(&strings);
	s->identity = fz_strings_next(&strings);
	s->command = fz_strings_next(&strings);
	s->slots = fz_strings_next(&strings);
	s->name = fz_strings_next(&strings);
	s->allow = fz_strings_next(&strings);
	s->shared.n = (unsigned)strtoul(s->slots, NULL, 10);
	return 0;
}

static int
open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* a write to a log at its size limit then fails with an error */
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int
start(struct serve *s, int fd, char setup[SERVE_SETUP_MAX])
{
	struct fz_err err;

	if (fz_gateway_init(&s->g) != 0) {
		fputs("fzlua: the kernel has no random numbers\n", stderr);
		return -1;
	}
	if (read_setup(s, fd, setup) != 0)
		return -1;
	close(fd);
	s->g.role = FZ_BUS_NODES;
	s->signals = open_signals();
	if (s->signals == -1) {
		fprintf(stderr, "fzlua: cannot wait for signals: %s\n",
		    strerror(errno));
		return -1;
	}
	if (fz_connection_open(&s->g, &err) == 0)
		return 0;
	fprintf(stderr, "fzlua: %s\n", err.text);
	return -1;
}

int
fz_gateway_serve(int fd)
{
	char setup[SERVE_SETUP_MAX];
	struct serve s = { .signals = -1 };

	if (start(&s, fd, setup) != 0)
		return EXIT_FAILURE;
	report_joined(&s);
	announce(&s);
	while (goes_on(&s))
		turn(&s);
	while (fz_list_first(&s.g.leases) != NULL)
		fz_lease_free((struct fz_lease *)fz_list_first(&s.g.leases));
	fz_bus_close(s.g.bus);
	wait_for_processes();
	free(s.g.pfd);
	return EXIT_SUCCESS;
}
