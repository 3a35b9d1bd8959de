/*
 * engine.c - the time of a message to an engine without fzlua: engine URL N
 * WINDOW.
 *
 * A process sends N messages of 64 bytes through the NATS server to another
 * process, which answers each message with one of 64 bytes. At most WINDOW
 * messages are unanswered at any time. Prints the seconds for each message.
 */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <nats/nats.h>

enum { ENGINE_BYTES = 64, ENGINE_WAIT_MS = 10000 };

static const char question[] = "fzlua.bench.question";
static const char answer[] = "fzlua.bench.answer";

static void
check(natsStatus s, const char *what)
{
	if (s == NATS_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(s));
	exit(EXIT_FAILURE);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* With a window of 1 each message is sent at once; else some share a write. */
static natsConnection *
connect_to(const char *url, int window)
{
	natsConnection *nc = NULL;
	natsOptions *options = NULL;

	check(natsOptions_Create(&options), "options");
	check(natsOptions_SetURL(options, url), "URL");
	check(natsOptions_SetSendAsap(options, window == 1), "options");
	check(natsConnection_Connect(&nc, options), "connect");
	natsOptions_Destroy(options);
	return nc;
}

static void
reply(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
	(void)sub;
	(void)closure;
	check(natsConnection_Publish(
		  nc, answer, natsMsg_GetData(msg), natsMsg_GetDataLength(msg)),
	    "answer");
	natsMsg_Destroy(msg);
}

/* Answer messages until this process is killed. */
static void
answer_all(const char *url, int window, int ready)
{
	natsSubscription *sub = NULL;
	natsConnection *nc = connect_to(url, window);

	check(natsConnection_Subscribe(&sub, nc, question, reply, NULL), "sub");
	check(natsConnection_Flush(nc), "flush");
	if (write(ready, "", 1) != 1)
		exit(EXIT_FAILURE);
	for (;;)
		pause();
}

static double
ask_all(const char *url, int n, int window)
{
	natsSubscription *sub = NULL;
	natsConnection *nc = connect_to(url, window);
	char bytes[ENGINE_BYTES] = { 0 };
	double start;
	int sent = 0;

	check(natsConnection_SubscribeSync(&sub, nc, answer), "sub");
	check(natsConnection_Flush(nc), "flush");
	start = now();
	for (int got = 0; got < n; got++) {
		natsMsg *msg = NULL;

		for (; sent < n && sent - got < window; sent++)
			check(natsConnection_Publish(
				  nc, question, bytes, sizeof(bytes)),
			    "question");
		check(natsSubscription_NextMsg(&msg, sub, ENGINE_WAIT_MS),
		    "answer");
		natsMsg_Destroy(msg);
	}
	return (now() - start) / n;
}

int
main(int argc, char **argv)
{
	int ready[2], n, window;
	char byte;
	pid_t pid;

	if (argc != 4 || pipe(ready) != 0)
		return EXIT_FAILURE;
	n = atoi(argv[2]);
	window = atoi(argv[3]);
	pid = fork(); /* before libnats starts threads */
	if (pid == 0) {
		answer_all(argv[1], window, ready[1]);
		return EXIT_FAILURE;
	}
	close(ready[1]);
	if (pid == -1 || read(ready[0], &byte, 1) != 1)
		return EXIT_FAILURE;
	printf("%.9f\n", ask_all(argv[1], n, window));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return EXIT_SUCCESS;
}
