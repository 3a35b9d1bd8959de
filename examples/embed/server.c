/*
 * server.c - a TCP server with one thread that runs a chain for each request.
 *
 *   cc server.c $(pkg-config --cflags --libs fzlua) -o server
 *   ./server server.lua 7000 4     # script, port, jobs; jobs 0: no workers
 *   printf 'one two one\n' | nc -N localhost 7000
 *
 * load.c measures it.
 *
 * A request is a line, the answer is a line. Requests of one client are
 * answered one after the other, those of different clients at the same time.
 * The server prints its port, and ends at SIGTERM or Ctrl-C.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fzlua.h>
#include <lauxlib.h>

enum { LINE_MAX_BYTES = 1 << 16, NEVENTS = 64 };

struct client {
	int fd;     /* -1: the client left during its request */
	bool busy;  /* a request runs */
	bool eof;   /* the client sends no more */
	size_t len; /* bytes in `line` */
	char *line; /* buffer of LINE_MAX_BYTES */
	struct client *next;
};

static struct client *clients;
static int listener, epoll_fd;
static volatile sig_atomic_t ends;

static void
end(int sig)
{
	(void)sig;
	ends = 1;
}

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

/* A worker must not hold sockets open: a client would wait for their end. */
static void
on_fork(void *ctx, int when)
{
	(void)ctx;
	if (when != FZLUA_FORK_CHILD)
		return;
	close(listener);
	close(epoll_fd);
	for (struct client *c = clients; c != NULL; c = c->next) {
		if (c->fd != -1)
			close(c->fd);
	}
}

static void
watch(int fd, void *ptr)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = ptr };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
		die("epoll_ctl");
}

static void
drop(struct client *c)
{
	struct client **at = &clients;

	if (c->fd != -1)
		close(c->fd);
	c->fd = -1;
	if (c->busy)
		return;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	free(c->line);
	free(c);
}

/* Start the request at the beginning of the buffer; the chain is at index 1. */
static void
start(lua_State *L, struct client *c, size_t len)
{
	lua_pushvalue(L, 1);
	lua_createtable(L, 0, 1);
	lua_pushlstring(L, c->line, len);
	lua_setfield(L, -2, "line");
	if (fzlua_spawn(L, 1, c) != FZLUA_OK) {
		fprintf(stderr, "server: %s\n", luaL_tolstring(L, -1, NULL));
		lua_settop(L, 1);
		drop(c);
		return;
	}
	c->busy = true;
	c->len -= len + 1;
	memmove(c->line, c->line + len + 1, c->len);
}

/* Start the next request of a client, if it has a whole line. */
static void
proceed(lua_State *L, struct client *c)
{
	char *newline = memchr(c->line, '\n', c->len);

	if (newline != NULL)
		start(L, c, (size_t)(newline - c->line));
	else if (c->eof || c->len == LINE_MAX_BYTES)
		drop(c);
}

static void
receive(lua_State *L, struct client *c)
{
	ssize_t n = recv(
	    c->fd, c->line + c->len, LINE_MAX_BYTES - c->len, MSG_DONTWAIT);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* EOF, an error, or the buffer is full */
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
		c->eof = true;
	} else {
		c->len += (size_t)n;
	}
	if (!c->busy)
		proceed(L, c);
}

static void
accept_client(void)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL || (c->line = malloc(LINE_MAX_BYTES)) == NULL)
		die("malloc");
	c->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	c->next = clients;
	clients = c;
	if (c->fd == -1)
		drop(c);
	else
		watch(c->fd, c);
}

/* Send a line; answers are short, so the socket has room for it. */
static void
answer(struct client *c, const char *text, size_t len)
{
	if (c->fd != -1 &&
	    (send(c->fd, text, len, MSG_NOSIGNAL | MSG_MORE) == -1 ||
		send(c->fd, "\n", 1, MSG_NOSIGNAL) == -1))
		drop(c);
}

/* A request has ended; its results are on top. */
static void
finish(lua_State *L, struct client *c, int status)
{
	const char *text;
	size_t len;

	if (status == FZLUA_OK)
		lua_getfield(L, -1, "answer");
	else
		lua_getfield(L, -1, "message");
	text = luaL_tolstring(L, -1, &len);
	answer(c, text, len);
	lua_settop(L, 1);
	c->busy = false;
	if (c->fd == -1)
		drop(c);
	else
		proceed(L, c);
}

static void
step(lua_State *L)
{
	void *tag;
	int status = fzlua_step(L, 0);

	if (status != FZLUA_OK) {
		fprintf(stderr, "server: %s\n", luaL_tolstring(L, -1, NULL));
		lua_settop(L, 1);
	}
	while ((status = fzlua_next(L, 1, &tag)) != FZLUA_NONE)
		finish(L, tag, status);
}

static void
serve(lua_State *L)
{
	struct epoll_event events[NEVENTS];
	static char pipeline, accepting; /* tags of two descriptors */

	watch(listener, &accepting);
	watch(fzlua_fd(L), &pipeline);
	while (!ends) {
		int n = epoll_wait(epoll_fd, events, NEVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &accepting)
				accept_client();
			else if (events[i].data.ptr != &pipeline)
				receive(L, events[i].data.ptr);
		}
		step(L); /* last, because it may free clients */
	}
}

static void
listen_at(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_port = htons((unsigned short)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int yes = 1;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (listener == -1 || epoll_fd == -1 ||
	    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
	    bind(listener, (struct sockaddr *)&address, size) != 0 ||
	    listen(listener, SOMAXCONN) != 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &size) != 0)
		die("server");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	const struct fzlua_options options = { .size = sizeof(options),
		.forks = on_fork };
	const struct sigaction action = { .sa_handler = end };
	lua_State *L;
	int failed;

	if (argc != 4) {
		fprintf(stderr, "usage: server SCRIPT PORT JOBS\n");
		return 2;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	failed = fzlua_new(&L, &options) != FZLUA_OK;
	if (!failed) {
		lua_pushstring(L, argv[3]);
		lua_setglobal(L, "jobs");
		failed = fzlua_dofile(L, argv[1], 1) != FZLUA_OK;
	}
	if (failed && L != NULL)
		fprintf(stderr, "server: %s\n", luaL_tolstring(L, -1, NULL));
	if (!failed) {
		listen_at(atoi(argv[2]));
		serve(L);
	}
	while (clients != NULL) {
		clients->busy = false;
		drop(clients);
	}
	fzlua_close(L);
	return failed;
}
