/*
 * load.c - clients for server.c, which measure it: each sends its next request
 * when it has the answer to the last one.
 *
 *   cc load.c -o load
 *   ./load 200 5 8 ./server server.lua 2 0
 *
 * The arguments are the number of clients, seconds, words in each request, the
 * server, its script, and numbers of jobs. For each of these, one after the
 * other, the server runs once; 0 calls the functions inside the server. A line
 * for each shows requests per second, the median and the 99th percentile of
 * the time from a request to its answer, and how many answers were errors.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MAX = 1 << 16, NEVENTS = 256 };

struct client {
	int fd;
	double sent; /* time of the last request, in seconds */
	size_t len;  /* bytes of its answer that have arrived */
	char *answer;
};

struct load {
	struct client *clients;
	int nclients, epoll_fd;
	char *request;
	size_t size;
	double *times; /* seconds from each request to its answer */
	size_t n, room, nerrors;
};

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A line of words: a, b, ... z, a, b, ... */
static void
make_request(struct load *load, int words)
{
	load->size = 2 * (size_t)words;
	load->request = malloc(load->size + 1);
	if (load->request == NULL)
		die("malloc");
	for (int i = 0; i < words; i++) {
		load->request[2 * i] = (char)('a' + i % 26);
		load->request[2 * i + 1] = i + 1 < words ? ' ' : '\n';
	}
}

static void
ask(const struct load *load, struct client *c)
{
	c->sent = now();
	c->len = 0;
	if (send(c->fd, load->request, load->size, MSG_NOSIGNAL) !=
	    (ssize_t)load->size)
		die("send");
}

static void
connect_client(struct load *load, struct client *c, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_port = htons((unsigned short)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

	c->answer = malloc(ANSWER_MAX);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->answer == NULL || c->fd == -1 ||
	    connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
		die("connect");
}

static void
note_answer(struct load *load, const struct client *c)
{
	if (load->n == load->room) {
		load->room = 2 * load->room + 1024;
		load->times =
		    realloc(load->times, load->room * sizeof(*load->times));
		if (load->times == NULL)
			die("realloc");
	}
	load->times[load->n++] = now() - c->sent;
	load->nerrors += memcmp(c->answer, "a=", 2) != 0;
}

static void
receive(struct load *load, struct client *c)
{
	ssize_t n = recv(c->fd, c->answer + c->len, ANSWER_MAX - c->len, 0);

	if (n <= 0)
		die("recv");
	c->len += (size_t)n;
	if (c->answer[c->len - 1] != '\n')
		return;
	note_answer(load, c);
	ask(load, c);
}

/* Returns how long it took. */
static double
run(struct load *load, double seconds)
{
	struct epoll_event events[NEVENTS];
	double start = now();

	for (int i = 0; i < load->nclients; i++)
		ask(load, &load->clients[i]);
	while (now() - start < seconds) {
		int n = epoll_wait(load->epoll_fd, events, NEVENTS, 100);

		for (int i = 0; i < n; i++)
			receive(load, events[i].data.ptr);
	}
	return now() - start;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The time, in ms, within which this part of the answers arrived. */
static double
percentile(const struct load *load, double part)
{
	return load->n == 0
		   ? 0
		   : 1000 * load->times[(size_t)(part * (double)(load->n - 1))];
}

/* Start the server. Returns a pipe, which ends when the server ends. */
static FILE *
start_server(char **argv, const char *jobs, int *pid, int *port)
{
	char command[4096];
	FILE *server;

	snprintf(command, sizeof(command), "echo $$; exec '%s' '%s' 0 '%s'",
	    argv[0], argv[1], jobs);
	server = popen(command, "re");
	if (server == NULL || fscanf(server, "%d %d", pid, port) != 2)
		die(argv[0]);
	return server;
}

static void
measure(struct load *load, double seconds, char **argv, const char *jobs)
{
	int pid, port;
	FILE *server = start_server(argv, jobs, &pid, &port);

	load->n = load->nerrors = 0;
	load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < load->nclients; i++)
		connect_client(load, &load->clients[i], port);
	seconds = run(load, seconds);
	qsort(load->times, load->n, sizeof(*load->times), compare);
	printf("%4s  %10.0f  %7.2f  %7.2f  %6zu\n", jobs,
	    (double)load->n / seconds, percentile(load, 0.5),
	    percentile(load, 0.99), load->nerrors);
	for (int i = 0; i < load->nclients; i++) {
		close(load->clients[i].fd);
		free(load->clients[i].answer);
	}
	close(load->epoll_fd);
	kill(pid, SIGTERM);
	pclose(server);
}

int
main(int argc, char **argv)
{
	struct load load = { .nclients = argc > 6 ? atoi(argv[1]) : 0 };

	if (load.nclients <= 0 || atoi(argv[3]) <= 0) {
		fprintf(stderr, "usage: load CLIENTS SECONDS WORDS SERVER "
				"SCRIPT JOBS...\n");
		return 2;
	}
	load.clients = calloc((size_t)load.nclients, sizeof(*load.clients));
	if (load.clients == NULL)
		die("calloc");
	make_request(&load, atoi(argv[3]));
	printf("jobs  requests/s   p50 ms   p99 ms  errors\n");
	for (int i = 6; i < argc; i++)
		measure(&load, atof(argv[2]), argv + 4, argv[i]);
	free(load.clients);
	free(load.request);
	free(load.times);
	return 0;
}
